"""The ledger: where audit records are kept until a collector has acknowledged them, and after.

A SQLite file in WAL mode, and beside it the tails of the streams that are written. A record is committed before
:meth:`Ledger.append` returns, so it survives the process, and with ``durability="power"`` the machine. Each process and
each `Ledger` object writes a stream of its own: a chain in which a record holds the hash of the one before. Next to the
records stands how many each stream has and what the last hash is, in the same transaction, and the records' numbers
have no holes: what is removed, at the end too, leaves a trace.

Threads that append at once share a write, or a transaction: one of them commits for all that wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable, ConfigurationError, MobiusError
from mobius_otel.forks import on_fork
from mobius_otel.sqlite import SqliteFileGone
from mobius_otel.telemetry.audit.adoption import adopt, anything_left, forget
from mobius_otel.telemetry.audit.books import Books
from mobius_otel.telemetry.audit.keeper import Keeper
from mobius_otel.telemetry.audit.schema import SELECT, Entry, entry_of, finished
from mobius_otel.telemetry.audit.signing import SCOPES, AuditKey, SignScope
from mobius_otel.telemetry.audit.spool import Spool
from mobius_otel.telemetry.audit.stream import Checkpoint, Link, Stream, process_birth, process_token
from mobius_otel.telemetry.audit.tail import (
    MOST_BYTES,
    FileErrors,
    Left,
    Tail,
    begins_after,
    check_private,
    insert,
    line_of,
    newest_of,
    supported,
)
from mobius_otel.telemetry.audit.turns import Fairness, Turns, Waiting
from mobius_otel.telemetry.safety import of_handler

__all__ = ["Entry", "Kept", "Ledger", "LedgerDurability", "finished"]

_log = logging.getLogger("mobius_otel")

LedgerDurability = Literal["process", "power", "sink"]
_DURABILITIES: Final = get_args(LedgerDurability)
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
    ledger: Ledger = field(repr=False)

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
class _Work:
    """What one turn adds to a stream."""

    stream: Stream
    count: int
    head: bytes
    row: int = 0
    links: list[Link] = field(default_factory=list)
    adopted: list[Left] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> Link:
        link = self.stream.link(record, self.count, self.head)
        self.links.append(link)
        self.count, self.head = link.sequence, link.hash
        return link


class Ledger(Books):
    """A file of audit records that processes of one host share.

    Args:
        path: Where the file is; it is made, for its owner alone, when it is missing.
        durability: What a record survives when :meth:`append` returns. ``process``: a killed process; it lies in the
            tail of its stream, from where it comes into the database within a moment. ``power``: a power cut too;
            threads that append at once share one fsync. ``sink``: as ``process``, and
            ``AuditLogger.emit`` waits until a collector has the record.
        sink_timeout: Seconds that it waits for that at most.
        key: Signs the chain, so that nobody can write it anew without the key.
        sign: ``checkpoint``: the first record of a stream, its checkpoints and its end are signed, which covers what
            is between them. ``record``: every record.
        checkpoint_records: A stream takes note of its length and head in a record after so many records.
        checkpoint_seconds: And when so many seconds have passed since the last one, if there are new records.
        max_bytes: Size that the file may have, beside its log of some megabytes; what a collector has is removed to
            keep it, what none has never is: then :class:`AuditUnavailable` is raised. None: any size.
        max_age: Seconds that a record is kept after a collector has it; None: for ever.
        clock: Seconds since the epoch, for leases and for when a stream began.
        damaged: Whether a damaged file is opened too, to send what can still be read.

    Raises:
        ConfigurationError: A value breaks its rule; the file cannot be opened, is damaged, may be read by others or
            was written by a newer version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: LedgerDurability = "process",
        sink_timeout: float = 10.0,
        key: AuditKey | None = None,
        sign: SignScope = "checkpoint",
        checkpoint_records: int = 1000,
        checkpoint_seconds: float = 60.0,
        max_bytes: int | None = None,
        max_age: float | None = None,
        clock: Clock = time.time,
        damaged: bool = False,
    ) -> None:
        for name, value, allowed in (("durability", durability, _DURABILITIES), ("sign", sign, SCOPES)):
            if value not in allowed:
                raise ConfigurationError(name, value, f"one of {', '.join(allowed)}")
        for name, number in (
            ("sink_timeout", sink_timeout), ("checkpoint_records", checkpoint_records),
            ("checkpoint_seconds", checkpoint_seconds),
        ):  # fmt: skip
            if not number > 0:
                raise ConfigurationError(name, number, "a number above zero")
        if key is not None:
            key.sign(b"")  # a public key is refused now, not by the first record
        super().__init__(
            path, clock=clock, durability=durability, max_bytes=max_bytes, max_age=max_age, key=key, scope=sign,
            damaged=damaged,
        )  # fmt: skip
        check_private(self.path)
        self.durability: LedgerDurability = durability
        self.sink_timeout = sink_timeout
        self._checkpoint_records = checkpoint_records
        self._checkpoint_seconds = checkpoint_seconds
        self._turns = Turns(self._commit)
        #: Held by a thread while it makes and appends a record, so that all of them get on alike.
        self.fairness = Fairness()
        self._stream: Stream | None = None
        self._tail: Tail | None = None
        self._failing = False  # whether what lies in the tail could not be brought in
        self._failed_at = 0.0
        self._keeper = Keeper()
        self._settled: dict[str, Kept] = {}
        self._after_append: list[Callable[[], None]] = []
        self._told: list[Checkpoint] = []
        #: Called with every checkpoint, after it was committed, in the thread that appended.
        self.on_checkpoint: Callable[[Checkpoint], None] | None = None
        #: Records that wait in memory while the file cannot be written, with ``fail_mode="spool"``.
        self.spool = Spool(self._append)
        on_fork(self)

    # --- writing --------------------------------------------------------------------------------------------

    def append(self, record: Mapping[str, Any]) -> Kept:
        """Chain and commit `record`; threads that do so at once share a transaction.

        Args:
            record: A redacted record of JSON's shapes with ``attributes``, of which ``audit.record.id`` names it.

        Raises:
            AuditUnavailable: It could not be committed.
        """
        return self._append(Waiting(record))

    def _append(self, waiting: Waiting) -> Kept:
        kept: Kept = self._turns.do(waiting)
        for hook in self._after_append:
            hook()
        if self._told:
            self._tell_checkpoints()
        return kept

    def after_append(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every record that was committed, in the thread that appended it."""
        if hook not in self._after_append:
            self._after_append.append(hook)

    def _commit(self, waiting: list[Waiting]) -> None:
        try:
            while True:
                try:
                    self._committed(waiting)
                    break
                except sqlite3.OperationalError as error:
                    if "full" not in str(error):
                        raise
                    self._file.full = not self._is_at_bound()
                    if not self._made_room():
                        raise
        except Exception as error:
            if of_handler(error):  # as everything that is no Exception: this thread was interrupted, and nobody else
                raise
            known = isinstance(error, sqlite3.Error | OSError | MobiusError)  # their texts quote no record
            text = f"{self.path}: {error}" if known else type(error).__name__
            for one in waiting:
                one.error = AuditUnavailable(text)
                one.error.__cause__ = error

    def _made_room(self) -> bool:
        """Remove what a collector has, and bring in as much of the tail as there is room for; return whether it did."""
        removed = self._max_bytes is not None and self.prune() > 0
        with contextlib.suppress(sqlite3.Error), self._file.lock:
            if self._stream is not None and self._tail is not None:
                self._bring_in(self._stream, self._tail)
        return removed

    def _committed(self, waiting: list[Waiting]) -> None:
        """Commit, say so to each, and go on from there: in this order, so that who is interrupted loses nothing."""
        stream = self._stream = self._stream or Stream(self._key, self._scope)
        if (
            self._tail is not None
            and stream.row is not None
            and not (self._failing or stream.unsure)
            and not (self._settled and any(self._id_of(one.what) in self._settled for one in waiting))
            and self._appended(stream, self._tail, waiting)
        ):
            return
        self._transact_for(stream, waiting)

    def _transact_for(self, stream: Stream, waiting: list[Waiting]) -> None:
        links: list[Link | None] = []
        sealed = False

        def write(connection: sqlite3.Connection, work: _Work) -> None:
            nonlocal links, sealed
            if stream.row is None:
                self._adopt(connection, work)
            links = [None if self._id_of(one.what) in self._settled else work.add(one.what) for one in waiting]
            sealed = self._is_due(stream, work.count, time.monotonic())
            if sealed:
                self._note(work)

        def tell(offset: int) -> None:
            for one, link in zip(waiting, links, strict=True):
                if link is None:
                    one.done = self._settled[self._id_of(one.what)]
                else:
                    link.placed = link.sequence + offset
                    one.done = self._kept(stream, link)

        self._transact(stream, write, tell)
        for one in waiting if self._settled else ():
            self._settled.pop(self._id_of(one.what), None)
        if sealed:
            self._sealed(stream)

    def _appended(self, stream: Stream, tail: Tail, waiting: list[Waiting]) -> bool:
        """Commit records by an append to the tail; return whether that could be had."""
        now = time.monotonic()
        count, head, links = stream.count, stream.head, []
        for one in waiting:
            link = stream.link(one.what, count, head)
            links.append(link)
            count, head = link.sequence, link.hash
        if seal := self._is_due(stream, count, now):
            link = stream.link(
                stream.own_record(conventions.AUDIT_CHECKPOINT, stream.checkpoint(count, head)), count, head
            )
            links.append(link)
            count, head = link.sequence, link.hash
        kept = [self._kept(stream, link) for link in links]
        lines = b"".join(map(line_of, links))
        if not tail.takes(len(lines), len(links), now, self._file.is_still_there):
            return False
        stream.unsure = True
        try:
            size = tail.append(lines)
        except OSError as error:
            if error.errno is None:  # no file's: a signal handler raised it
                raise
            return False  # the database may have room of its own, and says it well where it has not
        for one, its in zip(waiting, kept, strict=False):
            one.done = its
        tail.pending += links
        # At once: a signal handler that raises comes before this or after it.
        stream.count, stream.head, tail.size, stream.unsure = count, head, size, False
        if seal:
            self._sealed(stream)
        if self._keeper.is_due():
            self._keeper.wake(self)
        return True

    def _kept(self, stream: Stream, link: Link) -> Kept:
        return Kept(link, stream.stream_id, "power" if self.durability == "power" else "process", self)

    @staticmethod
    def _id_of(record: Mapping[str, Any]) -> str:
        return str(record["attributes"][conventions.AUDIT_RECORD_ID])

    # --- the database ---------------------------------------------------------------------------------------

    def _transact(
        self,
        stream: Stream,
        write: Callable[[sqlite3.Connection, _Work], object],
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
            _log.error(
                "mobius_otel: the audit ledger %s was deleted or replaced while it was open; recording goes on in the"
                " file at its path, and `mobius-otel audit verify` names what it lacks", self.path,
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
            forget(left)
        self._renew_tail()

    def _transacted(self, stream: Stream, write: Callable[[sqlite3.Connection, _Work], object]) -> tuple[_Work, int]:
        unsure, stream.unsure = stream.unsure, True
        with self._file.lock:
            with self._file.writing() as connection:
                if unsure:
                    self._settle(connection, stream)
                row = stream.row or self._open_stream(connection, stream)
                brought = self._brought(connection, stream, row)
                work = _Work(stream, stream.count, stream.head, row)
                write(connection, work)
                last = insert(connection, row, work.links, newest_of(connection)) if work.links else 0
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
            if self._tail is not None and self._tail.pending:
                self._about_itself(lambda _, __: None)

        self._turns.alone(write)

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
            tail.told = True
            _log.error(
                "mobius_otel: the tail of the audit ledger %s (%s) was removed, replaced, cut or closed while it was"
                " open; nothing that was in it is lost", self.path, os.path.basename(tail.place),
            )  # fmt: skip
        with FileErrors():  # it stays as it was; the next one tries again
            tail.renew()

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

    # --- the stream about itself ----------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """Return how far this object's stream is; None while it has none."""
        stream = self._stream
        return None if stream is None or not stream.count else stream.checkpoint()

    def seal(self, *, adopt: bool = False) -> None:
        """Write a checkpoint where one is due, and take note of the streams that dead processes left.

        Args:
            adopt: Whether to look for such streams; a shipper does, now and then.

        Raises:
            AuditUnavailable: It could not be committed.
        """

        def write() -> None:
            stream = self._stream
            if stream is not None and stream.row is not None and self._is_due(stream, stream.count, time.monotonic()):
                self._about_itself(lambda _, work: self._note(work))
                self._sealed(stream)
            if adopt and self._is_left():
                self._about_itself(self._adopt)

        self._turns.alone(write)
        self._tell_checkpoints()

    def end(self) -> None:
        """End this object's stream with a record that says so; a later append begins a new one.

        Raises:
            AuditUnavailable: It could not be committed.
        """
        self._turns.alone(self._end)
        self._tell_checkpoints()

    def _end(self) -> None:
        stream = self._stream
        if stream is None or stream.row is None:
            return

        def write(connection: sqlite3.Connection, work: _Work) -> None:
            work.add(stream.own_record(conventions.AUDIT_STREAM_ENDED, stream.checkpoint(), end=True))
            connection.execute("UPDATE streams SET ended = ? WHERE id = ?", (self._clock(), work.row))

        self._about_itself(write)
        self._sealed(stream)
        self._stream = None
        self._leave_tail(remove=True)

    def _leave_tail(self, *, remove: bool) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.close(remove=remove)

    def _about_itself(self, write: Callable[[sqlite3.Connection, _Work], object]) -> None:
        """Commit records that the ledger writes about streams."""
        stream = self._stream = self._stream or Stream(self._key, self._scope)
        try:
            self._transact(stream, write)
        except (sqlite3.Error, OSError, MobiusError) as error:
            if of_handler(error):
                raise
            raise AuditUnavailable(f"{self.path}: {error}") from error

    def _is_left(self) -> bool:
        with self._file.lock, self._file.reading() as connection:
            return anything_left(connection, self.path, (self._stream.row if self._stream else None) or 0)

    def _adopt(self, connection: sqlite3.Connection, work: _Work) -> None:
        """Take note, in this stream, of how far the streams were that dead processes left: once for each."""
        work.adopted = []
        for of, left in adopt(connection, self.path, work.row, work.stream.stream_id, self._clock()):
            if of is not None:
                work.add(work.stream.own_record(conventions.AUDIT_STREAM_ADOPTED, of))
            if left is not None:
                work.adopted.append(left)

    @staticmethod
    def _note(work: _Work) -> None:
        """Add a record that says how far the stream is."""
        of = work.stream.checkpoint(work.count, work.head)
        work.add(work.stream.own_record(conventions.AUDIT_CHECKPOINT, of))

    def _is_due(self, stream: Stream, count: int, now: float) -> bool:
        new = count - stream.sealed
        return new >= self._checkpoint_records or (new > 0 and now - stream.sealed_at >= self._checkpoint_seconds)

    def _sealed(self, stream: Stream) -> None:
        stream.sealed, stream.sealed_at = stream.count, time.monotonic()
        self._told.append(stream.checkpoint())

    def _tell_checkpoints(self) -> None:
        """Tell of checkpoints outside the lock: it may take long, and it may come back here."""
        while self._told:
            with contextlib.suppress(IndexError):
                told = self._told.pop(0)
                if self.on_checkpoint is not None:
                    self.on_checkpoint(told)

    # --- life -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End this object's stream and close the file; a later append begins a new stream."""
        lost = self.spool.drain()
        if lost:
            _log.error(
                "mobius_otel: the audit ledger %s is closed and still cannot be written: %d records that were in memory"
                " are lost", self.path, lost,
            )  # fmt: skip
        with contextlib.suppress(AuditUnavailable):
            self.end()
        self._turns.alone(self._close)

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        self._keeper.end()
        # Where the stream could not be ended it stays, unless it could not be begun either.
        self._leave_tail(remove=stream is not None and not stream.count)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._turns.renew()
        self.fairness.renew()
        self._stream = None
        if self._tail is not None:  # the parent's
            self._tail.close()
        self._tail, self._failing, self._keeper = None, False, Keeper()
        self._settled = {}
        self._told = []
        self._delivery = threading.Condition()
        self.wanted = threading.Event()
        self.shippers = 0

    def __repr__(self) -> str:
        count = self._stream.count if self._stream else 0
        return f"Ledger({str(self.path)!r}, {count} records of its own)"
