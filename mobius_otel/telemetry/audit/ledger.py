"""The ledger: where audit records are kept until a collector has acknowledged them, and after.

A SQLite file in WAL mode. A record is committed before :meth:`Ledger.append` returns, so it survives the process,
and with ``durability="power"`` the machine. Each process and each `Ledger` object writes a stream of its own: a
chain in which a record holds the hash of the one before. Next to the records stands how many each stream has and
what the last hash is, in the same transaction, and the records' numbers have no holes: what is removed, at the end
too, leaves a trace.

Threads that append at once share a transaction: one of them commits for all that wait.
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
from mobius_otel.telemetry.audit.books import Books
from mobius_otel.telemetry.audit.chain import parse
from mobius_otel.telemetry.audit.schema import NEWEST, SELECT, Entry, entry_of, finished
from mobius_otel.telemetry.audit.signing import SCOPES, AuditKey, SignScope
from mobius_otel.telemetry.audit.spool import Spool
from mobius_otel.telemetry.audit.stream import Checkpoint, Link, Stream, is_dead, process_birth, process_token
from mobius_otel.telemetry.audit.turns import Fairness, Turns, Waiting
from mobius_otel.telemetry.safety import of_handler

__all__ = ["Entry", "Kept", "Ledger", "LedgerDurability", "finished"]

_log = logging.getLogger("mobius_otel")

LedgerDurability = Literal["process", "power", "sink"]
_DURABILITIES: Final = get_args(LedgerDurability)
_INSERT: Final = f"INSERT INTO records VALUES ({NEWEST} + 1, ?, ?, ?, ?, ?, ?)"
_MOST_SETTLED: Final = 20_000  # more than wait in memory
_OPEN_STREAM: Final = (
    "INSERT INTO streams (stream_id, host, pid, started, count, head, process, born) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LEFT: Final = (
    "SELECT id, stream_id, count, head, host, pid, process, born FROM streams"
    " WHERE ended IS NULL AND adopted IS NULL AND id != ?"
)
_ADOPT: Final = "UPDATE streams SET adopted = ?, adopted_by = ? WHERE id = ? AND ended IS NULL AND adopted IS NULL"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a record stands in the ledger.

    Args:
        position: Its number in the ledger, from 1, without holes.
        stream_id: Its stream.
        sequence: Its number in the stream, from 1.
        hash: Its SHA-256, in hexadecimal.
        record: The record as it was hashed.
        signature: Its signature, where it has one.
        durability: What it has survived so far: ``process`` or ``power``.
    """

    position: int
    stream_id: str
    sequence: int
    hash: str
    record: dict[str, Any]
    signature: str | None = None
    durability: Literal["process", "power"] = "process"


@dataclass(slots=True)
class _Work:
    """What one transaction adds to a stream."""

    stream: Stream
    row: int
    count: int
    head: bytes
    links: list[Link] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> Link:
        link = self.stream.link(record, self.count, self.head)
        self.links.append(link)
        self.count, self.head = link.sequence, link.hash
        return link

    def write(self, connection: sqlite3.Connection) -> int:
        """Write it all; return the position of the first."""
        connection.executemany(_INSERT, [_row(self.row, link) for link in self.links])
        (last,) = connection.execute(f"SELECT {NEWEST}").fetchone()
        return int(last) - len(self.links) + 1


def _row(stream: int, link: Link) -> tuple[object, ...]:
    return stream, link.sequence, link.record_id, link.hash, link.payload.decode(), link.signature


