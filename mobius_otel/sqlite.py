"""One SQLite file as the ledger and the key store use it.

Both need the same care: a file that only its owner may read (0600), write-ahead logging so that several
processes share it, a version that is migrated forward under a lock and refused when it is newer than the
code, one lock around every use, and no open handle during a fork: SQLite counts its locks for each file of a process,
so a child that inherits an open one takes its parent's locks for its own, and writes without any.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.sqlite_damage import ABSENT, damage_in, opened
from mobius_otel.sqlite_opening import CAN_MOVE_AWAY, Opening

__all__ = ["SqliteFile", "SqliteFileGone"]

_log = logging.getLogger("mobius_otel")

# A handle that was in use when the process forked is kept here for ever: closing it in the child would run
# SQLite's shutdown on a file the parent still uses (https://www.sqlite.org/howtocorrupt.html, section 2.6).
_abandoned: list[sqlite3.Connection] = []
_LOOK_SECONDS = 0.05
_RESCUES = 10
_RESCUE_SECONDS = 0.01


def _inode(place: str) -> int:
    try:
        return os.stat(place).st_ino
    except ABSENT:
        return 0


class SqliteFileGone(sqlite3.OperationalError):
    """The file was deleted or replaced while it was open."""


class SqliteFile:
    """A SQLite file with one connection, one lock and a schema version.

    Args:
        path: Where the file is; it is made, with mode 0600, when it is missing. Its folder must exist.
        migrations: SQL scripts; number n brings a file of version n to version n + 1.
        what: What the file is called in errors, for example ``"audit ledger"``.
        table: A table that every version of it has: a file with others, or without it, is somebody else's.
        busy_timeout: Seconds to wait for another process that is writing.
        synchronous: ``NORMAL`` survives a killed process, ``FULL`` also a power cut.
        prepare: Called with every new connection, for settings that hold for a connection alone.
        aside: Whether a file that somebody cut is moved away, and another one begun.
        say: Called with level, message and values for every line of the log; default: it is logged at once.

    Raises:
        ConfigurationError: The folder is missing, others may read the file, it is no SQLite file, or its
            version is newer than this code knows, or it is a database of something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        migrations: Sequence[str],
        *,
        what: str,
        table: str,
        busy_timeout: float = 5.0,
        synchronous: str = "NORMAL",
        prepare: Callable[[sqlite3.Connection], object] | None = None,
        aside: bool = False,
        say: Callable[..., object] = _log.log,
    ) -> None:
        self.path = Path(path).absolute()
        # Asked for at every write, and a text is quicker than a Path.
        self._place, self._log_place, self._index_place = (f"{self.path}{suffix}" for suffix in ("", "-wal", "-shm"))
        self._what = what
        self._say = say
        self._opening = Opening(
            self.path, tuple(migrations), what, table, busy_timeout, synchronous, prepare, aside and CAN_MOVE_AWAY, say
        )
        #: Held by whoever uses the connection.
        self.lock = threading.RLock()
        self._beginning = False
        self._connection: sqlite3.Connection | None = None
        # For short looks beside it, which no writer holds up; taken after `lock` by whoever takes both.
        self._reader_lock = threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._readers = 0
        self._identity: tuple[int, int] | None = None
        self._size = 0  # of the file; SQLite makes it larger, and only VACUUM smaller
        self._log_file = -1
        self._log_identity = (0, 0)
        self._log_size = 0
        self._look_again_at = 0.0
        self._opens_again = False  # after the fork that is under way
        self._inherited: tuple[int, int] | None = None
        #: Set by who found the disk full: the next write first makes room in the log, or fails before it takes more.
        self.full = False
        opened.add(self)
        self._open()
        on_fork(self)

    def _open(self) -> sqlite3.Connection:
        self._opening.check()
        if self._inherited is not None and self._is_at_place(self._inherited):
            raise sqlite3.OperationalError(
                f"the {self._what} was in use in the middle of a fork; this process cannot open it again"
            )
        connection = self._opening.connect()
        found = os.stat(self.path)
        self._identity, self._size = (found.st_dev, found.st_ino), found.st_size
        self._look_at_log()
        self._connection = connection
        return connection

    @property
    def is_open(self) -> bool:
        """Whether this process has the file open right now."""
        return self._connection is not None

    def _look_at_log(self) -> None:
        """Remember which log it is; a handle of our own tells its size at little cost."""
        self._forget_log()
        if os.name != "posix":  # there the handle would keep SQLite from removing the log
            return
        try:
            self._log_file = os.open(self._log_place, os.O_RDONLY | os.O_CLOEXEC)
            log = os.fstat(self._log_file)
            self._log_identity, self._log_size = (log.st_ino, os.stat(self._index_place).st_ino), log.st_size
        except OSError as error:
            self._forget_log()
            if error.errno is None:  # no file's: a signal handler raised it
                raise

    def _forget_log(self) -> None:
        log, self._log_file = self._log_file, -1
        if log >= 0:
            os.close(log)  # SQLite locks the file and the index, but not the log

    # Every use is `with file.lock, file.reading() as connection:`. A signal handler may raise between any two steps of
    # Python's, also of an `__enter__` that is written in it; a lock's and a connection's own are one step, so that
    # neither stays held.

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return the connection for reading; the caller holds :attr:`lock`.

        Raises:
            sqlite3.Error: As SQLite says.
        """
        return contextlib.nullcontext(self._usable())

    def first(self, query: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return the first row that a query finds in the file that is at the path, waiting for no writer.

        Raises:
            sqlite3.Error: As SQLite says, also when the file was deleted or replaced.
        """
        try:  # contextlib.suppress would cost a fiftieth of the look-up
            with self._reader_lock:
                if self._connection is not None:
                    return self._read(query, values)
        except sqlite3.Error:  # it may know less of the log than the connection that writes
            pass
        with self.lock:
            connection = self._usable()
            self.check_still_there()
            row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
            return row

    def _read(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Do as :meth:`first` over a connection beside the one that writes; the caller holds its lock."""
        self.check_still_there()
        try:
            if self._reader is None:
                self._reader = sqlite3.connect(
                    f"{self.path.as_uri()}?mode=rw", timeout=self._opening.busy_timeout, isolation_level=None,
                    check_same_thread=False, uri=True,
                )  # fmt: skip
                self._readers += 1
            row: tuple[Any, ...] | None = self._reader.execute(query, values).fetchone()
            return row
        except BaseException:
            self._close_reader()
            raise

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def writing(self) -> sqlite3.Connection:
        """Begin a write transaction; the caller holds :attr:`lock`, and enters what is returned.

        Returns:
            The connection: it commits when its block ends without an error, and rolls back when it ends with one.

        Raises:
            sqlite3.Error: As SQLite says, also when the file was deleted or replaced under us: what is
                written to a file without a name would be lost with the process.
        """
        connection = self._whole()
        if connection.in_transaction:  # of this thread, which a signal's handler came upon
            raise sqlite3.OperationalError("a signal interrupted the thread while it was writing")
        self._beginning = True
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._beginning = False
            return connection
        except BaseException:
            self._usable()
            raise

    def _usable(self) -> sqlite3.Connection:
        try:
            connection = self._connection or self._open()
        except ConfigurationError as error:
            raise sqlite3.OperationalError(str(error)) from error
        if self._beginning:  # whoever began was interrupted before anybody could end it
            if connection.in_transaction:
                connection.rollback()
            self._beginning = False
        return connection

    def version(self) -> tuple[int, int] | None:
        """Return something that changes when anybody has written to the file; it waits for no writer.

        Returns:
            That; None while the file is closed.

        Raises:
            sqlite3.Error: As SQLite says, also when the file was deleted or replaced.
        """
        with self._reader_lock:
            row = self._read("PRAGMA data_version") if self._connection is not None else None
            return None if row is None else (self._readers, row[0])  # SQLite counts for each connection anew

    def check_still_there(self) -> int:
        """Look whether the open file is still the one at its path.

        Returns:
            Its size.

        Raises:
            SqliteFileGone: It was deleted or replaced.
        """
        try:
            found = os.stat(self._place)
        except ABSENT:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            raise SqliteFileGone(f"the {self._what} was deleted or replaced while it was open")
        return found.st_size

    def check_kept(self) -> None:
        """Look after a commit whether what was committed is in the file at the path; the caller holds :attr:`lock`.

        Raises:
            SqliteFileGone: The file was deleted, replaced or cut meanwhile.
        """
        if self.check_still_there() < self._size and self._connection is not None:
            self._mend(self._connection)

    def _is_at_place(self, identity: tuple[int, int]) -> bool:
        found = os.stat(self._place)
        return (found.st_dev, found.st_ino) == identity

    def is_still_there(self) -> bool:
        """Return whether the file that was opened last is the one at its path, and no shorter than it was."""
        try:
            return self.check_still_there() >= self._size
        except SqliteFileGone:
            return False

    def _whole(self) -> sqlite3.Connection:
        """Return the connection after a look whether file, log and index are still those at their paths."""
        connection = self._usable()
        size = self.check_still_there()
        if size < self._size and not connection.in_transaction:
            self._mend(connection)
            size = self.check_still_there()
        self._size = size
        if self.full:  # what there is now is enough for the pages of the log, but not for them and for new ones
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.full = False
        if self._log_file < 0:
            return connection
        now, size = time.monotonic(), os.lseek(self._log_file, 0, os.SEEK_END)
        if now >= self._look_again_at:  # a look takes longer than everything else here; what is found late is rescued
            self._look_again_at = now + _LOOK_SECONDS
            if (_inode(self._log_place), _inode(self._index_place)) != self._log_identity:
                return self._rescued(connection)
        if size < self._log_size:  # somebody cut it; or SQLite did, of which the whole was in the file already
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error:
                return self._rescued(connection)
        self._log_size = size
        return connection

    def _mend(self, connection: sqlite3.Connection) -> None:
        """Have a file that became shorter filled up from its log; one that lacks something then is moved away.

        Raises:
            SqliteFileGone: It was, by this process or another.
        """
        connection.execute("PRAGMA shrink_memory")  # what memory alone has would be taken for the file's
        if damage_in(connection) is None:  # the log has what was cut off, or somebody used VACUUM
            before = self.check_still_there()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not before or self.check_still_there() >= self._size:
                self._say(
                    logging.ERROR,
                    "mobius_otel: the %s %s was cut while it was open; its log held what was cut off, nothing is lost",
                    self._what,
                    self.path,
                )
        elif self._opening.aside:
            self._opening.move_away(self._identity)
            raise SqliteFileGone(f"the {self._what} was cut while it was open")

    def _rescued(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Bring what a log holds that has no name any more into the file, and open that anew."""
        saved = False
        for _ in range(_RESCUES):  # another handle of this process may be at the same
            there = [_inode(place) for place in (self._log_place, self._index_place)]
            if not all(found in (0, own) for found, own in zip(there, self._log_identity, strict=True)):
                break  # somebody began a new one
            with contextlib.suppress(sqlite3.Error):
                saved = not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if saved:
                break
            time.sleep(_RESCUE_SECONDS)
        self._say(
            logging.ERROR,
            "mobius_otel: the write-ahead log (-wal, -shm) of the %s %s was removed, replaced or cut while it was open;"
            " %s", self._what, self.path,
            "nothing that was in it is lost" if saved else "what was not yet in the file itself may be lost",
        )  # fmt: skip
        self.close()
        try:
            return self._open()
        except ConfigurationError as error:
            raise sqlite3.OperationalError(str(error)) from error

    def reopen(self) -> None:
        """Leave the file that is open; the next use opens what is at the path, or makes it anew.

        For a file that is gone: its handle is kept unused rather than closed, because closing would delete
        the write-ahead log of whatever lies at the path now.
        """
        with self.lock, self._reader_lock:
            self._abandon()
            self._forget_log()

    def close(self) -> None:
        """Close the handle; the next use opens the file again."""
        with self.lock, self._reader_lock:
            connection, self._connection = self._connection, None  # in this order: none is used that is closed
            self._close_reader()
            if connection is not None:
                connection.close()
            self._forget_log()

    def _abandon(self) -> None:
        _abandoned.extend(handle for handle in (self._connection, self._reader) if handle is not None)
        self._connection = self._reader = None

    def _before_fork(self) -> None:
        # A signal handler that forks may have come upon this thread in the middle of a use.
        used = any(lock._is_owned() for lock in (self.lock, self._reader_lock))  # type: ignore[attr-defined]
        self.lock.acquire()
        self._reader_lock.acquire()
        # A file that is gone is another one to the child; closing it would remove the log of what is at its path now.
        self._opens_again = not used and self._connection is not None and self.is_still_there()
        if self._opens_again:
            with contextlib.suppress(sqlite3.Error):
                self.close()

    def _after_fork_in_parent(self) -> None:
        try:
            if self._opens_again:  # else the next use would, but readers ask first whether it is open
                with contextlib.suppress(ConfigurationError, sqlite3.Error, OSError):
                    self._open()
        finally:
            self._reader_lock.release()
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        self._reader_lock = threading.RLock()
        self._beginning = False
        self._forget_log()
        if self._connection is not None:
            self._inherited = self._identity
            self._abandon()

    def __repr__(self) -> str:
        return f"SqliteFile({self._what}, {'open' if self._connection else 'closed'})"
