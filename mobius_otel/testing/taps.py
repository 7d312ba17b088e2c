"""Where captures get their telemetry from: one tap per provider, for as long as the process lives.

Tracers, meters, loggers and this package's facades that were made at import stay bound to the first
provider that was installed, so providers are never reset or replaced here: where the global slot is empty a
real SDK provider is installed once, where somebody has installed one it is left the identical object, and in
both cases an ordinary exporter is attached to it once. What changes from test to test is who listens.

This module imports the SDK; :mod:`mobius_otel.testing.capture` imports it when the first capture begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from mobius_otel.compat import logs_api, logs_export, logs_sdk
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.testing.plain import Plain, log_dict, metric_points, span_dict

__all__ = ["Listener", "taps"]


class Listener(Protocol):
    """Who is told of telemetry while it listens."""

    def on_span(self, span: Plain) -> None:
        """Take a finished span."""

    def on_log(self, record: Plain) -> None:
        """Take a log record."""

    def on_points(self, points: list[Plain]) -> None:
        """Take what the metrics of the process grew by since they were last collected."""


class _SpanTap(SpanExporter):
    def __init__(self, tell: Callable[[str, Any], None]) -> None:
        self._tell = tell

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self._tell("on_span", span_dict(span))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Go on: a provider that one test shuts down may still serve handles in the next."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - named so by the SDK
        return True


class _LogTap(logs_export.LogRecordExporter):
    def __init__(self, tell: Callable[[str, Any], None]) -> None:
        self._tell = tell

    def export(self, batch: Sequence[logs_sdk.ReadableLogRecord]) -> logs_export.LogRecordExportResult:
        for record in batch:
            self._tell("on_log", log_dict(record))
        return logs_export.LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Go on, as the tap of spans does."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - named so by the SDK
        return True


class _Taps:
    """Every tap of this process, and who listens."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._tapped: list[Any] = []  # held, so that no id is ever used twice
        self._readers: list[InMemoryMetricReader] = []
        self._new_locks()
        on_fork(self)

    def _new_locks(self) -> None:
        self._lock = threading.RLock()
        # A collection calls code of others (observable callbacks), so no other lock is held meanwhile.
        self._collecting = threading.RLock()

    def _after_fork_in_child(self) -> None:
        self._new_locks()

    def open(self, listener: Listener) -> None:
        """Begin to tell `listener`; what was counted before goes to those who listened before."""
        self._attach()
        with self._collecting:
            self.collect()
            with self._lock:
                self._listeners = (*self._listeners, listener)

    def close(self, listener: Listener) -> None:
        """Tell `listener` of what was counted until now, and then no more."""
        with self._collecting:
            self.collect()
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

    def collect(self) -> None:
        """Collect the metrics of every provider, and tell who listens."""
        with self._collecting:
            for reader in tuple(self._readers):
                self._tell("on_points", list(metric_points(reader.get_metrics_data())))

    def _tell(self, what: str, telemetry: Any) -> None:
        for listener in self._listeners:
            getattr(listener, what)(telemetry)

    def _attach(self) -> None:
        with self._lock:
            for find, tap in ((_tracer_provider, self._tap_spans), (_meter_provider, self._tap_metrics),
                              (_logger_provider, self._tap_logs)):  # fmt: skip
                provider = find()
                if not any(provider is known for known in self._tapped):
                    tap(provider)
                    self._tapped.append(provider)

    def _tap_spans(self, provider: Any) -> None:
        _demand(provider, "add_span_processor", "tracer")(SimpleSpanProcessor(_SpanTap(self._tell)))

    def _tap_logs(self, provider: Any) -> None:
        processor = logs_export.SimpleLogRecordProcessor(_LogTap(self._tell))
        _demand(provider, "add_log_record_processor", "logger")(processor)

    def _tap_metrics(self, provider: Any) -> None:
        reader = InMemoryMetricReader(dict.fromkeys(_INSTRUMENTS, AggregationTemporality.DELTA))
        _demand(provider, "add_metric_reader", "meter")(reader)
        self._readers.append(reader)


def _instruments() -> tuple[type, ...]:
    """Return the instrument classes; that of gauges has had two names."""
    from opentelemetry.sdk import metrics as sdk

    names = ("Counter", "UpDownCounter", "Histogram", "ObservableCounter", "ObservableUpDownCounter",
             "ObservableGauge", "Gauge", "_Gauge")  # fmt: skip
    return tuple({getattr(sdk, name) for name in names if hasattr(sdk, name)})


_INSTRUMENTS = _instruments()


def _demand(provider: Any, method: str, kind: str) -> Callable[[Any], None]:
    found = getattr(provider, method, None)
    if found is None:
        raise ConfigurationError(
            f"the global {kind} provider", type(provider).__name__, f"the SDK's, with {method}()",
            "Begin the capture before it is installed, or install the SDK's provider.",
        )  # fmt: skip
    attach: Callable[[Any], None] = found
    return attach


def _tracer_provider() -> Any:
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider(sampler=sampling.DEFAULT_ON, shutdown_on_exit=False))
    return trace.get_tracer_provider()


def _meter_provider() -> Any:
    if type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider":
        metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
    return metrics.get_meter_provider()


def _logger_provider() -> Any:
    if type(logs_api.get_logger_provider()).__name__ == "ProxyLoggerProvider":
        logs_api.set_logger_provider(logs_sdk.LoggerProvider(shutdown_on_exit=False))
    return logs_api.get_logger_provider()


#: The taps of this process.
taps = _Taps()
