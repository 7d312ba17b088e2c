"""How a file of SQLite is opened: made with mode 0600, known for ours, with a log written ahead, of this version."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mobius_otel.errors import ConfigurationError
from mobius_otel.sqlite_damage import ABSENT, lost_pages

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["CAN_MOVE_AWAY", "Opening"]

#: Whether a folder can be held while a file is moved in it.
CAN_MOVE_AWAY = fcntl is not None
_AGAIN_SECONDS = 0.01
_LOG_PAGES = 1000  # SQLite's own default
_LONGEST_NAME = 255 - 38  # of a file; the longest of those beside the ledger is named so much longer
_LOG_SHARE = 8
_BEING_MADE_SECONDS = 5  # by another process that starts now


def _statements(script: str) -> Iterator[str]:
    """Take a script apart; a trigger holds semicolons of its own."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                yield statement
            statement = ""
    if statement.strip(" \n;"):
        yield statement


@dataclass(slots=True)
class Opening:
    """Opens one file, again and again.

    Args: as of :class:`~mobius_otel.sqlite.SqliteFile`.
    """

    path: Path
    migrations: tuple[str, ...]
    what: str
    table: str
    busy_timeout: float
    synchronous: str
    prepare: Callable[[sqlite3.Connection], object] | None
    aside: bool
    say: Callable[..., object]

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the file that :meth:`check` has found good.

        Raises:
            ConfigurationError: It is no SQLite file, another program's, of a newer version, or cannot be written.
        """
        if lost := lost_pages(self.path):
            self.say(
                logging.ERROR,
                "mobius_otel: the %s %s lacks %d pages that were in its write-ahead log (-wal): somebody removed or cut"
                " it after a crash, or the machine crashed; what was in them alone is lost",
                self.what, self.path, lost,
            )  # fmt: skip
        try:
            connection = sqlite3.connect(
                self.path, timeout=self.busy_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("BEGIN")  # both of one state: another process may be making it
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                self._check_owner(connection, version)  # before anything is written to it
                connection.execute("COMMIT")
                self._to_wal(connection)
                connection.execute(f"PRAGMA synchronous={self.synchronous}")
                connection.execute(f"PRAGMA wal_autocheckpoint={self._log_pages()}")
                self._migrate(connection)
                if self.prepare is not None:
                    self.prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigurationError(
                self.what, str(self.path), "a SQLite file that can be opened and written",
                f"SQLite says: {error}.{self._who_may_not()}",
            ) from error  # fmt: skip
        return connection

    def _to_wal(self, connection: sqlite3.Connection) -> None:
        """Have a log written ahead; SQLite does not wait for another process that is just doing the same."""
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_SECONDS)

    def _log_pages(self) -> int:
        """Return how long the log gets before it is brought into the file: on a small disk not the half of it."""
        if not hasattr(os, "statvfs"):
            return _LOG_PAGES
        disk = os.statvfs(self.path.parent)
        return max(_LOG_PAGES // 20, min(_LOG_PAGES, disk.f_bavail * disk.f_frsize // (_LOG_SHARE * 4096)))

    def _who_may_not(self) -> str:
        """Return what this user lacks, where that is why the file cannot be opened."""
        if not os.access(self.path, os.R_OK | os.W_OK):
            return " It belongs to another user: run this as that one."
        if not os.access(self.path.parent, os.W_OK):
            return f" SQLite makes files beside it, and this user may not write in {self.path.parent}."
        return ""

    def check(self) -> None:
        """Make the file where it is missing; refuse what is none, or what others may read.

        Raises:
            ConfigurationError: See the class.
        """
        if len(os.fsencode(self.path.name)) > _LONGEST_NAME:
            hint = "The files beside it have longer names."
            raise ConfigurationError(self.what, str(self.path), f"a name of at most {_LONGEST_NAME} bytes", hint)
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                self.what, str(self.path), "in a folder that exists", f"mkdir -p {self.path.parent}"
            )
        try:
            # O_EXCL, so that the mode is ours from the first byte on.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if not self.path.is_file():
                found = "is a folder" if self.path.is_dir() else "is none, or a link to none"
                raise ConfigurationError(self.what, str(self.path), f"a file, and this {found}") from None
            file = os.stat(self.path)
            if self.aside and not file.st_size and _size(f"{self.path}-wal"):  # SQLite would remove its log
                self.move_away((file.st_dev, file.st_ino))
                return self.check()
            mode = stat.S_IMODE(file.st_mode)
            if not file.st_size and time.time() - file.st_mtime > _BEING_MADE_SECONDS:
                self.say(
                    logging.WARNING,
                    "mobius_otel: the %s %s is an empty file: it begins anew, whatever it held before",
                    self.what,
                    self.path,
                )
            if os.name == "posix" and mode & 0o077:
                raise ConfigurationError(
                    self.what,
                    str(self.path),
                    f"readable by its owner alone, but its mode is {mode:04o}",
                    f"chmod 600 {self.path}",
                ) from None
        except OSError as error:
            raise ConfigurationError(
                self.what, str(self.path), "in a place that can be written", f"The system says: {error.strerror}."
            ) from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        newest = len(self.migrations)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == newest:
            return
        connection.execute("BEGIN EXCLUSIVE")  # another process may be at it: look again under the lock
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > newest:
                raise ConfigurationError(
                    self.what,
                    str(self.path),
                    f"of version {newest} or older, but it is of version {version}",
                    "A newer mobius_otel wrote it: pip install --upgrade mobius_otel",
                )
            self._check_owner(connection, version)
            for script in self.migrations[version:]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={newest}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _check_owner(self, connection: sqlite3.Connection, version: int) -> None:
        """Refuse the database of another program: nobody wants our tables in it."""
        query = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"
        )
        tables = [name for (name,) in connection.execute(query)]
        if (self.table not in tables) if version else tables:
            raise ConfigurationError(
                self.what, str(self.path), "a file of its own, and this is a database of something else",
                f"It has the tables {', '.join(tables[:5])}{', …' if tables[5:] else ''}." if tables else "",
            )  # fmt: skip

    def move_away(self, identity: tuple[int, int] | None) -> None:
        """Move a file that was cut away from its path, with its log, if nobody else did."""
        place = os.path.realpath(self.path)
        with _folder_held(os.path.dirname(place)):
            found = os.stat(place) if os.path.exists(place) else None
            if found is None or (found.st_dev, found.st_ino) != identity:
                return
            number, new = 0, f"{place}.cut"
            while os.path.lexists(new):
                number += 1
                new = f"{place}-{number}.cut"
            for suffix in ("-wal", "-shm", ""):  # the file last: who has it open finds it cut until it is gone
                with contextlib.suppress(FileNotFoundError):
                    os.rename(place + suffix, new + suffix)
        self.say(
            logging.ERROR,
            "mobius_otel: somebody cut the %s %s; what is left of it is kept as %s, and another one begins",
            self.what,
            self.path,
            os.path.basename(new),
        )


@contextlib.contextmanager
def _folder_held(place: str) -> Iterator[None]:
    """Hold a folder's lock, of flock: one of a file's own would take those of SQLite away when it is closed."""
    folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _size(place: str) -> int:
    try:
        return os.stat(place).st_size
    except ABSENT:
        return 0
