"""Where an emitter can record to: the same questions to the SDK and to the backend in memory."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from mobius_otel import InMemoryMetricsBackend, MetricEmitter


class MemoryPlace:
    """The backend in memory."""

    def __init__(self):
        self.backend = InMemoryMetricsBackend()

    def emitter(self, scope="x", **options):
        """Return an emitter that records here."""
        return MetricEmitter(scope, backend=self.backend, **options)

    def series(self, name):
        """Return what each series holds: a number, or the count and sum of a histogram."""
        return {
            frozenset(series.attributes.items()): (series.count, series.value)
            if series.kind == "histogram"
            else series.value
            for series in self.backend.series(name)
        }

    def value(self, name, **attributes):
        """Return the sum over the series with these attributes."""
        return sum(value for key, value in self.series(name).items() if key >= set(attributes.items()))


class OtelPlace(MemoryPlace):
    """The SDK, with one cumulative reader (more can be asked for)."""

    def __init__(self, *readers, **options):
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader, *readers], shutdown_on_exit=False, **options)

    def emitter(self, scope="x", **options):
        """Return an emitter that records here."""
        return MetricEmitter(scope, meter_provider=self.provider, **options)

    def series(self, name):
        """Return what each series holds."""
        return series_of(self.reader, name)


def series_of(reader, name):
    """Return what each series of one collection holds; a metric that comes twice is a failure."""
    data = reader.get_metrics_data()
    found = [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    ]
    assert len(found) <= 1, f"{len(found)} streams of {name}"
    return {
        frozenset(point.attributes.items()): (point.count, point.sum)
        if isinstance(point, HistogramDataPoint)
        else point.value
        for metric in found
        for point in metric.data.data_points
    }
