"""A metrics backend in memory, for tests and small tools."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

__all__ = ["InMemoryMetricsBackend"]

Point = NumberDataPoint | HistogramDataPoint


class InMemoryMetricsBackend:
    """Keeps what an emitter records, through the real SDK, and answers questions about it.

    It may be used from many threads; what was added before a question is in its answer.

    Example:
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> MetricEmitter("x", backend=backend).gauge("queue.depth").set(3, {"queue": "mail"})
        >>> backend.value("queue.depth", queue="mail")
        3
        >>> backend.names()
        ['queue.depth']
    """

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._lock = threading.RLock()
        #: The provider that an emitter with this backend records to.
        self.meter_provider = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)

    def points(self, name: str, attributes: Mapping[str, Any] | None = None, **more: Any) -> list[Point]:
        """Return the data points of `name` that have at least the given attributes."""
        wanted = {**(attributes or {}), **more}
        return [
            point
            for metric_name, point in self._collected()
            if metric_name == name and all((point.attributes or {}).get(k) == v for k, v in wanted.items())
        ]

    def value(self, name: str, attributes: Mapping[str, Any] | None = None, **more: Any) -> float:
        """Return the sum of a counter's series, or a gauge's value, over the series with these attributes.

        Args:
            name: The metric.
            attributes: Attributes, for names that are no keywords (``{"http.route": "/"}``).
            **more: Further attributes.

        Returns:
            The number; 0 where nothing was recorded. A histogram's sum, in its unit.
        """
        return sum(
            point.sum if isinstance(point, HistogramDataPoint) else point.value
            for point in self.points(name, attributes, **more)
        )

    def count(self, name: str, attributes: Mapping[str, Any] | None = None, **more: Any) -> int:
        """Return how many durations a timer recorded in the series with these attributes."""
        found = self.points(name, attributes, **more)
        return sum(point.count for point in found if isinstance(point, HistogramDataPoint))

    def names(self) -> list[str]:
        """Return the names of the metrics that have data, sorted."""
        return sorted({name for name, _ in self._collected()})

    def _collected(self) -> list[tuple[str, Point]]:
        with self._lock:  # a reader keeps the last collection only, so nobody may come between
            data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            (metric.name, point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint | HistogramDataPoint)
        ]

    def __repr__(self) -> str:
        return f"InMemoryMetricsBackend({len(self.names())} metrics)"
