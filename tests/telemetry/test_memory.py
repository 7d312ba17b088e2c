"""The backend in memory: what it answers, while others write, and without the SDK's help."""

import subprocess
import sys
import threading

import pytest
from opentelemetry.metrics import Observation

from mobius_otel import ConfigurationError, InMemoryMetricsBackend, MetricEmitter


@pytest.fixture
def backend():
    """A backend with a little in it."""
    backend = InMemoryMetricsBackend()
    emitter = MetricEmitter("x", backend=backend)
    emitter.counter("orders").add(2, {"currency": "EUR", "http.route": "/a"})
    emitter.counter("orders").bind({"currency": "USD", "http.route": "/a"}).add(3)
    emitter.gauge("depth").set(7, {"queue": "mail"})
    for seconds in (0.1, 0.4, 0.2, 0.3):
        emitter.timer("took").record(seconds, {"step": "pay"})
    emitter.timer("took").record(9, {"step": "ship"})
    return backend


def test_every_question_takes_attributes(backend):
    """By keyword, or as a mapping where a name is no keyword."""
    assert backend.value("orders") == 5
    assert backend.value("orders", currency="EUR") == 2
    assert backend.value("orders", {"http.route": "/a"}, currency="USD") == 3
    assert backend.value("orders", currency="GBP") == backend.value("unknown") == backend.count("unknown") == 0
    assert (backend.count("took"), backend.count("took", step="pay")) == (5, 4)
    assert backend.sum("took", step="pay") == 1.0
    assert backend.values("took", step="pay") == [0.1, 0.4, 0.2, 0.3]
    assert backend.names() == ["depth", "orders", "took"]
    assert [series.attributes["step"] for series in backend.series("took")] == ["pay", "ship"]
    assert repr(backend) == "InMemoryMetricsBackend(3 metrics)"


@pytest.mark.parametrize(("percent", "seconds"), [(0, 0.1), (50, 0.25), (100, 0.4), (75, 0.325), (99, 0.397)])
def test_percentiles_lie_between_their_neighbours(backend, percent, seconds):
    """In proportion, as most tools do it."""
    assert backend.percentile("took", percent, step="pay") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "percent", "said"),
    [
        ("took", 101, "0 to 100"),
        ("took", -1, "0 to 100"),
        ("orders", 50, "with values; there is"),
        ("none", 50, "took"),
    ],
)
def test_a_percentile_of_nothing_is_an_error_that_says_what_there_is(backend, name, percent, said):
    """A typo is not a number."""
    with pytest.raises(ConfigurationError, match=said):
        backend.percentile(name, percent)


def test_a_snapshot_tells_later_what_changed(backend):
    """And nothing else."""
    emitter = MetricEmitter("x", backend=backend)
    before = backend.snapshot()
    assert backend.diff(before) == []
    emitter.counter("orders").add(4, {"currency": "EUR", "http.route": "/a"})
    emitter.timer("took").record(5, {"step": "pay"})
    emitter.gauge("depth").set(6, {"queue": "mail"})
    emitter.counter("new").add(1)
    changed = {(series.name, series.value, series.count, series.values) for series in backend.diff(before)}
    assert changed == {("orders", 4, 0, ()), ("took", 5.0, 1, (5,)), ("depth", 6, 0, ()), ("new", 1, 0, ())}
    assert backend.value("orders") == 9


def test_reset_forgets_and_handles_go_on(backend):
    """Also what a bound series had not told yet."""
    counter = MetricEmitter("x", backend=backend).counter("orders")
    bound = counter.bind({"a": 1})
    bound.add(5)
    backend.reset()
    assert backend.names() == []
    bound.add(2)
    counter.add(1, {"a": 1})
    assert backend.value("orders") == 3


def test_it_is_exact_while_it_is_read_and_reset():
    """What was added before a question is in its answer, and what is taken out is taken once."""
    backend = InMemoryMetricsBackend()
    bound = MetricEmitter("x", backend=backend).counter("n").bind({"a": 1})
    timer = MetricEmitter("x", backend=backend).timer("t")
    done = threading.Event()
    seen = []

    def read():
        while not done.is_set():
            seen.append((backend.value("n"), backend.count("t")))

    def work():
        for _ in range(3000):
            bound.add()
            timer.record(1)

    reader = threading.Thread(target=read)
    reader.start()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert (backend.value("n"), backend.count("t"), backend.sum("t")) == (24_000, 24_000, 24_000)


def test_any_opentelemetry_code_may_record_to_it():
    """Its provider is an ordinary one of the API."""
    backend = InMemoryMetricsBackend()
    meter = backend.meter_provider.get_meter("other")
    assert meter is backend.meter_provider.get_meter("other")
    meter.create_observable_counter("seen", [lambda _: [Observation(5, {"a": 1})]])
    meter.create_observable_up_down_counter("open", [lambda _: [Observation(-2)]])
    meter.create_observable_gauge("level", [lambda _: [Observation(0.5)]])
    meter.create_up_down_counter("moved").add(-3)
    for _ in range(2):
        assert [backend.value(name) for name in ("seen", "open", "level", "moved")] == [5, -2, 0.5, -3]


def test_it_needs_no_sdk():
    """Nothing of the SDK is imported by it, or by an emitter that records to it."""
    code = """
import sys
import mobius_otel.compat as compat
before = {name for name in sys.modules if name.startswith("opentelemetry.sdk.metrics")}
from mobius_otel.telemetry import memory
source = open(memory.__file__).read()
assert "opentelemetry.sdk" not in source
from mobius_otel import InMemoryMetricsBackend, MetricEmitter
backend = InMemoryMetricsBackend()
MetricEmitter("x", backend=backend).counter("n").add(2)
print(backend.value("n"), type(backend.meter_provider).__module__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "mobius_otel.telemetry.memory"], done.stderr
