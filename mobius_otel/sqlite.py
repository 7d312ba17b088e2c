"""One SQLite file as the ledger and the key store use it.

Both need the same care: a file that only its owner may read (0600), write-ahead logging so that several
processes share it, a version that is migrated forward under a lock and refused when it is newer than the
code, one lock around every use, and no open handle during a fork: SQLite counts its locks for each file of a process,
so a child that inherits an open one takes its parent's locks for its own, and writes without any.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import stat
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["SqliteFile", "SqliteFileGone", "damage_in", "lost_pages"]

_log = logging.getLogger("mobius_otel")

# A handle that was in use when the process forked is kept here for ever: closing it in the child would run
# SQLite's shutdown on a file the parent still uses (https://www.sqlite.org/howtocorrupt.html, section 2.6).
_abandoned: list[sqlite3.Connection] = []
_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
# The beginning of the index of a write-ahead log, twice, and how much of that is in the file already
# (https://www.sqlite.org/walformat.html#walidxfmt).
_INDEX = struct.Struct("=12xBBHI28x")
_BACKFILLED = struct.Struct("=I")
_LOG_HEADER = 32
_FRAME_HEADER = 24
_LOOK_SECONDS = 0.05
_RESCUES = 10
_RESCUE_SECONDS = 0.01
_LOG_PAGES = 1000  # SQLite's own default
_LONGEST_NAME = 255 - 38  # of a file; the longest of those beside the ledger is named so much longer
_LOG_SHARE = 8
_BEING_MADE_SECONDS = 5  # by another process that starts now
# Not OSError: a signal handler's TimeoutError is one, and says nothing of a file.
_ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError)


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


def lost_pages(path: str | os.PathLike[str]) -> int:
    """Return how many pages are missing that a crashed process wrote to the write-ahead log of a file.

    The index beside the log knows how many it had. Whoever opens the file next makes the index anew.

    Args:
        path: The file.

    Returns:
        The number; 0 where all are there, where nothing is known, and where this process has the file open (closing
        another handle would take its locks away).
    """
    place = Path(path).absolute()
    if any(file.path == place and file._connection is not None for file in tuple(_files)):
        return 0
    before = None
    for _ in range(3):  # somebody may be writing
        try:
            with open(f"{place}-shm", "rb") as index:
                found = index.read(2 * _INDEX.size + _BACKFILLED.size)
            log = os.stat(f"{place}-wal").st_size if os.path.exists(f"{place}-wal") else 0
        except OSError as error:
            if isinstance(error, _ABSENT) or error.errno == errno.ENAMETOOLONG:
                return 0
            raise
        if found == before:
            return _missing(found, log)
        before = found
    return 0


def _missing(index: bytes, log: int) -> int:
    if len(index) < 2 * _INDEX.size + _BACKFILLED.size or index[: _INDEX.size] != index[_INDEX.size : 2 * _INDEX.size]:
        return 0
    valid, _, page, frames = _INDEX.unpack_from(index)
    (done,) = _BACKFILLED.unpack_from(index, 2 * _INDEX.size)
    there = max(0, log - _LOG_HEADER) // (_FRAME_HEADER + (65536 if page == 1 else page)) if page else 0
    return max(0, frames - max(there, done)) if valid and page and frames >= done else 0


def damage_in(connection: sqlite3.Connection, seconds: float = 1.0) -> str | None:
    """Return what SQLite finds wrong with a file, as far as `seconds` show it: some hundred megabytes; None: nothing.

    Args:
        connection: The file's.
        seconds: How long it looks at most.
    """
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, 1000)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        found = "ok" if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT else str(error)
    finally:
        connection.set_progress_handler(None, 0)
    return None if found == "ok" else " ".join(found.split())


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
    except _ABSENT:
        return 0


def _inode(place: str) -> int:
    try:
        return os.stat(place).st_ino
    except _ABSENT:
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
        self._migrations = tuple(migrations)
        self._what = what
        self._table = table
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._prepare = prepare
        self._aside = aside and fcntl is not None
        self._say = say
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
        _files.add(self)
        self._open()
        on_fork(self)

    def _open(self) -> sqlite3.Connection:
        self._check_place()
        if self._inherited is not None and self._is_at_place(self._inherited):
            raise sqlite3.OperationalError(
                f"the {self._what} was in use in the middle of a fork; this process cannot open it again"
            )
        if lost := lost_pages(self.path):
            self._say(
                logging.ERROR,
                "mobius_otel: the %s %s lacks %d pages that were in its write-ahead log (-wal): somebody removed or cut"
                " it after a crash, or the machine crashed; what was in them alone is lost",
                self._what, self.path, lost,
            )  # fmt: skip
        try:
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("BEGIN")  # both of one state: another process may be making it
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                self._check_owner(connection, version)  # before anything is written to it
                connection.execute("COMMIT")
                self._to_wal(connection)
                connection.execute(f"PRAGMA synchronous={self._synchronous}")
                connection.execute(f"PRAGMA wal_autocheckpoint={self._log_pages()}")
                self._migrate(connection)
                if self._prepare is not None:
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigurationError(
                self._what, str(self.path), "a SQLite file that can be opened and written",
                f"SQLite says: {error}.{self._who_may_not()}",
            ) from error  # fmt: skip
        found = os.stat(self.path)
        self._identity, self._size = (found.st_dev, found.st_ino), found.st_size
        self._look_at_log()
        self._connection = connection
        return connection

    def _who_may_not(self) -> str:
        """Return what this user lacks, where that is why the file cannot be opened."""
        if not os.access(self.path, os.R_OK | os.W_OK):
            return " It belongs to another user: run this as that one."
        if not os.access(self.path.parent, os.W_OK):
            return f" SQLite makes files beside it, and this user may not write in {self.path.parent}."
        return ""

    def _to_wal(self, connection: sqlite3.Connection) -> None:
        """Have a log written ahead; SQLite does not wait for another process that is just doing the same."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_RESCUE_SECONDS)

    def _log_pages(self) -> int:
        """Return how long the log gets before it is brought into the file: on a small disk not the half of it."""
        if not hasattr(os, "statvfs"):
            return _LOG_PAGES
        disk = os.statvfs(self.path.parent)
        return max(_LOG_PAGES // 20, min(_LOG_PAGES, disk.f_bavail * disk.f_frsize // (_LOG_SHARE * 4096)))

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

    def _check_place(self) -> None:
        if len(os.fsencode(self.path.name)) > _LONGEST_NAME:
            hint = "The files beside it have longer names."
            raise ConfigurationError(self._what, str(self.path), f"a name of at most {_LONGEST_NAME} bytes", hint)
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                self._what, str(self.path), "in a folder that exists", f"mkdir -p {self.path.parent}"
            )
        try:
            # O_EXCL, so that the mode is ours from the first byte on.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if not self.path.is_file():
                found = "is a folder" if self.path.is_dir() else "is none, or a link to none"
                raise ConfigurationError(self._what, str(self.path), f"a file, and this {found}") from None
            file = os.stat(self.path)
            if self._aside and not file.st_size and _size(self._log_place):  # SQLite would remove its log
                self._move_away((file.st_dev, file.st_ino))
                return self._check_place()
            mode = stat.S_IMODE(file.st_mode)
            if not file.st_size and time.time() - file.st_mtime > _BEING_MADE_SECONDS:
                self._say(
                    logging.WARNING,
                    "mobius_otel: the %s %s is an empty file: it begins anew, whatever it held before",
                    self._what,
                    self.path,
                )
            if os.name == "posix" and mode & 0o077:
                raise ConfigurationError(
                    self._what,
                    str(self.path),
                    f"readable by its owner alone, but its mode is {mode:04o}",
                    f"chmod 600 {self.path}",
                ) from None
        except OSError as error:
            raise ConfigurationError(
                self._what, str(self.path), "in a place that can be written", f"The system says: {error.strerror}."
            ) from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        newest = len(self._migrations)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == newest:
            return
        connection.execute("BEGIN EXCLUSIVE")  # another process may be at it: look again under the lock
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > newest:
                raise ConfigurationError(
                    self._what,
                    str(self.path),
                    f"of version {newest} or older, but it is of version {version}",
                    "A newer mobius_otel wrote it: pip install --upgrade mobius_otel",
                )
            self._check_owner(connection, version)
            for script in self._migrations[version:]:
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
        if (self._table not in tables) if version else tables:
            raise ConfigurationError(
                self._what, str(self.path), "a file of its own, and this is a database of something else",
                f"It has the tables {', '.join(tables[:5])}{', …' if tables[5:] else ''}." if tables else "",
            )  # fmt: skip

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
                    f"{self.path.as_uri()}?mode=rw", timeout=self._busy_timeout, isolation_level=None,
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
        except _ABSENT:
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
        elif self._aside:
            self._move_away(self._identity)
            raise SqliteFileGone(f"the {self._what} was cut while it was open")

    def _move_away(self, identity: tuple[int, int] | None) -> None:
        """Move a file that was cut away from its path, with its log, if nobody else did."""
        place = os.path.realpath(self._place)
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
        self._say(
            logging.ERROR,
            "mobius_otel: somebody cut the %s %s; what is left of it is kept as %s, and another one begins",
            self._what,
            self.path,
            os.path.basename(new),
        )

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
