"""Metric facades: real instruments behind them, exact under threads, silent where nobody listens."""

import asyncio
import logging
import math
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mobius_otel import ConfigurationError, InMemoryMetricsBackend, MetricEmitter, metric_timer


@pytest.fixture
def backend():
    """A backend in memory."""
    return InMemoryMetricsBackend()


@pytest.fixture
def emitter(backend):
    """An emitter that records to it."""
    return MetricEmitter("checkout", version="1.2", backend=backend, default_attributes={"region": "eu"})


def test_counters_gauges_and_timers_arrive(emitter, backend):
    """What is recorded is there, with the default attributes."""
    emitter.counter("orders.placed", unit="{order}").add(2, {"currency": "EUR"})
    emitter.counter("orders.placed", unit="{order}").add()
    gauge = emitter.gauge("queue.depth")
    gauge.set(3)
    gauge.add(-1)
    gauge.set(9, {"queue": "mail"})
    emitter.timer("checkout.duration").record(0.2, {"step": "pay"})
    assert backend.value("orders.placed") == 3
    assert backend.value("orders.placed", currency="EUR", region="eu") == 2
    assert backend.value("queue.depth", queue="mail") == 9
    assert [point.value for point in backend.points("queue.depth") if "queue" not in point.attributes] == [2]
    assert (backend.count("checkout.duration", step="pay"), backend.value("checkout.duration")) == (1, 0.2)
    assert backend.names() == ["checkout.duration", "orders.placed", "queue.depth"]


def test_any_meter_provider_will_do():
    """The facade is thin: one meter of the given provider."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    MetricEmitter("x", version="9", meter_provider=provider).counter("n").add(4)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version, scope.metrics[0].data.data_points[0].value) == ("x", "9", 4)


def test_without_a_provider_nothing_happens_and_it_lights_up_when_there_is_one():
    """A handle that was made at import does nothing, and then counts."""
    code = """
    from mobius_otel import MetricEmitter
    handle = MetricEmitter("early").counter("n").bind({"a": 1})
    handle.add(5)
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    handle.add(2)
    print(reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr


def test_eight_threads_lose_nothing(emitter, backend):
    """Exact, for counters, bound series, gauges and timers."""
    counter, gauge, timer = emitter.counter("n"), emitter.gauge("g"), emitter.timer("t")
    bound = counter.bind({"bound": True})

    def work():
        for _ in range(2000):
            counter.add(1, {"bound": False})
            bound.add()
            gauge.add(1)
            timer.record(0.001)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (backend.value("n", bound=False), backend.value("n", bound=True)) == (16_000, 16_000)
    assert (backend.value("g"), backend.count("t")) == (16_000, 16_000)


def test_a_timer_times_blocks_functions_and_coroutines(emitter, backend):
    """Nested, failing, decorated: each is one measurement; a failure names its class, never its text."""
    timer = emitter.timer("t", buckets="http")

    @timer
    def plain(value):
        """Doc."""
        return value

    @timer
    async def later(value):
        return value

    with timer.time({"step": "outer"}) as outer, timer.time({"step": "inner"}):
        outer.attributes["more"] = "yes"
    with pytest.raises(LookupError), timer.time():
        raise LookupError("secret")
    assert (plain(1), plain.__name__, plain.__doc__, asyncio.run(later(2))) == (1, "plain", "Doc.", 2)
    assert backend.count("t") == 5
    assert backend.count("t", {"step": "outer", "more": "yes"}) == 1
    assert backend.count("t", {"error.type": "LookupError"}) == 1


def test_metric_timer_is_on_the_default_emitter(telemetry):
    """Short, for the line it stands in."""
    with metric_timer("checkout.duration", step="pay"):
        pass
    assert telemetry.metric("checkout.duration", step="pay") == 1


@pytest.mark.parametrize("amount", [-1, math.nan, math.inf, "1", None])
def test_a_bad_amount_is_refused_with_one_log_line(emitter, backend, caplog, amount):
    """A hot path never raises."""
    counter = emitter.counter("n")
    with caplog.at_level(logging.WARNING):
        counter.add(amount)
        counter.add(amount)
        emitter.timer("t").record(amount)
    assert backend.value("n") == 0
    assert len([r for r in caplog.records if "n refused an amount" in r.getMessage()]) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda e: e.counter("1st"), "a letter followed by"),
        (lambda e: e.counter("x" * 300), "at most 254"),
        (lambda e: e.counter("a b"), "a letter followed by"),
        (lambda e: e.counter("n", unit="ü"), "a UCUM unit"),
        (lambda e: e.timer("t", buckets=[2, 1]), "rising numbers"),
        (lambda e: e.timer("t", buckets="slow"), "rising numbers"),
        (lambda e: (e.counter("n"), e.gauge("n")), "used for one instrument"),
        (lambda e: (e.counter("n"), e.counter("n", unit="By")), "used for one instrument"),
        (lambda e: e.counter("n").bind({}).set(1), "the series of a gauge"),
        (lambda _: MetricEmitter(""), "a name that is not empty"),
    ],
)
def test_a_bad_name_is_refused_when_the_instrument_is_made(emitter, make, said):
    """One clear error, at construction."""
    with pytest.raises(ConfigurationError, match=said):
        make(emitter)


def test_an_observed_gauge_that_fails_costs_itself_alone(telemetry):
    """The collection goes on, and the error is counted."""
    from mobius_otel.telemetry import safety

    backend = InMemoryMetricsBackend()
    emitter = MetricEmitter("x", backend=backend)
    emitter.observe("bad", lambda: 1 / 0)
    emitter.observe("good", lambda: [(7, {"a": 1})])
    before = safety.raise_errors(False)
    try:
        assert backend.value("good") == 7
    finally:
        safety.raise_errors(before)
    assert telemetry.metric("mobius.internal.errors", {"mobius.component": "metrics"}) >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_go_on_counting():
    """Nothing of ours holds a lock across a fork."""
    code = """
    import os, threading
    from mobius_otel import MetricEmitter
    counter = MetricEmitter("x").counter("n")
    gauge = MetricEmitter("x").gauge("g")
    pid = os.fork()
    counter.add(1); gauge.add(1)
    if pid == 0:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == "0", done.stderr
