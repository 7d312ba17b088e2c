"""Metric facades: the same behaviour over the SDK and in memory, exact under threads, silent where nobody listens."""

import logging
import math
import subprocess
import sys
import textwrap
import threading
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mobius_otel import ConfigurationError, InMemoryMetricsBackend, MetricEmitter, conventions
from mobius_otel.telemetry import safety
from tests.telemetry.places import MemoryPlace, OtelPlace


@pytest.fixture(params=[MemoryPlace, OtelPlace], ids=["memory", "otel"])
def place(request):
    """Where the emitter records to."""
    return request.param()


@pytest.fixture
def swallowing():
    """Errors of telemetry are swallowed, as in production."""
    before = safety.raise_errors(False)
    yield
    safety.raise_errors(before)


def run(code, *arguments):
    """Run a program in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_threads(work, number=8):
    """Run `work` in several threads at once."""
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_counters_gauges_histograms_and_timers_arrive(place):
    """What is recorded is there, with the default attributes."""
    emitter = place.emitter("checkout", version="1.2", default_attributes={"region": "eu"})
    emitter.counter("orders.placed", unit="{order}").add(2, {"currency": "EUR"})
    emitter.counter("orders.placed", unit="{order}").add()
    jobs = emitter.up_down_counter("jobs")
    jobs.add(3)
    jobs.add(-1)
    gauge = emitter.gauge("queue.depth")
    gauge.set(3)
    gauge.add(-1)
    gauge.set(9, {"queue": "mail"})
    emitter.timer("checkout.duration").record(0.2, {"step": "pay"})
    emitter.histogram("answer.size", unit="By").record(512)
    eu = ("region", "eu")
    assert place.series("orders.placed") == {frozenset({eu}): 1, frozenset({eu, ("currency", "EUR")}): 2}
    assert place.series("jobs") == {frozenset({eu}): 2}
    assert place.series("queue.depth") == {frozenset({eu}): 2, frozenset({eu, ("queue", "mail")}): 9}
    assert place.series("checkout.duration") == {frozenset({eu, ("step", "pay")}): (1, 0.2)}
    assert place.series("answer.size") == {frozenset({eu}): (1, 512)}


def test_attributes_of_a_call_win_over_the_default_ones(place):
    """As an inner setting does everywhere."""
    place.emitter(default_attributes={"region": "eu"}).counter("n").add(1, {"region": "us"})
    assert place.series("n") == {frozenset({("region", "us")}): 1}


def test_one_series_whatever_the_order_and_way_of_a_call(place):
    """Bound, unbound, in any order of attributes: one series of one stream."""
    counter = place.emitter().counter("n")
    bound = counter.bind({"a": 1, "b": "x"})
    bound.add(2)
    counter.add(3, {"b": "x", "a": 1})
    counter.add(5, {"a": 1, "b": "x"})
    counter.bind({"b": "x", "a": 1}).add(7)
    assert place.series("n") == {frozenset({("a", 1), ("b", "x")}): 17}
    counter.add(1)
    counter.bind().add(1)
    assert place.value("n") == 19


def test_values_that_python_takes_for_equal_are_series_of_their_own(place):
    """True, 1 and 1.0 are three values for OpenTelemetry."""
    counter = place.emitter().counter("n")
    for value in (True, 1, 1.0, "1"):
        counter.add(1, {"v": value})
        counter.bind({"v": value}).add()
    found = place.backend.series("n") if isinstance(place, MemoryPlace) and hasattr(place, "backend") else None
    if found is not None:
        assert [(type(series.attributes["v"]), series.value) for series in found] == [
            (bool, 2), (int, 2), (float, 2), (str, 2)
        ]  # fmt: skip
    else:
        data = place.reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        assert sorted((type(point.attributes["v"]).__name__, point.value) for point in data) == [
            ("bool", 2), ("float", 2), ("int", 2), ("str", 2)
        ]  # fmt: skip


def test_lists_are_attribute_values_too(place):
    """Whatever OpenTelemetry allows, though it can be no key of a dict."""
    counter = place.emitter().counter("n")
    for _ in range(3):
        counter.add(1, {"v": ["a", "b"]})
    counter.bind({"v": ("a", "b")}).add(1)
    assert sum(series for series in _values(place)) == 4


def _values(place):
    if hasattr(place, "backend"):
        return [series.value for series in place.backend.series("n")]
    (metric,) = place.reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    return [point.value for point in metric.data.data_points]


def test_the_caller_may_change_its_dictionary_afterwards(place):
    """A series keeps the attributes that it was given."""
    counter = place.emitter().counter("n")
    attributes = {"a": 1}
    bound = counter.bind(attributes)
    counter.add(1, attributes)
    attributes["a"] = 2
    bound.add()
    counter.add(1, attributes)
    assert place.series("n") == {frozenset({("a", 1)}): 2, frozenset({("a", 2)}): 1}


def test_a_counter_that_counted_nothing_shows_zero_when_it_was_told_so(place):
    """`add(0)` starts a series, as in every metrics library; binding alone does not."""
    counter = place.emitter().counter("n")
    counter.bind({"a": 1})
    counter.bind({"a": 2}).add(0)
    counter.add(0, {"a": 3})
    assert place.series("n") == {frozenset({("a", 2)}): 0, frozenset({("a", 3)}): 0}


def test_eight_threads_lose_nothing_while_it_is_collected(place):
    """Exact, for every kind of instrument, bound and unbound."""
    emitter = place.emitter()
    counter, jobs, gauge, timer = (
        emitter.counter("n"), emitter.up_down_counter("j"), emitter.gauge("g"), emitter.timer("t")
    )  # fmt: skip
    bound, level = counter.bind({"bound": True}), gauge.bind({"bound": True})
    done = threading.Event()

    def collect():
        while not done.is_set():
            place.series("n")
            time.sleep(0.001)

    def work():
        for _ in range(1000):
            counter.add(1, {"bound": False})
            bound.add()
            bound.add(0.5)
            jobs.add(2)
            jobs.add(-1)
            gauge.add(1)
            level.add(1)
            timer.record(0.25)

    collector = threading.Thread(target=collect)
    collector.start()
    in_threads(work)
    done.set()
    collector.join()
    assert place.series("n") == {frozenset({("bound", False)}): 8_000, frozenset({("bound", True)}): 12_000}
    assert place.value("j") == 8_000
    assert place.series("g") == {frozenset(): 8_000, frozenset({("bound", True)}): 8_000}
    assert place.series("t") == {frozenset(): (8_000, 2000.0)}


def test_any_meter_provider_will_do():
    """The facade is thin: one meter of the given provider."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    MetricEmitter("x", version="9", meter_provider=provider).counter("n").add(4)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version, scope.metrics[0].data.data_points[0].value) == ("x", "9", 4)


