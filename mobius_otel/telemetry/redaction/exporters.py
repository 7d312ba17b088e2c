"""Exporters that take the secrets out and hand on to another exporter.

In code they wrap the exporter that they are given. Without code they are found by the name ``mobius_redact``
wherever OpenTelemetry asks for an exporter by name:

* ``OTEL_TRACES_EXPORTER=mobius_redact`` (``OTEL_LOGS_EXPORTER``, ``OTEL_METRICS_EXPORTER``) wraps the exporter that
  ``MOBIUS_OTEL_TRACES_EXPORTER`` (``…_LOGS_EXPORTER``, ``…_METRICS_EXPORTER``) names; default: ``otlp``.
* In a file that ``OTEL_CONFIG_FILE`` names, ``exporter: {mobius_redact: {exporter: {otlp_http: {…}}}}`` wraps the
  exporter that stands in it; without one, that of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mobius_otel import compat
from mobius_otel.compat import logs_export, logs_sdk
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.redaction.signals import redacted_log, redacted_metrics, redacted_span

__all__ = [
    "NamedLogRecordExporter",
    "NamedMetricExporter",
    "NamedSpanExporter",
    "RedactingLogRecordExporter",
    "RedactingMetricExporter",
    "RedactingSpanExporter",
]

_NAME = "mobius_redact"
#: What ``otlp`` is short for, by protocol.
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


class RedactingSpanExporter(SpanExporter):
    """Hands spans to another exporter without their secrets; other processors keep what they see.

    Args:
        inner: The exporter.
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, inner: SpanExporter, redactor: Redactor | None = None) -> None:
        self._inner = inner
        self._redactor = redactor

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans without their secrets."""
        redactor = self._redactor or configured_redactor()
        return self._inner.export([redacted_span(span, redactor) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter."""
        return self._inner.force_flush(timeout_millis)


class RedactingLogRecordExporter(logs_export.LogRecordExporter):
    """Hands log records to another exporter without their secrets; other processors keep what they see.

    Args:
        inner: The exporter.
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, inner: logs_export.LogRecordExporter, redactor: Redactor | None = None) -> None:
        self._inner = inner
        self._redactor = redactor

    def export(self, batch: Sequence[logs_sdk.ReadableLogRecord]) -> logs_export.LogRecordExportResult:
        """Export the records without their secrets."""
        redactor = self._redactor or configured_redactor()
        return self._inner.export([redacted_log(record, redactor) for record in batch])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 10000) -> bool:
        """Flush the exporter."""
        return self._inner.force_flush(timeout_millis)


class RedactingMetricExporter(MetricExporter):
    """Hands collected metrics to another exporter without the secrets of their attributes and exemplars.

    Args:
        inner: The exporter; its temporality and aggregation hold.
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, inner: MetricExporter, redactor: Redactor | None = None) -> None:
        super().__init__(**compat.metric_preferences(inner))
        self._inner = inner
        self._redactor = redactor

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Export the metrics without their secrets."""
        clean = redacted_metrics(metrics_data, self._redactor or configured_redactor())
        return self._inner.export(clean, timeout_millis, **kwargs)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down."""
        self._inner.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush the exporter."""
        return self._inner.force_flush(timeout_millis)


def _named(signal: compat.Signal, base: type, described: Mapping[str, Any] | None) -> Any:
    """Return the exporter that a configuration file describes, or the one that the environment names."""
    if not described:
        return _from_environment(signal, base)
    try:
        return compat.declared_exporter(signal, described)
    except LookupError as error:
        rule = "described in a configuration file that a known version of opentelemetry-configuration reads"
        raise ConfigurationError(f"{_NAME}.exporter", next(iter(described)), rule, str(error)) from None


def _from_environment(signal: compat.Signal, base: type) -> Any:
    variable = f"MOBIUS_OTEL_{signal.upper()}_EXPORTER"
    name = os.environ.get(variable, "").strip() or "otlp"
    hint = "It has to be installed, and to send by itself; what is scraped is not wrapped."
    for entry_point in entry_points(group=f"opentelemetry_{signal}_exporter", name=_full_name(signal, name)):
        try:
            exporter = entry_point.load()
        except ImportError as error:
            hint = f"It cannot be imported: {type(error).__name__}."
            continue
        if name != _NAME and isinstance(exporter, type) and issubclass(exporter, base):
            return exporter()
    raise ConfigurationError(variable, name, f"the name of one exporter of {signal}, other than {_NAME}", hint)


def _full_name(signal: compat.Signal, name: str) -> str:
    """Return the name of an exporter; ``otlp`` is short for one by the configured protocol, as in the SDK."""
    if name != "otlp":
        return name
    shared = "OTEL_EXPORTER_OTLP_PROTOCOL"
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    variable = own if os.environ.get(own) else shared
    protocol = os.environ.get(variable, "").strip() or "grpc"
    if protocol not in _OTLP:
        raise ConfigurationError(variable, protocol, f"one of {', '.join(_OTLP)}")
    return _OTLP[protocol]


class NamedSpanExporter(RedactingSpanExporter):
    """``mobius_redact`` for spans: wraps the exporter that the configuration names.

    Args:
        exporter: The exporter, as a configuration file describes it; None: that of the environment.

    Raises:
        ConfigurationError: There is no exporter of that name.
    """

    def __init__(self, exporter: Mapping[str, Any] | None = None) -> None:
        super().__init__(_named("traces", SpanExporter, exporter))


class NamedLogRecordExporter(RedactingLogRecordExporter):
    """``mobius_redact`` for log records; see :class:`NamedSpanExporter`."""

    def __init__(self, exporter: Mapping[str, Any] | None = None) -> None:
        super().__init__(_named("logs", logs_export.LogRecordExporter, exporter))


class NamedMetricExporter(RedactingMetricExporter):
    """``mobius_redact`` for metrics; see :class:`NamedSpanExporter`. An exporter that is scraped is not wrapped."""

    def __init__(self, exporter: Mapping[str, Any] | None = None) -> None:
        super().__init__(_named("metrics", MetricExporter, exporter))