class Ledger(Books):
    """A file of audit records that processes of one host share.

    Args:
        path: Where the file is; it is made, for its owner alone, when it is missing.
        durability: What a record survives when :meth:`append` returns. ``process``: a killed process. ``power``: a
            power cut too; threads that append at once share one fsync. ``sink``: as ``process``, and
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
        self.durability: LedgerDurability = durability
        self.sink_timeout = sink_timeout
        self._checkpoint_records = checkpoint_records
        self._checkpoint_seconds = checkpoint_seconds
        self._turns = Turns(self._commit)
        #: Held by a thread while it makes and appends a record, so that all of them get on alike.
        self.fairness = Fairness()
        self._stream: Stream | None = None
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
            try:
                self._written(waiting)
            except sqlite3.OperationalError as error:
                if "full" not in str(error):
                    raise
                self._file.full = not self._is_at_bound()
                if self._max_bytes is None or not self.prune():
                    raise
                self._written(waiting)
        except Exception as error:
            if of_handler(error):  # as everything that is no Exception: this thread was interrupted, and nobody else
                raise
            known = isinstance(error, sqlite3.Error | OSError | MobiusError)  # their texts quote no record
            text = f"{self.path}: {error}" if known else type(error).__name__
            for one in waiting:
                one.error = AuditUnavailable(text)
                one.error.__cause__ = error

    def _written(self, waiting: list[Waiting]) -> None:
        try:
            self._committed(waiting)
        except (SqliteFileGone, sqlite3.IntegrityError) as error:
            _log.error(
                "mobius_otel: the audit ledger %s was deleted or replaced while it was open; recording goes on in the"
                " file at its path, and `mobius-otel audit verify` names what it lacks", self.path,
            )  # fmt: skip
            if isinstance(error, SqliteFileGone):
                self._file.reopen()
            if self._stream is not None:  # the stream goes on: the new file shows that its beginning is missing
                self._stream.row, self._stream.position = None, 0
            self._committed(waiting)

    def _committed(self, waiting: list[Waiting]) -> None:
        """Commit, say so to each, and go on from there: in this order, so that who is interrupted loses nothing."""
        stream = self._stream = self._stream or Stream(self._key, self._scope)
        if (
            len(waiting) == 1
            and stream.row is not None
            and not (stream.unsure or self._is_due(stream, stream.count + 1))
            and not (self._settled and self._id_of(waiting[0].what) in self._settled)
        ):
            self._commit_alone(stream, stream.row, waiting[0])
            return
        unsure, stream.unsure = stream.unsure, True
        with self._file.lock, self._file.writing() as connection:
            if unsure:
                self._settle(connection, stream)
            row = stream.row or self._open_stream(connection, stream)
            work = _Work(stream, row, stream.count, stream.head)
            if stream.row is None:
                self._adopt(connection, work)
            links = [None if self._id_of(one.what) in self._settled else work.add(one.what) for one in waiting]
            seal = self._is_due(stream, work.count)
            if seal:
                self._note(work)
            first = work.write(connection) if work.links else 0
        offset = first - stream.count - 1
        for one, link in zip(waiting, links, strict=True):
            one.done = self._settled[self._id_of(one.what)] if link is None else self._kept(stream, link, offset)
        stream.go_on(row, first and first + len(work.links) - 1, work.count, work.head)
        for one in waiting if self._settled else ():
            self._settled.pop(self._id_of(one.what), None)
        if seal:
            self._sealed(stream)

    def _commit_alone(self, stream: Stream, row: int, one: Waiting) -> None:
        """Commit what is usual: one record, of which nothing else follows."""
        link = stream.link(one.what, stream.count, stream.head)
        stream.unsure = True
        position = self._file.insert(_INSERT, _row(row, link))
        one.done = self._kept(stream, link, position - link.sequence)
        stream.position, stream.count, stream.head, stream.unsure = position, link.sequence, link.hash, False

    def _kept(self, stream: Stream, link: Link, offset: int) -> Kept:
        return Kept(
            link.sequence + offset, stream.stream_id, link.sequence, link.hash.hex(), link.record, link.signature,
            "power" if self.durability == "power" else "process",
        )  # fmt: skip

    @staticmethod
    def _id_of(record: Mapping[str, Any]) -> str:
        return str(record["attributes"][conventions.AUDIT_RECORD_ID])

    def _open_stream(self, connection: sqlite3.Connection, stream: Stream) -> int:
        pid = os.getpid()
        values = (
            stream.stream_id, platform.node(), pid, self._clock(), stream.count, stream.head, process_token(),
            process_birth(pid),
        )  # fmt: skip
        found = connection.execute("SELECT id FROM streams WHERE stream_id = ?", values[:1]).fetchone()
        if found is None:
            return connection.execute(_OPEN_STREAM, values).lastrowid or 0
        # An older copy of the file took its place: the stream goes on, and verification shows what the copy lacks.
        connection.execute("UPDATE streams SET count = ?, head = ? WHERE id = ?", (stream.count, stream.head, *found))
        return int(found[0])

    def _settle(self, connection: sqlite3.Connection, stream: Stream) -> None:
        """Find out whether the append that failed was committed after all, perhaps with these very records."""
        found = connection.execute(
            f"{SELECT} WHERE r.id > ? AND s.stream_id = ? AND r.sequence > ? ORDER BY r.id",
            (stream.position, stream.stream_id, stream.count),
        )
        for entry in map(entry_of, found.fetchall()):
            if entry.sequence != stream.count + 1:
                break
            self._settled[entry.record_id] = Kept(
                entry.position, stream.stream_id, entry.sequence, entry.hash, parse(entry.payload), entry.signature,
                "power" if self.durability == "power" else "process",
            )  # fmt: skip
            stream.position, stream.count, stream.head = entry.position, entry.sequence, bytes.fromhex(entry.hash)
        while len(self._settled) > _MOST_SETTLED:  # whoever was interrupted does not ask for it again
            del self._settled[next(iter(self._settled))]

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
            if stream is not None and stream.row is not None and self._is_due(stream, stream.count):
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

    def _about_itself(self, write: Callable[[sqlite3.Connection, _Work], object]) -> None:
        """Commit records that the ledger writes about streams."""
        stream = self._stream = self._stream or Stream(self._key, self._scope)
        unsure, stream.unsure, first = stream.unsure, True, 0
        try:
            with self._file.lock, self._file.writing() as connection:
                if unsure:
                    self._settle(connection, stream)
                row = stream.row or self._open_stream(connection, stream)
                work = _Work(stream, row, stream.count, stream.head)
                write(connection, work)
                if work.links:
                    first = work.write(connection)
        except (sqlite3.Error, OSError, MobiusError) as error:
            if of_handler(error):
                raise
            raise AuditUnavailable(f"{self.path}: {error}") from error
        stream.go_on(row, first and first + len(work.links) - 1, work.count, work.head)

    def _is_left(self) -> bool:
        with self._file.lock, self._file.reading() as connection:
            left = connection.execute(_LEFT, ((self._stream.row if self._stream else None) or 0,)).fetchall()
        return any(is_dead(*row[4:]) for row in left)

    def _adopt(self, connection: sqlite3.Connection, work: _Work) -> None:
        """Take note, in this stream, of how far the streams were that dead processes left: once for each."""
        for number, stream_id, count, head, *process in connection.execute(_LEFT, (work.row,)).fetchall():
            if (
                is_dead(*process)
                and connection.execute(_ADOPT, (self._clock(), work.stream.stream_id, number)).rowcount == 1
            ):
                of = Checkpoint(stream_id, count, head.hex())
                work.add(work.stream.own_record(conventions.AUDIT_STREAM_ADOPTED, of))

    @staticmethod
    def _note(work: _Work) -> None:
        """Add a record that says how far the stream is."""
        of = Checkpoint(work.stream.stream_id, work.count, work.head.hex())
        work.add(work.stream.own_record(conventions.AUDIT_CHECKPOINT, of))

    def _is_due(self, stream: Stream, count: int) -> bool:
        new = count - stream.sealed
        return new >= self._checkpoint_records or (
            new > 0 and time.monotonic() - stream.sealed_at >= self._checkpoint_seconds
        )

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
        self._stream = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._turns.renew()
        self.fairness.renew()
        self._stream = None
        self._settled = {}
        self._told = []
        self._delivery = threading.Condition()
        self.wanted = threading.Event()
        self.shippers = 0

    def __repr__(self) -> str:
        count = self._stream.count if self._stream else 0
        return f"Ledger({str(self.path)!r}, {count} records of its own)"
