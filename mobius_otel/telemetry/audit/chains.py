"""Follows the streams of records, wherever they lie, and names what does not fit."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.findings import Problem, Tail, What
from mobius_otel.telemetry.audit.signing import AuditKey, SignScope, verify
from mobius_otel.telemetry.audit.stream import NOTES, SEALED, Checkpoint

__all__ = ["Chain", "Chains", "Seen"]

_MOST_GAPS: Final = 1_000_000
_HASH: Final = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it was found.

    Args:
        stream_id: Its stream.
        sequence: Its number in the stream.
        record_id: Its id.
        hash: Its hash, in hexadecimal.
        attributes: What it says; None where that is not what was hashed.
        event_name: Its event's name.
        signature: Its signature, where it has one.
    """

    stream_id: str
    sequence: int
    record_id: str
    hash: str
    attributes: Mapping[str, Any] | None
    event_name: str = ""
    signature: str | None = None


@dataclass(slots=True)
class Chain:
    """What is known of a stream while its records are read."""

    stream_id: str
    last: int = 0
    pruned: int = 0  # the number of the last record that was removed after a collector had it
    head: str = ""
    head_id: str | None = None
    doubtful: bool = False  # whether the last record was named already, so that its successor need not be
    ended: bool = False
    closed: bool = False  # whether the ledger notes that it ended
    adopted: bool = False
    covered: int = 0  # the number of the last record that a signature covers, those before it too
    scope: str | None = None  # what its signatures cover, once one was found good
    gaps: set[int] = field(default_factory=set)
    moved: dict[int, str] = field(default_factory=dict)  # what came after a gap, or late: number -> record id
    expected: dict[int, str] = field(default_factory=dict)  # from elsewhere: number -> beginning of the hash
    hashes: bytearray = field(default_factory=bytearray)  # of all records so far, where they may come twice
    first: int = 1  # the number of the first of them
    count: int | None = None  # as the ledger says
    said: str = ""
    number: int | None = None  # of the stream in the ledger
    misnumbered: bool = False


