"""What the key manager says about its decisions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from opentelemetry.trace import get_current_span

from mobius_otel import conventions
from mobius_otel.errors import AuditUnavailable
from mobius_otel.security.api_keys.record import ApiKey, KeyState
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, Source, Target
from mobius_otel.telemetry.audit.coalesce import Coalescer
from mobius_otel.telemetry.audit.fail_modes import configured_mode
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.metrics import BoundSeries, MetricEmitter
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import report

__all__ = ["Reporter"]

_log = logging.getLogger("mobius_otel")
_EVENTS = {
    "malformed": (conventions.API_KEY_REJECTED,),
    "unknown": (conventions.API_KEY_REJECTED,),
    "throttled": (conventions.API_KEY_REJECTED,),
    "wrong_network": (conventions.API_KEY_REJECTED,),
    "expired": (conventions.API_KEY_EXPIRED, conventions.API_KEY_REUSED),
    "revoked": (conventions.API_KEY_REUSED,),
    "retired": (conventions.API_KEY_REUSED,),
    "insufficient_scope": (conventions.AUTHORIZATION_FAILED,),
}
_SYSTEM = "mobius_otel"
_NOTHING: frozenset[str] = frozenset()
#: What a cause counts as, where it is told apart in the audit trail alone.
_COUNTED_AS = {"wrong_network": "unknown"}


class ChangeRecord:
    """What the audit record of a change will say."""

    __slots__ = ("attributes", "made", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self.attributes: Mapping[str, Any] = {}
        self.made = False

    def done(self, attributes: Mapping[str, Any] | None = None, target: str | None = None) -> None:
        """Say that the change has been made.

        Args:
            attributes: What else the record says.
            target: The id of what was changed, where it was not known before.
        """
        self.made = True
        self.attributes = attributes or {}
        self.target = target or self.target


class Reporter:
    """Counts, annotates and records what a key manager does.

    Args:
        audit_success: Which verifications that let somebody in are recorded.
    """

    def __init__(self, audit_success: Literal["never", "first_use", "all"]) -> None:
        self._audit_success = audit_success
        self._audit_all = audit_success == "all"
        self._emitter: MetricEmitter | None = None
        self._bound: dict[str, BoundSeries] = {}
        self._generations: dict[str, BoundSeries] = {}
        self._coalescer: Coalescer[Any] = Coalescer(self._emit)
        self._coalesce = self._coalescer.add
        self._bind(defaults.emitter())

    def let_in(self, key: ApiKey, now: float, source: str | None) -> None:
        """Tell of one verification that the cache answered; never raises. Every request passes here.

        Args:
            key: The key, with its state.
            now: When it was decided, in seconds since the epoch.
            source: The client's address.
        """
        slot = defaults.slot()
        if slot.emitter is not self._emitter:
            self._bind(slot.emitter)
        self._valid.add()
        if key.retire_at is not None or key.overlap_until is not None:
            self._count_generation(key, now)
        if slot.spans == "auto":
            span = get_current_span()
            if span.is_recording():
                with guarded("spans"):
                    span.set_attributes({conventions.API_KEY_RESULT: "valid", conventions.API_KEY_ID: key.id})
        elif slot.spans == "always":
            self._report("valid", key, time.time_ns(), asked=False, error=None)
        if self._audit_all:
            with guarded("api_keys"):
                self._record_success(key, source)

    def malformed(self, source: str | None) -> None:
        """Tell of something that cannot be a key; never raises. A flood of those is to cost as little as possible.

        Args:
            source: The client's address.
        """
        slot = defaults.slot()
        if slot.emitter is not self._emitter:
            self._bind(slot.emitter)
        self._malformed.add()
        if slot.spans != "auto" or get_current_span().is_recording():
            with guarded("spans"):
                self._report("malformed", None, time.time_ns(), asked=False, error=None)
        self._coalesce(("malformed", source))

    def verified(
        self,
        result: str,
        key: ApiKey | None,
        *,
        now: float,
        source: str | None,
        required: frozenset[str],
        start_ns: int,
        asked: bool,
        first: bool = False,
        error: str | None = None,
    ) -> None:
        """Tell of one verification, after it has been decided; never raises.

        Args:
            result: A value of ``mobius.api_key.result``.
            key: The key, where it is known.
            now: When it was decided, in seconds since the epoch.
            source: The client's address.
            required: The scopes that were asked for.
            start_ns: When the verification began, in nanoseconds since the epoch.
            asked: Whether the store was asked.
            first: Whether the key was never used before.
            error: The class of what went wrong with the store.
        """
        emitter = defaults.emitter()
        if emitter is not self._emitter:
            self._bind(emitter)
        self._bound[_COUNTED_AS.get(result, result)].add()
        with guarded("api_keys"):
            if key is not None and result == "valid":
                self._count_generation(key, now)
            self._report(result, key, start_ns, asked=asked, error=error)
            if result in _EVENTS:
                self._refused(result, key, source, required)
            elif key is not None and (self._audit_all or (first and self._audit_success == "first_use")):
                self._record_success(key, source)

    @staticmethod
    def _report(result: str, key: ApiKey | None, start_ns: int, *, asked: bool, error: str | None) -> None:
        report(
            conventions.API_KEY_VERIFY,
            {
                conventions.API_KEY_RESULT: _COUNTED_AS.get(result, result),
                conventions.API_KEY_ID: key.id if key is not None else None,
            },
            start_ns=start_ns,
            end_ns=time.time_ns(),
            notable=asked or result != "valid",
            error_type=error,
        )

    def _record_success(self, key: ApiKey, source: str | None) -> None:
        self._record_quietly(conventions.API_KEY_VERIFIED, key.owner, key.id, source, attributes={}, outcome="success")

    def store_call(self, operation: str, seconds: float, error: str | None) -> None:
        """Record what one call of the store took.

        Args:
            operation: A value of ``mobius.api_key.operation``.
            seconds: How long it took.
            error: The class of what went wrong.
        """
        emitter = defaults.emitter()
        if emitter is not self._emitter:
            self._bind(emitter)
        attributes = {conventions.API_KEY_OPERATION: operation}
        if error is not None:
            attributes[conventions.ERROR_TYPE] = error
        self._store_timer.record(seconds, attributes)

    @contextmanager
    def changing(
        self,
        spec: conventions.Event,
        target: str,
        *,
        by: str | None,
        reason: str | None = None,
        target_type: str = "api_key",
    ) -> Iterator[ChangeRecord]:
        """Record a change of a key once it has been made; with the fail mode ``strict`` its intent before that too.

        Outside of the store's transaction: two files that wait for each other could never be forked.

        Args:
            spec: The event of the registry.
            target: The id of what is changed.
            by: Who changes it; None: the service itself.
            reason: Why.
            target_type: What kind of thing `target` names.

        Raises:
            AuditUnavailable: The intent cannot be kept: the change must not happen.
        """
        record = ChangeRecord(target)
        strict = configured_mode(spec.name, spec.risk) == "strict"
        tell = partial(
            record_event,
            spec,
            wait=True,
            actor=Actor(by, "user") if by else Actor(_SYSTEM, "system"),
            reason=reason,
        )
        if strict:
            tell(outcome="unknown", target=Target(target, target_type))
        try:
            yield record
        except Exception:
            if strict:
                self._quietly(lambda: tell(outcome="failure", target=Target(target, target_type)))
            raise
        if record.made:
            named = Target(record.target, target_type)
            self._quietly(lambda: tell(outcome="success", target=named, attributes=record.attributes))

    @staticmethod
    def _quietly(tell: Callable[[], object]) -> None:
        try:
            tell()
        except AuditUnavailable as error:  # what it tells of has happened, and its intent is on record
            _log.warning("mobius_otel: a change of an API key has no final audit record: %s", error.reason)

    def counted(self, spec: conventions.Metric, amount: int, outcome: str) -> None:
        """Add to one of the counters that have an outcome."""
        defaults.counter(spec).add(amount, {conventions.OUTCOME: outcome})

    def flush(self) -> None:
        """Record the refusals that are being counted."""
        with guarded("api_keys"):
            self._coalescer.flush(everything=True)

    def _bind(self, emitter: MetricEmitter) -> None:
        results = conventions.ATTRIBUTES[conventions.API_KEY_RESULT].values
        counter = defaults.counter(conventions.API_KEY_VERIFICATIONS)
        self._bound = {result: counter.bind({conventions.API_KEY_RESULT: result}) for result in results}
        self._valid = self._bound["valid"]
        self._malformed = self._bound["malformed"]
        retiring = defaults.counter(conventions.API_KEY_RETIRING_VERIFICATIONS)
        self._generations = {age: retiring.bind({conventions.API_KEY_GENERATION: age}) for age in ("old", "new")}
        self._store_timer = defaults.timer(conventions.API_KEY_STORE_DURATION)
        self._emitter = emitter

    def _count_generation(self, key: ApiKey, now: float) -> None:
        if key.state_at(now) is KeyState.RETIRING:
            self._generations["old"].add()
        elif key.overlap_until is not None and now < key.overlap_until:
            self._generations["new"].add()

    def _refused(self, result: str, key: ApiKey | None, source: str | None, required: frozenset[str]) -> None:
        scopes = required if result == "insufficient_scope" else _NOTHING
        known = (key.owner, key.id) if key is not None else (None, None)
        self._coalesce((result, source, *known, scopes))

    def _emit(self, what: Any, count: int) -> None:
        result, source, owner, key_id, scopes = what if len(what) > 2 else (*what, None, None, _NOTHING)
        attributes: dict[str, Any] = {conventions.COUNT: count}
        if scopes:
            attributes[conventions.API_KEY_SCOPES] = sorted(scopes)
        else:
            attributes[conventions.API_KEY_REASON] = result
        for event in _EVENTS[result]:
            self._record_quietly(event, owner, key_id, source, attributes=attributes, outcome="failure")

    def _record_quietly(
        self,
        spec: conventions.Event,
        owner: str | None,
        key_id: str | None,
        source: str | None,
        *,
        attributes: Mapping[str, Any],
        outcome: Literal["success", "failure"],
    ) -> None:
        try:
            record_event(
                spec,
                actor=Actor(owner, "service") if owner else Actor("anonymous", "user"),
                outcome=outcome,
                target=Target(key_id, "api_key") if key_id else None,
                source=Source(source) if source and source.strip() else None,
                attributes=attributes,
            )
        except AuditUnavailable:
            # Strict keeps actions from happening without a record; what was refused did not happen, and the
            # record of an action is its own, not that of the key that came with it.
            _log.debug("mobius_otel: %s has no audit record", spec.name)
