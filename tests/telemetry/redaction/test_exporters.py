"""Exporters around exporters, in code and by name."""

import re
import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction import (
    RedactingLogRecordExporter,
    RedactingMetricExporter,
    RedactingSpanExporter,
    cover_sdk,
    uncover_sdk,
)
from mobius_otel.telemetry.redaction.exporters import NamedLogRecordExporter, NamedMetricExporter, NamedSpanExporter
from mobius_otel.telemetry.redaction.tally import tally
from tests.telemetry.redaction.secrets_kit import CANARY
from tests.telemetry.redaction.test_processors import (
    REDACTOR,
    RESOURCE,
    LogWire,
    MetricWire,
    Wire,
    clean,
    emit_log,
    emit_span,
    logger_provider,
    tracer_provider,
)


def test_metrics_are_exported_without_secrets_and_as_the_inner_exporter_wants_them():
    """Attributes, exemplars and resource; delta stays delta."""
    wire = MetricWire()
    wire._preferred_temporality = {Counter: AggregationTemporality.DELTA}
    exporter = RedactingMetricExporter(wire, REDACTOR)
    assert exporter._preferred_temporality == {Counter: AggregationTemporality.DELTA}
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1e6)], RESOURCE, shutdown_on_exit=False)
    with tracer_provider().get_tracer("t").start_as_current_span("s"):
        provider.get_meter("m").create_counter("c").add(1, {"password": CANARY, "kept": "a"})
    provider.force_flush()
    provider.shutdown()
    assert clean(wire.sent)


class AddsLate(SpanProcessor, LogRecordProcessor):
    """Gives spans and records a secret after everybody else had a look at them."""

    def on_end(self, span):
        span._attributes = {**span._attributes, "api_key": f"{CANARY}-late"}

    def on_emit(self, log_record):
        log_record.log_record.attributes["api_key"] = f"{CANARY}-late"

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


@pytest.fixture
def counted(monkeypatch):
    """What was counted."""
    found = []
    monkeypatch.setattr(type(tally), "add", lambda _, kinds, location: found.extend((k, location) for k in kinds))
    return found


def test_what_a_processor_adds_behind_the_redaction_is_redacted_when_it_is_exported(counted):
    """Spans and log records, and nothing is counted twice."""
    wire, log_wire = Wire(), LogWire()
    spans, logs = tracer_provider(), logger_provider()
    spans.add_span_processor(AddsLate())
    spans.add_span_processor(SimpleSpanProcessor(wire))
    logs.add_log_record_processor(AddsLate())
    logs.add_log_record_processor(SimpleLogRecordProcessor(log_wire))
    cover_sdk(lambda: REDACTOR)
    try:
        spans.get_tracer("t").start_span("s", attributes={"password": CANARY, "kept": 1}).end()
        logs.get_logger("l").emit(body="kept", attributes={"password": CANARY})
    finally:
        uncover_sdk()
    assert clean(wire.sent)
    assert clean(log_wire.sent)
    for place in ("span", "log"):
        assert sorted(kind for kind, where in counted if where == place) == ["api_key", "password"]


def test_nothing_that_cannot_be_read_stops_an_export(counted):
    """It goes out blank, and it is counted."""
    wire, log_wire = Wire(), LogWire()
    spans, logs = tracer_provider(), logger_provider()
    spans.add_span_processor(SimpleSpanProcessor(RedactingSpanExporter(wire, REDACTOR)))
    logs.add_log_record_processor(SimpleLogRecordProcessor(RedactingLogRecordExporter(log_wire, REDACTOR)))
    with spans.get_tracer("t").start_as_current_span(f"token={CANARY}") as span:
        span._links = [object()]

    class Broken:
        def __str__(self):
            raise ValueError(CANARY)

    logs.get_logger("l").emit(body=Broken(), attributes={"kept": "yes"})
    assert wire.spans[0].name == "[redacted:unreadable]"
    assert log_wire.records[0].log_record.body == "[redacted:unreadable]"
    assert log_wire.records[0].log_record.attributes["kept"] == "yes"
    assert {("unreadable", "span"), ("unreadable", "log")} <= set(counted)


