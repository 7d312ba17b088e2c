"""Keys in the memory of this process, for tests and trials."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores.protocol import CHANGING, Census, Selection, StoredKey, take_census

__all__ = ["MemoryKeyStore"]


class MemoryKeyStore:
    """Keeps keys for as long as the process lives.

    Example:
        >>> store = MemoryKeyStore()
        >>> with store.changing() as change:
        ...     change.add(StoredKey(ApiKey(id="key_1", owner="alice"), b"d" * 32))
        >>> store.get("key_1").owner, store
        ('alice', MemoryKeyStore(1 keys))
    """

    blocking = False

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stored: dict[str, StoredKey] = {}
        self._digests: dict[bytes, str] = {}
        self._jobs: dict[str, int] = {}
        on_fork(self)

    def find(self, digests: Sequence[bytes]) -> StoredKey | None:
        """Return the key that is found by one of these digests."""
        with self._lock:
            for digest in digests:
                key_id = self._digests.get(digest)
                if key_id is not None:
                    stored = self._stored[key_id]
                    return replace(stored, key=stored.key.own())
        return None

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        with self._lock:
            stored = self._stored.get(key_id)
        return None if stored is None else stored.key.own()

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        """Return the records that are meant, oldest first."""
        with self._lock:
            return _selected(self._stored, selection)

    @contextmanager
    def changing(self) -> Iterator[_Change]:
        """Begin a change; it is kept when the block ends without an error."""
        with self._lock:
            change = _Change(dict(self._stored), dict(self._digests))
            yield change
            self._stored, self._digests = change.stored, change.digests

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time."""
        with self._lock:
            for key_id, at in used.items():
                stored = self._stored.get(key_id)
                if stored is not None and (stored.key.last_used_at is None or stored.key.last_used_at < at):
                    self._stored[key_id] = replace(stored, key=replace(stored.key, last_used_at=at))

    def count_dead(self, dead_by: float) -> int:
        """Return how many records have a deadline at or before `dead_by`."""
        with self._lock:
            return sum(_is_dead(stored.key, dead_by) for stored in self._stored.values())

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys at `now`, and the active ones that expire within so many seconds."""
        with self._lock:
            records = [stored.key for stored in self._stored.values()]
        return take_census(records, now, within)

    def peppers(self) -> Mapping[str, int]:
        """Return how many keys there are by the name of their pepper."""
        with self._lock:
            return dict(Counter(stored.pepper for stored in self._stored.values()))

    def claim(self, job: str, period: int, holder: str) -> bool:  # noqa: ARG002 - for stores that show it
        """Take one period of a job; True for one of those who ask."""
        with self._lock:
            last = self._jobs.get(job)
            if last is not None and period <= last <= period + 1:
                return False
            self._jobs[job] = period
            return True

    def close(self) -> None:
        """Do nothing: what is in memory stays until nobody uses the store."""

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"MemoryKeyStore({len(self._stored)} keys)"


class _Change:
    """A change that is being made, on a copy."""

    __slots__ = ("digests", "stored")

    def __init__(self, stored: dict[str, StoredKey], digests: dict[bytes, str]) -> None:
        self.stored = stored
        self.digests = digests

    def get(self, key_id: str) -> ApiKey | None:
        stored = self.stored.get(key_id)
        return None if stored is None else stored.key.own()

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        return _selected(self.stored, selection)

    def add(self, stored: StoredKey) -> None:
        if stored.key.id in self.stored or stored.digest in self.digests:
            raise ValueError("a key with this id or secret is there already")
        self.stored[stored.key.id] = replace(stored, key=stored.key.own())
        self.digests[stored.digest] = stored.key.id

    def change(self, key_id: str, values: Mapping[str, Any], expect: Mapping[str, Any] | None = None) -> bool:
        assert values.keys() <= CHANGING
        stored = self.stored.get(key_id)
        if stored is None or any(getattr(stored.key, name) != value for name, value in (expect or {}).items()):
            return False
        beside = {name: value for name, value in values.items() if name in _BESIDE}
        key = replace(stored.key, **{name: value for name, value in values.items() if name not in _BESIDE})
        changed = replace(stored, key=key, **beside)
        if changed.digest != stored.digest:
            if changed.digest in self.digests:
                raise ValueError("a key with this secret is there already")
            del self.digests[stored.digest]
            self.digests[changed.digest] = key_id
        self.stored[key_id] = changed
        return True

    def purge(self, dead_by: float, most: int) -> int:
        dead = [key_id for key_id, stored in self.stored.items() if _is_dead(stored.key, dead_by)][:most]
        for key_id in dead:
            del self.digests[self.stored.pop(key_id).digest]
        return len(dead)


_BESIDE = frozenset({"digest", "pepper", "verifier"})


def _selected(stored: Mapping[str, StoredKey], selection: Selection) -> Sequence[ApiKey]:
    found = [one.key.own() for one in stored.values() if selection.matches(one.key)]
    return sorted(found, key=lambda record: (record.created_at, record.id))[: selection.most]


def _is_dead(record: ApiKey, dead_by: float) -> bool:
    since = record.dead_since
    return since is not None and since <= dead_by
