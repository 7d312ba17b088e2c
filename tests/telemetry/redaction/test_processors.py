"""Redaction in front of OpenTelemetry: every part of every signal, in whatever order things were set up."""

import subprocess
import sys
import threading

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ConcurrentMultiLogRecordProcessor, LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

from mobius_otel.telemetry.redaction import (
    RedactingLogRecordExporter,
    RedactingLogRecordProcessor,
    RedactingSpanExporter,
    RedactingSpanProcessor,
    RedactionPolicy,
    Redactor,
    cover_sdk,
    processors,
    uncover_sdk,
)
from tests.telemetry.redaction.secrets_kit import CANARY

RESOURCE = Resource({"service.name": "shop", "db.password": CANARY, "process.command_args": ["x", "--token", CANARY]})
REDACTOR = Redactor()


class Wire(SpanExporter):
    """Keeps what a collector would get: bytes, made when the exporter is called."""

    def __init__(self):
        self.sent = b""
        self.spans = []

    def export(self, spans):
        self.sent += encode_spans(spans).SerializeToString()
        self.spans += spans
        return SpanExportResult.SUCCESS


class LogWire(LogRecordExporter):
    """The same for log records."""

    def __init__(self):
        self.sent = b""
        self.records = []

    def export(self, batch):
        self.sent += encode_logs(batch).SerializeToString()
        self.records += batch
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


class MetricWire(MetricExporter):
    """The same for metrics."""

    def __init__(self):
        super().__init__()
        self.sent = b""

    def export(self, metrics_data, timeout_millis=0, **kwargs):
        self.sent += encode_metrics(metrics_data).SerializeToString()
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis=0, **kwargs):
        pass

    def force_flush(self, timeout_millis=0):
        return True


@pytest.fixture
def covered():
    """The SDK, covered for one test."""
    cover_sdk(lambda: REDACTOR)
    yield
    uncover_sdk()


def tracer_provider(**arguments):
    return TracerProvider(resource=RESOURCE, shutdown_on_exit=False, **arguments)


def logger_provider(**arguments):
    return LoggerProvider(resource=RESOURCE, shutdown_on_exit=False, **arguments)


def emit_span(provider, tracer=None):
    tracer = tracer or provider.get_tracer("scope", attributes={"secret": CANARY})
    link = Link(SpanContext(1, 2, True, TraceFlags(1)), {"api_key": CANARY, "kept": "yes"})
    with pytest.raises(ValueError, match="password"):  # noqa: PT012,SIM117 - it ends by the exception
        with tracer.start_as_current_span(f"GET /x?token={CANARY}", links=[link]) as span:
            span.set_attribute("url.query", f"api_key={CANARY}&page=2")
            span.set_attribute("list", ["a", f"token={CANARY}"])
            span.set_attribute("kept", 5)
            span.add_event(f"login token={CANARY}", {"password": CANARY})
            raise ValueError(f"password={CANARY}")
    provider.force_flush()


def emit_log(provider, logger=None):
    logger = logger or provider.get_logger("scope", attributes={"secret": CANARY})
    attributes = {"k": f"secret: {CANARY}", "kept": 5, "deep": {"password": CANARY}}
    logger.emit(
        body={"password": CANARY, "text": f"token={CANARY}"}, attributes=attributes, event_name=f"x.token={CANARY}",
        exception=ValueError(f"password={CANARY}"), severity_text="token=severity",
    )  # fmt: skip
    assert attributes["k"] == f"secret: {CANARY}"
    provider.force_flush()


def clean(sent):
    assert sent
    assert b"[redacted:" in sent
    assert b"kept" in sent
    return CANARY.encode() not in sent


@pytest.mark.parametrize("processor", [BatchSpanProcessor, SimpleSpanProcessor])
@pytest.mark.parametrize("moment", ["before", "after", "twice"])
def test_every_part_of_a_span_is_redacted_whenever_its_exporter_was_added(processor, moment):
    """Name, attributes, events, links, status, resource and scope, for providers made before and after."""
    wire, provider = Wire(), tracer_provider()
    tracer = provider.get_tracer("scope", attributes={"secret": CANARY})
    if moment != "after":
        provider.add_span_processor(processor(wire))
    cover_sdk(lambda: REDACTOR)
    try:
        if moment != "before":
            provider.add_span_processor(processor(wire))
        emit_span(provider, tracer)
    finally:
        uncover_sdk()
    assert clean(wire.sent)
    span = wire.spans[0]
    assert span.name == "GET /x?token=[redacted:token]"
    assert span.attributes["url.query"] == "api_key=[redacted:api_key]&page=2"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError: password=[redacted:password]"
    assert span.events[1].attributes["exception.type"] == "ValueError"
    assert dict(span.links[0].attributes) == {"api_key": "[redacted:api_key]", "kept": "yes"}
    assert span.resource.attributes["service.name"] == "shop"


