"""What a ledger tells of itself in other signals: gauges, and an event on a span at every checkpoint.

A ledger whose end was cut, or that was written anew, differs from what these said meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.telemetry import spans
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.stream import Checkpoint
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.safety import guarded

__all__ = ["observe_ledger", "tell_checkpoint"]

_HEAD_BITS = 48  # a double holds them exactly


def observe_ledger(emitter: MetricEmitter, ledger: Ledger) -> None:
    """Report `ledger` as gauges of `emitter`, and its checkpoints as span events.

    The gauges are its backlog, the age of the oldest record in it, what is in quarantine, and how far the stream of
    this process is.

    Raises:
        ConfigurationError: The emitter reports a ledger already.
    """
    for spec, read in (
        (conventions.AUDIT_BACKLOG, ledger.backlog),
        (conventions.AUDIT_OLDEST, lambda: ledger.oldest() or 0.0),
        (conventions.AUDIT_QUARANTINED, ledger.quarantine_size),
    ):
        more = (lambda: len(ledger.spool)) if spec is conventions.AUDIT_BACKLOG else (lambda: 0)
        emitter.observe(spec.name, _last_known(read, more), unit=spec.unit, description=spec.meaning)
    for spec, number in (
        (conventions.AUDIT_STREAM_RECORDS, lambda at: at.count),
        (conventions.AUDIT_STREAM_HEAD, lambda at: int(at.head[: _HEAD_BITS // 4], 16)),
    ):
        emitter.observe(spec.name, _of_stream(ledger, number), unit=spec.unit, description=spec.meaning)
    ledger.on_checkpoint = tell_checkpoint


def _last_known(read: Callable[[], float], more: Callable[[], float]) -> Callable[[], list[tuple[float, Any]]]:
    known = 0.0

    def observe() -> list[tuple[float, Any]]:
        nonlocal known
        with guarded("audit"):  # a ledger that cannot be read is when this number is wanted most
            known = read()
        return [(known + more(), {})]

    return observe


def _of_stream(ledger: Ledger, number: Callable[[Checkpoint], float]) -> Callable[[], list[tuple[float, Any]]]:
    def observe() -> list[tuple[float, Any]]:
        at = ledger.checkpoint()
        return [] if at is None else [(number(at), {conventions.AUDIT_STREAM_ID: at.stream_id})]

    return observe


def tell_checkpoint(checkpoint: Checkpoint) -> None:
    """Tell of a checkpoint on the span that records now, else on one of its own."""
    attributes: dict[str, Any] = {
        conventions.AUDIT_STREAM_ID: checkpoint.stream_id,
        conventions.AUDIT_CHECKPOINT_COUNT: checkpoint.count,
        conventions.AUDIT_CHECKPOINT_HEAD: checkpoint.head,
    }
    with guarded("audit"):
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event(conventions.AUDIT_CHECKPOINT.name, attributes)
            return
        with spans.started(conventions.AUDIT_SEAL, attributes) as own:
            own.add_event(conventions.AUDIT_CHECKPOINT.name, attributes)
