"""Opens a ledger for reading alone: nothing is locked against its writers, and no file is made beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from mobius_otel.errors import ConfigurationError
from mobius_otel.sqlite import SqliteFile
from mobius_otel.sqlite_damage import lost_pages
from mobius_otel.telemetry.audit.salvage import is_damage
from mobius_otel.telemetry.audit.schema import MIGRATIONS
from mobius_otel.telemetry.audit.unseen import Reader, Tails

__all__ = ["UNREADABLE", "read", "read_damaged"]

R = TypeVar("R")
#: What a damaged file raises; the second where SQLite passes on bytes that are no text.
UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)
_TRIES: Final = 5
_WHAT: Final = "audit ledger"


def read(
    path: str | os.PathLike[str],
    function: Callable[[Reader], R],
    *,
    damaged: bool = False,
    tails: bool = True,
) -> R:
    """Call `function` with a connection that sees one state of the ledger.

    What lies in the tails of its streams is among its records, at positions that it may not keep.

    Args:
        path: The ledger.
        function: Reads; it is called again when writers came or went in a way that could have misled it.
        damaged: Whether a file is opened too that is shorter than it should be.
        tails: Whether what lies in the tails counts.

    Returns:
        What `function` returned.

    Raises:
        ConfigurationError: There is no ledger at `path`, it cannot be read, or a newer version wrote it.
    """
    place = Path(os.path.realpath(path))  # where SQLite has its log
    if not place.is_file():
        raise ConfigurationError(_WHAT, str(path), "an existing file")
    lacking: set[str] = set()
    for last in (False,) * (_TRIES - 1) + (True,):
        before = _state(place)
        left = _tails(place) if tails else None  # first: what is brought in meanwhile is in the database then
        try:
            with _opened(place, before, damaged) as connection:
                if left is not None:
                    known, lacking = lacking, left.show(connection, damaged=damaged)
                    if lacking - known and not last:  # of a stream that was begun or ended meanwhile
                        continue
                result = function(connection)
        except UNREADABLE as error:
            if last or _state(place) == before:
                raise ConfigurationError(_WHAT, str(path), "a SQLite file that can be read", f"{error}.") from error
            continue
        if before.live or last or _state(place) == before:
            return result
    raise AssertionError


def read_damaged(path: str | os.PathLike[str], function: Callable[[Reader, bool], R], *, tails: bool = True) -> R:
    """As :func:`read`; should the file be damaged, `function` is called once more to read what can be read.

    Args:
        path: The ledger.
        function: Reads; the second argument says whether the file is damaged.
        tails: As for :func:`read`.

    Returns:
        What `function` returned.

    Raises:
        ConfigurationError: As for :func:`read`.
    """
    try:
        return read(path, lambda connection: function(connection, False), tails=tails)
    except ConfigurationError as error:
        if not is_damage(error.__cause__):
            raise
    return read(path, lambda connection: function(connection, True), damaged=True, tails=tails)


def _tails(place: Path) -> Tails:
    try:
        return Tails.beside(place)
    except OSError as error:
        raise ConfigurationError(_WHAT, str(place), "a ledger whose tails can be read", f"{error}.") from error


class _State:
    """What lies at a path: the file, its write-ahead log, and the index of that."""

    __slots__ = ("index", "log", "main")

    def __init__(self, main: tuple[int, ...], log: int, index: bool) -> None:
        self.main = main
        self.log = log
        self.index = index

    @property
    def live(self) -> bool:
        """Whether somebody writes the file, or was killed while writing it."""
        return self.index or self.log > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and (self.main, self.log, self.index) == (other.main, other.log, other.index)

    __hash__ = None  # type: ignore[assignment]


def _state(place: Path) -> _State:
    try:
        main = os.stat(place)
        log = os.stat(f"{place}-wal").st_size if os.path.exists(f"{place}-wal") else 0
    except OSError:
        return _State((), 0, index=False)
    return _State((main.st_ino, main.st_size, main.st_mtime_ns), log, os.path.exists(f"{place}-shm"))


@contextlib.contextmanager
def _opened(place: Path, state: _State, damaged: bool) -> Iterator[Reader]:
    with contextlib.ExitStack() as stack:
        if state.index and lost_pages(place):
            options = "mode=ro&immutable=1"
        elif state.index:
            options = "mode=ro&readonly_shm=1"
        elif state.log:  # a copy without its index, which SQLite would make anew beside it
            place = _copied(place, stack)
            options = "mode=rw"
        else:
            options = "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(place))}?{options}", uri=True, isolation_level=None, factory=Reader
        )
        stack.callback(connection.close)
        connection.execute("PRAGMA temp_store = MEMORY")  # what tails hold is shown by tables of our own
        if damaged:  # which lets SQLite overlook that pages are missing at the end
            connection.execute("PRAGMA writable_schema = 1")
        if _check_version(connection, place) < len(MIGRATIONS):
            connection = _migrated(place, stack)
        connection.execute("BEGIN")  # one state for everything that is read
        yield connection


def _copied(place: Path, stack: contextlib.ExitStack) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mobius-otel-")))
    for suffix in ("", "-wal"):
        if os.path.exists(f"{place}{suffix}"):
            shutil.copyfile(f"{place}{suffix}", folder / f"ledger.db{suffix}")
    return folder / "ledger.db"


def _migrated(place: Path, stack: contextlib.ExitStack) -> Reader:
    """Bring a copy of a ledger that an older version wrote to this version."""
    copy = _copied(place, stack)
    copy.chmod(0o600)
    SqliteFile(copy, MIGRATIONS, what=_WHAT, table="records").close()
    connection = sqlite3.connect(copy, isolation_level=None, factory=Reader)
    stack.callback(connection.close)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _check_version(connection: sqlite3.Connection, place: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            _WHAT, str(place), f"of version {len(MIGRATIONS)} or older, but it is of version {version}",
            "A newer mobius_otel wrote it: pip install --upgrade mobius_otel",
        )  # fmt: skip
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"records", "streams", "shipping", "quarantine"} <= tables:
        raise ConfigurationError(_WHAT, str(place), "an audit ledger, but it lacks the tables of one")
    return int(version)
