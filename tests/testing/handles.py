"""Handles made at import, before any provider exists: what every real module has."""

import logging

from opentelemetry import _logs, metrics, trace

from mobius_otel.telemetry.metrics import MetricEmitter

tracer = trace.get_tracer("handles")
raw_counter = metrics.get_meter("handles").create_counter("raw.count")
otel_logger = _logs.get_logger("handles")
plain_logger = logging.getLogger("handles")
emitter = MetricEmitter("handles", version="1")
orders = emitter.counter("handles.orders", unit="{order}")
depth = emitter.gauge("handles.depth")
timer = emitter.timer("handles.duration")


def use(times: int) -> None:
    """Tell every signal something, as often as asked."""
    for number in range(times):
        with tracer.start_as_current_span("handled", attributes={"number": number}):
            otel_logger.emit(_logs.LogRecord(event_name="handled.event", body="done", attributes={"number": number}))
        raw_counter.add(1, {"kind": "raw"})
        orders.add(1, {"currency": "EUR"})
        depth.set(number)
        timer.record(0.25)
