"""A real OTLP collector, rotel, over HTTP and gRPC; it prints what it receives."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from mobius_otel.cli.demo.world import beside_python, find_rotel

NO_ROTEL = "rotel has no wheel for this platform, or none that runs with this build of Python"


@functools.cache
def rotel_program() -> Path | None:
    """Return the collector's program, or None where it does not run: not every Python has a shared library."""
    program = find_rotel()
    if program is not None:
        tried = subprocess.run([program, "--version"], env=beside_python(os.environ), capture_output=True, check=False)
        program = None if tried.returncode else program
    return program


_PRINTING = (
    "--debug-log", "traces", "--debug-log", "logs", "--debug-log", "metrics", "--debug-log-verbosity", "detailed",
)  # fmt: skip


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RotelCollector:
    """The collector in a process of its own.

    Args:
        folder: Where its output goes; a file of its own for every collector.
        quiet: Whether it does not print what it receives.
    """

    _made = 0

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        if rotel_program() is None:
            pytest.skip(NO_ROTEL)
        RotelCollector._made += 1
        self._folder = Path(folder) / f"rotel-{RotelCollector._made}"
        self._folder.mkdir(parents=True)
        self._quiet = quiet
        self._output = self._folder / "output.txt"
        self._http, self._grpc = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_endpoint(self) -> str:
        """The base URL for OTLP over HTTP."""
        return f"http://127.0.0.1:{self._http}"

    @property
    def grpc_endpoint(self) -> str:
        """The URL for OTLP over gRPC."""
        return f"http://127.0.0.1:{self._grpc}"

    def text(self) -> str:
        """Return everything it has printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def wait_for(self, text: str, timeout: float = 15.0) -> bool:
        """Wait until it has printed `text`, at most `timeout` seconds; return whether it did."""
        end = time.monotonic() + timeout
        while text not in self.text():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def start(self) -> None:
        """Start, on the same ports each time, and wait until both listen."""
        command = [
            str(rotel_program()), "start", "--exporter", "blackhole",
            "--otlp-http-endpoint", f"127.0.0.1:{self._http}", "--otlp-grpc-endpoint", f"127.0.0.1:{self._grpc}",
            *(() if self._quiet else _PRINTING),
            "--pid-file", str(self._folder / "pid"), "--log-file", str(self._folder / "log"),
        ]  # fmt: skip
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "ROTEL_"))}
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=beside_python(environ))
        end = time.monotonic() + 15
        for port in (self._http, self._grpc):
            while not _listens(port):
                assert time.monotonic() < end, f"rotel does not listen: {self.text()[-2000:]}"
                time.sleep(0.05)

    def stop(self) -> None:
        """End it; what it printed stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False
