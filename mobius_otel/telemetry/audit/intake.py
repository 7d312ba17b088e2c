"""The way of a stream's records into the database: in a turn's transaction, or from the tail, many at once.

What was committed to the tail counts already; here it gets its number in the ledger. Whoever is interrupted by a signal
on this way leaves a stream that is *unsure*: the next one finds out what was committed, and goes on there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable, MobiusError
from mobius_otel.sqlite import SqliteFileGone
from mobius_otel.telemetry.audit.adoption import forget
from mobius_otel.telemetry.audit.books import Books
from mobius_otel.telemetry.audit.schema import SELECT, entry_of
from mobius_otel.telemetry.audit.signing import AuditKey, SignScope
from mobius_otel.telemetry.audit.stream import Link, Stream, process_birth, process_token
from mobius_otel.telemetry.audit.tail import (
    MOST_BYTES,
    FileErrors,
    Left,
    Tail,
    begins_after,
    insert,
    newest_of,
    supported,
)
from mobius_otel.telemetry.audit.turns import Turns, Waiting
from mobius_otel.telemetry.safety import of_handler

__all__ = ["Intake", "Kept", "LedgerDurability", "Work"]

_log = logging.getLogger("mobius_otel")

LedgerDurability = Literal["process", "power", "sink"]
_MOST_SETTLED: Final = 20_000  # more than wait in memory
_RETRY_SECONDS: Final = 1.0
_OPEN_STREAM: Final = (
    "INSERT INTO streams (stream_id, host, pid, started, process, born, count, head, tail)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(slots=True, eq=False)
class Kept:
    """Where a record stands in the ledger.

    Args:
        link: The record.
        stream_id: Its stream.
        durability: What it has survived so far: ``process`` or ``power``.
        ledger: The ledger.
    """

    link: Link
    stream_id: str
    durability: Literal["process", "power"]
    ledger: Intake = field(repr=False)

    @property
    def sequence(self) -> int:
        """Its number in the stream, from 1."""
        return self.link.sequence

    @property
    def hash(self) -> str:
        """Its SHA-256, in hexadecimal."""
        return self.link.hex

    @property
    def record(self) -> dict[str, Any]:
        """The record as it was hashed."""
        return self.link.record

    @property
    def signature(self) -> str | None:
        """Its signature, where it has one."""
        return self.link.signature

    @property
    def position(self) -> int:
        """Its number in the ledger.

        Raises:
            AuditUnavailable: It is not in the database yet, and cannot be brought in.
        """
        placed = self.ledger.place_of(self)
        if placed is None:
            raise AuditUnavailable(f"{self.ledger.path}: the record has no number in the ledger yet")
        return placed


@dataclass(slots=True)
class Work:
    """What one turn adds to a stream."""

    stream: Stream
    count: int
    head: bytes
    row: int = 0
    links: list[Link] = field(default_factory=list)
    adopted: list[Left] = field(default_factory=list)

    def add(self, record: dict[str, Any]) -> Link:
        """Chain a record."""
        link = self.stream.link(record, self.count, self.head, self.row)
        self.links.append(link)
        self.count, self.head = link.sequence, link.hash
        return link


class Intake(Books, ABC):
    """What brings the records of one stream into a ledger's file.

    Args: as of :class:`~mobius_otel.telemetry.audit.books.Books`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        durability: LedgerDurability,
        max_bytes: int | None,
        max_age: float | None,
        key: AuditKey | None,
        scope: SignScope,
        damaged: bool,
    ) -> None:
        super().__init__(
            path, clock=clock, durability=durability, max_bytes=max_bytes, max_age=max_age, key=key, scope=scope,
            damaged=damaged,
        )  # fmt: skip
        self.durability: LedgerDurability = durability
        self._turns = Turns(self._commit)
        self._stream: Stream | None = None
        self._tail: Tail | None = None
        self._failing = False  # whether what lies in the tail could not be brought in
        self._failed_at = 0.0
        self._settled: dict[str, Kept] = {}

    @abstractmethod
    def _commit(self, waiting: list[Waiting]) -> None:
        """Add the records of those who wait to the stream: of who takes records."""

    def _alone(self, function: Callable[[], None]) -> None:
        """Call `function` while nobody else works, and then say what is to be said of it."""
        try:
            self._turns.alone(function)
        finally:
            self._speak()

    def _speak(self) -> None:
        """Say what is to be said; who came upon this thread's turn leaves it to that."""
        while self._unsaid and not self._turns.is_mine():
            line: tuple[Any, ...] = ()
            with contextlib.suppress(IndexError):  # another thread was quicker
                line = self._unsaid.pop(0)
            if line:
                _log.log(*line)

    @abstractmethod
    def _finish(self) -> None:
        """Finish an end that was interrupted: of who ends streams."""

    def _current(self) -> Stream:
        """Return the stream that a record goes to; the caller has the turn."""
        self._finish()
        if self._stream is None:
            self._stream = Stream(self._key, self._scope)
        return self._stream

    def _transact(
        self,
        stream: Stream,
        write: Callable[[sqlite3.Connection, Work], object],
        tell: Callable[[int], object] | None = None,
    ) -> None:
        """Bring in what lies in the tail and what `write` adds, in one transaction; the caller has the turn.

        Args:
            stream: The stream.
            write: Adds to the work; it is called again where the file turns out to be another.
            tell: Called after the commit with what a new record's position is more than its number.
        """
        try:
            work, last = self._transacted(stream, write)
        except (SqliteFileGone, sqlite3.IntegrityError) as error:
            self._say(
                logging.ERROR,
                "mobius_otel: the audit ledger %s was deleted, replaced or cut while it was open; recording goes on in"
                " the file at its path, and `mobius-otel audit verify` names what it lacks", self.path,
            )  # fmt: skip
            if isinstance(error, SqliteFileGone):
                self._file.reopen()
            stream.row, stream.position = None, 0  # the stream goes on: the new file shows what is missing in it
            work, last = self._transacted(stream, write)
        if tell is not None:
            tell(last - work.count)
        stream.go_on(work.row, last, work.count, work.head)
        self._failing = False
        for left in work.adopted:
            forget(left, self._say)
        self._renew_tail()

    def _transacted(self, stream: Stream, write: Callable[[sqlite3.Connection, Work], object]) -> tuple[Work, int]:
        unsure, stream.unsure = stream.unsure, True
        with self._file.lock:
            with self._file.writing() as connection:
                if unsure:
                    self._settle(connection, stream)
                row = stream.row or self._open_stream(connection, stream)
                brought = self._brought(connection, stream, row)
                work = Work(stream, stream.count, stream.head, row)
                write(connection, work)
                last = insert(connection, row, work.links, newest_of(connection)) if work.links else 0
            self._file.check_kept()
            self._place(stream, *brought)
        return work, last

    def _bring_in(self, stream: Stream, tail: Tail) -> None:
        """Write what lies in the tail, in pieces where there is no room for all; the caller holds the file's lock."""
        if stream.row is None:
            raise SqliteFileGone("the stream has no row yet")
        most = len(tail.pending)
        while tail.pending:
            try:
                with self._file.writing() as connection:
                    brought = self._brought(connection, stream, stream.row, most)
            except sqlite3.OperationalError as error:
                most //= 2
                if "full" not in str(error):
                    raise
                if not most:
                    if self._max_bytes is None or not self.prune():
                        raise
                    most = len(tail.pending)
            else:
                self._file.check_kept()
                self._place(stream, *brought)

    def _brought(
        self, connection: sqlite3.Connection, stream: Stream, row: int, most: int | None = None
    ) -> tuple[int, int | None]:
        """Write what lies in the tail; return the number of its last record, and what its position is more than that.

        Whoever calls holds the file's lock. What is there already, because somebody was interrupted, is passed over.
        """
        pending = self._tail.pending[:most] if self._tail is not None else ()
        if not pending:
            return 0, None
        last = pending[-1].sequence
        found = connection.execute(
            "SELECT count FROM streams WHERE id = ? AND stream_id = ?", (row, stream.stream_id)
        ).fetchone()
        if found is None or found[0] < pending[0].sequence - 1:
            raise sqlite3.IntegrityError("the stream's row is gone, or an older one")
        links = [link for link in pending if link.sequence > found[0]]
        if len(links) < len(pending):
            insert(connection, row, links, newest_of(connection))
            return last, None
        return last, insert(connection, row, links, newest_of(connection)) - last

    def _place(self, stream: Stream, last: int, offset: int | None) -> None:
        """Note that records of the tail are in the database; the caller holds the file's lock."""
        tail, number = self._tail, 0
        if tail is None or not last:
            return
        for link in tail.pending:
            if link.sequence > last:
                break
            number += 1
            if offset is not None:
                link.placed = link.sequence + offset
        if offset is not None:
            stream.position = max(stream.position, last + offset)
        del tail.pending[:number]

    def bring_in(self) -> bool:
        """Bring what lies in the tail into the database, while others append to it; never raises.

        Returns:
            Whether nothing has to be tried again.
        """
        try:
            with self._file.lock:
                stream, tail = self._stream, self._tail
                if stream is None or tail is None or not tail.pending:
                    return True
                self._bring_in(stream, tail)
                self._failing = False
            self._turns.alone(self._renew_tail)
        except (SqliteFileGone, sqlite3.IntegrityError):
            with contextlib.suppress(AuditUnavailable):
                self.flush()
                return True
            self._fail()
        except (sqlite3.Error, OSError, MobiusError) as error:
            if of_handler(error):
                raise
            self._fail()
        finally:
            self._speak()
        return not self._failing

    def _fail(self) -> None:
        """Close the tail to appends: whoever appends next tries to bring it in, and is told why that cannot be had."""
        self._failing, self._failed_at = True, time.monotonic()

    def flush(self) -> None:
        """Bring what lies in the tail into the database now, as before a copy is made of it.

        Raises:
            AuditUnavailable: It cannot be written; nothing is lost.
        """

        def write() -> None:
            self._committing(self._finish)
            if self._tail is not None and self._tail.pending:
                self._about_itself(lambda _, __: None)

        self._alone(write)

    def _gather(self, *, patient: bool = False) -> list[Link]:
        if patient or not self._failing or time.monotonic() - self._failed_at > _RETRY_SECONDS:
            self.bring_in()
        tail = self._tail
        return [] if tail is None else tail.pending[:]

    def _renew_tail(self) -> None:
        """Empty the tail's file of what is in the database; the caller has the turn."""
        stream, tail = self._stream, self._tail
        if tail is None or stream is None or stream.unsure:
            return
        whole = tail.is_whole()
        if whole and (tail.idle or (tail.pending and tail.size < MOST_BYTES // 2)):
            return
        if not (whole or tail.told):
            self._say(
                logging.ERROR,
                "mobius_otel: the tail of the audit ledger %s (%s) was removed, replaced, cut or closed while it was"
                " open; nothing that was in it is lost", self.path, os.path.basename(tail.place),
            )  # fmt: skip
        told, tail.told = tail.told or not whole, True  # whoever is interrupted here leaves it like that himself
        with FileErrors():  # it stays as it was; the next one tries again
            tail.renew()
            told = False
        tail.told = told

    def place_of(self, kept: Kept) -> int | None:
        """Return the position of a record; None while it lies in a tail and cannot be brought in."""
        link = kept.link
        if link.placed is None and any(one.hash == link.hash for one in self._gather()):
            return None
        if link.placed is None:  # its process was interrupted, or another brought it in
            with self._file.lock, self._file.reading() as connection:
                found = connection.execute(
                    "SELECT r.id FROM streams s JOIN records r ON r.stream = s.id"
                    " WHERE s.stream_id = ? AND r.sequence = ?", (kept.stream_id, link.sequence),
                ).fetchone()  # fmt: skip
            link.placed = None if found is None else int(found[0])
        return link.placed

    def _open_stream(self, connection: sqlite3.Connection, stream: Stream) -> int:
        pid = os.getpid()
        owner = {
            "host": platform.node(), "pid": pid, "started": self._clock(), "process": process_token(),
            "born": process_birth(pid),
        }  # fmt: skip
        count, head = stream.count, stream.head
        if self._tail is not None and self._tail.pending:
            count, head = begins_after(self._tail.pending)
        elif self._tail is None and self.durability == "process" and supported():
            with FileErrors():  # without one, every record is committed by SQLite
                self._tail = Tail(self.path, stream.stream_id, owner)
        values = (count, head, self._tail is not None)
        found = connection.execute("SELECT id FROM streams WHERE stream_id = ?", (stream.stream_id,)).fetchone()
        if found is None:
            return connection.execute(_OPEN_STREAM, (stream.stream_id, *owner.values(), *values)).lastrowid or 0
        # An older copy of the file took its place: the stream goes on, and verification shows what the copy lacks.
        connection.execute("UPDATE streams SET count = ?, head = ?, tail = ? WHERE id = ?", (*values, *found))
        return int(found[0])

    def _settle(self, connection: sqlite3.Connection, stream: Stream) -> None:
        """Find out whether the append that failed was committed after all, perhaps with these very records."""
        found = connection.execute(
            f"{SELECT} WHERE r.id > ? AND r.stream = (SELECT id FROM streams WHERE stream_id = ?) AND r.sequence > ?"
            " ORDER BY r.id",
            (stream.position, stream.stream_id, stream.count),
        )
        for entry in map(entry_of, found.fetchall()):
            if entry.sequence != stream.count + 1:
                break
            head = bytes.fromhex(entry.hash)
            link = Link(
                entry.sequence, entry.record_id, entry.payload, head, entry.hash, entry.signature, entry.position
            )
            self._settled[entry.record_id] = self._kept(stream, link)
            stream.position, stream.count, stream.head = entry.position, entry.sequence, head
        if self._tail is not None:
            self._settle_tail(stream, self._tail)
        while len(self._settled) > _MOST_SETTLED:  # whoever was interrupted does not ask for it again
            del self._settled[next(iter(self._settled))]

    def _settle_tail(self, stream: Stream, tail: Tail) -> None:
        """Do so with what was written to the tail."""
        beyond, size = tail.beyond()
        noted = {link.sequence for link in tail.pending}
        tail.pending += [link for link in beyond if link.sequence not in noted]
        for link in tail.pending:
            if link.sequence == stream.count + 1:
                self._settled[link.record_id] = self._kept(stream, link)
                stream.count, stream.head = link.sequence, link.hash
        tail.size = size

    def _about_itself(self, write: Callable[[sqlite3.Connection, Work], object]) -> None:
        """Commit records that the ledger writes about streams."""
        self._committing(lambda: self._transact(self._current(), write))

    def _committing(self, transact: Callable[[], None]) -> None:
        """Call `transact`; why something could not be committed is told by the error of this package."""
        try:
            transact()
        except (sqlite3.Error, OSError, MobiusError) as error:
            if of_handler(error):
                raise
            raise AuditUnavailable(f"{self.path}: {error}") from error

    def _kept(self, stream: Stream, link: Link) -> Kept:
        return Kept(link, stream.stream_id, "power" if self.durability == "power" else "process", self)
