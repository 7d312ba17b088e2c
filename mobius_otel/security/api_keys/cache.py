"""What was found lately, so that a key that comes often costs no look-up.

Found by digest, never by secret. A cached record carries its deadlines, which are looked at every time; what it
cannot know is a revocation elsewhere, and so it is asked for anew after the cache's time, 5 seconds at most.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from mobius_otel.clock import Clock
from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.record import ApiKey

__all__ = ["LONGEST_TTL", "Entry", "KeyCache"]

#: Seconds after which every process knows of a revocation.
LONGEST_TTL: Final = 5.0
_MOST_UNKNOWN: Final = 10_000
_NEVER: Final = -math.inf
_LOOKED_EVERY: Final = 0.0001
_MOST_SHARED: Final = 1000


class Entry:
    """A key that was found.

    Attributes:
        key: The record, with its state.
        ends: When its state changes, in seconds since the epoch; minus infinity where it opens nothing.
        until: When it is asked for anew, in monotonic seconds.
        noted: When its last use was noted for the store.
        used: When it was last used.
    """

    __slots__ = ("ends", "key", "noted", "until", "used")

    def __init__(self, key: ApiKey, until: float) -> None:
        since = key.dead_since
        self.key = key
        self.ends = (math.inf if since is None else since) if key.state.lets_in else _NEVER
        self.until = until
        self.noted = _NEVER if key.last_used_at is None else key.last_used_at
        self.used = self.noted


class KeyCache:
    """Remembers keys by their digests, and digests that nobody knows.

    Args:
        ttl: Seconds that it remembers; 0: not at all.
        most: How many keys; the oldest are forgotten.
        monotonic: Seconds that never go back.
        version: Returns something that changes when others may have changed keys; None, where it is not known right
            now, counts as a change, and so does what it raises.
    """

    __slots__ = (
        "__weakref__", "_entries", "_lock", "_look_again", "_looking", "_monotonic", "_most", "_seen", "_shared",
        "_ttl", "_unknown", "_version", "epoch",
    )  # fmt: skip

    def __init__(
        self, ttl: float, most: int, monotonic: Clock, version: Callable[[], object | None] | None = None
    ) -> None:
        self._version = version if ttl else None
        self._ttl = ttl
        self._most = most
        self._monotonic = monotonic
        #: Grows with every change, so that what was read before one is not remembered after it.
        self.epoch = 0
        self._look_again = 0.0
        self._seen: object | None = None
        self._after_fork_in_child()
        on_fork(self)

    def get(self, digest: bytes) -> Entry | None:
        """Return what is known about the key with this digest."""
        if self._version is not None and (now := time.monotonic()) >= self._look_again:
            self._look(self._version, now)
        entry = self._entries.get(digest)
        return entry if entry is not None and 0.0 < entry.until - self._monotonic() <= self._ttl else None

    def is_unknown(self, digest: bytes) -> bool:
        """Return whether the store said lately that it does not know this digest."""
        until = self._unknown.get(digest)
        return until is not None and 0.0 < until - self._monotonic() <= self._ttl

    def put(self, digest: bytes, key: ApiKey | None, epoch: int) -> Entry | None:
        """Remember what the store said.

        Args:
            digest: What was asked.
            key: The record, with its state; None: nobody knows it.
            epoch: What :attr:`epoch` was before the store was asked.

        Returns:
            The new entry, or None where nothing is remembered.
        """
        if not self._ttl:
            return None
        with self._lock:
            if epoch != self.epoch:
                return None
            now = self._monotonic()
            if key is None:
                _make_room(self._unknown, _MOST_UNKNOWN)
                self._unknown[digest] = now + self._ttl
                return None
            before = self._entries.pop(digest, None)
            self._forget_old(now)
            _make_room(self._entries, self._most)
            self._share(key)
            entry = self._entries[digest] = Entry(key, now + self._ttl)
            if before is not None:
                entry.noted, entry.used = max(entry.noted, before.noted), max(entry.used, before.used)
            return entry

    def drop(self, key_ids: Collection[str] | None) -> None:
        """Forget keys that have changed.

        Args:
            key_ids: Their ids; None: any may have.
        """
        with self._lock:
            self.epoch += 1
            self._unknown.clear()
            if key_ids is None:
                self._entries.clear()
                return
            for digest in [digest for digest, entry in self._entries.items() if entry.key.id in key_ids]:
                del self._entries[digest]

    def used_since_noted(self) -> dict[str, float]:
        """Return when keys were last used, where that has not been noted for the store."""
        with self._lock:
            return {entry.key.id: entry.used for entry in self._entries.values() if entry.used > entry.noted}

    def _share(self, key: ApiKey) -> None:
        """Let equal parts of records be one object: thousands of keys have the same few scopes."""
        if len(self._shared) >= _MOST_SHARED:
            self._shared.clear()
        for name in ("scopes", "environment", "prefix"):
            value = getattr(key, name)
            object.__setattr__(key, name, self._shared.setdefault(value, value))
        if key.lineage_id == key.id:
            object.__setattr__(key, "lineage_id", key.id)

    def _look(self, version: Callable[[], object | None], now: float) -> None:
        """Forget everything where others may have changed it since `now`.

        Until a look is over nobody goes on with what it may find changed: threads wait for the one that looks.
        """
        with self._looking:
            if now < self._look_again:
                return
            begun = time.monotonic()
            try:
                seen = version()
            except Exception:
                seen = None
            if seen is None or seen != self._seen:
                self._seen = seen
                self.drop(None)
            self._look_again = begun + _LOOKED_EVERY

    def _forget_old(self, now: float) -> None:
        """Forget a few of what is out of date, so that what is not used any more goes away by and by."""
        old = [digest for digest, entry in itertools.islice(self._entries.items(), 4) if entry.until <= now]
        for digest in old:
            del self._entries[digest]

    def __len__(self) -> int:
        return len(self._entries)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._looking = threading.RLock()  # a signal's handler may verify in the middle of a look
        self._entries: dict[bytes, Entry] = {}
        self._unknown: dict[bytes, float] = {}
        self._shared: dict[Any, Any] = {}
        self._look_again = 0.0
        self._seen = None

    def __repr__(self) -> str:
        return f"KeyCache({len(self._entries)} keys, {len(self._unknown)} unknown)"


def _make_room(remembered: dict[bytes, object] | dict[bytes, Entry] | dict[bytes, float], most: int) -> None:
    if len(remembered) >= most:
        del remembered[next(iter(remembered))]