@pytest.mark.parametrize("processor", [BatchLogRecordProcessor, SimpleLogRecordProcessor])
@pytest.mark.parametrize("moment", ["before", "after", "twice"])
def test_every_part_of_a_log_record_is_redacted_whenever_its_exporter_was_added(processor, moment):
    """Body, attributes, event name, exception, resource and scope, also for loggers made before."""
    wire, provider = LogWire(), logger_provider()
    logger = provider.get_logger("scope", attributes={"secret": CANARY})
    if moment != "after":
        provider.add_log_record_processor(processor(wire))
    cover_sdk(lambda: REDACTOR)
    try:
        if moment != "before":
            provider.add_log_record_processor(processor(wire))
        emit_log(provider, logger)
    finally:
        uncover_sdk()
    assert clean(wire.sent)
    record = wire.records[0].log_record
    assert record.body == {"password": "[redacted:password]", "text": "token=[redacted:token]"}
    assert record.attributes["exception.message"] == "password=[redacted:password]"
    assert record.severity_text == "token=[redacted:token]"
    assert record.exception is None


@pytest.mark.parametrize("multi", [ConcurrentMultiSpanProcessor, None])
def test_every_fan_out_of_spans_is_covered(covered, multi):
    """Also the concurrent one, whose processors run in threads."""
    wire = Wire()
    provider = tracer_provider(active_span_processor=multi() if multi else None)
    provider.add_span_processor(SimpleSpanProcessor(wire))
    emit_span(provider)
    assert clean(wire.sent)


def test_the_concurrent_fan_out_of_logs_is_covered(covered):
    """The records of its threads are redacted too."""
    wire = LogWire()
    provider = logger_provider(multi_log_record_processor=ConcurrentMultiLogRecordProcessor())
    provider.add_log_record_processor(SimpleLogRecordProcessor(wire))
    emit_log(provider)
    assert clean(wire.sent)


def test_metric_points_exemplars_and_resources_are_redacted():
    """Readers made before and after, those that view a part of the attributes, and readers of another's making."""
    wire, early = MetricWire(), InMemoryMetricReader()
    seen = []
    view = View(instrument_name="seen", attribute_keys={"kept"})
    first = MeterProvider(
        [early, PeriodicExportingMetricReader(wire, 1e6)], RESOURCE, views=[view], shutdown_on_exit=False
    )
    cover_sdk(lambda: REDACTOR)
    try:

        class Own(MetricReader):
            def _receive_metrics(self, metrics_data, timeout_millis=0, **kwargs):
                seen.append(encode_metrics(metrics_data).SerializeToString())

            def shutdown(self, timeout_millis=0, **kwargs):
                pass

        own = Own()
        second = MeterProvider([own], RESOURCE, shutdown_on_exit=False)
        with tracer_provider().get_tracer("t").start_as_current_span("s"):
            for provider in (first, second):
                meter = provider.get_meter("scope")
                meter.create_counter("plain").add(1, {"token": CANARY, "kept": "a"})
                meter.create_histogram("seen").record(1, {"token": CANARY, "kept": "a"})
        first.force_flush()
        own.collect()
        assert clean(wire.sent)
        assert clean(b"".join(seen))
        assert clean(encode_metrics(early.get_metrics_data()).SerializeToString())
    finally:
        uncover_sdk()


