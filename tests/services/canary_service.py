"""A service that says a secret at every place that telemetry has, through providers that it built itself.

``python -m tests.services.canary_service ORDER PROCESSOR OTLP_ENDPOINT URL``: ORDER says when and where redaction
comes, PROCESSOR which processors of the SDK are used, URL where the outgoing request goes. What its HTTP side
answered is in ``answers.json`` afterwards.
"""

from __future__ import annotations

import json
import logging
import sys
from wsgiref.util import setup_testing_defaults

from opentelemetry import _logs, metrics, trace
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

import mobius_otel
from mobius_otel.telemetry.redaction import (
    RedactingLogRecordExporter,
    RedactingLogRecordProcessor,
    RedactingMetricExporter,
    RedactingSpanExporter,
    RedactingSpanProcessor,
)
from mobius_otel.web import WSGISecurityMiddleware
from tests.services.canary import Canary, kept, named, secret

POLICY = """
[api_keys]
store = "memory://"
require = ["/v1/*"]
[audit]
routes = ["GET /open"]
[metrics]
path = "/metrics"
"""
ORDERS = ("before", "after", "around", "twice", "enriched", "later", "own_fan_out")
PROCESSORS = {
    "batch": (BatchSpanProcessor, BatchLogRecordProcessor),
    "simple": (SimpleSpanProcessor, SimpleLogRecordProcessor),
}


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


class FanOut(SpanProcessor, LogRecordProcessor):
    """A fan-out of somebody's own, in the place of the SDK's."""

    def __init__(self):
        self.behind = []

    def add_span_processor(self, processor):
        self.behind.append(processor)

    add_log_record_processor = add_span_processor

    def on_end(self, span):
        for processor in self.behind:
            processor.on_end(span)

    def on_emit(self, log_record):
        for processor in self.behind:
            processor.on_emit(log_record)

    def shutdown(self):
        for processor in self.behind:
            processor.shutdown()

    def force_flush(self, timeout_millis=0):
        for processor in self.behind:
            processor.force_flush(timeout_millis)
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
            self.exporters = (
                RedactingSpanExporter(self.exporters[0]),
                RedactingLogRecordExporter(self.exporters[1]),
                RedactingMetricExporter(self.exporters[2]),
            )
        resource = Resource({"service.name": "canary", **named("resource")})
        fan_out = order == "own_fan_out"
        self.tracers = TracerProvider(resource=resource, active_span_processor=FanOut() if fan_out else None)
        self.loggers = LoggerProvider(resource, multi_log_record_processor=FanOut() if fan_out else None)
        self.reader = PeriodicExportingMetricReader(self.exporters[2], 1e7)
        views = [View(instrument_name="viewed", attribute_keys={"beside"})]
        self.meters = MeterProvider([] if order == "later" else [self.reader], resource, views=views)
        if order != "later":
            self.add_exporters()
        trace.set_tracer_provider(self.tracers)
        _logs.set_logger_provider(self.loggers)
        metrics.set_meter_provider(self.meters)
        self.canary = Canary(self.tracers, self.loggers, self.meters)

    def add_exporters(self) -> None:
        """Put the exporters behind the providers."""
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

    def edge(self) -> dict[str, str]:
        """Ask the service's own HTTP side: an answer of the guard, an audited one, the page of metrics."""
        app = WSGISecurityMiddleware(lambda environ, start: [start("200 OK", []) or b"", b"hello"])
        asked = {"problem": "/v1/items", "open": "/open", "page": "/metrics"}
        return {name: self.get(app, path) for name, path in asked.items()}

    def get(self, app, path: str) -> str:
        """Return the answer to one request, status, headers and body."""
        environ = {"PATH_INFO": path, "QUERY_STRING": f"token={secret('query')}", "HTTP_X_API_KEY": secret("key")}
        setup_testing_defaults(environ)
        head: list[str] = []
        body = b"".join(app(environ, lambda status, headers, *_: head.append(f"{status} {headers}")))
        return f"{head} {body.decode()}"

    def stop(self) -> None:
        """Send everything."""
        self.tracers.force_flush()
        self.loggers.force_flush()
        self.reader.force_flush()


def main(order: str, processor: str, endpoint: str, url: str) -> None:
    """Do it all once."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    with open("mobius.toml", "w") as file:
        file.write(POLICY)
    runtime = mobius_otel.configure() if order == "before" else None
    service = Service(order, processor, endpoint)
    runtime = runtime or mobius_otel.configure()
    if order == "later":
        service.meters.add_metric_reader(service.reader)
        service.add_exporters()
    service.canary.sing(url)
    answers = service.edge()
    service.stop()
    runtime.shutdown()
    with open("answers.json", "w") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
