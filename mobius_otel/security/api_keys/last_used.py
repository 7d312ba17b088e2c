"""When keys were last used: noted at most once a minute for each key, and never through its record."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping

from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores import KeyStore

__all__ = ["LastUsed"]

_log = logging.getLogger("mobius_otel")
_INTERVAL = 60.0
_MOST = 100_000


class LastUsed:
    """Collects uses and writes them down.

    Args:
        store: Where they are written.
    """

    __slots__ = ("__weakref__", "_lock", "_pending", "_store", "_written")

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}
        self._pending: dict[str, float] = {}

    def note(self, key: ApiKey, now: float) -> None:
        """Note that `key` was used at `now`; never raises.

        Args:
            key: The key as the store knows it.
            now: Seconds since the epoch.
        """
        with self._lock:
            last = max(
                self._written.get(key.id, -math.inf), -math.inf if key.last_used_at is None else key.last_used_at
            )
            if abs(now - last) < _INTERVAL:
                self._pending[key.id] = now
                return
            if len(self._written) >= _MOST:
                self._written.clear()  # each of them is written once more, no harm in that
            self._written[key.id] = now
            self._pending.pop(key.id, None)
        self._write({key.id: now})

    def flush(self) -> None:
        """Write down what is pending; never raises."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            self._write(pending)

    def _write(self, used: Mapping[str, float]) -> None:
        try:
            self._store.touch(used)
        except Exception as error:  # it is no reason to refuse a good key
            _log.debug("mobius_otel: the last use of %d keys was not written: %s", len(used), type(error).__qualname__)

    def _after_fork_in_child(self) -> None:
        self._begin()
