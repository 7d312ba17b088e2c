"""The doors: what comes in over HTTP and gRPC, what is refused, and what it costs to be rude."""

import asyncio
import gzip
import http.client
import json
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import zlib

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from mobius_otel import MetricEmitter
from mobius_otel.errors import ConfigurationError
from mobius_otel.sidecar import Limits, Sidecar, server
from tests.sidecar.kit import PROTOBUF, counter, gauge, histogram, page, post, report, values


@pytest.fixture
def sidecar():
    with Sidecar(port=0, grpc_port=0) as opened:
        yield opened


def good(sidecar):
    """Whether it still takes and shows."""
    before = page(sidecar).get(("alive_total",), 0)
    status, _ = post(sidecar, report("alive", alive=counter(int(before) + 1)).SerializeToString())
    return status == 200 and page(sidecar)["alive_total",] == before + 1


def test_what_the_sdk_sends_over_http_and_grpc_is_one_page(sidecar):
    """Two workers by two protocols; the page has the names of one worker's own."""
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    exporters = [
        Http(f"{sidecar.endpoint}/v1/metrics", compression=Compression.Gzip),
        Grpc(sidecar.grpc_endpoint, insecure=True),
    ]
    for name, exporter in zip("ab", exporters, strict=True):
        resource = Resource({"service.name": "shop", "service.instance.id": name})
        provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource=resource)
        emitter = MetricEmitter("shop", meter_provider=provider)
        emitter.counter("orders.placed", "{order}", "Orders.").add(2, {"currency": "EUR"})
        emitter.timer("checkout.duration", buckets=[0.1, 1]).record(0.5)
        emitter.up_down_counter("jobs.running", "{job}").add(3)
        provider.force_flush()
        provider.shutdown()
    found = page(sidecar)
    assert found["orders_placed_total", "currency=EUR"] == 4
    assert found["checkout_duration_seconds_bucket", "le=0.1"] == 0
    assert found["checkout_duration_seconds_bucket", "le=1.0"] == 2
    assert found["checkout_duration_seconds_count",] == 2
    assert found["jobs_running",] == 6
    assert found["target_info", "service_name=shop"] == 1


