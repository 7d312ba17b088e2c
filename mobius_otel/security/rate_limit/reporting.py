"""What a limiter says about its decisions."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.errors import AuditUnavailable
from mobius_otel.forks import on_fork
from mobius_otel.security.observed import observe_together
from mobius_otel.security.rate_limit.decision import Decision
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor
from mobius_otel.telemetry.audit.coalesce import Coalescer
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.metrics import BoundSeries, MetricEmitter
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import report

__all__ = ["Reporter"]

_log = logging.getLogger("mobius_otel")
_RESULTS = ("allowed", "denied", "shadow_denied", "error")
_SHORTEST_WINDOW = 1.0
_LONGEST_WINDOW = 3600.0


class Reporter:
    """Counts, annotates and records the decisions of one limiter.

    Args:
        name: The limiter's name.
        window: Seconds for which equal denials become one audit record.
        audit: Whether denials are recorded.
        saturation: Returns the highest used share since it was last asked.
        tracked: Returns how many keys are remembered.
    """

    def __init__(
        self, name: str, window: float, *, audit: bool, saturation: Callable[[], float], tracked: Callable[[], int]
    ) -> None:
        self.name = name
        self.degraded = False
        self.saturation = saturation
        self.tracked = tracked
        self._window = min(max(window, _SHORTEST_WINDOW), _LONGEST_WINDOW)
        self._audit = audit
        self._emitter: MetricEmitter | None = None
        self._bound: dict[str, BoundSeries] = {}
        self._coalescer: Coalescer[Any] | None = None
        # Records shall tell two clients apart and name neither.
        self._pseudonym_key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        on_fork(self)
        self._bind(defaults.emitter())

    def decided(self, result: str, decision: Decision, key: Hashable, start_ns: int, error: str | None = None) -> None:
        """Tell of one decision, after it has been taken; never raises.

        Args:
            result: A value of ``mobius.rate_limit.result``.
            decision: What was decided.
            key: Who asked; it leaves this process as a pseudonym at most.
            start_ns: When the decision began, in nanoseconds since the epoch.
            error: The class of what went wrong with the backend, where something did.
        """
        emitter = defaults.emitter()
        if emitter is not self._emitter:
            self._bind(emitter)
        self._bound[result].add()
        if result == "allowed" and defaults.slot().spans == "auto" and not trace.get_current_span().is_recording():
            return  # nobody listens; working the attributes out would cost as much as the decision
        with guarded("rate_limit"):
            notable = result != "allowed" or decision.source == "remote"
            report(
                conventions.RATE_LIMIT_ACQUIRE,
                _attributes(result, decision, notable),
                start_ns=start_ns,
                end_ns=time.time_ns() if notable else start_ns,
                notable=notable,
                error_type=error,
            )
            if result == "denied" and self._audit:
                self._record(decision, key)

    def change(self, degraded: bool, error: str | None = None) -> None:
        """Tell, at the change of state alone, that the backend is gone or back."""
        if degraded == self.degraded:
            return
        self.degraded = degraded
        if degraded:
            _log.warning("mobius_otel: limit %r lost its backend (%s); the fallback decides", self.name, error)
        else:
            _log.warning("mobius_otel: limit %r has its backend again", self.name)

    def _bind(self, emitter: MetricEmitter) -> None:
        counter = defaults.counter(conventions.RATE_LIMIT_REQUESTS)
        self._bound = {
            result: counter.bind({conventions.RATE_LIMIT_POLICY: self.name, conventions.RATE_LIMIT_RESULT: result})
            for result in _RESULTS
        }
        self._emitter = emitter
        with guarded("rate_limit"):
            observe_together(emitter, conventions.RATE_LIMIT_SATURATION, self, _saturations)
            observe_together(emitter, conventions.RATE_LIMIT_TRACKED_KEYS, self, _tracked)
            observe_together(emitter, conventions.RATE_LIMIT_DEGRADED, self, _degraded)

    def _record(self, decision: Decision, key: Hashable) -> None:
        if self._coalescer is None:
            with self._lock:
                self._coalescer = self._coalescer or Coalescer(self._emit, window=self._window)
        self._coalescer.add((self._pseudonym(key), decision.limit))

    def _emit(self, what: Any, count: int) -> None:
        pseudonym, limit = what
        attributes = {
            conventions.RATE_LIMIT_POLICY: self.name,
            conventions.RATE_LIMIT_LIMIT: limit,
            conventions.COUNT: count,
        }
        try:
            record_event(
                conventions.RATE_LIMIT_EXCEEDED,
                actor=Actor(pseudonym, "user"),
                outcome="failure",
                attributes=attributes,
            )
        except AuditUnavailable:  # strict: nothing may happen without its record, and a denial lets nothing happen
            _log.debug("mobius_otel: a denial of limit %r has no audit record", self.name)

    def _pseudonym(self, key: Hashable) -> str:
        named = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
        return "client-" + hashlib.blake2b(named, key=self._pseudonym_key, digest_size=8).hexdigest()

    def flush(self) -> None:
        """Record the denials that are being counted."""
        if self._coalescer is not None:
            with guarded("rate_limit"):
                self._coalescer.flush(everything=True)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def _attributes(result: str, decision: Decision, notable: bool) -> Mapping[str, Any]:
    attributes: dict[str, Any] = {
        conventions.RATE_LIMIT_POLICY: decision.policy,
        conventions.RATE_LIMIT_RESULT: result,
        conventions.RATE_LIMIT_REMAINING: decision.remaining,
    }
    if notable:
        attributes[conventions.RATE_LIMIT_LIMIT] = decision.limit
        attributes[conventions.RATE_LIMIT_RETRY_AFTER] = decision.retry_after
    return attributes


def _by_policy(
    reporters: Sequence[Reporter], value: Callable[[Reporter], float], merge: Callable[[float, float], float]
) -> Iterable[tuple[float, Mapping[str, Any]]]:
    merged: dict[str, float] = {}
    for reporter in reporters:  # two limiters of one name are one series
        found = value(reporter)
        merged[reporter.name] = merge(merged[reporter.name], found) if reporter.name in merged else found
    return [(found, {conventions.RATE_LIMIT_POLICY: name}) for name, found in merged.items()]


def _saturations(reporters: list[Reporter]) -> Iterable[tuple[float, Mapping[str, Any]]]:
    return _by_policy(reporters, lambda reporter: reporter.saturation(), max)


def _tracked(reporters: list[Reporter]) -> Iterable[tuple[float, Mapping[str, Any]]]:
    return _by_policy(reporters, lambda reporter: reporter.tracked(), lambda a, b: a + b)


def _degraded(reporters: list[Reporter]) -> Iterable[tuple[float, Mapping[str, Any]]]:
    return _by_policy(reporters, lambda reporter: float(reporter.degraded), max)
