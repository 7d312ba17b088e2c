"""What is wrong with a file of SQLite, as far as it can be told from outside of it."""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
import time
import weakref
from pathlib import Path
from typing import Any

__all__ = ["ABSENT", "damage_in", "lost_pages", "opened"]

#: Not OSError: a signal handler's TimeoutError is one, and says nothing of a file.
ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError)
#: What opened files in this process; each has a `path`, and `is_open` says whether it has the file open now.
opened: weakref.WeakSet[Any] = weakref.WeakSet()
# The beginning of the index of a write-ahead log, twice, and how much of that is in the file already
# (https://www.sqlite.org/walformat.html#walidxfmt).
_INDEX = struct.Struct("=12xBBHI28x")
_BACKFILLED = struct.Struct("=I")
_LOG_HEADER = 32
_FRAME_HEADER = 24


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
    if any(file.path == place and file.is_open for file in tuple(opened)):
        return 0
    before = None
    for _ in range(3):  # somebody may be writing
        try:
            with open(f"{place}-shm", "rb") as index:
                found = index.read(2 * _INDEX.size + _BACKFILLED.size)
            log = os.stat(f"{place}-wal").st_size if os.path.exists(f"{place}-wal") else 0
        except OSError as error:
            if isinstance(error, ABSENT) or error.errno == errno.ENAMETOOLONG:
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
