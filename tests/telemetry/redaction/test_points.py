"""Series that differ in a secret alone are one series once it is gone."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from mobius_otel.telemetry.redaction import Redactor, cover_sdk, uncover_sdk
from mobius_otel.telemetry.redaction.signals import redacted_metrics

USERS = {"ann@example.com": 3, "bob@example.com": 1, "carl@example.com": 2}


@pytest.fixture
def collected():
    """Record the same for three users, and return the points that a reader gets, by instrument."""
    cover_sdk(Redactor)
    reader = InMemoryMetricReader()
    views = [View(instrument_name="fine", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider([reader], views=views, shutdown_on_exit=False)
    meter = provider.get_meter("m")
    for user, times in USERS.items():
        attributes = {"user": user, "path": "/v1"}
        meter.create_counter("count").add(times, attributes)
        meter.create_up_down_counter("open").add(-times, attributes)
        meter.create_gauge("level").set(times, attributes)
        for instrument in ("size", "fine"):
            meter.create_histogram(instrument).record(times, attributes)
    meter.create_counter("count").add(5, {"user": "nobody", "path": "/v1"})
    yield {
        metric.name: list(metric.data.data_points)
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    uncover_sdk()


def test_sums_are_added_up_and_others_stay_as_they_are(collected):
    assert [(dict(point.attributes)["user"], point.value) for point in collected["count"]] == [
        ("[redacted:email]", 6), ("nobody", 5),
    ]  # fmt: skip
    assert [point.value for point in collected["open"]] == [-6]


def test_of_a_gauge_the_last_value_counts(collected):
    assert [point.value for point in collected["level"]] == [2]


def test_histograms_are_added_up(collected):
    (point,) = collected["size"]
    assert (point.count, point.sum, point.min, point.max, sum(point.bucket_counts)) == (3, 6, 1, 3, 3)
    assert {exemplar.value for exemplar in point.exemplars} <= {1, 2, 3}


def test_what_cannot_be_added_up_is_not_lost(collected):
    assert sum(point.sum for point in collected["fine"]) == 6


def test_histograms_of_other_boundaries_stay_apart():
    """Only somebody else's data can hold them."""
    points = []
    for number, bounds in enumerate([(1.0, 2.0), (1.0, 5.0)]):
        reader = InMemoryMetricReader()
        view = View(instrument_name="size", aggregation=ExplicitBucketHistogramAggregation(bounds))
        provider = MeterProvider([reader], views=[view], shutdown_on_exit=False)
        provider.get_meter("m").create_histogram("size").record(1, {"user": f"ann{number}@example.com"})
        data = reader.get_metrics_data()
        points += data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[:] = points
    clean = redacted_metrics(data, Redactor()).resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert [(point.attributes["user"], point.count) for point in clean] == [("[redacted:email]", 1)] * 2


def test_a_series_is_counted_once_however_often_it_is_collected(telemetry):
    redactor, matches = Redactor(), {"mobius.redaction.kind": "email", "mobius.redaction.location": "metric"}

    def counted(user):
        redactor.redact({"user": f"{user}@example.com"}, "metric")
        return telemetry.metric("mobius.redaction.matches", **matches)

    first = counted("ann")
    assert [counted("ann"), counted("ann"), counted("bob")] == [first, first, first + 1]
