"""Writes audit events down: validate, redact, chain, commit, receipt."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.compat import logs_api
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.aside import aside
from mobius_otel.telemetry.audit.blocks import Audited, wrap
from mobius_otel.telemetry.audit.calls import Call
from mobius_otel.telemetry.audit.catalogue import default_action
from mobius_otel.telemetry.audit.event import Actor, AuditEvent, Outcome, Source, Target
from mobius_otel.telemetry.audit.fail_modes import FAIL_MODES, FailMode, FailModes, configured_mode
from mobius_otel.telemetry.audit.ledger import Kept, Ledger, finished
from mobius_otel.telemetry.audit.receipt import Place, Receipt, receipt_of
from mobius_otel.telemetry.audit.record import SEVERITIES, AnyRedactor, SeverityMode, build
from mobius_otel.telemetry.audit.refusals import invalid
from mobius_otel.telemetry.bound import BoundSeries
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.safety import guarded, swallow

__all__ = ["AuditLogger", "listeners", "prepare", "record_event"]

_log = logging.getLogger("mobius_otel")
F = TypeVar("F", bound=Callable[..., Any])
# The default of OpenTelemetry's SDK; beyond it the SDK drops what was set first.
_PIPELINE_ATTRIBUTES: Final = 128
#: Who has to be let on in between where there is no ledger.
_NOBODY: Final = contextlib.nullcontext()

#: Called with every finished, redacted record after it was kept; for tests.
listeners: list[Callable[[dict[str, Any]], None]] = []


class AuditLogger:
    """Writes audit events to a ledger, or straight to OpenTelemetry's log pipeline where there is none.

    Args:
        name: Which part of the service speaks, for example ``payments``.
        redactor: Takes the secrets out; default: the one that ``configure()`` made, else the default policy.
        ledger: Where records are kept; default: the one that ``configure()`` opened, looked up at each event.
        fail_mode: What happens when a record cannot be kept. ``strict``: AuditUnavailable, so that the action
            does not happen. ``spool``: it waits in memory, up to 10,000 records, and then as ``strict``.
            ``best_effort``: it is counted and given up. Default: what ``configure()`` says, else ``spool``.
        fail_modes: The same by event name (``payment.refund``, ``payment.*``) or risk (``risk:critical``); it comes
            before `fail_mode`. Default: what ``configure()`` says.
        severity: ``risk``: a record's severity follows from its risk and outcome. ``omit``: it has none, as
            OpenTelemetry's draft for audit records has it. Default: what ``configure()`` says, else ``risk``.

    Raises:
        ConfigurationError: `fail_mode` or `severity` is none of these.

    Example:
        >>> audit = AuditLogger("payments")
        >>> receipt = audit.record("payment.refund", action="UPDATE", actor=Actor("u-1"), target=Target("order-9"))
        >>> receipt.durability  # no ledger is configured here
        'none'
        >>> with audit.audited("payment.refund", actor=Actor("u-1")) as refund:
        ...     refund.set_risk(70)
    """

    def __init__(
        self,
        name: str = "",
        redactor: AnyRedactor | None = None,
        ledger: Ledger | None = None,
        fail_mode: FailMode | None = None,
        *,
        severity: SeverityMode | None = None,
        fail_modes: Mapping[str, FailMode] | None = None,
    ) -> None:
        if fail_mode is not None and fail_mode not in FAIL_MODES:
            raise ConfigurationError("fail_mode", fail_mode, f"one of {', '.join(FAIL_MODES)}")
        if severity is not None and severity not in SEVERITIES:
            raise ConfigurationError("severity", severity, f"one of {', '.join(SEVERITIES)}")
        self.name = name
        self._redactor = redactor
        self._ledger = ledger
        self._fail_mode: FailMode | None = fail_mode
        self._fail_modes = None if fail_modes is None else FailModes(fail_modes)
        self._severity: SeverityMode | None = severity
        prepare()

    @property
    def ledger(self) -> Ledger | None:
        """The ledger that records go to now, or None."""
        return self._ledger or defaults.slot().ledger

    @property
    def fail_mode(self) -> FailMode:
        """What happens when a record cannot be kept."""
        return self._fail_mode or defaults.slot().fail_mode

    def mode_of(self, event: AuditEvent) -> FailMode:
        """Return what happens when the record of `event` cannot be kept."""
        slot = defaults.slot()
        rules = self._fail_modes or slot.fail_modes
        found = None if rules is None else rules.of(event.event_name, event.risk_score)
        return found or self._fail_mode or slot.fail_mode

    def emit(self, event: AuditEvent) -> Receipt:
        """Redact `event`, chain it and commit it.

        Args:
            event: What happened.

        Returns:
            The receipt; the record is in the ledger when its durability is ``process``.

        Raises:
            AuditUnavailable: It cannot be kept, with ``fail_mode="strict"``, or with ``spool`` when memory is
                full as well.
            InvalidEvent: `event` is no AuditEvent.
        """
        return self._emit(event, None)

    async def emit_async(self, event: AuditEvent) -> Receipt:
        """As :meth:`emit`, without a wait for the disk or for a collector in the event loop.

        Args, Returns and Raises: as :meth:`emit`.
        """
        return await aside(self.emit, event, ledger=self.ledger)

    def record(
        self,
        event_name: str,
        *,
        actor: Actor,
        action: str | None = None,
        outcome: Outcome = "success",
        target: Target | None = None,
        risk_score: int | None = None,
        reason: str | None = None,
        source: Source | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Make an event and emit it.

        Args and Raises: as :class:`AuditEvent` and :meth:`emit`. The action is by default the one that the name is
        registered with, else ``EXECUTE``.
        """
        return self.emit(
            AuditEvent(
                event_name,
                action or default_action(event_name),
                actor,
                outcome,
                target,
                risk_score,
                reason,
                source,
                tenant,
                attributes or {},
            )
        )

    def audited(
        self,
        event_name: str,
        *,
        actor: Actor,
        action: str | None = None,
        target: Target | None = None,
        risk_score: int | None = None,
        reason: str | None = None,
        source: Source | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Audited:
        """Audit a block (``with`` or ``async with``): one record at its end, ``failure`` when it raises.

        With ``fail_mode="strict"`` a record of outcome ``unknown`` is kept before the block, so that nothing
        happens that cannot be written down.

        Args and Raises: as :class:`AuditEvent` and :meth:`emit`.
        """
        event = AuditEvent(
            event_name,
            action or default_action(event_name),
            actor,
            "unknown",
            target,
            risk_score,
            reason,
            source,
            tenant,
            attributes or {},
        )
        return Audited(self, event)

    def audits(
        self,
        event_name: str,
        *,
        actor: Actor | Callable[..., Actor | str],
        action: str | None = None,
        target: Target | Callable[..., Target | str | None] | None = None,
        risk_score: int | None = None,
        reason: str | None = None,
        source: Source | Callable[..., Source | str | None] | None = None,
        tenant: str | Callable[..., str | None] | None = None,
        attributes: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
    ) -> Callable[[F], F]:
        """Audit every call of a function, as :meth:`audited` does a block.

        Functions, coroutine functions, generators and asynchronous generators. What is not the same for every
        call is given as a function of the call's arguments; should that fail, the call is recorded without it (the
        actor as ``unknown``). The arguments themselves are not recorded.

        Args and Raises: as :class:`AuditEvent`; what is the same for every call is checked at once.

        Example:
            >>> audit = AuditLogger("payments")
            >>> @audit.audits("payment.refund", action="UPDATE", actor=lambda user, order: user,
            ...               target=lambda user, order: Target(order, "order"))
            ... def refund(user, order):
            ...     return f"{order} is refunded"
            >>> refund("u-1", "order-9")
            'order-9 is refunded'
        """
        call = Call(event_name, action or default_action(event_name), actor, target, risk_score, reason, source, tenant,
                    attributes)  # fmt: skip

        def decorate(function: F) -> F:
            if not callable(function):
                raise ConfigurationError("function", function, "a function", "@classmethod stands above @audits.")
            return cast("F", wrap(function, lambda *args, **kwargs: Audited(self, call.event(args, kwargs))))

        return decorate

    def _emit(
        self,
        event: AuditEvent,
        spec: conventions.Event | None,
        broken: str = "",
        *,
        raised: str = "",
        wait: bool = True,
    ) -> Receipt:
        if not isinstance(event, AuditEvent):
            raise invalid("event", event, "an AuditEvent")
        slot = defaults.slot()
        ledger = self._ledger or slot.ledger
        with _NOBODY if ledger is None else ledger.fairness:
            severity = self._severity or slot.severity
            record = build(event, self.name, self._redactor, spec, severity=severity, invalid=broken, error=raised)
            place = Place(ledger)
            mode = self.mode_of(event)
            try:
                if ledger is None:
                    self._hand_on(record, slot, mode)
                elif mode == "spool":
                    place.kept = ledger.spool.append(record, place.put)
                else:
                    place.kept = ledger.append(record)
            except AuditUnavailable as error:
                _count("rejected", slot.emitter)
                if mode != "best_effort":
                    raise
                swallow("audit", error)
            else:
                _count("recorded", slot.emitter)
                if listeners:
                    _tell(record, place.kept)
                if wait and ledger is not None and ledger.durability == "sink" and place.kept is not None:
                    self._await(ledger, place, mode)
            return receipt_of(record["attributes"][conventions.AUDIT_RECORD_ID], place)

    def _hand_on(self, record: dict[str, Any], slot: defaults.Defaults, mode: FailMode) -> None:
        if slot.ended:
            _after_the_end(mode)
        _to_pipeline(self.name, record)

    @staticmethod
    def _await(ledger: Ledger, place: Place, mode: FailMode) -> None:
        """Wait until a collector has the record, with ``durability="sink"``."""
        kept = place.kept
        place.delivered = kept is not None and ledger.wait_delivered(
            kept.position, kept.link.record_id, ledger.sink_timeout
        )
        if not place.delivered and mode == "strict":
            raise AuditUnavailable(
                f"no collector acknowledged it within {ledger.sink_timeout:g} s; it is in the ledger and is sent on"
            )

    def __repr__(self) -> str:
        return f"AuditLogger({self.name!r}, fail_mode={self.fail_mode!r})"


def record_event(
    spec: conventions.Event,
    *,
    actor: Actor,
    outcome: Outcome,
    target: Target | None = None,
    source: Source | None = None,
    reason: str | None = None,
    tenant: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    risk_score: int | None = None,
    action: str | None = None,
    wait: bool = False,
) -> Receipt | None:
    """Record one of the package's own events; an error never reaches the caller, but for one.

    Args:
        spec: The event of the registry: its name, its default action and risk, its OWASP and OCSF names.
        actor: Who did it.
        outcome: How it ended.
        target: What it was done to.
        source: Where it came from.
        reason: Why.
        tenant: On whose behalf.
        attributes: What else is known; None values are left out.
        risk_score: Default: that of `spec`.
        action: Default: that of `spec`.
        wait: Whether ``durability="sink"`` holds: for an action that somebody asked for. What was refused, and what is
            told on every request's way, is in the ledger and sent on; waiting for a collector there would let whoever
            knocks hold up the service.

    Returns:
        The receipt, or None where the event could not be recorded.

    Raises:
        AuditUnavailable: It cannot be kept and the configured ``fail_mode`` is ``strict``.
    """
    try:
        event = AuditEvent(
            spec.name, action or spec.action, actor, outcome, target, spec.risk if risk_score is None else risk_score,
            reason, source, tenant, {name: value for name, value in (attributes or {}).items() if value is not None},
        )  # fmt: skip
        return _own._emit(event, spec, wait=wait)
    except AuditUnavailable as error:
        if configured_mode(spec.name, spec.risk if risk_score is None else risk_score) == "strict":
            raise
        swallow("audit", error)
    except Exception as error:
        swallow("audit", error)
    return None


_RESULTS = ("recorded", "rejected")
_counts: dict[str, tuple[MetricEmitter, BoundSeries]] = {}


def prepare() -> None:
    """Make what counts records before there is one.

    The first record may come from a signal handler or a finalizer that interrupts another first record in the middle
    of OpenTelemetry's registry of meters, whose locks its own thread would wait for.
    """
    with guarded("audit"):
        emitter = defaults.emitter()
        for result in _RESULTS:
            _counter(result, emitter)


def _counter(result: str, emitter: MetricEmitter) -> BoundSeries:
    known = _counts.get(result)
    if known is None or known[0] is not emitter:
        counter = defaults.counter(conventions.AUDIT_RECORDS)
        known = _counts[result] = emitter, counter.bind({conventions.AUDIT_RESULT: result})
    return known[1]


def _count(result: str, emitter: MetricEmitter) -> None:
    _counter(result, emitter).increment()


def _tell(record: dict[str, Any], kept: Kept | None) -> None:
    whole = finished(kept.record, kept.hash, kept.signature) if kept is not None else finished(record, None)
    for listener in tuple(listeners):
        with guarded("audit"):
            listener(whole)


def _after_the_end(mode: FailMode) -> None:
    """Refuse a record that comes when the ledger is closed for good, or say once that such records are not kept."""
    slot = defaults.slot()
    if mode == "strict":
        raise AuditUnavailable(f"{slot.ended}: the runtime was shut down")
    if not slot.ended_said:
        slot.ended_said = True
        _log.error(
            "mobius_otel: audit events come after the runtime was shut down: they go to the log pipeline, at most once,"
            " and not to the ledger %s", slot.ended,
        )  # fmt: skip


def _to_pipeline(scope: str, record: dict[str, Any]) -> None:
    """Hand a record to OpenTelemetry's log pipeline, at most once."""
    attributes = finished(record, None)["attributes"]
    surplus = len(attributes) - _PIPELINE_ATTRIBUTES
    # The caller's attributes come first, and are fewer than the surplus only if ours alone are too many.
    kept = dict(list(attributes.items())[max(0, surplus) :])
    try:
        logs_api.get_logger(scope or defaults.SCOPE, defaults.version_).emit(
            event_name=record["event_name"],
            timestamp=int(record["timestamp"]),
            observed_timestamp=int(record["observed_timestamp"]),
            severity_number=logs_api.SeverityNumber(record["severity_number"]) if "severity_number" in record else None,
            severity_text=record.get("severity_text"),
            context=trace.set_span_in_context(trace.get_current_span()),
            attributes=kept,
        )
    except Exception as error:
        raise AuditUnavailable(f"the log pipeline failed with {type(error).__qualname__}") from error


_own = AuditLogger(defaults.SCOPE)