LIGHTS_UP = """
    import sys
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from mobius_otel import MetricEmitter

    emitter = MetricEmitter("early")
    counter, gauge, timer = emitter.counter("n"), emitter.gauge("g"), emitter.timer("t")
    bound, level = counter.bind({"a": 1}), gauge.bind({"a": 1})
    emitter.observe("o", lambda: [(4, {})])

    def use():
        bound.add(2); counter.add(2, {"a": 1}); gauge.add(2, {"a": 1}); level.add(2); timer.record(2)

    use()
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    if "collect" in sys.argv:
        assert reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].name == "o"
    use()
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    print(sorted((m.name, getattr(m.data.data_points[0], "value", None) or m.data.data_points[0].sum)
                 for m in scope.metrics))
"""


@pytest.mark.parametrize("collected", ["", "collect"])
def test_without_a_provider_nothing_happens_and_handles_light_up_when_there_is_one(collected):
    """A handle that was made at import does nothing until there is an SDK, and then everything, bound or not."""
    assert run(LIGHTS_UP, collected) == "[('g', 4), ('n', 4), ('o', 4), ('t', 2)]"


def test_a_disabled_sdk_is_no_error(monkeypatch):
    """`OTEL_SDK_DISABLED` makes every instrument one that does nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    reader = InMemoryMetricReader()
    emitter = MetricEmitter("x", meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    bound = emitter.counter("n").bind({"a": 1})
    bound.add()
    emitter.counter("n").add(1, {"a": 1})
    emitter.gauge("g").set(1)
    emitter.timer("t").record(1)
    assert reader.get_metrics_data() is None
    assert "Series(1 attributes)" in repr(bound)


# --- amounts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [-1, -0.5, math.nan, math.inf, -math.inf, True, "1", None, 1j, [1], 10**400])
@pytest.mark.parametrize("way", ["add", "bound", "record"])
def test_a_bad_amount_is_refused_once_and_counted(place, telemetry, caplog, amount, way):
    """A hot path never raises; one log line names the metric and the rule, and not the amount."""
    emitter = place.emitter(f"amounts.{way}")
    counter = emitter.counter("n")
    use = {"add": counter.add, "bound": counter.bind({"a": 1}).add, "record": emitter.timer("n.t").record}[way]
    with caplog.at_level(logging.WARNING):
        use(amount)
        use(amount)
    assert place.series("n") == {}
    assert place.series("n.t") == {}
    (line,) = [r.getMessage() for r in caplog.records if "refused an amount" in r.getMessage()]
    assert f"of type {type(amount).__name__}: it must be a finite number, zero or more" in line
    assert telemetry.metric("mobius.internal.errors", {"error.type": "invalid_amount"}) == 2


@pytest.mark.parametrize(
    ("amount", "recorded"),
    [(Decimal("0.5"), 0.5), (Fraction(1, 4), 0.25), (2**60, float(2**60)), (0.0, 0.0), (type("I", (int,), {})(3), 3)],
)
def test_numbers_of_other_kinds_are_recorded_as_numbers(place, amount, recorded):
    """What is a number counts; what OTLP has no bits for becomes a float."""
    emitter = place.emitter()
    emitter.counter("n").add(amount)
    emitter.timer("t").record(amount)
    emitter.gauge("g").set(amount)
    assert place.series("n") == place.series("g") == {frozenset(): recorded}
    assert place.series("t") == {frozenset(): (1, recorded)}
    assert all(type(value) in {int, float} for value in place.series("n").values())


def test_gauges_and_up_down_counters_take_what_is_below_zero(place):
    """And nothing that is no finite number."""
    emitter = place.emitter()
    gauge, jobs = emitter.gauge("g"), emitter.up_down_counter("j")
    for amount in (-5, math.nan, math.inf, True, None):
        gauge.set(amount)
        jobs.add(amount)
    assert place.series("g") == place.series("j") == {frozenset(): -5}


# --- construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda e: e.counter("1st"), "a letter followed by"),
        (lambda e: e.counter("x" * 300), "at most 254"),
        (lambda e: e.counter("a b"), "a letter followed by"),
        (lambda e: e.counter(None), "a letter followed by"),
        (lambda e: e.counter("n", unit="ü"), "a UCUM unit"),
        (lambda e: e.counter("n", unit="x" * 64), "at most 63"),
        (lambda e: e.counter("n", unit="m s"), "a UCUM unit"),
        (lambda e: e.counter("n", unit="{order"), "a UCUM unit"),
        (lambda e: e.counter("n", unit="seconds"), 'Write "s"'),
        (lambda e: e.counter("n", unit="Requests"), r'Write "\{request\}"'),
        (lambda e: e.histogram("n", unit="bytes"), 'Write "By"'),
        (lambda e: e.timer("t", buckets=[2, 1]), "numbers that rise"),
        (lambda e: e.timer("t", buckets=[1, 1]), "numbers that rise"),
        (lambda e: e.timer("t", buckets=[1, math.inf]), "numbers that rise"),
        (lambda e: e.timer("t", buckets=[]), "numbers that rise"),
        (lambda e: e.timer("t", buckets=3), "numbers that rise"),
        (lambda e: e.timer("t", buckets="slow"), "numbers that rise"),
        (lambda e: (e.counter("n"), e.gauge("n")), "made as a counter in '1' .* now as a gauge in '1'"),
        (lambda e: (e.counter("n"), e.counter("N", unit="By")), "used for one instrument"),
        (lambda e: (e.counter("n"), e.counter("n", description="other")), "described as ''"),
        (lambda e: (e.timer("n"), e.timer("n", buckets="http")), "with buckets"),
        (lambda e: (e.timer("n"), e.histogram("n", unit="s")), "used for one instrument"),
        (lambda e: (e.counter("n"), e.observe("n", list)), "used for one instrument"),
        (lambda e: (e.observe("n", list), e.observe("n", list)), "observed once"),
        (lambda e: e.observe("a b", list), "a letter followed by"),
        (lambda e: e.counter("n").bind({}).set(1), "the series of a gauge"),
        (lambda _: MetricEmitter(""), "a name that is not empty"),
        (lambda _: MetricEmitter("x", cardinality_limit=0), "at least 1"),
        (lambda e: MetricEmitter("x", backend=InMemoryMetricsBackend(), meter_provider=e._scope.meter), "absent"),
    ],
)
def test_a_broken_rule_is_refused_when_the_instrument_is_made(place, make, said):
    """One clear error, at construction, that says both sides of a conflict."""
    with pytest.raises(ConfigurationError, match=said):
        make(place.emitter("rules"))


@pytest.mark.parametrize("unit", ["1", "s", "ms", "By", "KiBy", "{request}", "By/s", "%", "m/s2", "Cel", "", "d", "h"])
def test_units_of_ucum_are_taken(place, unit):
    """And so is every annotation."""
    assert place.emitter().counter(f"n{abs(hash(unit))}", unit=unit) is not None


def test_the_same_instrument_twice_is_the_same_handle(place):
    """Also from a second emitter of the scope the stream is one, and a conflict is a conflict."""
    first, second = place.emitter("twice", version="1"), place.emitter("twice", version="1")
    assert first.counter("n") is first.counter("n")
    first.counter("n").add(1, {"a": 1})
    second.counter("n").add(2, {"a": 1})
    first.gauge("g").set(5)
    second.gauge("g").add(1)
    assert place.value("n") == 3
    assert place.value("g") == 6
    with pytest.raises(ConfigurationError, match="made as a counter"):
        second.timer("n")


def test_emitters_observe_one_gauge_together_until_they_close(place):
    """A second one is asked too, and one that is closed no more."""
    first, second = place.emitter("together"), place.emitter("together")
    first.observe("depth", lambda: [(1, {"of": "first"})])
    second.observe("depth", lambda: [(2, {"of": "second"})])
    assert place.value("depth") == 3
    first.close()
    first.observe("depth", lambda: [(5, {"of": "first"})])
    assert place.value("depth", of="first") == 5


def test_an_observed_gauge_that_fails_costs_itself_alone(place, telemetry, swallowing):
    """The collection goes on, and the error is counted."""
    emitter = place.emitter()
    emitter.observe("bad", lambda: 1 / 0)
    emitter.observe("good", lambda: [(7, {"a": 1})])
    assert place.value("good") == 7
    assert telemetry.metric("mobius.internal.errors", {"error.type": "ZeroDivisionError"}) >= 1


# --- cardinality --------------------------------------------------------------------------------------------

OVERFLOW = frozenset({("otel.metric.overflow", True)})


@pytest.mark.parametrize("way", ["add", "bind"])
def test_what_is_beyond_the_limit_falls_into_one_series(place, telemetry, caplog, way):
    """Nothing is lost, memory is bounded, and one line names the attribute that grew."""
    counter = place.emitter(cardinality_limit=3).counter("n")
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            attributes = {"user": str(number), "region": "eu"}
            counter.add(1, attributes) if way == "add" else counter.bind(attributes).add()
        counter.add(1, {"user": "0", "region": "eu"})
    assert place.series("n")[OVERFLOW] == 7
    assert place.value("n") == 11
    assert len(place.series("n")) == 4
    (line,) = [r.getMessage() for r in caplog.records if "attribute sets" in r.getMessage()]
    assert "n has reached its limit of 3" in line
    assert "'user'" in line
    assert telemetry.metric("mobius.internal.errors", {"error.type": "cardinality_overflow"}) == 7


def test_the_limit_holds_for_gauges_timers_and_observed_gauges(place):
    """Every kind of instrument."""
    emitter = place.emitter(cardinality_limit=2)
    gauge, timer = emitter.gauge("g"), emitter.timer("t")
    emitter.observe("o", lambda: ((1, {"n": number}) for number in range(100)))
    for number in range(10):
        gauge.set(number, {"n": number})
        timer.record(1, {"n": number})
    assert place.series("g")[OVERFLOW] == 9
    assert place.series("t")[OVERFLOW] == (8, 8)
    assert len(place.series("o")) == 2


def test_the_limit_is_two_thousand(place):
    """As the SDK's own; a flood of attribute sets costs no more memory than that."""
    counter = place.emitter().counter("n")
    for number in range(5000):
        counter.add(1, {"n": number})
    found = place.series("n")
    assert (len(found), found[OVERFLOW]) == (2001, 3000)
    assert len(counter._cache) == 2000


