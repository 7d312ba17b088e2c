"""Proves that records are whole, reading them alone: no lock on a ledger's writers, no new file, no secret needed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.sqlite_damage import lost_pages
from mobius_otel.telemetry.audit.chain import digest
from mobius_otel.telemetry.audit.chains import Chain, Chains, Seen, many
from mobius_otel.telemetry.audit.exports import verify_lines
from mobius_otel.telemetry.audit.findings import NOTHING, Problem, VerifyResult, parse_checkpoint
from mobius_otel.telemetry.audit.reading import UNREADABLE, read_damaged
from mobius_otel.telemetry.audit.salvage import is_damage, readable
from mobius_otel.telemetry.audit.schema import KEPT, SELECT, Entry, entry_of
from mobius_otel.telemetry.audit.signing import AuditKey, verify
from mobius_otel.telemetry.audit.stream import Checkpoint, is_note, pruned_digest
from mobius_otel.telemetry.audit.unseen import Reader

__all__ = ["Problem", "VerifyResult", "parse_checkpoint", "read_records", "verify_ledger", "verify_records"]

_TELL_EVERY: Final = 1000
_SQLITE: Final = b"SQLite format 3\x00"


def verify_records(
    path: str | os.PathLike[str],
    *,
    keys: Iterable[AuditKey] = (),
    expected: Iterable[Checkpoint] = (),
    partial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyResult:
    """Verify a ledger, or records outside of one: JSON lines, or OTLP/JSON as a collector's file exporter writes it.

    Args:
        path: The file; ``-``: standard input, which is no ledger.
        keys: Whose signatures count; see :func:`verify_ledger`.
        expected: How far streams were, as metrics or span events said meanwhile.
        partial: Whether streams in a file may begin with a later record than their first, as in an export since a day
            or a file that a collector rotated.
        progress: Called now and then with how much was read and how much there is: of a ledger records, of a file
            bytes, of standard input bytes and 0.

    Raises:
        ConfigurationError: There is no such file, or it cannot be read.
    """
    if str(path) == "-":
        return verify_lines(sys.stdin.buffer, 0, keys=keys, expected=expected, partial=partial, progress=progress)
    try:
        with open(path, "rb") as file:
            if file.read(len(_SQLITE)) not in (_SQLITE, b""):
                file.seek(0)
                size = os.fstat(file.fileno()).st_size
                return verify_lines(file, size, keys=keys, expected=expected, partial=partial, progress=progress)
    except OSError:
        pass  # the error of the ledger says it well
    return verify_ledger(path, keys=keys, expected=expected, progress=progress)


def verify_ledger(
    path: str | os.PathLike[str],
    *,
    keys: Iterable[AuditKey] = (),
    expected: Iterable[Checkpoint] = (),
    progress: Callable[[int, int], None] | None = None,
) -> VerifyResult:
    """Recompute every hash and follow every stream of a ledger, also while a service writes to it.

    Args:
        path: The ledger.
        keys: Whose signatures count. With any, every stream must be signed by one of them; without, signatures are
            counted and not checked.
        expected: How far streams were, as metrics or span events said meanwhile.
        progress: Called now and then with how many records were read and how many there are.

    Returns:
        Whether it is whole, and what is wrong. A chain without a key does not show that somebody rewrote the whole
        file, hashes, counts and all; `keys` and `expected` do.

    Raises:
        ConfigurationError: There is no ledger at `path`, it cannot be read, or a newer version wrote it.
    """
    keys, expected = tuple(keys), tuple(expected)
    lost = lost_pages(path)
    return read_damaged(
        path,
        lambda connection, damaged: _Verification(connection, keys, expected, progress or _nobody).run(lost, damaged),
    )


def read_records(
    path: str | os.PathLike[str],
    *,
    after: int = 0,
    last: int | None = None,
    notes: bool = False,
    tails: bool = True,
) -> list[tuple[int, dict[str, Any]]]:
    """Return records of a ledger with their positions, oldest first, without a change to any file.

    Args:
        path: The ledger.
        after: Only those with a later position.
        last: Only so many of the newest; None: all.
        notes: Also what the ledger wrote about itself: checkpoints, ends and adoptions of streams.
        tails: Also what is not in the database yet, whose positions may change; not for who asks again for what is new.

    Raises:
        ConfigurationError: As for :func:`verify_ledger`.
    """

    def entries(connection: sqlite3.Connection, damaged: bool) -> Iterable[Entry]:
        if damaged:
            return [entry for entry in readable(connection, after) if isinstance(entry, Entry)][::-1]
        rows = (
            connection.execute(f"{select} WHERE r.id > ? ORDER BY r.id DESC", (after,)) for select in (SELECT, KEPT)
        )
        return map(entry_of, itertools.chain.from_iterable(rows))

    def newest(connection: sqlite3.Connection, damaged: bool) -> list[tuple[int, dict[str, Any]]]:
        found: list[tuple[int, dict[str, Any]]] = []
        for entry in entries(connection, damaged):
            if last is not None and len(found) >= last:
                break
            with contextlib.suppress(ValueError):  # verify names what is no record
                record = entry.record()
                if notes or not is_note(record):
                    found.append((entry.position, record))
        return found[::-1]

    return read_damaged(path, newest, tails=tails)


def _nobody(_: int, __: int) -> None:
    """Tell nobody of the progress."""


class _Verification:
    def __init__(
        self,
        connection: Reader,
        keys: tuple[AuditKey, ...],
        expected: tuple[Checkpoint, ...],
        progress: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._progress = progress
        self._chains = Chains(keys, expected)
        self._problems = self._chains.problems
        self._positions = 0
        self._pruned = 0
        self._read = 0
        self._kept = 0

    def run(self, lost: int, damaged: bool) -> VerifyResult:
        streams = unended = 0
        chains = self._chains
        if damaged:
            streams, unended = self._rescue()
        else:
            try:
                streams, unended = self._read_streams()
                chains.complete = True
                self._read_records()
                self._read_kept()
                chains.end()
                self._check_numbers()
                self._check_tails()
                if not self._problems:
                    self._check_pages()
            except UNREADABLE as error:
                if is_damage(error):
                    raise
                text = f"SQLite cannot read the ledger: {error}"
                self._problems.append(Problem(None, None, None, "unreadable", text))
        if not (self._read or self._kept or self._pruned or self._problems):
            self._problems.append(NOTHING)
        if lost:
            text = f"{many(lost, 'page')} of the write-ahead log (-wal) that a process left which was killed"
            self._problems.append(Problem(None, None, None, "missing", text))
        tails, kept = chains.tails(), self._kept
        return VerifyResult(
            not self._problems, self._read + kept - chains.notes, streams, tuple(self._problems), chains.notes,
            self._pruned - kept, chains.signed, chains.unchecked, unended,
            unsigned=sum(tail.records for tail in tails), tails=tails, kept=kept,
        )  # fmt: skip

    def _check_pages(self) -> None:
        """Look at the pages that hold no record, too: no service starts on a file with a damaged one."""
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            text = f"all records are there, but SQLite says: {' '.join(found.split())}"
            self._problems.append(Problem(None, None, None, "unreadable", text))

    def _rescue(self) -> tuple[int, int]:
        """Verify what can still be read of a damaged ledger, and name what cannot."""
        found = (0, 0)
        with self._naming("the streams"):
            found = self._read_streams()
        with self._naming("the records"):
            self._rescue_records()
        with self._naming("what was kept in quarantine"):
            self._read_kept()
        self._chains.end()
        self._check_tails()
        if not self._problems:
            with self._naming("a page that holds no record"):
                self._check_pages()
        return found

    @contextlib.contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            self._problems.append(Problem(None, None, None, "unreadable", f"{what}, as SQLite says: {error}"))

    def _rescue_records(self) -> None:
        lost: list[int] = []
        for entry in readable(self._connection):
            if isinstance(entry, int):
                lost.append(entry)
                continue
            self._tell_lost(lost)
            self._positions, self._read = entry.position, self._read + 1
            if entry.stream_id and not self._chains.by_id.get(entry.stream_id):
                self._chains.add(Chain(entry.stream_id))  # its row cannot be read
            self._check(entry)
        self._tell_lost(lost)

    def _tell_lost(self, lost: list[int]) -> None:
        if lost:
            which = f"number {lost[0]}" if len(lost) == 1 else f"numbers {lost[0]} to {lost[-1]}"
            text = f"{which} of the ledger: the file is damaged there"
            self._problems.append(Problem(None, None, None, "unreadable", text))
            lost.clear()

    def _read_streams(self) -> tuple[int, int]:
        number = unended = 0
        for row, stream_id, count, head, pruned, pruned_head, signature, closed, open_ in self._connection.execute(
            "SELECT id, CAST(stream_id AS BLOB), count, head, pruned, pruned_head, pruned_signature,"
            " ended IS NOT NULL, ended IS NULL AND adopted IS NULL FROM streams ORDER BY id"
        ):
            if row != number + 1:
                self._problems.append(
                    Problem(
                        None, None, None, "missing", f"{many(row - number - 1, 'stream')} before stream number {row}"
                    )
                )
            number, unended = row, unended + open_
            name = str(stream_id, "utf-8", "replace") if isinstance(stream_id, bytes) else ""
            said = head.hex() if isinstance(head, bytes) else str(head)
            whole = count if isinstance(count, int) else 0
            chain = Chain(name, closed=bool(closed), count=whole, said=said, number=row)
            self._chains.add(chain)
            if pruned:
                self._begin_after(chain, pruned, pruned_head, signature)
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'streams'").fetchone()
        self._check_newest(found[0] if found else 0, number, "stream")
        return len(self._chains.by_id), unended

    def _begin_after(self, chain: Chain, pruned: Any, head: Any, signature: Any) -> None:
        """Let a stream begin after the records that were pruned, which its keeper signed where there is a key."""
        if not isinstance(pruned, int) or not isinstance(head, bytes):
            self._chains.of_stream(chain, 1, "forged", f"stream {chain.stream_id} was pruned by nobody")
            return
        self._pruned += pruned
        chain.last, chain.covered, chain.pruned, chain.head = pruned, pruned, pruned, head.hex()
        for count in [count for count in chain.expected if count < pruned]:
            del chain.expected[count]
        self._chains.compare(chain)
        if keys := self._chains.keys:
            chain.scope = verify(keys, str(signature or ""), pruned_digest(chain.stream_id, pruned, head))
            if chain.scope is None:
                text = f"what was pruned of stream {chain.stream_id} lacks the signature of one of the given keys"
                self._chains.of_stream(chain, pruned, "forged", text)

    def _read_records(self) -> None:
        (total,) = self._connection.execute("SELECT COUNT(*) FROM records").fetchone()
        for row in self._connection.execute(f"{SELECT} ORDER BY r.id"):
            if not isinstance(row[0], int):
                raise sqlite3.DatabaseError("a record has no position")
            self._positions = max(self._positions, row[0])
            self._read += 1
            self._check(entry_of(row))
            if not self._read % _TELL_EVERY:
                self._progress(self._read, total)
        self._progress(self._read, total)

    def _check(self, entry: Entry) -> None:
        seen = self._seen(entry)
        if seen.stream_id in self._chains.by_id:
            self._chains.see(seen)
        elif seen.attributes is not None:
            self._chains.name(seen, "forged", "the ledger does not know its stream")

    def _seen(self, entry: Entry) -> Seen:
        """Return a record as it was found, and name it where it is not what was hashed."""
        stream_id = entry.stream_id or ""
        name, attributes = _parts(entry.payload)
        seen = Seen(stream_id, entry.sequence, entry.record_id, entry.hash, attributes, name, entry.signature)
        if digest(entry.payload).hex() != entry.hash:
            self._chains.name(seen, "changed", "its content is not what was hashed")
            seen = Seen(stream_id, entry.sequence, entry.record_id, entry.hash, None)
        elif attributes is None or (
            (attributes.get(conventions.AUDIT_STREAM_ID), attributes.get(conventions.AUDIT_SEQUENCE),
             attributes.get(conventions.AUDIT_RECORD_ID)) != (entry.stream_id, entry.sequence, entry.record_id)
        ):  # fmt: skip
            self._chains.name(seen, "forged", "it stands under another id, number or stream than it was hashed with")
            seen = Seen(stream_id, entry.sequence, entry.record_id, entry.hash, None)
        return seen

    def _read_kept(self) -> None:
        """Look at what a collector refuses and was kept when the records around it were pruned."""
        for row in self._connection.execute(f"{KEPT} ORDER BY r.id"):
            self._kept += 1
            self._chains.aside(self._seen(entry_of(row)))
        for (number,) in self._connection.execute(
            "SELECT record FROM quarantine WHERE record <= (SELECT pruned FROM shipping)"
            " AND record NOT IN (SELECT id FROM kept) ORDER BY record"
        ):
            text = f"record number {number} of the ledger, which is in quarantine: no collector has it"
            self._problems.append(Problem(None, None, None, "missing", text))

    def _check_numbers(self) -> None:
        """Every number was given to a record; where the streams explain no hole, one was removed with its stream."""
        self._positions = max(self._positions, self._pruned)
        (given,) = self._connection.execute("SELECT COALESCE(MAX(newest), 0) FROM streams").fetchone()
        self._check_pruned()
        self._check_newest(given, self._positions, "record")
        if self._read + self._pruned < self._positions and not self._problems:
            lost = many(self._positions - self._pruned - self._read, "record")
            self._problems.append(Problem(None, None, None, "missing", f"{lost} of no stream"))

    def _check_tails(self) -> None:
        for stream, text in self._connection.amiss:
            which = text if stream is None else f"stream {stream}: {text}"
            self._problems.append(Problem(None, stream, None, "unreadable", which))

    def _check_pruned(self) -> None:
        """What was pruned, a collector had: the ledger's own cursors say so, or somebody else removed it."""
        shipping = self._connection.execute("SELECT acknowledged, pruned FROM shipping").fetchone()
        acknowledged, pruned = (number if isinstance(number, int) else 0 for number in shipping or (0, 0))
        shipped = min(acknowledged, pruned)
        if self._pruned > shipped:
            text = f"{many(self._pruned - shipped, 'record')} more are noted as pruned than were shipped and pruned"
            self._problems.append(Problem(None, None, None, "forged", text))

    def _check_newest(self, given: int, newest: int, thing: str) -> None:
        explained = any(problem.what == "cut" for problem in self._problems)
        if given > newest and not explained:
            self._problems.append(
                Problem(None, None, None, "cut", f"{many(given - newest, thing)} at the end of the ledger")
            )
        elif given < newest:
            text = f"{many(newest - given, thing)} that the ledger never gave a number"
            self._problems.append(Problem(None, None, None, "forged", text))


def _parts(payload: bytes) -> tuple[str, dict[str, Any] | None]:
    try:
        record = json.loads(payload)
        attributes, name = record["attributes"], record.get("event_name", "")
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", None
    return str(name), attributes if isinstance(attributes, dict) else None
