"""What a limiter says about its decisions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from mobius_otel import compat, conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable
from mobius_otel.security.observed import leave, observe_together
from mobius_otel.security.rate_limit.decision import Decision
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.security.rate_limit.trail import Trail
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.metrics import BoundSeries, MetricEmitter
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import report

__all__ = ["Reporter"]

_log = logging.getLogger("mobius_otel")


class Reporter:
    """Counts, annotates and records the decisions of one limiter.

    Args:
        name: The limiter's name.
        limits: Its limits.
        audit: Whether denials are recorded.
        quiet: Whether a decision outside of every span may have nothing but a number to tell: not so where a
            server is asked, or a denial is let pass.
        saturation: Returns the highest used share since it was last asked.
        tracked: Returns how many keys are remembered.
        now: Returns the time that decisions are made by, in nanoseconds.
        clock: What it goes by, where somebody has set that.
        gone: Returns whether the backend is gone; None: it never is.
    """

    def __init__(
        self,
        name: str,
        limits: Sequence[RateLimit],
        *,
        audit: bool,
        quiet: bool,
        saturation: Callable[[], float],
        tracked: Callable[[], int],
        now: Callable[[], int],
        clock: Clock | None = None,
        gone: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.degraded = False
        self.gone = gone or bool
        self.saturation = saturation
        self.tracked = tracked
        self.trail = Trail(name, limits, audit=audit, now=now, clock=clock)
        self.denials, self.fold = self.trail.denials, self.trail.fold
        self.allowed: BoundSeries
        self.denied: BoundSeries
        #: Whether a decision outside of every span has nothing but a number to tell.
        self.quiet: bool
        self._may_be_quiet = quiet
        self._in_context = compat.context_reader()
        self._emitter: MetricEmitter | None = None
        self.bind()

    def decided(self, result: str, decision: Decision, key: Hashable, start_ns: int, error: str | None = None) -> None:
        """Tell of one decision, after it has been taken, with all that belongs to it; never raises.

        Args:
            result: A value of ``mobius.rate_limit.result``.
            decision: What was decided.
            key: Who asked; it leaves this process as a pseudonym at most.
            start_ns: When the decision began, in nanoseconds since the epoch.
            error: The class of what went wrong with the backend, where something did.
        """
        self._bound[result].increment()
        with guarded("rate_limit"):
            remote = decision.source == "remote"
            notable = result != "allowed" or remote
            if not self.quiet or self._in_context():
                report(
                    conventions.RATE_LIMIT_ACQUIRE,
                    lambda: _attributes(result, decision, notable),
                    start_ns=start_ns,
                    end_ns=time.time_ns() if notable else start_ns,
                    notable=notable,
                    alone=remote,
                    error_type=error,
                )
            if result == "denied":
                self.denials.keys.append(key)
                self.fold(self.denials.now(), decision.limit)

    def change(self, degraded: bool, error: str | None = None) -> None:
        """Tell, at the change of state alone, that the backend is gone or back."""
        if degraded == self.degraded:
            return
        self.degraded = degraded
        if degraded:
            _log.warning("mobius_otel: limit %r lost its backend (%s); the fallback decides", self.name, error)
        else:
            _log.warning("mobius_otel: limit %r has its backend again", self.name)
        try:
            record_event(
                conventions.RATE_LIMIT_BACKEND_LOST if degraded else conventions.RATE_LIMIT_BACKEND_RESTORED,
                actor=Actor("mobius_otel", "system"),
                outcome="failure" if degraded else "success",
                attributes={conventions.RATE_LIMIT_POLICY: self.name, conventions.ERROR_TYPE: error},
            )
        except AuditUnavailable:  # strict: the limiter goes on deciding, as it does without its server
            _log.debug("mobius_otel: a change of limit %r has no audit record", self.name)

    def bind(self) -> None:
        """Tell what is configured now, from here on."""
        slot = defaults.slot()
        counter = defaults.counter(conventions.RATE_LIMIT_REQUESTS)
        self._bound = {
            result: counter.bind({conventions.RATE_LIMIT_POLICY: self.name, conventions.RATE_LIMIT_RESULT: result})
            for result in conventions.ATTRIBUTES[conventions.RATE_LIMIT_RESULT].values
        }
        self.allowed, self.denied = self._bound["allowed"], self._bound["denied"]
        self.quiet = self._may_be_quiet and slot.spans != "always"
        if slot.emitter is self._emitter:
            return
        before, self._emitter = self._emitter, slot.emitter
        with guarded("rate_limit"):
            if before is not None:
                leave(before, self)
            observe_together(slot.emitter, conventions.RATE_LIMIT_SATURATION, self, _saturations)
            observe_together(slot.emitter, conventions.RATE_LIMIT_TRACKED_KEYS, self, _tracked)
            observe_together(slot.emitter, conventions.RATE_LIMIT_DEGRADED, self, _degraded)


def _attributes(result: str, decision: Decision, notable: bool) -> Mapping[str, Any]:
    attributes: dict[str, Any] = {
        conventions.RATE_LIMIT_POLICY: decision.policy,
        conventions.RATE_LIMIT_RESULT: result,
        conventions.RATE_LIMIT_REMAINING: decision.remaining,
    }
    if notable:
        attributes[conventions.RATE_LIMIT_LIMIT] = decision.limit
    if result != "allowed":  # each attribute costs the SDK as much as a third of the rest of a span
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
    return _by_policy(reporters, lambda reporter: float(reporter.gone()), max)