# --- the registry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["add", "bind"])
def test_an_attribute_that_the_registry_does_not_declare_is_an_error_under_tests(telemetry, way):
    """Dashboards are made from the registry, so a stray attribute shows at once."""
    spec = conventions.GUARD_ARMED
    gauge = MetricEmitter("registry", backend=InMemoryMetricsBackend()).gauge(spec.name, spec.unit, spec.meaning)
    with pytest.raises(ConfigurationError, match="those that the registry declares for mobius"):
        gauge.set(1, {"user": "ann"}) if way == "add" else gauge.bind({"user": "ann"})


def test_in_production_it_is_dropped_and_counted(telemetry, swallowing):
    """The measurement stays."""
    backend, spec = InMemoryMetricsBackend(), conventions.GUARD_REQUESTS
    counter = MetricEmitter("registry", backend=backend).counter(spec.name, spec.unit, spec.meaning)
    counter.add(1, {conventions.GUARD_RESULT: "passed", "user": "ann"})
    (series,) = backend.series(spec.name)
    assert series.attributes == {conventions.GUARD_RESULT: "passed"}
    assert telemetry.metric("mobius.internal.errors", {"error.type": "ConfigurationError"}) == 1


def test_attributes_that_are_no_mapping_are_an_error_under_tests_and_swallowed_otherwise(telemetry, swallowing):
    """The host goes on."""
    counter = MetricEmitter("x", backend=InMemoryMetricsBackend()).counter("n")
    counter.add(1, "currency")
    assert telemetry.metric("mobius.internal.errors", {"mobius.component": "metrics"}) == 1
    safety.raise_errors(True)
    with pytest.raises(AttributeError):
        counter.add(1, "currency")