def test_a_clean_span_passes_untouched(covered):
    """No copy, no other container, and the counts of what was dropped stay."""
    wire, provider = Wire(), TracerProvider(resource=Resource({"a": "b"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(wire))
    with provider.get_tracer("t").start_as_current_span("plain") as span:
        span.set_attribute("a", "b")
        inner = span._attributes
    assert wire.spans[0]._attributes is inner


def test_the_counts_of_what_the_limits_dropped_stay(covered):
    """A redacted span still says how much was dropped."""
    wire = Wire()
    provider = tracer_provider(span_limits=SpanLimits(max_span_attributes=1, max_events=1, max_links=1))
    provider.add_span_processor(SimpleSpanProcessor(wire))
    with provider.get_tracer("t").start_as_current_span("s") as span:
        for number in range(3):
            span.set_attribute(f"token{number}", CANARY)
            span.add_event("e", {"password": CANARY})
    assert (wire.spans[0].dropped_attributes, wire.spans[0].dropped_events) == (2, 2)
    assert CANARY.encode() not in wire.sent


def test_the_processors_and_exporters_work_by_themselves():
    """For a provider that one builds by hand: as its fan-out, around a processor, or around an exporter."""
    wires = Wire(), Wire(), Wire(), Wire()
    fan_out = tracer_provider(active_span_processor=RedactingSpanProcessor(redactor=REDACTOR))
    fan_out.add_span_processor(SimpleSpanProcessor(wires[0]))
    around, first, exporter = tracer_provider(), tracer_provider(), tracer_provider()
    around.add_span_processor(RedactingSpanProcessor(BatchSpanProcessor(wires[1])))
    first.add_span_processor(RedactingSpanProcessor())
    first.add_span_processor(SimpleSpanProcessor(wires[2]))
    exporter.add_span_processor(BatchSpanProcessor(RedactingSpanExporter(wires[3])))
    for provider in (fan_out, around, first, exporter):
        emit_span(provider)
        provider.shutdown()
    assert all(clean(wire.sent) for wire in wires)


def test_the_log_processors_and_exporters_work_by_themselves():
    """The same for log records; a redactor alone says that nobody listens."""
    wires = LogWire(), LogWire(), LogWire(), LogWire()
    fan_out = logger_provider(multi_log_record_processor=RedactingLogRecordProcessor(redactor=REDACTOR))
    assert not fan_out.get_logger("x").enabled()
    fan_out.add_log_record_processor(SimpleLogRecordProcessor(wires[0]))
    around, first, exporter = logger_provider(), logger_provider(), logger_provider()
    around.add_log_record_processor(RedactingLogRecordProcessor(BatchLogRecordProcessor(wires[1])))
    first.add_log_record_processor(RedactingLogRecordProcessor())
    first.add_log_record_processor(SimpleLogRecordProcessor(wires[2]))
    exporter.add_log_record_processor(BatchLogRecordProcessor(RedactingLogRecordExporter(wires[3])))
    for provider in (fan_out, around, first, exporter):
        emit_log(provider)
        provider.shutdown()
    assert all(clean(wire.sent) for wire in wires)


def test_an_exporter_leaves_the_span_of_others_as_it_was():
    """Another processor of the same provider keeps what it sees."""
    wire, other = Wire(), Wire()
    provider = tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(RedactingSpanExporter(wire, REDACTOR)))
    provider.add_span_processor(SimpleSpanProcessor(other))
    emit_span(provider)
    assert clean(wire.sent)
    assert CANARY.encode() in other.sent


def test_covering_is_idempotent_and_can_be_taken_back():
    """Afterwards every class is what it was."""
    before = SpanProcessor.__subclasses__(), processors.SynchronousMultiSpanProcessor.on_end, MetricReader.collect
    cover_sdk(lambda: REDACTOR)
    once = processors.SynchronousMultiSpanProcessor.on_end
    cover_sdk(lambda: Redactor(RedactionPolicy(names=("badge",))))
    assert processors.SynchronousMultiSpanProcessor.on_end is once is not before[1]
    wire, provider = Wire(), tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(wire))
    with provider.get_tracer("t").start_as_current_span("s") as span:
        span.set_attribute("badge", CANARY)
    assert CANARY.encode() not in wire.sent
    uncover_sdk()
    uncover_sdk()
    assert processors.SynchronousMultiSpanProcessor.on_end is before[1]
    assert MetricReader.collect is before[2]
    assert "__init_subclass__" not in MetricReader.__dict__


def test_a_getter_that_fails_does_not_open_the_way():
    """The default policy stands in."""
    wire, provider = Wire(), tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(wire))
    cover_sdk(lambda: 1 / 0)
    try:
        emit_span(provider)
    finally:
        uncover_sdk()
    assert clean(wire.sent)


def test_a_span_that_cannot_be_read_goes_out_blank(covered):
    """Its ids and times arrive, its contents do not, and the caller sees no exception."""
    wire, provider = Wire(), tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(wire))
    with provider.get_tracer("t").start_as_current_span(f"token={CANARY}") as span:
        span._links = [object()]
    sent = wire.spans[0]
    assert (sent.name, dict(sent.attributes)) == ("[redacted:unreadable]", {})
    assert sent.context.is_valid
    assert CANARY.encode() not in wire.sent


class Adds(LogRecordProcessor):
    """A processor that adds an attribute."""

    def on_emit(self, log_record):
        log_record.log_record.attributes["added"] = 1

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


def test_later_processors_can_still_change_a_record(covered):
    """What comes after the redactor works as it did."""
    wire, provider = LogWire(), logger_provider()
    provider.add_log_record_processor(Adds())
    provider.add_log_record_processor(SimpleLogRecordProcessor(wire))
    emit_log(provider)
    assert wire.records[0].log_record.attributes["added"] == 1


def test_threads_cover_and_emit_at_once():
    """Covering while spans end neither raises nor covers twice."""
    wire, provider = Wire(), tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(wire))
    cover_sdk(lambda: REDACTOR)
    errors = []

    def work():
        try:
            for _ in range(50):
                cover_sdk(lambda: REDACTOR)
                with provider.get_tracer("t").start_as_current_span(f"token={CANARY}"):
                    pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uncover_sdk()
    assert errors == []
    assert len(wire.spans) == 400
    assert CANARY.encode() not in wire.sent


def test_a_scope_keeps_its_version(covered):
    """Only the attributes of a scope are redacted."""
    wire, provider = Wire(), tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(wire))
    provider.get_tracer("scope", "1.2", attributes={"secret": CANARY}).start_span("s").end()
    scope = wire.spans[0].instrumentation_scope
    assert scope == InstrumentationScope("scope", "1.2", scope.schema_url, {"secret": "[redacted:secret]"})


def test_the_policy_alone_needs_no_sdk_of_metrics_or_logs():
    """Importing the redactor makes no thread and no provider."""
    code = "import threading; from mobius_otel.telemetry.redaction import Redactor; Redactor().text('x');"
    code += "print(threading.active_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"1"
