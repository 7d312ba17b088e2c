"""Proves that a ledger is whole, reading it alone: no lock on its writers, no new file, no secret needed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mobius_otel import conventions
from mobius_otel.telemetry.audit.chain import digest
from mobius_otel.telemetry.audit.reading import UNREADABLE, read
from mobius_otel.telemetry.audit.schema import SELECT, Entry, entry_of
from mobius_otel.telemetry.audit.stream import NOTES, is_note

__all__ = ["Problem", "VerifyResult", "read_records", "verify_ledger"]

What = Literal["changed", "missing", "reordered", "doubled", "cut", "forged", "unreadable"]
_TELL_EVERY: Final = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a ledger.

    Args:
        record_id: The record, where one can be named.
        stream_id: Its stream, where one can be named.
        sequence: Its number in the stream, where one can be named.
        what: ``changed``: a record is not what was hashed. ``missing``: records are gone. ``reordered``: a record
            stands after a later one. ``doubled``: a record is there twice. ``cut``: the end is gone. ``forged``: a
            record was put in, or replaced together with its hash. ``unreadable``: SQLite cannot read the file.
        text: A sentence that says which and why.
    """

    record_id: str | None
    stream_id: str | None
    sequence: int | None
    what: What
    text: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found.

    Args:
        ok: Whether the ledger is whole.
        records: How many records were read, those not counted that the ledger wrote about itself.
        streams: How many streams the ledger names.
        problems: What is wrong.
        notes: How many records were read that the ledger wrote about itself: checkpoints, ends and adoptions.
    """

    ok: bool
    records: int
    streams: int
    problems: tuple[Problem, ...]
    notes: int = 0


def verify_ledger(path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> VerifyResult:
    """Recompute every hash and follow every stream of a ledger, also while a service writes to it.

    Args:
        path: The ledger.
        progress: Called now and then with how many records were read and how many there are.

    Returns:
        Whether it is whole, and what is wrong. A chain without a secret does not show that somebody rewrote the
        whole file, hashes, counts and all.

    Raises:
        ConfigurationError: There is no ledger at `path`, it cannot be read, or a newer version wrote it.
    """
    return read(path, lambda connection: _Verification(connection, progress or _nobody).run())


def read_records(
    path: str | os.PathLike[str], *, after: int = 0, last: int | None = None, notes: bool = False
) -> list[tuple[int, dict[str, Any]]]:
    """Return records of a ledger with their positions, oldest first, without a change to any file.

    Args:
        path: The ledger.
        after: Only those with a later position.
        last: Only so many of the newest; None: all.
        notes: Also what the ledger wrote about itself: checkpoints, ends and adoptions of streams.

    Raises:
        ConfigurationError: As for :func:`verify_ledger`.
    """

    def newest(connection: sqlite3.Connection) -> list[tuple[int, dict[str, Any]]]:
        found: list[tuple[int, dict[str, Any]]] = []
        for row in connection.execute(f"{SELECT} WHERE r.id > ? ORDER BY r.id DESC", (after,)):
            if last is not None and len(found) >= last:
                break
            entry = entry_of(row)
            with contextlib.suppress(ValueError):  # verify names what is no record
                record = entry.record()
                if notes or not is_note(record):
                    found.append((entry.position, record))
        return found[::-1]

    return read(path, newest)


def _nobody(_: int, __: int) -> None:
    """Tell nobody of the progress."""


@dataclass(slots=True)
class _Chain:
    """What is known of a stream while its records are read."""

    stream_id: str
    last: int = 0
    head: str = ""
    head_id: str | None = None
    doubtful: bool = False  # whether the last record was named already, so that its successor need not be
    gaps: set[int] = field(default_factory=set)
    count: int | None = None  # as the ledger says
    said: str = ""


class _Verification:
    def __init__(self, connection: sqlite3.Connection, progress: Callable[[int, int], None]) -> None:
        self._connection = connection
        self._progress = progress
        self._problems: list[Problem] = []
        self._chains: dict[str, _Chain] = {}
        self._positions = 0
        self._records = 0
        self._notes = 0

    def run(self) -> VerifyResult:
        streams = 0
        try:
            streams = self._read_streams()
            self._read_records()
            self._check_ends()
            self._check_numbers()
        except UNREADABLE as error:
            self._problems.append(Problem(None, None, None, "unreadable", f"SQLite cannot read the ledger: {error}"))
        return VerifyResult(
            not self._problems, self._records - self._notes, streams, tuple(self._problems), self._notes
        )

    def _read_streams(self) -> int:
        number = 0
        for row, stream_id, count, head in self._connection.execute(
            "SELECT id, CAST(stream_id AS BLOB), count, head FROM streams ORDER BY id"
        ):
            if row != number + 1:
                self._problems.append(
                    Problem(
                        None, None, None, "missing", f"{_many(row - number - 1, 'stream')} before stream number {row}"
                    )
                )
            number = row
            said = head.hex() if isinstance(head, bytes) else str(head)
            name = str(stream_id, "utf-8", "replace") if isinstance(stream_id, bytes) else ""
            self._chains[name] = _Chain(name, count=count if isinstance(count, int) else 0, said=said)
        self._check_newest("streams", number, "stream")
        return len(self._chains)

    def _read_records(self) -> None:
        (total,) = self._connection.execute("SELECT COUNT(*) FROM records").fetchone()
        for row in self._connection.execute(f"{SELECT} ORDER BY r.id"):
            self._positions = max(self._positions, row[0])
            self._records += 1
            self._check(entry_of(row))
            if not self._records % _TELL_EVERY:
                self._progress(self._records, total)
        self._progress(self._records, total)

    def _check(self, entry: Entry) -> None:
        fields = _fields(entry.payload)
        if digest(entry.payload).hex() != entry.hash:
            self._name(entry, "changed", "its content is not what was hashed")
            fields = None
        elif fields is None or (
            (fields.get(conventions.AUDIT_STREAM_ID), fields.get(conventions.AUDIT_SEQUENCE),
             fields.get(conventions.AUDIT_RECORD_ID)) != (entry.stream_id, entry.sequence, entry.record_id)
        ):  # fmt: skip
            self._name(entry, "forged", "it stands under another id, number or stream than it was hashed with")
            fields = None
        elif fields.get(conventions.AUDIT_TARGET_TYPE) == NOTES and is_note(json.loads(entry.payload)):
            self._notes += 1
        chain = self._chains.get(entry.stream_id or "")
        if chain is None:
            if fields is not None:
                self._name(entry, "forged", "the ledger does not know its stream")
            return
        if entry.sequence == chain.last + 1:
            self._follow(chain, entry, fields)
        elif entry.sequence > chain.last:
            chain.gaps.update(range(chain.last + 1, min(entry.sequence, chain.last + 1_000_000)))
            self._advance(chain, entry, doubtful=fields is None)
        elif entry.sequence in chain.gaps:
            chain.gaps.discard(entry.sequence)
            self._name(entry, "reordered", "it stands after a later record")
        else:
            self._name(entry, "doubled", "its number was there already")

    def _follow(self, chain: _Chain, entry: Entry, fields: dict[str, Any] | None) -> None:
        if fields is not None and not chain.doubtful and fields.get(conventions.AUDIT_PREVIOUS_HASH, "") != chain.head:
            self._problems.append(
                Problem(chain.head_id, chain.stream_id, chain.last, "forged", self._unlike(chain, entry))
            )
        self._advance(chain, entry, doubtful=fields is None)

    def _unlike(self, chain: _Chain, entry: Entry) -> str:
        if chain.last == 0:
            return f"stream {chain.stream_id} begins with a record that says another came before it"
        return (
            f"record {chain.head_id} (number {chain.last} of stream {chain.stream_id}): its successor"
            f" {entry.record_id} was chained to another hash than it has"
        )

    def _advance(self, chain: _Chain, entry: Entry, *, doubtful: bool) -> None:
        chain.last, chain.head, chain.head_id, chain.doubtful = (
            entry.sequence, entry.hash, entry.record_id, doubtful,
        )  # fmt: skip

    def _check_ends(self) -> None:
        for chain in self._chains.values():
            for first, last in _ranges(sorted(chain.gaps)):
                numbers = f"number {first}" if first == last else f"numbers {first} to {last}"
                self._of_stream(chain, first, "missing", f"{numbers} of stream {chain.stream_id}")
            count = chain.count or 0
            if chain.last < count:
                text = f"{_many(count - chain.last, 'record')} at the end of stream {chain.stream_id}"
                self._of_stream(chain, chain.last + 1, "cut", text)
            elif chain.last > count:
                text = f"{_many(chain.last - count, 'record')} more than stream {chain.stream_id} ever had"
                self._of_stream(chain, count + 1, "forged", text)
            elif chain.head != chain.said and not chain.doubtful:
                self._problems.append(
                    Problem(
                        chain.head_id, chain.stream_id, chain.last, "forged",
                        f"record {chain.head_id}, the last of stream {chain.stream_id}, has not the noted hash",
                    )
                )  # fmt: skip

    def _check_numbers(self) -> None:
        """Every number was given to a record; where the streams explain no hole, one was removed with its stream."""
        self._check_newest("records", self._positions, "record")
        if self._records < self._positions and not self._problems:
            self._problems.append(
                Problem(None, None, None, "missing", f"{_many(self._positions - self._records, 'record')} of no stream")
            )

    def _check_newest(self, table: str, newest: int, thing: str) -> None:
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        given = found[0] if found else 0
        explained = any(problem.what == "cut" for problem in self._problems)
        if given > newest and not explained:
            self._problems.append(
                Problem(None, None, None, "cut", f"{_many(given - newest, thing)} at the end of the ledger")
            )
        elif given < newest:
            text = f"{_many(newest - given, thing)} that the ledger never gave a number"
            self._problems.append(Problem(None, None, None, "forged", text))

    def _of_stream(self, chain: _Chain, sequence: int, what: What, text: str) -> None:
        self._problems.append(Problem(None, chain.stream_id, sequence, what, text))

    def _name(self, entry: Entry, what: What, why: str) -> None:
        text = f"record {entry.record_id} (number {entry.sequence} of stream {entry.stream_id or 'unknown'}): {why}"
        self._problems.append(Problem(entry.record_id, entry.stream_id, entry.sequence, what, text))


def _fields(payload: bytes) -> dict[str, Any] | None:
    try:
        attributes = json.loads(payload)["attributes"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return attributes if isinstance(attributes, dict) else None


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
