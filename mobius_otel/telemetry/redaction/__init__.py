"""Redaction: secrets are taken out of telemetry before it leaves the process."""

from mobius_otel.telemetry.redaction.actions import Pseudonyms, RedactionRule
from mobius_otel.telemetry.redaction.baggage import RedactingBaggagePropagator, cover_baggage, uncover_baggage
from mobius_otel.telemetry.redaction.examples import FailedExample, failed_examples
from mobius_otel.telemetry.redaction.explain import Explainer, Finding
from mobius_otel.telemetry.redaction.exporters import (
    RedactingLogRecordExporter,
    RedactingMetricExporter,
    RedactingSpanExporter,
)
from mobius_otel.telemetry.redaction.logging import RedactingFilter, cover_logging, uncover_logging
from mobius_otel.telemetry.redaction.own import Finder
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.processors import (
    RedactingLogRecordProcessor,
    RedactingSpanProcessor,
    cover_sdk,
    uncover_sdk,
)
from mobius_otel.telemetry.redaction.redactor import Match, RedactionResult, Redactor, configured_redactor
from mobius_otel.telemetry.redaction.structlog import redact_event

__all__ = [
    "Explainer",
    "FailedExample",
    "Finder",
    "Finding",
    "Match",
    "Pseudonyms",
    "RedactingBaggagePropagator",
    "RedactingFilter",
    "RedactingLogRecordExporter",
    "RedactingLogRecordProcessor",
    "RedactingMetricExporter",
    "RedactingSpanExporter",
    "RedactingSpanProcessor",
    "RedactionPolicy",
    "RedactionResult",
    "RedactionRule",
    "Redactor",
    "configured_redactor",
    "cover_baggage",
    "cover_logging",
    "cover_sdk",
    "failed_examples",
    "redact_event",
    "uncover_baggage",
    "uncover_logging",
    "uncover_sdk",
]
