"""Redaction in front of every processor, exporter and reader of OpenTelemetry.

:func:`cover_sdk` covers the SDK at class level: every provider, made before or later, whoever made it, and
whatever order its processors were added in. The processors here, and those of ``exporters``, do the same for one
provider that one builds by hand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
)
from opentelemetry.sdk.trace.export import SpanExporter

from mobius_otel import compat
from mobius_otel.compat import logs_export, logs_sdk
from mobius_otel.telemetry.redaction.cover import Cover, RedactorGetter
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.redaction.signals import (
    redact_log,
    redact_span,
    redacted_log,
    redacted_metrics,
    redacted_span,
)
from mobius_otel.telemetry.redaction.tally import tally

__all__ = [
    "RedactingLogRecordProcessor",
    "RedactingSpanProcessor",
    "cover_sdk",
    "uncover_sdk",
]


class RedactingSpanProcessor(SynchronousMultiSpanProcessor):
    """Takes the secrets out of ended spans, in place, for every processor after it.

    Give it to ``TracerProvider(active_span_processor=…)`` and it comes before all that are ever added; or
    give it the processors it stands before; or add it first.

    Args:
        *processors: The processors behind it.
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, *processors: SpanProcessor, redactor: Redactor | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._redactor = redactor
        for processor in processors:
            self.add_span_processor(processor)

    def on_end(self, span: ReadableSpan) -> None:
        """Redact the span and hand it on."""
        redact_span(span, self._redactor or configured_redactor())
        super().on_end(span)


class RedactingLogRecordProcessor(logs_sdk.SynchronousMultiLogRecordProcessor):
    """Takes the secrets out of log records, in place, for every processor after it.

    Give it to ``LoggerProvider(multi_log_record_processor=…)`` and it comes before all that are ever added;
    or give it the processors it stands before; or add it first.

    Args:
        *processors: The processors behind it.
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, *processors: logs_sdk.LogRecordProcessor, redactor: Redactor | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._redactor = redactor
        for processor in processors:
            self.add_log_record_processor(processor)

    def on_emit(self, log_record: logs_sdk.ReadWriteLogRecord) -> None:
        """Redact the record and hand it on."""
        redact_log(log_record, self._redactor or configured_redactor())
        super().on_emit(log_record)


_cover = Cover()
#: What exporters call that which they are given.
_BATCH = {"spans", "batch"}


def _wrap_on_end(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def on_end(self: Any, span: ReadableSpan) -> None:
        if _cover.getter is not None:
            redact_span(span, _cover.redactor())
        original(self, span)

    return on_end


def _wrap_on_emit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def on_emit(self: Any, log_record: Any) -> None:
        if _cover.getter is not None:
            redact_log(log_record, _cover.redactor())
        original(self, log_record)

    return on_emit


def _wrap_export(redacted: Callable[[Any, Redactor], Any]) -> Callable[..., Any]:
    """Return what wraps ``export``: the last look, at what a processor behind the fan-out has added since."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def export(self: Any, *args: Any, **kwargs: Any) -> Any:
            if _cover.getter is not None:
                redactor = _cover.redactor()
                if args:
                    args = ([redacted(record, redactor) for record in args[0]], *args[1:])
                for name in _BATCH & kwargs.keys():
                    kwargs[name] = [redacted(record, redactor) for record in kwargs[name]]
            return original(self, *args, **kwargs)

        return export

    return wrap


def _wrap_receive(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def receive(self: Any, metrics_data: Any, *args: Any, **kwargs: Any) -> None:
        if _cover.getter is not None and metrics_data is not None:
            metrics_data = redacted_metrics(metrics_data, _cover.redactor())
        original(self, metrics_data, *args, **kwargs)

    return receive


def _wrap_collect(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def collect(self: Any, *args: Any, **kwargs: Any) -> None:
        tally.flush()
        original(self, *args, **kwargs)

    return collect


def cover_sdk(redactor_getter: RedactorGetter) -> None:
    """Redact every span, log record and metric of this process before any processor, exporter or reader.

    Covers providers that exist and those made later, loggers and tracers made before, and processors added
    at any time. Exporters look again, so that what a processor adds on the way (baggage, a tenant) is redacted
    as well. Not covered: a processor that sends what it reads in ``on_start`` or adds in ``on_end``, and an
    exporter that is no subclass of the SDK's, behind a processor that adds secrets or in a provider whose own
    fan-out is none of the SDK's.

    Args:
        redactor_getter: Returns the redactor; asked at every record, so that a new policy holds at once.
    """
    _cover.put_on(
        redactor_getter,
        {
            (SynchronousMultiSpanProcessor, "on_end"): _wrap_on_end,
            (ConcurrentMultiSpanProcessor, "on_end"): _wrap_on_end,
            (logs_sdk.SynchronousMultiLogRecordProcessor, "on_emit"): _wrap_on_emit,
            (logs_sdk.ConcurrentMultiLogRecordProcessor, "on_emit"): _wrap_on_emit,
            (SpanExporter, "export"): _wrap_export(redacted_span),
            (logs_export.LogRecordExporter, "export"): _wrap_export(redacted_log),
            (compat.METRIC_READERS, compat.RECEIVE_METRICS): _wrap_receive,
            (compat.METRIC_READERS, "collect"): _wrap_collect,
        },
    )


def uncover_sdk() -> None:
    """Take back what :func:`cover_sdk` did."""
    _cover.take_off()