class Chains:
    """All streams, and what is wrong with them.

    Args:
        keys: Whose signatures count; with any, what must be signed is looked at.
        expected: Checkpoints that were read elsewhere.
        retold: Whether records may come twice and out of order, as a collector has them.

    Attributes:
        complete: Whether all streams are known before the first record is seen, as a ledger has them.
    """

    def __init__(self, keys: Iterable[AuditKey], expected: Iterable[Checkpoint], *, retold: bool = False) -> None:
        self.keys = tuple(keys)
        self.problems: list[Problem] = []
        self.by_id: dict[str, Chain] = {}
        self.records = self.notes = self.signed = self.unchecked = self.duplicates = 0
        self.retold = retold
        self.complete = False
        self._early: dict[str, dict[int, Seen]] = {}
        self._aside: list[Tail] = []
        self._expected: dict[str, dict[int, str]] = {}
        for one in expected:
            self._expected.setdefault(one.stream_id, {})[one.count] = one.head

    def add(self, chain: Chain) -> Chain:
        """Add a stream."""
        chain.expected = self._expected.get(chain.stream_id, {})
        self.by_id[chain.stream_id] = chain
        return chain

    def see(self, seen: Seen) -> None:
        """Take the next record; its stream must have been added."""
        self.records += 1
        attributes = seen.attributes
        if attributes is not None and attributes.get(conventions.AUDIT_TARGET_TYPE) == NOTES:
            self._note(seen, attributes)
        chain = self.by_id[seen.stream_id]
        if chain.number is not None and attributes is not None and conventions.AUDIT_STREAM_NUMBER in attributes:
            self._check_number(chain, seen, attributes[conventions.AUDIT_STREAM_NUMBER])
        if seen.sequence == chain.last + 1:
            self._follow(chain, seen)
            if self._early:
                self._catch_up(chain)
        elif seen.sequence > chain.last:
            self._jump(chain, seen)
        elif self.retold and seen.sequence not in chain.gaps and _known(chain, seen.sequence) == seen.hash:
            self.duplicates += 1
        elif seen.sequence in chain.gaps:
            chain.gaps.discard(seen.sequence)
            chain.moved[seen.sequence] = seen.record_id
        else:
            self.name(seen, "doubled", "its number was there already")

    def _check_number(self, chain: Chain, seen: Seen, number: Any) -> None:
        """Compare the number that a stream says it has in the ledger with the one that it stands under."""
        # A stream that went on in another file has another one there; it lacks its first records, which is named.
        if number == chain.number or chain.misnumbered or not (seen.sequence == 1 or (chain.pruned and _is_note(seen))):
            return
        chain.misnumbered = True
        text = (
            f"stream {chain.stream_id} says that it is stream number {number} of the ledger and stands as number"
            f" {chain.number}: others were removed, or put in"
        )
        self.of_stream(chain, seen.sequence, "missing", text)

    def aside(self, seen: Seen) -> None:
        """Take a record that lies beside its stream, because it is in quarantine and those around it were pruned."""
        chain = self.by_id.get(seen.stream_id)
        if seen.attributes is None:
            return
        if chain is None or not 0 < seen.sequence <= chain.pruned:
            self.name(seen, "forged", "it is in quarantine, and was never where the ledger pruned")
        elif self.keys and seen.signature is not None:
            if self._scope(seen) is None:
                self.name(seen, "forged", _NO_KEY)
            else:
                self.signed += 1
        else:
            self.unchecked += seen.signature is not None
            if seen.signature is None:
                self._aside.append(Tail(seen.stream_id, seen.sequence, 1))
        self.notes += seen.event_name in SEALED and _is_note(seen)

    def _note(self, seen: Seen, attributes: Mapping[str, Any]) -> None:
        """Take what a stream wrote about itself, or about one that a dead process left."""
        if seen.event_name not in SEALED:
            return
        self.notes += 1
        if seen.event_name == conventions.AUDIT_STREAM_ADOPTED.name:
            self._adopted(seen, attributes)

    def _adopted(self, seen: Seen, attributes: Mapping[str, Any]) -> None:
        stream, count = attributes.get(conventions.AUDIT_TARGET_ID), attributes.get(conventions.AUDIT_CHECKPOINT_COUNT)
        chain = self.by_id.get(str(stream))
        if chain is None and self.complete:
            text = f"stream {stream}, of which {count} records were adopted by stream {seen.stream_id}"
            self.problems.append(Problem(None, str(stream), None, "missing", text))
        if chain is None or not isinstance(count, int):
            return
        if chain.adopted:
            self.name(seen, "forged", f"stream {stream} was adopted before")
        chain.adopted = True
        head = str(attributes.get(conventions.AUDIT_CHECKPOINT_HEAD, ""))
        if seen.signature is not None:  # whose signature it is, is looked at with the record
            chain.covered = max(chain.covered, count)
        if count > chain.last:
            chain.expected.setdefault(count, head)
        elif count == chain.last and head != chain.head and not chain.doubtful:
            self._differs(chain)

    def _follow(self, chain: Chain, seen: Seen) -> None:
        attributes = seen.attributes
        if attributes is not None:
            if not chain.doubtful and attributes.get(conventions.AUDIT_PREVIOUS_HASH, "") != chain.head:
                self.problems.append(
                    Problem(chain.head_id, chain.stream_id, chain.last, "forged", self._unlike(chain, seen))
                )
            if chain.ended:
                self.name(seen, "forged", "its stream had ended")
        self._advance(chain, seen)

    def _jump(self, chain: Chain, seen: Seen) -> None:
        """Take a record that comes after a gap; in a retold stream it waits for what is between."""
        if self.retold:
            early = self._early.setdefault(seen.stream_id, {})
            self.duplicates += seen.sequence in early
            early[seen.sequence] = seen
            return
        chain.gaps.update(range(chain.last + 1, min(seen.sequence, chain.last + _MOST_GAPS)))
        chain.moved[seen.sequence] = seen.record_id
        self._advance(chain, seen)

    def _catch_up(self, chain: Chain) -> None:
        early = self._early.get(chain.stream_id)
        while early and (seen := early.pop(chain.last + 1, None)):
            self._follow(chain, seen)

    def _advance(self, chain: Chain, seen: Seen) -> None:
        chain.last, chain.head, chain.head_id = seen.sequence, seen.hash, seen.record_id
        chain.doubtful = seen.attributes is None
        if self.retold:
            _remember(chain, seen)
        if seen.event_name == conventions.AUDIT_STREAM_ENDED.name and seen.attributes is not None:
            chain.ended = seen.attributes.get(conventions.AUDIT_SEQUENCE_END) is True
        if chain.expected:
            self.compare(chain)
        if self.keys:
            self._check_signature(chain, seen)
        elif seen.signature is not None:
            self.unchecked += 1
            chain.covered = seen.sequence

    def compare(self, chain: Chain) -> None:
        """Compare the stream's newest hash with what was read elsewhere."""
        head = chain.expected.get(chain.last)
        if head is not None:
            del chain.expected[chain.last]
            if not chain.head.startswith(head):
                self._differs(chain)

    def _differs(self, chain: Chain) -> None:
        text = f"record {chain.head_id} (number {chain.last} of stream {chain.stream_id}): {_ELSEWHERE}"
        self.problems.append(Problem(chain.head_id, chain.stream_id, chain.last, "forged", text))

    def _check_signature(self, chain: Chain, seen: Seen) -> None:
        if seen.attributes is None:  # named already
            return
        if seen.signature is None:
            must = chain.scope == "record" or seen.sequence == 1 or (seen.event_name in SEALED and _is_note(seen))
            if must:
                self.name(seen, "forged", "it lacks the signature that it must have")
            return
        scope = self._scope(seen)
        if scope is None:
            self.name(seen, "forged", _NO_KEY)
            return
        self.signed += 1
        chain.scope, chain.covered = scope, seen.sequence

    def _scope(self, seen: Seen) -> SignScope | None:
        """Return what the signature of a record covers, where it is one of the given keys."""
        return verify(self.keys, seen.signature or "", bytes.fromhex(seen.hash)) if _is_hex(seen.hash) else None

    def _unlike(self, chain: Chain, seen: Seen) -> str:
        if chain.last == 0:
            return f"stream {chain.stream_id} begins with a record that says another came before it"
        if chain.head_id is None:
            return f"record {seen.record_id} of stream {chain.stream_id} does not follow what was pruned before it"
        return (
            f"record {chain.head_id} (number {chain.last} of stream {chain.stream_id}): its successor"
            f" {seen.record_id} was chained to another hash than it has"
        )

    def end(self) -> None:
        """Look at the ends of all streams, once every record was seen."""
        for chain in list(self.by_id.values()):
            self._take_early(chain)
            self._name_moved(chain)
            for first, last in _ranges(sorted(chain.gaps)):
                numbers = f"number {first}" if first == last else f"numbers {first} to {last}"
                self.of_stream(chain, first, "missing", f"{numbers} of stream {chain.stream_id}")
            self._check_end(chain)
        for stream, wanted in self._expected.items():
            if stream not in self.by_id and wanted:
                text = f"stream {stream}, of which {max(wanted)} records were told of elsewhere"
                self.problems.append(Problem(None, stream, None, "missing", text))

    def _name_moved(self, chain: Chain) -> None:
        """Name the fewest that have to change their places for all to stand in order."""
        ordered = _in_order(list(chain.moved))
        for number, record_id in chain.moved.items():
            if number not in ordered:
                text = f"record {record_id} (number {number} of stream {chain.stream_id}): it stands in another's place"
                self.problems.append(Problem(record_id, chain.stream_id, number, "reordered", text))

    def _take_early(self, chain: Chain) -> None:
        """Take what waited for records that never came."""
        early = self._early.pop(chain.stream_id, {})
        for number in sorted(early):
            chain.gaps.update(range(chain.last + 1, min(number, chain.last + _MOST_GAPS)))
            seen = early[number]
            if number == chain.last + 1:
                self._follow(chain, seen)
            else:
                self._advance(chain, seen)

    def _check_end(self, chain: Chain) -> None:
        told = max((count for count in chain.expected if count > chain.last), default=0)
        count = chain.count if chain.count is not None else max(chain.last, told)
        if chain.last < max(count, told):
            text = f"{many(max(count, told) - chain.last, 'record')} at the end of stream {chain.stream_id}"
            self.of_stream(chain, chain.last + 1, "cut", text)
        elif chain.last > count:
            text = f"{many(chain.last - count, 'record')} more than stream {chain.stream_id} ever had"
            self.of_stream(chain, count + 1, "forged", text)
        elif chain.count is not None and chain.head != chain.said and not chain.doubtful:
            self.problems.append(
                Problem(
                    chain.head_id, chain.stream_id, chain.last, "forged",
                    f"record {chain.head_id}, the last of stream {chain.stream_id}, has not the noted hash",
                )
            )  # fmt: skip
        elif chain.closed and not chain.ended and not chain.doubtful and chain.head_id is not None:
            text = f"the end of stream {chain.stream_id}: the ledger notes that it ended, and its last record is none"
            self.of_stream(chain, chain.last + 1, "cut", text)

    def tails(self) -> tuple[Tail, ...]:
        """Return what no signature covers."""
        return tuple(self._aside) + tuple(
            Tail(chain.stream_id, chain.covered + 1, chain.last - chain.covered)
            for chain in self.by_id.values()
            if chain.last > chain.covered
        )

    def of_stream(self, chain: Chain, sequence: int, what: What, text: str) -> None:
        """Name a problem of a stream."""
        self.problems.append(Problem(None, chain.stream_id, sequence, what, text))

    def name(self, seen: Seen, what: What, why: str) -> None:
        """Name a problem of a record."""
        text = f"record {seen.record_id} (number {seen.sequence} of stream {seen.stream_id or 'unknown'}): {why}"
        self.problems.append(Problem(seen.record_id, seen.stream_id or None, seen.sequence, what, text))


