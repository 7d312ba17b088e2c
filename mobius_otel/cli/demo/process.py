"""Starting and ending the demo's processes, on every system, so that none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

__all__ = ["HOST", "deaf", "end", "free_ports", "is_up", "listens", "start", "wait"]

#: Where everything listens.
HOST = "127.0.0.1"
_STOP_SECONDS = 8.0


def start(command: list[str], output: Path, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own.

    Args:
        command: The program and its arguments.
        output: The file that gets everything it prints, at the end of what is there.
        folder: Where it runs.
        environment: Its whole environment.

    Raises:
        OSError: It cannot be started.
    """
    with output.open("ab") as sink:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=sink,
            stderr=subprocess.STDOUT, **_own_group(),
        )  # fmt: skip
    return cast("subprocess.Popen[bytes]", process)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; make it, when it does not."""
    if child.poll() is not None:
        return
    with contextlib.suppress(OSError, ValueError):
        if sys.platform == "win32":
            child.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_tree(child)


def _own_group() -> dict[str, Any]:
    """Keep a terminal's Ctrl-C for the demo itself, which then ends its children in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _kill_tree(child: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(child.pid)]
        subprocess.run(command, capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_STOP_SECONDS)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Let no signal interrupt the tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of the loopback address that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listens(port: int) -> bool:
    """Return whether somebody listens at a port of the loopback address."""
    try:
        with socket.create_connection((HOST, port), timeout=0.5):
            return True
    except OSError:
        return False


def is_up(child: subprocess.Popen[bytes], answers: Callable[[], bool], seconds: float) -> bool:
    """Wait until a process answers; return False where it ended, or never did."""
    return wait(lambda: child.poll() is not None or answers(), seconds) and child.poll() is None


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` holds; return False where it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
