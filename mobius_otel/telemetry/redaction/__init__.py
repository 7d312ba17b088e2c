"""Redaction: secrets are taken out of telemetry before it leaves the process."""

from mobius_otel.telemetry.redaction.examples import FailedExample, failed_examples
from mobius_otel.telemetry.redaction.explain import Explainer, Finding
from mobius_otel.telemetry.redaction.logging import cover_logging, uncover_logging
from mobius_otel.telemetry.redaction.own import Finder
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.processors import (
    RedactingLogRecordExporter,
    RedactingLogRecordProcessor,
    RedactingSpanExporter,
    RedactingSpanProcessor,
    cover_sdk,
    uncover_sdk,
)
from mobius_otel.telemetry.redaction.redactor import Match, RedactionResult, Redactor, configured_redactor

__all__ = [
    "Explainer",
    "FailedExample",
    "Finder",
    "Finding",
    "Match",
    "RedactingLogRecordExporter",
    "RedactingLogRecordProcessor",
    "RedactingSpanExporter",
    "RedactingSpanProcessor",
    "RedactionPolicy",
    "RedactionResult",
    "Redactor",
    "configured_redactor",
    "cover_logging",
    "cover_sdk",
    "failed_examples",
    "uncover_logging",
    "uncover_sdk",
]
