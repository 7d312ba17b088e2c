"""The page of all workers: the very one that a single worker would serve, with the merged numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample

from mobius_otel.clock import Clock
from mobius_otel.sidecar.merge import Merged, MetricKey, Series
from mobius_otel.web.exposition import PageCollector, translated

__all__ = ["page_app"]

Attributes = dict[str, Any]


def page_app(merged: Merged, clock: Clock = time.time) -> Callable[..., Any]:
    """Return a WSGI application that answers a scrape with the merged numbers."""
    registry = CollectorRegistry()
    registry.register(PageCollector(_Families(merged, clock).collect))
    app: Callable[..., Any] = make_wsgi_app(registry=registry)
    return app


class _Families:
    """The families of all metrics. How a series is called on the page is found out once, for that costs most."""

    def __init__(self, merged: Merged, clock: Clock) -> None:
        self._merged = merged
        self._clock = clock
        self._named: dict[MetricKey, _Named] = {}

    def collect(self) -> Iterator[Family]:
        merged, now = self._merged, self._clock()
        with merged.lock:
            resource = Resource(merged.resource)
            empty = ResourceMetrics(resource, [], "")
            yield from translated(empty)
            for key, series in merged.metrics.items():
                if key.kind == "histogram":
                    data: Any = Histogram(
                        [_distribution(each) for each in series if each.bounds is not None], _CUMULATIVE
                    )
                    yield from _families(key, merged.descriptions[key], data)
                    continue
                named = self._named.get(key)
                if named is None:
                    named = self._named[key] = _Named(key, merged.descriptions[key])
                if key.kind == "counter":
                    yield from named.family((each.number, each.attributes, each.total) for each in series)
                else:
                    yield from named.family(merged.levels(key, now))


_CUMULATIVE = AggregationTemporality.CUMULATIVE


class _Named:
    """One metric of numbers, with the page's names of each of its series."""

    def __init__(self, key: MetricKey, description: str) -> None:
        self._key = key
        self._description = description
        self._family: Family | None = None
        self._samples: dict[Any, Sample] = {}

    def family(self, points: Iterable[tuple[Any, Attributes, float]]) -> Iterable[Family]:
        found = list(points)
        samples = self._samples
        if new := [(point, attributes) for point, attributes, _ in found if point not in samples]:
            if len(samples) > 2 * len(found):
                samples.clear()  # most are of workers that are gone
                new = [(point, attributes) for point, attributes, _ in found]
            self._learn(new)
        if self._family is None or not found:
            return ()
        family = Family(self._family.name, self._family.documentation, self._family.type)
        family.unit = self._family.unit
        family.samples = [Sample(samples[point][0], samples[point][1], value) for point, _, value in found]
        return (family,)

    def _learn(self, new: list[tuple[Any, Attributes]]) -> None:
        points = [NumberDataPoint(attributes, 0, 0, 0) for _, attributes in new]
        data = Gauge(points) if self._key.kind == "gauge" else Sum(points, _CUMULATIVE, self._key.kind == "counter")
        (self._family,) = _families(self._key, self._description, data)
        self._samples.update(zip((point for point, _ in new), self._family.samples, strict=True))


def _families(key: MetricKey, description: str, data: Any) -> list[Family]:
    scope = InstrumentationScope(key.scope, key.version)
    metrics = ScopeMetrics(scope, [Metric(key.name, description, key.unit, data)], "")
    found = translated(ResourceMetrics(Resource({}), [metrics], ""))
    return [family for family in found if family.name != "target"]


def _distribution(series: Series) -> HistogramDataPoint:
    bounds = cast(tuple[float, ...], series.bounds)
    counts = series.counts
    return HistogramDataPoint(series.attributes, 0, 0, sum(counts), series.total, counts, bounds, 0, 0)
