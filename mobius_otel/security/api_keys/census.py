"""The gauges of a key store: one query for each collection, and not more often than every ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.stores import Census, KeyStore
from mobius_otel.security.observed import observe_together
from mobius_otel.telemetry.metrics import MetricEmitter

__all__ = ["StoreGauges"]

_FRESH_SECONDS = 10.0
_WITHIN = {"1d": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
Observation = tuple[float, Mapping[str, Any]]


class StoreGauges:
    """Counts the keys of one store.

    Args:
        store: The store.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: tuple[float, Census] | None = None
        on_fork(self)

    #: Seconds ahead that the gauges look.
    within = tuple(_WITHIN.values())

    def observe(self, emitter: MetricEmitter) -> None:
        """Report the counts whenever `emitter` is collected."""
        observe_together(emitter, conventions.API_KEY_KEYS, self, _states)
        observe_together(emitter, conventions.API_KEY_EXPIRING, self, _expiring)
        observe_together(emitter, conventions.API_KEY_NEVER_USED, self, _never_used)
        observe_together(emitter, conventions.API_KEY_OLDEST_AGE, self, _oldest_age)

    def census(self) -> Census:
        """Return the counts, at most ten seconds old."""
        with self._lock:
            now = time.monotonic()
            if self._taken is None or now - self._taken[0] >= _FRESH_SECONDS:
                self._taken = (now, self._store.census(self._clock(), self.within))
            return self._taken[1]

    def age_of(self, made_at: float | None) -> float | None:
        """Return how many seconds ago something was made."""
        return None if made_at is None else max(self._clock() - made_at, 0.0)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._taken = None


def _states(all_gauges: list[StoreGauges]) -> Iterable[Observation]:
    taken = [gauges.census() for gauges in all_gauges]
    states = {state for census in taken for state in census.states}
    return [
        (sum(census.states.get(state, 0) for census in taken), {conventions.API_KEY_STATE: state.value})
        for state in sorted(states)
    ]


def _expiring(all_gauges: list[StoreGauges]) -> Iterable[Observation]:
    taken = [gauges.census() for gauges in all_gauges]
    return [
        (sum(census.expiring.get(seconds, 0) for census in taken), {conventions.WITHIN: within})
        for within, seconds in _WITHIN.items()
        if taken
    ]


def _never_used(all_gauges: list[StoreGauges]) -> Iterable[Observation]:
    return [(sum(gauges.census().never_used for gauges in all_gauges), {})] if all_gauges else []


def _oldest_age(all_gauges: list[StoreGauges]) -> Iterable[Observation]:
    ages = [gauges.age_of(gauges.census().oldest_active) for gauges in all_gauges]
    known = [age for age in ages if age is not None]
    return [(max(known), {})] if known else []
