"""``/metrics``: a valid page whatever the meters hold, in the form that is asked for, without a redirect."""

import asyncio
import gzip
import logging
import shutil
import subprocess
import threading

import prometheus_client
import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mobius_otel import MetricEmitter
from mobius_otel.policy import parse_policy
from mobius_otel.web import (
    Guard,
    SecurityMiddleware,
    WSGISecurityMiddleware,
    exposition,
    metrics_app,
    metrics_wsgi_app,
    prometheus,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def provider(monkeypatch):
    """A provider whose metrics a page of this test's own shows."""
    monkeypatch.setattr(prometheus, "_state", {})
    views = [View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider(views=views, shutdown_on_exit=False)
    prometheus.attach_reader(provider)
    prometheus.attach_reader(provider)  # once is enough
    return provider


def scrape(app=None, accept="", encoding="", method="GET", query=""):
    """Ask the WSGI application and return status, headers and body."""
    started = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": "/metrics", "QUERY_STRING": query, "HTTP_ACCEPT": accept,
               "HTTP_ACCEPT_ENCODING": encoding}  # fmt: skip
    body = b"".join((app or metrics_wsgi_app())(environ, lambda *start: started.append(start)))
    ((status, headers),) = started
    return status, dict(headers), body


def samples(page):
    """Return what a page in text form says, and fail where it is not valid."""
    return {
        (
            sample.name,
            frozenset((k, v) for k, v in sample.labels.items() if not k.startswith("otel_scope")),
        ): sample.value
        for family in parse_text(page.decode())
        for sample in family.samples
    }


def valid(page):
    """Fail where Prometheus itself would not read the page."""
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
        assert checked.returncode in {0, 3}, checked.stderr  # 3: it would name things otherwise
    return samples(page)


def test_a_page_has_what_was_counted(provider):
    """Bound and unbound, in the names and units of Prometheus."""
    emitter = MetricEmitter("shop", meter_provider=provider)
    emitter.counter("orders.placed", "{order}", "Orders.").bind({"currency": "EUR"}).add(3)
    emitter.gauge("room.temperature", "Cel").set(-2.5)
    emitter.up_down_counter("jobs.running", "{job}").add(-1)
    emitter.timer("checkout.duration", buckets=[0.1, 1]).record(0.5)
    found = valid(scrape()[2])
    none = frozenset()
    assert found["orders_placed_total", frozenset({("currency", "EUR")})] == 3
    assert found["room_temperature_celsius", none] == -2.5
    assert found["jobs_running", none] == -1
    assert found["checkout_duration_seconds_bucket", frozenset({("le", "0.1")})] == 0
    assert found["checkout_duration_seconds_bucket", frozenset({("le", "1.0")})] == 1
    assert found["checkout_duration_seconds_count", none] == 1


def test_the_form_is_the_one_that_is_asked_for(provider):
    """Text, OpenMetrics, compressed; HEAD has no body."""
    MetricEmitter("shop", meter_provider=provider).counter("orders").add(3)
    status, headers, body = scrape()
    assert (status, headers["Content-Type"].split(";")[0]) == ("200 OK", "text/plain")
    _, headers, compressed = scrape(encoding="gzip")
    assert (headers["Content-Encoding"], gzip.decompress(compressed)) == ("gzip", body)
    _, headers, page = scrape(accept=OPENMETRICS)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
    assert {family.name for family in parse_openmetrics(page.decode())} >= {"orders", "target"}
    assert scrape(method="HEAD")[::2] == ("200 OK", b"")
    assert scrape(method="POST")[0].startswith("405")
    assert b"orders" not in scrape(query="name[]=other")[2]


BROKEN = {
    "an exponential histogram": (
        lambda meter: (meter.create_histogram("exponential").record(3)),
        "leaves exponential out: Prometheus has no form", "untranslatable",
    ),
    "a counter and a gauge that become one": (
        lambda meter: (meter.create_counter("c").add(1), meter.create_gauge("c_total").set(2)),
        "leaves c_total out: a gauge cannot share the name", "name_collision",
    ),
    "a histogram and a gauge that become one": (
        lambda meter: (meter.create_histogram("h").record(1), meter.create_gauge("h_count").set(2)),
        "leaves h_count out", "name_collision",
    ),
    "two attributes that become one": (
        lambda meter: (meter.create_counter("d").add(1, {"a.b": 1}), meter.create_counter("d").add(1, {"a_b": 1})),
        "leaves a series of d out", "label_collision",
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_what_would_break_a_scrape_is_left_out_and_told_once(provider, telemetry, caplog, broken):
    """The rest of the page is served, and valid in both forms."""
    make, said, kind = BROKEN[broken]
    make(provider.get_meter("theirs"))
    provider.get_meter("ours").create_counter("good").add(7)
    with caplog.at_level(logging.WARNING):
        pages = [scrape()[2] for _ in range(3)]
        list(parse_openmetrics(scrape(accept=OPENMETRICS)[2].decode()))
    for page in pages:
        assert valid(page)["good_total", frozenset()] == 7
    assert len([r for r in caplog.records if said in r.getMessage()]) == 1
    assert telemetry.metric("mobius.internal.errors", {"mobius.component": "prometheus", "error.type": kind}) == 1


def test_names_that_become_one_are_one_family(provider):
    """`a.b` of one scope and `a_b` of another, described otherwise: told apart by their scope."""
    provider.get_meter("x").create_counter("a.b", description="one").add(1)
    provider.get_meter("y").create_counter("a_b", description="two").add(2)
    page = scrape()[2]
    valid(page)
    assert page.count(b"# TYPE a_b_total counter") == 1
    assert page.count(b"# HELP a_b_total one") == 1
    assert sorted(line.rsplit(b" ", 1)[1] for line in page.splitlines() if line.startswith(b"a_b_total{")) == [
        b"1.0", b"2.0"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ['"', "\\", "\n", "a\r\nb", "\u2028", "ü", "", "{}", "x" * 10_000, "\x00"])
def test_whatever_stands_in_a_description_or_attribute_the_page_is_valid(provider, text):
    """Escaped as the format says."""
    MetricEmitter("x", meter_provider=provider).counter("n", description=text).add(1, {"v": text, "w.x-y": 1})
    page = scrape()[2]
    valid(page)
    assert ("n_total", frozenset({("v", text), ("w_x_y", "1")})) in samples(page)


def test_scrapes_at_the_same_time_are_pages_of_their_own(provider):
    """The exporter's queue is shared; here one scrape waits for the other."""
    counter = MetricEmitter("x", meter_provider=provider).counter("n")
    for number in range(50):
        counter.add(1, {"n": number})
    pages = []
    threads = [threading.Thread(target=lambda: pages.append(scrape()[2])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(samples(page)) for page in pages} == {51}
    assert {len(page.splitlines()) for page in pages} == {len(pages[0].splitlines())}


def test_a_reader_that_fails_leaves_an_empty_page_that_is_valid(provider, monkeypatch, telemetry):
    """No scrape is answered with an error of telemetry."""
    from mobius_otel.telemetry import safety

    monkeypatch.setattr(exposition.PageReader, "_receive_metrics", lambda *_: 1 / 0)
    before = safety.raise_errors(False)
    try:
        status, _, page = scrape()
    finally:
        safety.raise_errors(before)
    assert (status, samples(page)) == ("200 OK", {})


def test_a_services_own_prometheus_metrics_are_left_alone(provider):
    """The page has a registry of its own."""
    from prometheus_client import REGISTRY

    assert prometheus.registry() is not REGISTRY
    assert isinstance(prometheus.registry(), CollectorRegistry)


@pytest.mark.parametrize("make", [SecurityMiddleware, WSGISecurityMiddleware])
def test_own_metrics_that_the_guards_page_has_not_are_told_once(provider, monkeypatch, caplog, make):
    """A dashboard of theirs goes blank when the guard answers at the path of their page; Python's own are none."""
    own = CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", own)
    policy = parse_policy('[metrics]\npath = "/metrics"\n')

    def scrape_guard():
        app = make(None, Guard(policy, None))
        asyncio.run(_asked(app)) if make is SecurityMiddleware else scrape(app)

    prometheus_client.PlatformCollector(own)
    scrape_guard()
    assert caplog.messages == []
    prometheus_client.Counter("own_requests", "Counted by the service.", registry=own)
    for _ in range(2):
        scrape_guard()
    (said,) = caplog.messages
    assert "'/metrics' answers in the place of" in said
    assert "(own_requests, 1 in all)" in said


async def _asked(app):
    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}

    async def nothing(*_):
        """Take an answer, give no body."""

    await app(scope, nothing, nothing)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_over_asgi_it_is_the_same_page(provider, accept):
    """Whole, with the same headers."""
    MetricEmitter("x", meter_provider=provider).counter("n").add(2)
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"",
             "headers": [(b"accept", accept.encode())]}  # fmt: skip
    asyncio.run(metrics_app()(scope, receive, send))
    _, headers, body = scrape(accept=accept)
    assert sent[0]["status"] == 200
    assert (b"content-type", headers["Content-Type"].encode()) in sent[0]["headers"]
    assert sent[1]["body"] == body


def test_a_collection_does_not_hold_up_the_event_loop(provider):
    """It runs in a thread: while a slow callback is asked, the loop serves others."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        go_on.wait(10)
        return [Observation(1)]

    provider.get_meter("x").create_observable_gauge("slow", [slow])

    async def send(_):
        pass

    async def drive():
        task = asyncio.create_task(metrics_app()({"type": "http", "method": "GET", "headers": []}, None, send))
        while not asked.is_set():
            await asyncio.sleep(0.001)
        go_on.set()
        await task

    asyncio.run(asyncio.wait_for(drive(), 20))


def test_a_route_of_starlette_serves_it_without_a_redirect(provider):
    """As the docstring shows it; another kind of connection is an error and no silence."""
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    MetricEmitter("x", meter_provider=provider).counter("n").add(2)
    client = TestClient(Starlette(routes=[Route("/metrics", metrics_app())]), follow_redirects=False)
    answer = client.get("/metrics")
    assert (answer.status_code, "n_total" in answer.text) == (200, True)
    with pytest.raises(RuntimeError, match="answers http, not websocket"):
        asyncio.run(metrics_app()({"type": "websocket"}, None, None))
