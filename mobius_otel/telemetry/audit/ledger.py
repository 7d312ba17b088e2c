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
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Self, get_args

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable, ConfigurationError, MobiusError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.audit.adoption import adopt, anything_left
from mobius_otel.telemetry.audit.intake import Intake, Kept, LedgerDurability, Work
from mobius_otel.telemetry.audit.keeper import Keeper
from mobius_otel.telemetry.audit.schema import Entry, finished
from mobius_otel.telemetry.audit.signing import SCOPES, AuditKey, SignScope
from mobius_otel.telemetry.audit.spool import Spool
from mobius_otel.telemetry.audit.stream import Checkpoint, Link, Stream
from mobius_otel.telemetry.audit.tail import Tail, line_of, make_private
from mobius_otel.telemetry.audit.turns import Fairness, Interrupted, Waiting
from mobius_otel.telemetry.safety import of_handler

__all__ = ["Entry", "Kept", "Ledger", "LedgerDurability", "finished"]

_log = logging.getLogger("mobius_otel")
_DURABILITIES: Final = get_args(LedgerDurability)


class Ledger(Intake):
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
        make_private(self.path, self._say)
        self.sink_timeout = sink_timeout
        self._checkpoint_records = checkpoint_records
        self._checkpoint_seconds = checkpoint_seconds
        #: Held by a thread while it makes and appends a record, so that all of them get on alike.
        self.fairness = Fairness()
        self._keeper = Keeper()
        self._after_append: list[Callable[[], None]] = []
        self._told: list[Checkpoint] = []
        #: Called with every checkpoint, after it was committed, in the thread that appended.
        self.on_checkpoint: Callable[[Checkpoint], None] | None = None
        #: Records that wait in memory while the file cannot be written, with ``fail_mode="spool"``.
        self.spool = Spool(self._append)
        on_fork(self)
        self._opened = True

    # --- writing --------------------------------------------------------------------------------------------

    def append(self, record: dict[str, Any]) -> Kept:
        """Chain and commit `record`; threads that do so at once share a transaction.

        Args:
            record: A redacted record of JSON's shapes with ``attributes``, of which ``audit.record.id`` names it.

        Raises:
            AuditUnavailable: It could not be committed.
        """
        return self._append(Waiting(record))

    def _append(self, waiting: Waiting) -> Kept:
        try:
            kept: Kept = self._turns.do(waiting)
        finally:
            if self._unsaid:
                self._speak()
        if waiting.gate is not None and self.durability == "power":
            self.fairness.waited()  # for an fsync: as long as others need to reach the queue
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
            kind = Interrupted if isinstance(error, RecursionError) else AuditUnavailable
            for one in waiting:
                one.error = kind(text)
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
        stream = self._stream
        if stream is None or stream.ending:
            stream = self._current()
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

        def write(connection: sqlite3.Connection, work: Work) -> None:
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
            link = stream.link(one.what, count, head, stream.row)
            links.append(link)
            count, head = link.sequence, link.hash
        if seal := self._is_due(stream, count, now):
            note = stream.own_record(conventions.AUDIT_CHECKPOINT, stream.checkpoint(count, head))
            link = stream.link(note, count, head, stream.row)
            links.append(link)
            count, head = link.sequence, link.hash
        durability: Literal["process", "power"] = "power" if self.durability == "power" else "process"
        kept = [Kept(link, stream.stream_id, durability, self) for link in links]
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

    @staticmethod
    def _id_of(record: Mapping[str, Any]) -> str:
        return str(record["attributes"][conventions.AUDIT_RECORD_ID])

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
            self._committing(self._finish)
            stream = self._stream
            if stream is not None and stream.row is not None and self._is_due(stream, stream.count, time.monotonic()):
                self._about_itself(lambda _, work: self._note(work))
                self._sealed(stream)
            if adopt and self._is_left():
                self._about_itself(self._adopt)

        self._alone(write)
        self._tell_checkpoints()

    def end(self) -> None:
        """End this object's stream with a record that says so; a later append begins a new one.

        Raises:
            AuditUnavailable: It could not be committed.
        """
        self._alone(self._end)
        self._tell_checkpoints()

    def _end(self) -> None:
        stream = self._stream
        if stream is not None and stream.row is not None:
            stream.ending = True  # before its end is written: whatever interrupts that, the next one finishes it
            self._committing(self._finish)

    def _finish(self) -> None:
        """Write the end of a stream that is to end, if it is not written yet."""
        stream = self._stream
        if stream is None or not stream.ending:
            return

        def write(connection: sqlite3.Connection, work: Work) -> None:
            found = connection.execute("SELECT ended FROM streams WHERE id = ?", (work.row,)).fetchone()
            if found[0] is None:
                work.add(stream.own_record(conventions.AUDIT_STREAM_ENDED, stream.checkpoint(), end=True))
                connection.execute("UPDATE streams SET ended = ? WHERE id = ?", (self._clock(), work.row))

        self._transact(stream, write)
        self._sealed(stream)
        self._leave(remove=True)

    def _leave(self, *, remove: bool) -> None:
        """Leave the stream and its tail: both at once, as the next stream has a tail of its own."""
        tail, self._stream, self._tail = self._tail, None, None
        if tail is not None:
            tail.close(remove=remove)

    def _is_left(self) -> bool:
        with self._file.lock, self._file.reading() as connection:
            return anything_left(connection, self.path, (self._stream.row if self._stream else None) or 0)

    def _adopt(self, connection: sqlite3.Connection, work: Work) -> None:
        """Take note, in this stream, of how far the streams were that dead processes left: once for each."""
        work.adopted = []
        for of, left in adopt(connection, self.path, work.row, work.stream.stream_id, self._clock(), say=self._say):
            if of is not None:
                work.add(work.stream.own_record(conventions.AUDIT_STREAM_ADOPTED, of))
            if left is not None:
                work.adopted.append(left)

    @staticmethod
    def _note(work: Work) -> None:
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
        lost = self.spool.end()
        if lost:
            _log.error(
                "mobius_otel: the audit ledger %s is closed and still cannot be written: %d records that were in memory"
                " are lost", self.path, lost,
            )  # fmt: skip
        self._alone(self._close)
        self._tell_checkpoints()

    def _close(self) -> None:
        with contextlib.suppress(AuditUnavailable):
            self._end()  # in one turn with the rest: between two another thread would begin a stream
        self._keeper.end()
        with self._file.lock:  # of whoever is bringing in what lies in the tail
            # Where the stream could not be ended it stays, unless it could not be begun either.
            self._leave(remove=self._stream is not None and not self._stream.count)
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
        self._told, self._unsaid[:] = [], []
        self._delivery = threading.Condition()
        self.wanted = threading.Event()
        self.shippers = 0

    def __repr__(self) -> str:
        count = self._stream.count if self._stream else 0
        return f"Ledger({str(self.path)!r}, {count} records of its own)"
