"""What the key manager asks of a place where keys are kept.

A store keeps records and digests and decides nothing: every change is one transaction in which the manager
reads, decides and writes. A store may raise whatever it likes when it does not work; the manager turns that
into ``KeyStoreUnavailable`` and lets nobody in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mobius_otel.security.api_keys.record import ApiKey, KeyState

__all__ = [
    "CHANGING",
    "Census",
    "ChangeChannel",
    "KeyStore",
    "Selection",
    "StoredKey",
    "Transaction",
    "take_census",
]

#: What may be written after a record was added: fields of the key, and of what is stored beside it.
CHANGING = frozenset({
    "digest", "grace_on_first_use", "overlap_until", "pepper", "retire_at", "revoked_at", "rotated_to",
    "unused_since", "verifier",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as a store keeps it.

    Args:
        key: The record.
        digest: What it is found by; unique. Bytes, and compared as bytes.
        pepper: Names the pepper that the digest was keyed with.
        verifier: A slow hash of an imported secret; `digest` is then that of the part it is found by.
    """

    key: ApiKey
    digest: bytes = field(repr=False)
    pepper: str = ""
    verifier: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records are meant; everything that is given must hold.

    Args:
        owner: Of this owner.
        tenant: Of this tenant.
        lineage: Of this lineage.
        state: In this state at `now`.
        now: Seconds since the epoch, for `state`.
        expires_by: With an expiry of their own at or before this time.
        after: Only what comes after the record with this time of creation and id.
        most: How many at most.
    """

    owner: str | None = None
    tenant: str | None = None
    lineage: str | None = None
    state: KeyState | None = None
    now: float = 0.0
    expires_by: float | None = None
    after: tuple[float, str] | None = None
    most: int | None = None

    def matches(self, record: ApiKey) -> bool:
        """Return whether a record is meant, but for `most`; for stores that look at each by themselves.

        Example:
            >>> alice = ApiKey(id="key_1", owner="alice")
            >>> Selection(owner="alice").matches(alice), Selection(state=KeyState.REVOKED).matches(alice)
            (True, False)
        """
        return (
            (self.owner is None or record.owner == self.owner)
            and (self.tenant is None or record.tenant == self.tenant)
            and (self.lineage is None or record.lineage_id == self.lineage)
            and (self.state is None or record.state_at(self.now) is self.state)
            and (self.expires_by is None or (record.expires_at is not None and record.expires_at <= self.expires_by))
            and (self.after is None or (record.created_at, record.id) > self.after)
        )


@dataclass(frozen=True, slots=True)
class Census:
    """How many keys there are.

    Args:
        states: Keys by state; every state is there.
        expiring: Active keys whose own expiry lies within so many seconds, by seconds.
        never_used: Active keys that have never let anybody in.
        oldest_active: When the oldest active key was made; None: there is none.
    """

    states: Mapping[KeyState, int] = field(default_factory=dict)
    expiring: Mapping[float, int] = field(default_factory=dict)
    never_used: int = 0
    oldest_active: float | None = None


class Transaction(Protocol):
    """One change of the store: all of it or nothing."""

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id, and keep others from changing it until the change is over."""
        ...

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        """Return the records that are meant, oldest first (by time of creation, then id)."""
        ...

    def add(self, stored: StoredKey) -> None:
        """Add a key. Raises anything where its id or its digest is there already."""
        ...

    def change(self, key_id: str, values: Mapping[str, Any], expect: Mapping[str, Any] | None = None) -> bool:
        """Compare and set: write `values` where the record still has what `expect` says.

        Args:
            key_id: The record's id.
            values: Fields of ``CHANGING`` and what they become.
            expect: Fields of the record and what they must still be (None compares as equal to None).

        Returns:
            Whether a record was written.
        """
        ...

    def purge(self, dead_by: float, most: int) -> int:
        """Remove up to `most` records with a deadline at or before `dead_by`; return how many."""
        ...


class KeyStore(Protocol):
    """A place where keys are kept.

    A store may have three things more. ``async def run(work)`` calls `work`, a function of the manager that uses
    the store, without holding up the event loop; without it a store that is ``blocking`` gets a thread.
    ``channel``, a :class:`ChangeChannel`, tells other processes of changes. ``version()`` returns within
    microseconds something that changes when others may have changed keys (None: not known right now, so that nothing
    that was cached counts); with it no cache is behind the store.
    """

    #: Whether a call may wait for a disk or a network; the async twins then run it in a thread.
    blocking: bool

    def find(self, digests: Sequence[bytes]) -> StoredKey | None:
        """Return the key that is found by one of these digests (at least one, at most a few)."""
        ...

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        ...

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        """Return the records that are meant, oldest first (by time of creation, then id)."""
        ...

    def changing(self) -> AbstractContextManager[Transaction]:
        """Begin a change; it is kept when the block ends without an error."""
        ...

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time, and never anything else of the record."""
        ...

    def count_dead(self, dead_by: float) -> int:
        """Return how many records have a deadline at or before `dead_by`."""
        ...

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys at `now`, and the active ones that expire within so many seconds; one query."""
        ...

    def peppers(self) -> Mapping[str, int]:
        """Return how many keys there are by the name of their pepper."""
        ...

    def claim(self, job: str, period: int, holder: str) -> bool:
        """Take one period of a job that runs once for everybody who shares the store.

        Args:
            job: The name of the job.
            period: The number of the period.
            holder: Who asks, for people who look.

        Returns:
            True for exactly one of those who ask for a period: when the last one taken lies before it, or further
            ahead than one (whose clock was that?). A holder that dies keeps nobody from the next period.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class ChangeChannel(Protocol):
    """Tells the processes that share a store which keys have changed, so that none of them waits for its cache."""

    def publish(self, key_ids: Collection[str]) -> None:
        """Tell everybody that these keys have changed. What it raises costs others their cache's time, no more."""
        ...

    def subscribe(self, listener: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        """Call `listener` with the ids of changed keys, with None where any may have (after a lost connection).

        Returns:
            A function that ends it.
        """
        ...


def take_census(records: Sequence[ApiKey], now: float, within: Sequence[float]) -> Census:
    """Count `records` one by one, for stores that cannot count by themselves.

    Args:
        records: Every record.
        now: Seconds since the epoch.
        within: Seconds ahead.

    Example:
        >>> census = take_census([ApiKey(id="key_1", owner="alice", expires_at=60.0)], 0.0, [30.0, 60.0])
        >>> census.states[KeyState.ACTIVE], dict(census.expiring), census.never_used
        (1, {30.0: 0, 60.0: 1}, 1)
    """
    states = dict.fromkeys(KeyState, 0)
    for record in records:
        states[record.state_at(now)] += 1
    active = [record for record in records if record.state_at(now) is KeyState.ACTIVE]
    ends = [record.expires_at for record in active if record.expires_at is not None]
    return Census(
        states,
        {seconds: sum(end <= now + seconds for end in ends) for seconds in within},
        sum(record.last_used_at is None for record in active),
        min((record.created_at for record in active), default=None),
    )
