"""Bound series: one stream with the unbound calls, exact with several readers, nothing of the collector's."""

import sys
import threading

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel import MetricEmitter
from mobius_otel.telemetry import bound as cells
from tests.telemetry.places import OtelPlace, series_of

EUR = {"currency": "EUR"}
KEY = frozenset(EUR.items())
DELTA = dict.fromkeys((sdk.Counter, sdk.UpDownCounter, sdk.Histogram), AggregationTemporality.DELTA)


def test_several_readers_each_get_everything_once():
    """A cumulative and a delta reader, collecting in turn while more is added."""
    delta = InMemoryMetricReader(DELTA)
    place = OtelPlace(delta)
    bound = place.emitter().counter("n").bind(EUR)
    bound.add(2)
    assert series_of(delta, "n") == {KEY: 2}
    assert place.series("n") == {KEY: 2}
    bound.add(3)
    assert place.series("n") == {KEY: 5}
    assert series_of(delta, "n") == {KEY: 3}
    assert series_of(delta, "n") in ({}, {KEY: 0})
    assert place.series("n") == {KEY: 5}


def test_a_reader_that_comes_late_hears_from_then_on():
    """As with every synchronous instrument."""
    place = OtelPlace()
    bound = place.emitter().counter("n").bind(EUR)
    bound.add(2)
    place.series("n")
    late = InMemoryMetricReader()
    place.provider.add_metric_reader(late)
    bound.add(3)
    assert series_of(late, "n") == {KEY: 3}
    assert place.series("n") == {KEY: 5}


def test_a_view_that_drops_the_carrying_instrument_changes_nothing():
    """The carrier has no values; its callback is called all the same."""
    place = OtelPlace(views=[View(instrument_name="mobius_otel.bound_series", aggregation=DropAggregation())])
    place.emitter().counter("n").bind(EUR).add(2)
    assert place.series("n") == {KEY: 2}


def test_views_apply_as_usual():
    """Attributes that a view takes away are summed over."""
    place = OtelPlace(views=[View(instrument_name="n", attribute_keys={"currency"})])
    counter = place.emitter().counter("n")
    for user in ("ann", "bob"):
        counter.bind({**EUR, "user": user}).add()
        counter.add(1, {**EUR, "user": user})
    assert place.series("n") == {KEY: 4}


def test_the_carrying_instrument_is_no_stream():
    """Nothing but what was counted is exported."""
    place = OtelPlace()
    place.emitter().counter("n").bind(EUR).add()
    (scope,) = place.reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert [metric.name for metric in scope.metrics] == ["n"]


def test_a_call_in_a_sampled_span_leaves_an_exemplar_and_a_bound_one_none():
    """The exemplar is that of the call; whoever collects is in no exemplar."""
    place = OtelPlace()
    counter = place.emitter().counter("n")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    with tracer.start_as_current_span("request") as span:
        counter.add(1, EUR)
        counter.bind({"bound": True}).add()
    with tracer.start_as_current_span("scrape"):
        token = context.attach(baggage.set_baggage("user", "ann"))
        data = place.reader.get_metrics_data()
        context.detach(token)
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    points = {frozenset(point.attributes.items()): point for point in metric.data.data_points}
    assert [exemplar.span_id for exemplar in points[KEY].exemplars] == [span.get_span_context().span_id]
    assert not points[frozenset({("bound", True)})].exemplars


@pytest.mark.parametrize("chosen", ["always_on", "always_off"])
def test_the_providers_exemplar_filter_is_obeyed(monkeypatch, chosen):
    """With always_on every call is worth an exemplar, with always_off none."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", chosen)
    place = OtelPlace()
    counter = place.emitter().counter("n")
    counter.add(1, EUR)
    with TracerProvider(shutdown_on_exit=False).get_tracer("x").start_as_current_span("request"):
        counter.add(1, EUR)
    (metric,) = place.reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert point.value == 2
    assert bool(point.exemplars) is (chosen == "always_on")


def test_what_is_set_last_is_what_a_gauge_shows():
    """Set and add on one series, bound and not."""
    place = OtelPlace()
    gauge = place.emitter().gauge("g")
    bound = gauge.bind(EUR)
    bound.set(10)
    gauge.add(-3, EUR)
    bound.add(1.5)
    assert place.series("g") == {KEY: 8.5}
    assert place.series("g") == {KEY: 8.5}
    gauge.set(1, EUR)
    assert place.series("g") == {KEY: 1}


@pytest.mark.parametrize(
    ("series", "use", "expected"),
    [
        (cells.LockedCounterSeries, lambda s: (s.add(2), s.add(0.5), s.add(-1), s.add(True)), 2.5),
        (cells.LockedUpDownSeries, lambda s: (s.add(2), s.add(-3), s.add(None)), -1),
        (cells.LockedGaugeSeries, lambda s: (s.set(2), s.add(-3), s.set(float("nan"))), -1),
    ],
)
def test_the_series_for_pythons_without_a_gil_do_the_same(monkeypatch, series, use, expected):
    """Which of the two is used is chosen when the module is imported."""
    for name in ("CounterSeries", "UpDownSeries", "GaugeSeries"):
        if name in series.__name__:
            monkeypatch.setattr(cells, name, series)
    place = OtelPlace()
    emitter = place.emitter()
    make = {"LockedCounterSeries": emitter.counter, "LockedUpDownSeries": emitter.up_down_counter,
            "LockedGaugeSeries": emitter.gauge}[series.__name__]  # fmt: skip
    bound = make("n").bind(EUR)
    assert type(bound) is series
    use(bound)
    assert place.series("n") == {KEY: expected}

    threads = [threading.Thread(target=lambda: [bound.add(1) for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.series("n") == {KEY: expected + 16_000}


@pytest.mark.parametrize("series", ["_CounterSeries", "_UpDownSeries", "_GaugeSeries"])
def test_no_switch_of_threads_falls_into_an_addition(series):
    """The lock-free cells rest on where CPython switches threads; with the shortest interval they stay exact."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("a Python without a GIL uses the locked ones")
    cell = getattr(cells, series)({}, lambda amount: amount)
    cell._live = True
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [cell.add(amount) for _ in range(20_000) for amount in (1, 0.5)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert cell.value == 8 * 20_000 * 1.5


def test_an_api_that_can_bind_is_asked_to(monkeypatch):
    """OpenTelemetry's Bind is specified and not yet in Python; where it is, the handle delegates to it."""
    told = []

    class Bound:
        def __init__(self, attributes):
            self.attributes = attributes

        def add(self, amount):
            told.append((amount, self.attributes))

    monkeypatch.setattr(sdk.Counter, "bind", lambda _, attributes: Bound(attributes), raising=False)
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    bound = MetricEmitter("x", meter_provider=provider).counter("n").bind(EUR)
    bound.add(2)
    bound.add(-1)
    assert told == [(2, EUR)]
