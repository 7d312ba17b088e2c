"""Who carries audit records away: OTLP's protocols, or any exporter of logs that is configured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mobius_otel.compat import logs_api, logs_export, logs_sdk
from mobius_otel.telemetry.audit.otlp import encode, encode_json
from mobius_otel.telemetry.audit.settings import Settings
from mobius_otel.telemetry.audit.transport import Answer, Transport, transport_for

__all__ = ["Courier", "ExporterCourier", "OtlpCourier"]

# What a forked child leaves alone: the parent's connection is the parent's to close.
_abandoned: list[Transport] = []


class Courier(Protocol):
    """Carries records to one place."""

    @property
    def place(self) -> str:
        """Where to, for a log line."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that one request may take."""
        ...

    def carry(self, records: Iterable[Mapping[str, Any]], timeout: float) -> Answer:
        """Carry records, within `timeout` seconds.

        Raises:
            ValueError: One of them is no audit record.
        """
        ...

    def close(self) -> None:
        """Close what is open; the next call opens it again."""
        ...

    def renew(self) -> None:
        """Start anew in a forked child."""
        ...


class OtlpCourier:
    """OTLP over HTTP or gRPC.

    Args:
        settings: Where to.
        resource: The attributes of the resource.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """

    def __init__(self, settings: Settings, resource: Mapping[str, Any]) -> None:
        self.settings = settings
        self.place = settings.host
        self.timeout = settings.timeout
        self._resource = dict(resource)
        self._encode = encode_json if settings.protocol == "http/json" else encode
        self._transport = transport_for(settings)

    def carry(self, records: Iterable[Mapping[str, Any]], timeout: float) -> Answer:
        """Send records as one request."""
        return self._transport.send(self._encode(records, self._resource), timeout)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def renew(self) -> None:
        """Leave the parent's connection alone."""
        _abandoned.append(self._transport)
        self._transport = transport_for(self.settings)


class ExporterCourier:
    """An exporter of OpenTelemetry's SDK: what it calls a success is taken for an acknowledgement.

    Args:
        exporter: The exporter, or a function that makes one, in every process that forks off too.
        resource: The attributes of the resource.
        timeout: Seconds that a lease is held for one call.
    """

    def __init__(
        self,
        exporter: logs_export.LogRecordExporter | Callable[[], logs_export.LogRecordExporter],
        resource: Mapping[str, Any],
        timeout: float,
    ) -> None:
        self._make = None if isinstance(exporter, logs_export.LogRecordExporter) else exporter
        self._exporter: Any = exporter if self._make is None else self._make()
        self._resource = Resource(dict(resource))
        self.timeout = timeout
        self.place = type(self._exporter).__name__

    def carry(self, records: Iterable[Mapping[str, Any]], timeout: float) -> Answer:  # noqa: ARG002
        """Export records; the exporter has a timeout of its own."""
        batch = [self._readable(record) for record in records]
        try:
            result = self._exporter.export(batch)
        except Exception as error:
            return Answer("broken", type(error).__name__)
        if result is logs_export.LogRecordExportResult.SUCCESS:
            return Answer("accepted")
        return Answer("broken", f"{self.place} answered {getattr(result, 'name', type(result).__name__)}")

    def _readable(self, record: Mapping[str, Any]) -> logs_sdk.ReadableLogRecord:
        try:
            log = logs_api.LogRecord(
                timestamp=int(record["timestamp"]),
                observed_timestamp=int(record["observed_timestamp"]),
                context=_context(record),
                severity_number=logs_api.SeverityNumber(record.get("severity_number", 0)),
                severity_text=record.get("severity_text"),
                attributes=dict(record["attributes"]),
                event_name=record["event_name"],
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no audit record: {type(error).__name__}") from error
        return logs_sdk.ReadableLogRecord(log, self._resource, InstrumentationScope(str(record.get("scope") or "")))

    def close(self) -> None:
        """Flush; the exporter is its owner's to shut down."""
        self._exporter.force_flush()

    def renew(self) -> None:
        """Make a new exporter, where it is known how."""
        if self._make is not None:
            self._exporter = self._make()


def _context(record: Mapping[str, Any]) -> Context:
    if "trace_id" not in record:
        return Context()
    flags = trace.TraceFlags(record["trace_flags"])
    span = trace.SpanContext(
        int(record["trace_id"], 16), int(record["span_id"], 16), is_remote=False, trace_flags=flags
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())
