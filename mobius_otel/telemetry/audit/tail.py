"""The tail of a stream: a small file beside the ledger with what is committed and not in the database yet.

A record is committed by one append to the tail of its stream; a thread brings what lies there into the database a tenth
of a second later, many records in one transaction. So no request waits for SQLite, nor for another process that
writes to it. The tail of a killed process lies there until a living one takes note of its stream, and whoever reads
the ledger reads the tails too.

The first line says whose stream it is, each other one is a record: its hash, its signature or ``-``, its canonical
form, which holds no line's end. A last line without one is of a write that never returned, and counts for nobody.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.chain import canonical, digest, parse
from mobius_otel.telemetry.audit.schema import NEWEST
from mobius_otel.telemetry.audit.stream import Link

__all__ = [
    "FileErrors",
    "Left",
    "Tail",
    "begins_after",
    "insert",
    "leftovers",
    "line_of",
    "make_private",
    "newest_of",
    "read_tail",
    "remove",
    "set_aside",
    "supported",
    "tails_of",
]

_log = logging.getLogger("mobius_otel")
#: What a tail holds at most before its stream writes to the database again.
MOST_RECORDS: Final = 256
MOST_BYTES: Final = 1_048_576
_NAME: Final = re.compile(r"[0-9a-f]{32}")
_ASIDE: Final = ".damaged"
_NEW: Final = ".new"
_NOTHING: Final = (0, 0)
#: Not through a link, and without a wait for whoever writes into a pipe that lies there.
_CAREFULLY: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
_HASH: Final = 64
_SIGNED: Final = 3  # colons in a signature
_LOOK_SECONDS: Final = 0.005
_AT_ONCE: Final = 128  # rows in one statement: between two the thread waits for the interpreter, the lock in its hand


class FileErrors:
    """Passes over errors of files (``with``), but not over what a signal handler raised: a TimeoutError is one, too."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError) and error.errno is not None


def supported() -> bool:
    """Return whether a file that is open can be replaced here, which a tail needs."""
    return os.name == "posix"


def _beginning(ledger: str | os.PathLike[str]) -> str:
    """Return what the places of all tails of a ledger begin with: beside the file itself, not beside a link to it."""
    return f"{os.path.realpath(ledger)}-tail-"


class Tail:
    """The tail of a stream that is written. One thread appends at a time.

    Args:
        ledger: The ledger's file, which exists.
        stream_id: The stream.
        owner: What tells, should the ledger lose it, whose stream it is.

    Raises:
        OSError: The file cannot be made.
    """

    __slots__ = (
        "_facts",
        "_file",
        "_head",
        "_identity",
        "_ledger",
        "_look_again_at",
        "pending",
        "place",
        "size",
        "told",
    )

    def __init__(self, ledger: Path, stream_id: str, owner: Mapping[str, object]) -> None:
        self._ledger = ledger
        self._file, self._identity = -1, _NOTHING
        self._facts: tuple[int, ...] = ()
        self._look_again_at = 0.0
        self.place = _beginning(ledger) + stream_id
        head = canonical({"stream": stream_id, **owner})
        self._head = b"%b - %b\n" % (digest(head).hex().encode(), head)
        #: What lies in it and not in the database, oldest first.
        self.pending: list[Link] = []
        #: How much of it counts.
        self.size = 0
        #: Whether it was said that somebody removed it.
        self.told = False
        self.renew()

    def renew(self) -> None:
        """Begin the file anew with what is pending, at its place: readers see the old one whole or the new one.

        Raises:
            OSError: It cannot be made; the old one stays.
        """
        self._look_again_at = 0.0  # whoever is interrupted here may leave a file without a name
        new = self.place if self._identity == _NOTHING else f"{self.place}{_NEW}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        file = os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o600)
        try:
            owner = os.stat(self._ledger)
            if os.geteuid() == 0 != owner.st_uid:  # as SQLite does: the service has to read what root wrote
                os.fchown(file, owner.st_uid, owner.st_gid)
            # Nothing is in it before it has its name, where nothing must be: some file systems would write it out then.
            size = self._filled(file, self.pending) if self.pending else 0
            if new != self.place:
                os.rename(new, self.place)
            size = size or self._filled(file, [])
        except BaseException:
            os.close(file)
            raise
        found = os.fstat(file)
        self.close()
        self._file, self._identity, self._facts, self.size = file, (found.st_ino, found.st_dev), _facts(found), size

    def _filled(self, file: int, links: list[Link]) -> int:
        try:
            return _write(file, self._head + b"".join(map(line_of, links)))
        except OSError:
            if links:
                raise
            os.ftruncate(file, 0)  # the first record brings it
            return 0

    @property
    def idle(self) -> bool:
        """Whether no record lies in the file."""
        return self.size <= len(self._head)

    def takes(self, size: int, records: int, now: float, there: Callable[[], bool]) -> bool:
        """Return whether there is room for so much, in the file that is at the place and is as it was left.

        Args:
            size: Bytes.
            records: Records.
            now: Monotonic seconds.
            there: Says whether the database is the one at its place, too.
        """
        if self.size + size > MOST_BYTES or len(self.pending) + records > MOST_RECORDS:
            return False
        if now < self._look_again_at:  # a look at the name takes twice as long as the append itself
            try:
                return os.lseek(self._file, 0, os.SEEK_END) == self.size
            except OSError as error:
                if error.errno is None:  # no file's: a signal handler raised it
                    raise
                return False
        self._look_again_at = now + _LOOK_SECONDS
        return self.is_whole() and there()

    def is_whole(self) -> bool:
        """Return whether nobody removed, replaced, cut or closed the file, or wrote to it."""
        with FileErrors():
            named = os.lstat(self.place)
            return named.st_size == self.size and _facts(named) == self._facts and self._is_ours()
        return False

    def _is_ours(self) -> bool:
        """Return whether the handle is still ours: who becomes a daemon closes all, and their numbers come again."""
        with FileErrors():
            found = os.fstat(self._file)
            return (found.st_ino, found.st_dev) == self._identity
        return False

    def append(self, lines: bytes) -> int:
        """Write lines whole, or not at all.

        Returns:
            How large the file is now; :attr:`size` is for the caller to set, once it went on from there.

        Raises:
            OSError: They cannot be written.
        """
        if not self.size:
            lines = self._head + lines
        try:
            return self.size + _write(self._file, lines)
        except BaseException:
            with FileErrors():  # what it leaves makes the file another than it was left
                os.ftruncate(self._file, self.size)
            raise

    def beyond(self) -> tuple[list[Link], int]:
        """Return what was written after :attr:`size` by somebody who was interrupted, and where that ends."""
        if not self._is_ours():
            return [], self.size
        there = os.fstat(self._file).st_size - self.size
        data = os.pread(self._file, there, self.size) if there > 0 else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file, self.size + len(whole))
        links = [link for line in whole.split(b"\n") if (link := _link(line)) is not None]
        return links, self.size + len(whole)

    def close(self, *, remove: bool = False) -> None:
        """Close the file; `remove`: because all of it is in the database, and the stream ended."""
        if self._is_ours():
            if remove and os.fstat(self._file).st_nlink:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.place)
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()


