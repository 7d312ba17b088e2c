"""A service that says a secret of its own at every place that telemetry has, through providers of its own.

``python -m tests.services.canary ORDER PROCESSOR OTLP_ENDPOINT URL``: ORDER says when and where redaction comes,
PROCESSOR which processors of the SDK are used, URL where the outgoing request goes.
"""

from __future__ import annotations

import logging
import sys
import urllib.request

from opentelemetry import _logs, baggage, context, metrics, propagate, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

import mobius_otel
from mobius_otel.telemetry.redaction import (
    RedactingLogRecordExporter,
    RedactingLogRecordProcessor,
    RedactingMetricExporter,
    RedactingSpanExporter,
    RedactingSpanProcessor,
)

ORDERS = ("before", "after", "around", "twice", "enriched", "later")
PROCESSORS = {"batch": (BatchSpanProcessor, BatchLogRecordProcessor)}
PROCESSORS["simple"] = (SimpleSpanProcessor, SimpleLogRecordProcessor)


def secret(place: str) -> str:
    """Return the secret of a place: nothing but its name or the word before it tells that it is one."""
    return f"zQ7{place.replace('_', '')}9Xk"


def kept(place: str) -> str:
    """Return what stands beside the secret and is none: it tells that the place was reached."""
    return f"kept-{place}"


def said(place: str) -> str:
    """Return a text with the secret of a place."""
    return f"{kept(place)} token={secret(place)}"


def named(place: str) -> dict[str, str]:
    """Return attributes with the secret of a place."""
    return {"password": secret(place), "beside": kept(place)}


class Enriches(SpanProcessor, LogRecordProcessor):
    """Adds what it knows to every span that starts and every record, as processors of baggage do."""

    def on_start(self, span, parent_context=None):
        span.set_attributes({"enriched.token": secret("span_enriched"), "enriched": kept("span_enriched")})

    def on_emit(self, log_record):
        log_record.log_record.attributes["enriched.token"] = secret("log_enriched")
        log_record.log_record.attributes["enriched"] = kept("log_enriched")

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


class Service:
    """The service and what somebody built for it."""

    def __init__(self, order: str, processor: str, endpoint: str) -> None:
        self.order = order
        self.span_processor, self.log_processor = PROCESSORS[processor]
        self.exporters = (
            OTLPSpanExporter(f"{endpoint}/v1/traces"),
            OTLPLogExporter(f"{endpoint}/v1/logs"),
            OTLPMetricExporter(f"{endpoint}/v1/metrics"),
        )
        if order == "twice":
            spans, logs, numbers = self.exporters
            self.exporters = (
                RedactingSpanExporter(spans), RedactingLogRecordExporter(logs), RedactingMetricExporter(numbers)
            )  # fmt: skip
        resource = Resource({"service.name": "canary", "db.password": secret("resource"), "beside": kept("resource")})
        self.tracers = TracerProvider(resource=resource)
        self.loggers = LoggerProvider(resource=resource)
        reader = PeriodicExportingMetricReader(self.exporters[2], 1e7)
        views = [View(instrument_name="viewed", attribute_keys={"beside"})]
        self.meters = MeterProvider([] if order == "later" else [reader], resource, views=views)
        if order != "later":
            self.add_exporters()
        trace.set_tracer_provider(self.tracers)
        _logs.set_logger_provider(self.loggers)
        metrics.set_meter_provider(self.meters)
        self.tracer = trace.get_tracer("scope", attributes=named("scope"))
        self.logger = _logs.get_logger("scope", attributes=named("log_scope"))
        meter = metrics.get_meter("scope", attributes=named("meter_scope"))
        self.counter, self.histogram = meter.create_counter("plain"), meter.create_histogram("viewed")
        self.reader = reader

    def add_exporters(self) -> None:
        span_processor = self.span_processor(self.exporters[0])
        log_processor = self.log_processor(self.exporters[1])
        if self.order == "around":
            span_processor = RedactingSpanProcessor(span_processor)
            log_processor = RedactingLogRecordProcessor(log_processor)
        if self.order == "enriched":
            self.tracers.add_span_processor(Enriches())
            self.loggers.add_log_record_processor(Enriches())
        self.tracers.add_span_processor(span_processor)
        self.loggers.add_log_record_processor(log_processor)
        if self.order == "twice":
            self.tracers.add_span_processor(RedactingSpanProcessor())
            self.loggers.add_log_record_processor(RedactingLogRecordProcessor())

    def work(self, url: str) -> None:
        """Say everything."""
        link = Link(SpanContext(1, 2, True, TraceFlags(1)), named("link"))
        with self.tracer.start_as_current_span(said("name"), links=[link], attributes=named("attribute")) as span:
            self.counter.add(1, named("metric"))
            self.histogram.record(1, {"password": secret("exemplar"), "exemplar": kept("exemplar"), "beside": "x"})
            span.add_event(said("event"), named("event_attribute"))
            self.call(url)
            self.log()
            try:
                raise ValueError(said("exception"))
            except ValueError as error:
                span.record_exception(error)
                logging.getLogger("shop").exception("%s", said("logging"))
            span.set_status(StatusCode.ERROR, said("status"))

    def log(self) -> None:
        body = {"text": said("body"), **named("body_attribute")}
        try:
            raise ValueError(said("log_exception"))
        except ValueError as error:
            self.logger.emit(
                body=body, attributes=named("log_attribute"), event_name=said("log_event"), exception=error
            )

    def call(self, url: str) -> None:
        outgoing = baggage.set_baggage("session.token", secret("baggage"))
        outgoing = baggage.set_baggage("note", said("baggage_text"), outgoing)
        headers: dict[str, str] = {}
        token = context.attach(outgoing)
        try:
            propagate.inject(headers)
        finally:
            context.detach(token)
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10).close()

    def stop(self) -> None:
        """Send everything."""
        self.tracers.force_flush()
        self.loggers.force_flush()
        self.reader.force_flush()


def main(order: str, processor: str, endpoint: str, url: str) -> None:
    """Do it all once."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    runtime = mobius_otel.configure() if order == "before" else None
    service = Service(order, processor, endpoint)
    runtime = runtime or mobius_otel.configure()
    if order == "later":
        service.meters.add_metric_reader(service.reader)
        service.add_exporters()
    service.work(url)
    service.stop()
    runtime.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
