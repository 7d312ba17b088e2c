"""The receiver of the test kit: decodes all three signals, and answers as it is told."""

import gzip
import http.client
import urllib.request

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from mobius_otel.telemetry.audit.otlp import encode
from mobius_otel.testing.receiver import OtlpReceiver
from tests.telemetry.audit.test_otlp import RECORD


@pytest.fixture
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


def post(receiver, body=None, path="/v1/logs", **headers):
    body = encode([RECORD], {}) if body is None else body
    connection = http.client.HTTPConnection(receiver.endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.headers)
    finally:
        connection.close()


def test_spans_and_metrics_of_the_sdk_are_decoded(receiver):
    """By OpenTelemetry's own exporters."""
    resource = Resource({"service.name": "shop"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.endpoint}/v1/traces")))
    with tracers.get_tracer("t").start_as_current_span("outer", attributes={"a": [1, 2]}) as span:
        span.add_event("e", {"b": True})
    tracers.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.endpoint}/v1/metrics"), 60_000)
    meters = MeterProvider([reader], resource)
    meters.get_meter("m").create_counter("c", unit="{x}").add(3, {"k": "v"})
    meters.get_meter("m").create_histogram("h").record(2.0)
    meters.shutdown()
    (found,) = receiver.spans
    assert (found["name"], found["attributes"], found["resource"]["service.name"]) == ("outer", {"a": [1, 2]}, "shop")
    assert found["events"] == [{"name": "e", "attributes": {"b": True}}]
    counter, histogram = sorted(receiver.metrics, key=lambda metric: metric["name"])
    assert counter["points"] == [{"attributes": {"k": "v"}, "value": 3}]
    assert histogram["points"] == [{"attributes": {}, "count": 1, "sum": 2.0}]


def test_logs_are_decoded_also_compressed(receiver):
    """Plain and gzip give the same dict."""
    assert post(receiver)[0] == 200
    post(receiver, gzip.compress(encode([RECORD], {})), **{"Content-Encoding": "gzip"})
    first, second = receiver.logs
    assert first == second
    assert first["attributes"] == RECORD["attributes"]
    assert (first["timestamp"], first["trace_id"]) == (int(RECORD["timestamp"]), RECORD["trace_id"])


def test_answers_queue_up_and_run_out(receiver):
    """Two of one kind, one of another, then it behaves; only what it accepted counts as received."""
    receiver.answer(status=503, headers={"Retry-After": "7"}, times=2)
    receiver.answer(rejected=-1, times=1)
    assert [post(receiver)[0] for _ in range(2)] == [503, 503]
    status, body, _ = post(receiver)
    assert (status, ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records) == (200, 1)
    assert receiver.logs == []
    assert post(receiver)[:2] == (200, b"")
    assert len(receiver.logs) == 1
    assert [request.status for request in receiver.requests] == [503, 503, 200, 200]


def test_it_can_cut_the_connection_and_say_nonsense(receiver):
    """After it read the request."""
    receiver.answer(cut=True, times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        post(receiver)
    receiver.answer(body=b"nonsense", headers={"Content-Type": "text/html"}, times=1)
    status, body, headers = post(receiver)
    assert (status, body, headers["Content-Type"]) == (200, b"nonsense", "text/html")
    assert receiver.logs == []


def test_what_is_no_otlp_is_refused(receiver):
    """400 for a broken body, 404 for another path."""
    assert post(receiver, b"\xff\xff")[0] == 400
    assert post(receiver, path="/elsewhere")[0] == 404
    assert receiver.requests == []


def test_it_comes_back_on_its_port():
    """As a collector that was restarted; what it received stays readable."""
    receiver = OtlpReceiver()
    with receiver:
        post(receiver)
        endpoint = receiver.endpoint
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(endpoint, timeout=1)
    with receiver:
        assert receiver.endpoint == endpoint
        post(receiver)
    assert len(receiver.logs) == 2
