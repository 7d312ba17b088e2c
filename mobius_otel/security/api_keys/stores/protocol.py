"""What the key manager asks of a place where keys are kept.

A store keeps records and digests and decides nothing: every change is one transaction in which the manager
reads, decides and writes. A store may raise whatever it likes when it does not work; the manager turns that
into ``KeyStoreUnavailable`` and lets nobody in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mobius_otel.security.api_keys.record import ApiKey, KeyState

__all__ = ["CHANGING", "Census", "KeyStore", "Transaction", "take_census"]

#: The fields of a record that may be written after it was added.
CHANGING = frozenset({"overlap_until", "retire_at", "revoked_at", "rotated_to"})


@dataclass(frozen=True, slots=True)
class Census:
    """How many keys there are.

    Args:
        states: Keys by state; every state is there.
        expiring: Active keys whose own expiry lies within so many seconds, by seconds.
    """

    states: Mapping[KeyState, int] = field(default_factory=dict)
    expiring: Mapping[float, int] = field(default_factory=dict)


class Transaction(Protocol):
    """One change of the store: all of it or nothing; nobody else writes meanwhile."""

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""

    def add(self, record: ApiKey, digest: bytes) -> None:
        """Add a record with the digest of its secret."""

    def change(self, key_id: str, **values: Any) -> None:
        """Write some of the fields in ``CHANGING`` of a record."""

    def purge(self, dead_by: float) -> int:
        """Remove every record with a deadline at or before `dead_by`; return how many."""


class KeyStore(Protocol):
    """A place where keys are kept."""

    #: Whether a call may wait for a disk or a network; the async twins then run it in a thread.
    blocking: bool

    def find(self, digest: bytes) -> tuple[ApiKey, bytes] | None:
        """Return the record whose secret has this digest, and the digest as it is stored."""

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""

    def list(self, owner: str | None = None) -> Sequence[ApiKey]:
        """Return the records, of one owner or all, oldest first."""

    def changing(self) -> AbstractContextManager[Transaction]:
        """Begin a change; it is kept when the block ends without an error."""

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time, and never anything else of the record."""

    def count_dead(self, dead_by: float) -> int:
        """Return how many records :meth:`Transaction.purge` would remove."""

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys by their state at `now`, and the active ones that expire within so many seconds."""

    def close(self) -> None:
        """Let go of what is open."""


def take_census(records: Sequence[ApiKey], now: float, within: Sequence[float]) -> Census:
    """Count `records` one by one, for stores that cannot count by themselves.

    Args:
        records: Every record.
        now: Seconds since the epoch.
        within: Seconds ahead.

    Example:
        >>> census = take_census([ApiKey(id="key_1", owner="alice", expires_at=60.0)], 0.0, [30.0, 60.0])
        >>> census.states[KeyState.ACTIVE], dict(census.expiring)
        (1, {30.0: 0, 60.0: 1})
    """
    states = dict.fromkeys(KeyState, 0)
    expiring = dict.fromkeys(within, 0)
    for record in records:
        state = record.state_at(now)
        states[state] += 1
        for seconds in within:
            if state is KeyState.ACTIVE and record.expires_at is not None and record.expires_at <= now + seconds:
                expiring[seconds] += 1
    return Census(states, expiring)