def _facts(found: os.stat_result) -> tuple[int, ...]:
    """Return what tells a file from another, and who may use it."""
    return found.st_ino, found.st_dev, found.st_mode, found.st_uid


def _write(file: int, data: bytes) -> int:
    done = os.write(file, data)
    if done != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return done


def line_of(link: Link) -> bytes:
    """Return a record as a line."""
    signature = link.signature
    return b"%b %b %b\n" % (link.hex.encode(), b"-" if signature is None else signature.encode(), link.payload)


def _link(line: bytes) -> Link | None:
    """Return the record of a line; None where it is none."""
    try:
        head, signature, payload = line.split(b" ", 2)
        record = parse(payload)
        attributes = record["attributes"]
        sequence, record_id = attributes[conventions.AUDIT_SEQUENCE], attributes[conventions.AUDIT_RECORD_ID]
        if len(head) != _HASH or type(sequence) is not int or type(record_id) is not str:
            return None
        if signature != b"-" and signature.count(b":") < _SIGNED:
            return None
        signed = None if signature == b"-" else signature.decode("ascii")
        payload.decode()
        record_id.encode()  # half a character is none that the database takes
        hashed = bytes.fromhex(head.decode("ascii"))
        return Link(sequence, record_id, payload, hashed, hashed.hex(), signed)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


# --- what others left ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Left:
    """What lies in the tail of a stream.

    Args:
        stream_id: The stream.
        place: The file.
        owner: What its first line says; empty where there is none.
        links: Its records, each with a later number than the one before.
        damage: What is wrong with the file.
    """

    stream_id: str
    place: str
    owner: dict[str, Any] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    def after(self, count: int) -> list[Link]:
        """Return the records that come after so many."""
        return [link for link in self.links if link.sequence > count]


def tails_of(ledger: str | os.PathLike[str]) -> dict[str, str]:
    """Return the places of the tails beside a ledger, by stream."""
    return {name: place for name, place in _beside(ledger) if _NAME.fullmatch(name)}


def leftovers(ledger: str | os.PathLike[str]) -> list[str]:
    """Return the places of tails that were set aside because they are damaged."""
    return sorted(place for name, place in _beside(ledger) if name.endswith(_ASIDE))