def test_an_exporter_whose_method_comes_from_a_mixin_is_covered_too():
    """As exporters share their sending."""

    class Sends:
        def export(self, spans):
            sent.extend(span.name for span in spans)

    class Mixed(Sends, ConsoleSpanExporter):
        pass

    sent = []
    provider = tracer_provider(active_span_processor=SimpleSpanProcessor(Mixed()))  # no fan-out of the SDK's
    cover_sdk(lambda: REDACTOR)
    try:
        with provider.get_tracer("t").start_as_current_span(f"token={CANARY}") as span:
            pass
        Mixed().export(spans=[span])  # an argument by its name
    finally:
        uncover_sdk()
    assert sent == ["token=[redacted:token]"] * 2
    assert "export" not in Mixed.__dict__


# --- by name --------------------------------------------------------------------------------------------------


@pytest.fixture
def console(monkeypatch):
    """Our exporters around those that print."""
    for signal in ("TRACES", "LOGS", "METRICS"):
        monkeypatch.setenv(f"MOBIUS_OTEL_{signal}_EXPORTER", "console")


def test_the_exporter_that_the_environment_names_is_wrapped(console):
    """For each of the three signals."""
    assert isinstance(NamedSpanExporter()._inner, ConsoleSpanExporter)
    assert isinstance(NamedLogRecordExporter()._inner, ConsoleLogRecordExporter)
    assert isinstance(NamedMetricExporter()._inner, ConsoleMetricExporter)


def test_otlp_is_the_default_by_the_configured_protocol(monkeypatch):
    """The signal's own variable before the shared one, as everywhere."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    assert isinstance(NamedSpanExporter()._inner, HttpSpanExporter)
    exporter = NamedLogRecordExporter()
    assert type(exporter._inner).__module__.startswith("opentelemetry.exporter.otlp.proto.grpc")
    exporter.shutdown()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "pigeon")
    with pytest.raises(ConfigurationError, match=r"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL.*pigeon"):
        NamedSpanExporter()


@pytest.mark.parametrize("name", ["mobius_redact", "nobody", "otlp,console", "prometheus"])
def test_a_name_that_cannot_be_wrapped_is_an_error(monkeypatch, name):
    """It names the variable and the value; nothing is exported rather than everything."""
    monkeypatch.setenv("MOBIUS_OTEL_METRICS_EXPORTER", name)
    with pytest.raises(ConfigurationError, match="MOBIUS_OTEL_METRICS_EXPORTER") as raised:
        NamedMetricExporter()
    assert name in str(raised.value)


def test_a_description_without_the_package_that_reads_it_is_an_error(monkeypatch):
    """It says what is missing."""
    for name in {
        "opentelemetry.configuration",
        *(m for m in sys.modules if m.startswith("opentelemetry.configuration.")),
    }:
        monkeypatch.setitem(sys.modules, name, None)  # also what an earlier test has imported of it
    with pytest.raises(ConfigurationError, match="opentelemetry-configuration"):
        NamedSpanExporter({"otlp_http": {}})


def test_a_description_is_read_as_in_a_configuration_file():
    """Also one of a plug-in, and one without contents."""
    pytest.importorskip("opentelemetry.configuration")
    assert isinstance(NamedSpanExporter({"otlp_http": {"endpoint": "http://x/v1/traces"}})._inner, HttpSpanExporter)
    assert isinstance(NamedLogRecordExporter({"console": None})._inner, ConsoleLogRecordExporter)
    assert isinstance(NamedMetricExporter(exporter={"console": {}})._inner, ConsoleMetricExporter)


def test_the_configuration_file_of_the_guide_is_one(tmp_path):
    """What a reader copies is what the package that reads it takes."""
    configuration = pytest.importorskip("opentelemetry.configuration")
    page = (Path(__file__).parents[3] / "docs" / "exits.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "otel.yaml").write_text(text)
    assert configuration.load_config_file(str(tmp_path / "otel.yaml")).file_format == "1.0"


def test_log_records_and_spans_pass_through_the_named_exporters(console):
    """What they hand on holds no secret."""
    spans, logs = tracer_provider(), logger_provider()
    span_exporter, log_exporter = NamedSpanExporter(), NamedLogRecordExporter()
    span_exporter._inner, log_exporter._inner = Wire(), LogWire()
    spans.add_span_processor(SimpleSpanProcessor(span_exporter))
    logs.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    emit_span(spans)
    emit_log(logs)
    assert clean(span_exporter._inner.sent)
    assert clean(log_exporter._inner.sent)
