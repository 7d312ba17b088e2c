"""Keys in the memory of this process, for tests and trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores.protocol import CHANGING, Census, take_census

__all__ = ["MemoryKeyStore"]


class MemoryKeyStore:
    """Keeps keys for as long as the process lives.

    Example:
        >>> store = MemoryKeyStore()
        >>> with store.changing() as change:
        ...     change.add(ApiKey(id="key_1", owner="alice"), b"d" * 32)
        >>> store.get("key_1").owner, store
        ('alice', MemoryKeyStore(1 keys))
    """

    blocking = False

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[str, ApiKey] = {}
        self._digests: dict[bytes, str] = {}
        on_fork(self)

    def find(self, digest: bytes) -> tuple[ApiKey, bytes] | None:
        """Return the record whose secret has this digest, and the digest as it is stored."""
        with self._lock:
            key_id = self._digests.get(digest)
            return None if key_id is None else (_own(self._records[key_id]), digest)

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        with self._lock:
            record = self._records.get(key_id)
        return None if record is None else _own(record)

    def list(self, owner: str | None = None) -> Sequence[ApiKey]:
        """Return the records, of one owner or all, oldest first."""
        with self._lock:
            records = [record for record in self._records.values() if owner is None or record.owner == owner]
        return sorted(map(_own, records), key=lambda record: (record.created_at, record.id))

    @contextmanager
    def changing(self) -> Iterator[_Change]:
        """Begin a change; it is kept when the block ends without an error."""
        with self._lock:
            change = _Change(self._records, self._digests)
            yield change
            for write in change.writes:
                write()

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time."""
        with self._lock:
            for key_id, at in used.items():
                record = self._records.get(key_id)
                if record is not None and (record.last_used_at is None or record.last_used_at < at):
                    self._records[key_id] = replace(record, last_used_at=at)

    def count_dead(self, dead_by: float) -> int:
        """Return how many records a purge would remove."""
        with self._lock:
            return sum(_is_dead(record, dead_by) for record in self._records.values())

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys by their state at `now`, and the active ones that expire within so many seconds."""
        with self._lock:
            records = list(self._records.values())
        return take_census(records, now, within)

    def close(self) -> None:
        """Do nothing: what is in memory stays until nobody uses the store."""

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"MemoryKeyStore({len(self._records)} keys)"


class _Change:
    """A change that is being made: what it writes is kept back until it is complete."""

    __slots__ = ("_digests", "_records", "writes")

    def __init__(self, records: dict[str, ApiKey], digests: dict[bytes, str]) -> None:
        self._records = records
        self._digests = digests
        self.writes: list[Callable[[], object]] = []

    def get(self, key_id: str) -> ApiKey | None:
        return self._records.get(key_id)

    def add(self, record: ApiKey, digest: bytes) -> None:
        if record.id in self._records or digest in self._digests:
            raise ValueError("a key with this id or secret is there already")
        self.writes.append(lambda: self._records.__setitem__(record.id, _own(record)))
        self.writes.append(lambda: self._digests.__setitem__(digest, record.id))

    def change(self, key_id: str, **values: Any) -> None:
        assert values.keys() <= CHANGING
        self.writes.append(lambda: self._records.__setitem__(key_id, replace(self._records[key_id], **values)))

    def purge(self, dead_by: float) -> int:
        dead = {key_id for key_id, record in self._records.items() if _is_dead(record, dead_by)}
        digests = [digest for digest, key_id in self._digests.items() if key_id in dead]
        self.writes += [partial(self._records.__delitem__, key_id) for key_id in dead]
        self.writes += [partial(self._digests.__delitem__, digest) for digest in digests]
        return len(dead)


def _is_dead(record: ApiKey, dead_by: float) -> bool:
    since = record.dead_since
    return since is not None and since <= dead_by


def _own(record: ApiKey) -> ApiKey:
    """Return the record with metadata that nobody else can change."""
    return replace(record, metadata=dict(record.metadata)) if record.metadata else record
