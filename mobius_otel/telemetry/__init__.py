"""What is said about decisions: metrics, audit events, redaction."""

from __future__ import annotations

from mobius_otel.telemetry.audit import (
    Actor,
    AuditEvent,
    AuditHandler,
    AuditLogger,
    EventType,
    Ledger,
    Receipt,
    Source,
    Target,
    register_event,
)
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import (
    BoundSeries,
    Counter,
    Gauge,
    Histogram,
    MetricEmitter,
    Timer,
    UpDownCounter,
    metric_timer,
)
from mobius_otel.telemetry.redaction import (
    Pseudonyms,
    RedactingLogRecordExporter,
    RedactingLogRecordProcessor,
    RedactingSpanExporter,
    RedactingSpanProcessor,
    RedactionPolicy,
    RedactionResult,
    RedactionRule,
    Redactor,
)

__all__ = [
    "Actor",
    "AuditEvent",
    "AuditHandler",
    "AuditLogger",
    "BoundSeries",
    "Counter",
    "EventType",
    "Gauge",
    "Histogram",
    "InMemoryMetricsBackend",
    "Ledger",
    "MetricEmitter",
    "Pseudonyms",
    "Receipt",
    "RedactingLogRecordExporter",
    "RedactingLogRecordProcessor",
    "RedactingSpanExporter",
    "RedactingSpanProcessor",
    "RedactionPolicy",
    "RedactionResult",
    "RedactionRule",
    "Redactor",
    "Source",
    "Target",
    "Timer",
    "UpDownCounter",
    "metric_timer",
    "register_event",
]