def _beside(ledger: str | os.PathLike[str]) -> list[tuple[str, str]]:
    folder, prefix = os.path.split(_beginning(ledger))
    try:
        with os.scandir(folder) as found:
            return [(one.name.removeprefix(prefix), one.path) for one in found if one.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def make_private(ledger: str | os.PathLike[str], say: Callable[..., object]) -> None:
    """Take tails that others may read away from them. It is no refusal: the next process may well be able to begin.

    Args:
        ledger: The ledger.
        say: Called with level, message and values for every line of the log.

    Raises:
        ConfigurationError: There is one that cannot be taken away.
    """
    for place in tails_of(ledger).values() if supported() else ():
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(place)
            mode = stat.S_IMODE(found.st_mode)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.stat(ledger).st_uid
            if not (ours and mode & 0o077):
                continue
            try:
                file = os.open(place, os.O_RDONLY | _CAREFULLY)
                try:
                    os.fchmod(file, 0o600)
                finally:
                    os.close(file)
            except PermissionError:
                raise ConfigurationError(
                    "audit ledger's tail", place, f"readable by its owner alone, but its mode is {mode:04o}",
                    f"chmod 600 {place}",
                ) from None  # fmt: skip
            say(logging.ERROR, "mobius_otel: others might read %s (mode %04o); now its owner alone may", place, mode)


def read_tail(ledger: str | os.PathLike[str], stream_id: str, place: str) -> Left | None:
    """Read the tail of a stream; None where there is no such file.

    Args:
        ledger: The ledger.
        stream_id: The stream.
        place: The file; another's than the ledger's owner's counts for nothing.

    Raises:
        OSError: It cannot be read.
    """
    try:
        file = os.open(place, os.O_RDONLY | _CAREFULLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link, which none of ours is
            return None
        raise
    try:
        found, owner = os.fstat(file), os.stat(ledger)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (owner.st_uid, 0):
            return None
        data = b""
        while part := os.read(file, MOST_BYTES):  # not `open`, which is gone where an interpreter ends
            data += part
    finally:
        os.close(file)
    return _taken_apart(Left(stream_id, place), data[: data.rfind(b"\n") + 1])


def _taken_apart(left: Left, data: bytes) -> Left:
    if not data:  # nothing was written since it was brought in
        return left
    first, *lines = data[:-1].split(b"\n")
    try:
        head, _, payload = first.split(b" ", 2)
        left.owner = json.loads(payload)
        if left.owner["stream"] != left.stream_id or digest(payload).hex().encode() != head:
            raise ValueError
    except (ValueError, TypeError, KeyError):
        left.owner = {}
        left.damage.append("line 1 does not say that it is of this stream")
    before = None
    for number, line in enumerate(lines, 2):
        link = _link(line)
        if link is None or link.record["attributes"].get(conventions.AUDIT_STREAM_ID) != left.stream_id:
            left.damage.append(f"line {number} is no record of this stream")
        elif before is not None and link.sequence <= before.sequence:
            left.damage.append(f"line {number} is there twice, or in another's place")
        else:
            left.links.append(link)
            if digest(link.payload) != link.hash:
                left.damage.append(f"line {number} is not what was hashed")
            before = link
    return left


def remove(left: Left) -> None:
    """Remove a tail, and what a process left that was killed while it began it anew."""
    for place in (left.place, left.place + _NEW):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)


def set_aside(left: Left) -> str:
    """Keep a damaged tail under another name; return that."""
    place = left.place + _ASIDE
    number = 0
    while os.path.lexists(place):
        number += 1
        place = f"{left.place}-{number}{_ASIDE}"
    os.rename(left.place, place)
    return place


# --- into the database --------------------------------------------------------------------------------------------


def insert(connection: sqlite3.Connection, row: int, links: Sequence[Link], newest: int, table: str = "records") -> int:
    """Write records of a stream; return the position of the last.

    Args:
        connection: In a transaction.
        row: The stream's row.
        links: The records.
        newest: The newest position that was given.
        table: Where to.
    """
    for start in range(0, len(links), _AT_ONCE):
        values: list[object] = []
        part = links[start : start + _AT_ONCE]
        for number, link in enumerate(part, newest + start + 1):
            values += (number, row, link.sequence, link.record_id, link.hash, link.payload.decode(), link.signature)
        connection.execute(f"INSERT INTO {table} VALUES {','.join(['(?,?,?,?,?,?,?)'] * len(part))}", values)
    return newest + len(links)


def newest_of(connection: sqlite3.Connection) -> int:
    """Return the newest position that was given."""
    return int(connection.execute(f"SELECT {NEWEST}").fetchone()[0])


def begins_after(links: Sequence[Link]) -> tuple[int, bytes]:
    """Return how many records of its stream come before `links`, and the hash of the last of them."""
    head = links[0].record["attributes"].get(conventions.AUDIT_PREVIOUS_HASH, "")
    try:
        return links[0].sequence - 1, bytes.fromhex(head)
    except (TypeError, ValueError):
        return links[0].sequence - 1, b""