_NO_KEY: Final = "its signature is not one of the given keys"
_ELSEWHERE: Final = "its hash is not the one that was told of elsewhere"


def _remember(chain: Chain, seen: Seen) -> None:
    if not chain.hashes:
        chain.first = seen.sequence
    raw = bytes.fromhex(seen.hash) if len(seen.hash) == 2 * _HASH and _is_hex(seen.hash) else bytes(_HASH)
    chain.hashes.extend(bytes(_HASH) * (seen.sequence - chain.first - len(chain.hashes) // _HASH) + raw)


def _known(chain: Chain, sequence: int) -> str:
    place = (sequence - chain.first) * _HASH
    return chain.hashes[place : place + _HASH].hex() if place >= 0 else ""


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


def _is_note(seen: Seen) -> bool:
    return seen.attributes is not None and seen.attributes.get(conventions.AUDIT_TARGET_TYPE) == NOTES


def _in_order(numbers: list[int]) -> set[int]:
    """Return as many of the numbers as stand in order; where only one can, the first.

    Example:
        >>> sorted(_in_order([12, 8, 9, 10, 7])), _in_order([6, 5])
        ([8, 9, 10], {6})
    """
    ends: list[int] = []  # the smallest number that so many in order can end with
    before: dict[int, int | None] = {}
    for number in numbers:
        place = bisect.bisect_left(ends, number)
        before[number] = ends[place - 1] if place else None
        ends[place : place + 1] = [number]
    if len(ends) < 2:
        return set(numbers[:1])
    found: set[int] = set()
    last: int | None = ends[-1]
    while last is not None:
        found.add(last)
        last = before[last]
    return found


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def many(count: int, thing: str) -> str:
    """Return a number with its noun.

    Example:
        >>> many(1, "record"), many(2, "record")
        ('1 record', '2 records')
    """
    return f"{count} {thing}{'' if count == 1 else 's'}"
