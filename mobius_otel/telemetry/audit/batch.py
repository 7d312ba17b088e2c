"""One batch of records on its way to a collector: whole, then in halves where it will not be taken as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from mobius_otel.telemetry.audit.ledger import Entry
from mobius_otel.telemetry.audit.transport import Answer

__all__ = ["Batch", "Carrier"]

# So many records refused alone, and none accepted: it is the collector, not the records.
_REFUSED_BEFORE_GIVING_UP: Final = 4
# A record that is alone in the ledger has no other to show that the collector works: it gets so many more chances.
_PATIENCE_WITH_A_LONE_ONE: Final = 3


class Carrier(Protocol):
    """What a batch asks of the shipper."""

    def send(self, entries: Sequence[Entry]) -> Answer:
        """Send records as one request."""
        ...

    def exported(self, count: int) -> None:
        """Count records that a collector accepted."""
        ...

    def acknowledge(self, last: Entry) -> None:
        """Move the cursor to `last`."""
        ...

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Set a record aside."""
        ...


class Batch:
    """Ships records, and finds those that the collector refuses alone.

    A record is given up on only while the collector takes others. What it accepted behind a record that is still
    in doubt is sent again by the next batch: a duplicate with the same id is better than a loss.

    Args:
        entries: The records, in the order of their positions.
        carrier: Sends, and keeps the books.
        refused: How often each position was refused alone; it outlives the batch.
        refusals: How often that may happen.
        halve_when_broken: Whether a server's own failure (HTTP 500) counts as being over one record.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        carrier: Carrier,
        *,
        refused: Counter[int],
        refusals: int,
        halve_when_broken: bool = False,
    ) -> None:
        self._entries = entries
        self._lone = len(entries) == 1
        self._carrier = carrier
        self._refused = refused
        self._refusals = refusals
        self._halve_when_broken = halve_when_broken
        self._done: set[int] = set()
        self._suspects: dict[int, tuple[Entry, Answer]] = {}
        self.accepted = 0
        self.reason = ""

    def ship(self) -> bool:
        """Ship; return whether every record was accepted or set aside."""
        going_on = self._try(self._entries)
        if self.accepted:
            for entry, _ in list(self._suspects.values()):
                going_on = going_on and self._insist(entry)
        elif self._suspects and self._lone:
            self._doubt_a_lone_one()
        self._advance()
        return going_on and not self._suspects

    def _try(self, entries: Sequence[Entry]) -> bool:
        """Send, in halves where need be; return False when there is no point in going on for now."""
        answer = self._carrier.send(entries)
        if answer.verdict == "accepted":
            self._accept(entries)
            return True
        self.reason = answer.reason
        if not self._is_over_a_record(answer):
            return False
        if len(entries) > 1:
            middle = len(entries) // 2
            return self._try(entries[:middle]) and self._try(entries[middle:])
        self._suspects[entries[0].position] = (entries[0], answer)
        return bool(self.accepted) or len(self._suspects) < _REFUSED_BEFORE_GIVING_UP

    def _is_over_a_record(self, answer: Answer) -> bool:
        return answer.verdict == "refused" or (answer.verdict == "broken" and self._halve_when_broken)

    def _accept(self, entries: Sequence[Entry]) -> None:
        self._done.update(entry.position for entry in entries)
        self.accepted += len(entries)
        self._carrier.exported(len(entries))
        self._advance()

    def _insist(self, entry: Entry) -> bool:
        """Offer a record alone until the collector takes it, or has refused it often enough."""
        self._refused[entry.position] += 1
        while self._refused[entry.position] < self._refusals:
            answer = self._carrier.send([entry])
            if answer.verdict == "accepted":
                del self._suspects[entry.position]
                self._accept([entry])
                return True
            self.reason = answer.reason
            if not self._is_over_a_record(answer):
                return False
            self._refused[entry.position] += 1
        self._set_aside(entry)
        return True

    def _doubt_a_lone_one(self) -> None:
        ((entry, answer),) = self._suspects.values()
        if answer.verdict == "refused":
            self._refused[entry.position] += 1
            if self._refused[entry.position] >= self._refusals * _PATIENCE_WITH_A_LONE_ONE:
                self._set_aside(entry)

    def _set_aside(self, entry: Entry) -> None:
        _, answer = self._suspects.pop(entry.position)
        self._carrier.quarantine(entry, answer.reason)
        self._refused.pop(entry.position, None)
        self._done.add(entry.position)

    def _advance(self) -> None:
        """Move the cursor over what stands at the beginning and is done."""
        number = 0
        while number < len(self._entries) and self._entries[number].position in self._done:
            number += 1
        if number:
            self._carrier.acknowledge(self._entries[number - 1])
            self._entries = self._entries[number:]
