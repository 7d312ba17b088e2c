"""The receipt of an audit record: what it is called, where it stands, and whether a collector has it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from mobius_otel.telemetry.safety import swallow

if TYPE_CHECKING:
    from mobius_otel.telemetry.audit.ledger import Kept, Ledger

__all__ = ["Durability", "Place", "Receipt", "receipt_of"]

Durability = Literal["process", "power", "sink", "none"]
_POLL_SECONDS: Final = 0.02


@dataclass(slots=True)
class Place:
    """Where a record came to stand; a record that waited in memory learns it later."""

    ledger: Ledger | None = None
    kept: Kept | None = None
    delivered: bool = False

    def put(self, kept: Kept) -> None:
        """Note that the record is in the ledger now."""
        self.kept = kept


@dataclass(slots=True, unsafe_hash=True)  # made at every event: a frozen one costs three times that
class Receipt:
    """What ``emit`` returns.

    Args:
        record_id: The record's id, a UUIDv7; the collector sees it as ``log.record.uid``.
        sequence: Its number in its stream, from 1; None where it is not in a ledger.
        stream_id: Its stream; None where it is not in a ledger.
        hash: Its SHA-256 in hexadecimal; None where it is not in a ledger.
        durability: ``process``: it is in the ledger and survives the process. ``power``: and a power cut. ``sink``: a
            collector has it. ``none``: it is in memory, or with the log pipeline, or was given up
            (``fail_mode="best_effort"``).
    """

    record_id: str
    sequence: int | None = None
    stream_id: str | None = None
    hash: str | None = None
    durability: Durability = "none"
    _place: Place = field(default_factory=Place, repr=False, compare=False)

    def delivered(self, timeout: float = 10.0) -> bool:
        """Wait until a collector has acknowledged the record.

        Args:
            timeout: Seconds to wait at most; 0 asks once.

        Returns:
            Whether it has; without a ledger nobody knows, so False at once.
        """
        ledger = self._place.ledger
        if ledger is None:
            return False
        end = time.monotonic() + timeout
        try:
            while (kept := self._place.kept) is None or (position := ledger.place_of(kept)) is None:
                left = end - time.monotonic()  # it waits in memory, or in a tail
                if left <= 0:
                    return False
                time.sleep(min(_POLL_SECONDS, left))
            return ledger.wait_delivered(position, self.record_id, end - time.monotonic())
        except Exception as error:
            swallow("audit", error)
            return False


def receipt_of(record_id: str, place: Place) -> Receipt:
    """Return the receipt of a record at a place."""
    kept = place.kept
    if kept is None:
        return Receipt(record_id, _place=place)
    link = kept.link
    return Receipt(
        record_id, link.sequence, kept.stream_id, link.hex, "sink" if place.delivered else kept.durability, place
    )