def test_the_page_reads_like_that_of_one_process(sidecar):
    """Names, labels, help and types: a dashboard need not know whether there is a sidecar."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry, generate_latest

    from mobius_otel.web.exposition import PageCollector

    collector = PageCollector()
    registry = CollectorRegistry()
    exporter = OTLPMetricExporter(f"{sidecar.endpoint}/v1/metrics")
    provider = MeterProvider(
        [collector.reader, PeriodicExportingMetricReader(exporter)], resource=Resource({"service.name": "shop"})
    )
    registry.register(collector)
    emitter = MetricEmitter("shop", "1.2", meter_provider=provider)
    emitter.counter("orders.placed", "{order}", "Orders, of all kinds.").add(2, {"currency.code": "EUR", "new": True})
    emitter.counter("bytes.sent", "By").add(7)
    emitter.timer("checkout.duration").record(0.5, {"step": 'pay "now"\n'})
    emitter.up_down_counter("jobs.running", "{job}").add(3)
    provider.force_flush()
    own = set(generate_latest(registry).decode().splitlines())
    with urllib.request.urlopen(f"{sidecar.endpoint}/metrics") as answer:
        merged = set(answer.read().decode().splitlines())
    provider.shutdown()
    assert own ^ merged == set()


def test_the_page_is_negotiated(sidecar):
    """OpenMetrics, gzip; HEAD has no body; Prometheus' own check is content."""
    post(sidecar, report("a", n=counter(3, k="v"), h=histogram([1, 1, 0], 3.0), g=gauge(1.0)).SerializeToString())
    request = urllib.request.Request(
        f"{sidecar.endpoint}/metrics",
        headers={"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = gzip.decompress(answer.read()).decode()
    assert {family.name for family in parse_openmetrics(text)} >= {"n", "h", "g"}
    with urllib.request.urlopen(urllib.request.Request(f"{sidecar.endpoint}/metrics", method="HEAD")) as answer:
        assert (answer.status, answer.read()) == (200, b"")
    if shutil.which("promtool"):
        with urllib.request.urlopen(f"{sidecar.endpoint}/metrics") as answer:
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=answer.read(), capture_output=True, check=False
            )
        assert b"error" not in done.stderr.lower()


def test_how_it_is(sidecar):
    """/healthz for whoever watches it."""
    post(sidecar, report("a", n=counter(3)).SerializeToString())
    with urllib.request.urlopen(f"{sidecar.endpoint}/healthz") as answer:
        assert json.load(answer) == {"service": "shop", "workers": 1, "series": 1, "rejected_points": 0}


GZIP = {**PROTOBUF, "Content-Encoding": "gzip"}
REFUSED = {
    "garbage": (b"\x00\xff" * 50, PROTOBUF, 400),
    "text": (b"n_total 1\n", PROTOBUF, 400),
    "json": (b"{}", {"Content-Type": "application/json"}, 415),
    "no type": (b"", {}, 415),
    "an encoding nobody knows": (b"x", {**PROTOBUF, "Content-Encoding": "br"}, 415),
    "no gzip": (b"x" * 100, GZIP, 400),
    "half a gzip": (gzip.compress(bytes(random.Random(1).randbytes(999)))[:-20], GZIP, 400),
    "a gzip bomb": (gzip.compress(b"\0" * 5_000_000), GZIP, 413),
    "a deflate bomb": (zlib.compress(b"\0" * 5_000_000), {**PROTOBUF, "Content-Encoding": "deflate"}, 413),
    "too large": (b"\0" * 300_000, PROTOBUF, 413),
    "a length that is none": (None, {**PROTOBUF, "Content-Length": "-1"}, 400),
    "a length of a thousand digits": (None, {**PROTOBUF, "Content-Length": "9" * 1000}, 413),
    "chunks": (None, {**PROTOBUF, "Transfer-Encoding": "chunked"}, 411),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_gets_a_4xx_with_one_line(case):
    """And the next one is served."""
    body, headers, expected = REFUSED[case]
    with Sidecar(port=0, limits=Limits(body=200_000, unpacked=1_000_000)) as sidecar:
        status, answer = post(sidecar, body, headers)
        assert status == expected
        assert answer.count(b"\n") == 1
        assert good(sidecar)


def test_paths_and_methods_that_are_not_there(sidecar):
    """404 and 501, and nothing of a traceback."""
    assert post(sidecar, b"", path="/v1/traces")[0] == 404
    connection = http.client.HTTPConnection(sidecar.endpoint.removeprefix("http://"))
    for method, path, status in [("GET", "/", 404), ("PUT", "/v1/metrics", 501), ("GET", "/metrics/../x", 404)]:
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, b"Traceback" in answer.read()) == (status, False)
    connection.close()


def test_ten_thousand_broken_bodies(sidecar):
    """Mutations of a good request: each is taken or refused, none is an error of ours."""
    random_ = random.Random(7)
    whole = report("a", n=counter(3, k="v"), h=histogram([1, 1, 0], 3.0), g=gauge(1.0)).SerializeToString()
    taken = 0
    for _ in range(10_000):
        body = bytearray(whole)
        for _ in range(random_.randint(1, 8)):
            body[random_.randrange(len(body))] = random_.randrange(256)
        try:
            sidecar.take(sidecar.parse(bytes(body[: random_.randint(1, len(body))]), ""))
            taken += 1
        except server.Rejected:
            pass
    assert taken
    assert len(sidecar.merged.series) < 10_000
    with urllib.request.urlopen(f"{sidecar.endpoint}/metrics") as answer:
        assert values(answer.read().decode())


def test_clients_that_hang_hold_up_nobody(sidecar, monkeypatch):
    """Connections that say nothing, that stop in the middle of a body, that go away."""
    monkeypatch.setattr(server, "_READ_SECONDS", 0.5)
    address = ("127.0.0.1", int(sidecar.endpoint.rsplit(":", 1)[1]))
    hanging = []
    for number in range(120):
        connection = socket.create_connection(address)
        if number % 3:
            size = 2_000_000 if number % 2 else 1000
            head = f"POST /v1/metrics HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nContent-Length: {size}\r\n"
            connection.sendall(head.encode() + b"\r\nhalf")
        hanging.append(connection)
    assert good(sidecar)
    for connection in hanging:
        connection.close()
    assert good(sidecar)


def test_more_connections_than_are_served(sidecar, monkeypatch):
    """The rest is hung up on; when the others are gone there is room again."""
    address = ("127.0.0.1", int(sidecar.endpoint.rsplit(":", 1)[1]))
    held = [socket.create_connection(address) for _ in range(server._CONNECTIONS + 20)]
    time.sleep(0.5)
    for connection in held:
        connection.close()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            assert good(sidecar)
            break
        except OSError:
            time.sleep(0.1)
    else:
        pytest.fail("no room again")


def test_sixty_four_workers_at_once(sidecar):
    """Exactly what they sent, while the page is read all the time."""
    rounds, workers = 10, 64
    stop = threading.Event()

    def scrape():
        while not stop.is_set():
            page(sidecar)

    def work(name):
        for count in range(1, rounds + 1):
            body = report(name, n=counter(count, k="v"), h=histogram([count, 0, 0], 1.0 * count)).SerializeToString()
            assert post(sidecar, body)[0] == 200

    reader = threading.Thread(target=scrape)
    reader.start()
    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    found = page(sidecar)
    assert (found["n_total", "k=v"], found["h_count",]) == (rounds * workers, rounds * workers)
    assert sidecar.status()["workers"] == workers


def test_fifty_thousand_series(tmp_path):
    """Reported, shown, and there again after a restart."""
    request = report("a")
    metric = request.resource_metrics[0].scope_metrics[0].metrics.add(name="many")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = 2
    for number in range(50_000):
        point = metric.sum.data_points.add(start_time_unix_nano=1, time_unix_nano=2, as_int=number)
        point.attributes.add(key="i").value.string_value = str(number)
    path = str(tmp_path / "state")
    for _ in range(2):
        with Sidecar(port=0, state=path) as sidecar:
            assert (
                post(sidecar, gzip.compress(request.SerializeToString()), {**PROTOBUF, "Content-Encoding": "gzip"})[0]
                == 200
            )
            with urllib.request.urlopen(f"{sidecar.endpoint}/metrics") as answer:
                text = answer.read().decode()
            assert text.count("\nmany_total{") == 50_000
            assert 'many_total{i="49999",' in text


def test_ports_that_are_taken_are_told(sidecar):
    """By the name of the option."""
    port = int(sidecar.endpoint.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=r"--port.*nobody else listens on"):
        Sidecar(port=port)
    grpc_port = int(sidecar.grpc_endpoint.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=r"--grpc-port.*nobody else listens on"):
        Sidecar(port=0, grpc_port=grpc_port)


def test_grpc_refuses_another_service(sidecar):
    """INVALID_ARGUMENT: retrying would not help."""
    import grpc
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

    with grpc.insecure_channel(sidecar.grpc_endpoint.removeprefix("http://")) as channel:
        stub = MetricsServiceStub(channel)
        assert stub.Export(report("a", n=counter(-1))).partial_success.rejected_data_points == 1
        with pytest.raises(grpc.RpcError) as caught:
            stub.Export(report("a", "bank", n=counter(1)))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_it_is_deaf_to_an_event_loop():
    """Opened inside a running loop, as in a notebook."""

    async def main():
        with Sidecar(port=0) as sidecar:
            return await asyncio.to_thread(good, sidecar)

    assert asyncio.run(main())
