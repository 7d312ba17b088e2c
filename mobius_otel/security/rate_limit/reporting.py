"""What a limiter says about its decisions."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import secrets
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from mobius_otel import compat, conventions
from mobius_otel.errors import AuditUnavailable
from mobius_otel.forks import on_fork
from mobius_otel.security.observed import observe_together
from mobius_otel.security.rate_limit.decision import Decision
from mobius_otel.security.rate_limit.denials import Denials, Told
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.metrics import BoundSeries, MetricEmitter
from mobius_otel.telemetry.redaction.actions import Pseudonyms
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import report

__all__ = ["Reporter", "tell_the_rest"]

_log = logging.getLogger("mobius_otel")
_SHORTEST_WINDOW: Final = 1.0
_LONGEST_WINDOW: Final = 3600.0
_NANOSECONDS: Final = 1_000_000_000
#: Who has denials that nobody was told of yet when the process ends.
_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


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
        gone: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.degraded = False
        self.gone = gone or bool
        self.saturation = saturation
        self.tracked = tracked
        self.audit = audit
        self._limit = limits[0].limit
        window = min(max(limit.per for limit in limits), _LONGEST_WINDOW)
        self.denials = Denials(round(max(window, _SHORTEST_WINDOW) * _NANOSECONDS), now)
        self.allowed: BoundSeries
        self.denied: BoundSeries
        #: Whether a decision outside of every span has nothing but a number to tell.
        self.quiet: bool
        self._may_be_quiet = quiet
        self._in_context = compat.context_reader()
        self._emitter: MetricEmitter | None = None
        # Records shall tell two clients apart and name neither.
        self._own_key = secrets.token_bytes(32)
        self.bind()
        on_fork(self)
        _reporters.add(self)

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

    def fold(self, now: int, limit: int) -> None:
        """Count the denied keys, and record what is to be recorded; never raises.

        Args:
            now: The time in nanoseconds.
            limit: The limit that denied.
        """
        self._limit = limit
        self._tell(self.denials.fold(now))

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

    def top(self, number: int) -> list[tuple[str, int]]:
        """Return the pseudonyms of the keys that were denied most, each with how often at least."""
        return [(self.pseudonym(key), count) for key, count in self.denials.top(number)]

    def pseudonym(self, key: Hashable) -> str:
        """Return what stands for a key in records.

        With ``MOBIUS_OTEL_PSEUDONYM_KEY`` it is the same in every process, and ``mobius-otel redact lookup --kind
        client`` finds it; else it is the same for as long as this limiter lives.
        """
        plain = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
        if os.environ.get("MOBIUS_OTEL_PSEUDONYM_KEY"):
            return Pseudonyms.from_environment().of("client", plain)
        raw = plain.encode("utf-8", "surrogatepass")
        return "client-" + hashlib.blake2b(raw, key=self._own_key, digest_size=8).hexdigest()

    def flush(self, *, everything: bool = True) -> None:
        """Record the denials that are being counted.

        Args:
            everything: Also those whose window is not over.
        """
        self._tell(self.denials.flush(everything=everything))

    def _tell(self, told: list[Told]) -> None:
        for count, top in told if self.audit else ():
            with guarded("rate_limit"):
                self._record(count, top)

    def _record(self, count: int, top: list[tuple[Hashable, int]]) -> None:
        named = [(self.pseudonym(key), often) for key, often in top]
        attributes = {
            conventions.RATE_LIMIT_POLICY: self.name,
            conventions.RATE_LIMIT_LIMIT: self._limit,
            conventions.RATE_LIMIT_TOP: [f"{pseudonym}={often}" for pseudonym, often in named],
            conventions.COUNT: count,
        }
        # Of many clients that nobody stands out of, the limit itself speaks.
        actor = Actor(named[0][0], "user") if named else Actor(self.name, "system")
        try:
            record_event(conventions.RATE_LIMIT_EXCEEDED, actor=actor, outcome="failure", attributes=attributes)
        except AuditUnavailable:  # strict: nothing may happen without its record, and a denial lets nothing happen
            _log.debug("mobius_otel: a denial of limit %r has no audit record", self.name)

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
        self._emitter = slot.emitter
        with guarded("rate_limit"):
            observe_together(slot.emitter, conventions.RATE_LIMIT_SATURATION, self, _saturations)
            observe_together(slot.emitter, conventions.RATE_LIMIT_TRACKED_KEYS, self, _tracked)
            observe_together(slot.emitter, conventions.RATE_LIMIT_DEGRADED, self, _degraded)

    def _after_fork_in_child(self) -> None:
        self.denials.begin()  # the parent tells of its own


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
    for reporter in reporters:  # whoever collects is a good moment: else a window's end is noticed by the next denial
        reporter.flush(everything=False)
    return _by_policy(reporters, lambda reporter: reporter.tracked(), lambda a, b: a + b)


def _degraded(reporters: list[Reporter]) -> Iterable[tuple[float, Mapping[str, Any]]]:
    return _by_policy(reporters, lambda reporter: float(reporter.gone()), max)


@atexit.register
def tell_the_rest() -> None:
    """Record every denial that nobody was told of yet: at the end of the process, or of what is configured."""
    for reporter in list(_reporters):
        reporter.flush()
