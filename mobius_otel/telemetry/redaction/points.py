"""Points of a metric that became the same series when a secret was taken out of their attributes.

``user="ann@…"`` and ``user="bob@…"`` are both ``user="[redacted:email]"`` then. A series has one point in a collection
(OpenTelemetry's data model, "Single-Writer"), and a backend would keep any one of several: they are added up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import Gauge, HistogramDataPoint, NumberDataPoint

__all__ = ["one_point_a_series"]


def one_point_a_series(data: Any, points: Sequence[Any]) -> Sequence[Any]:
    """Return points of which no two have the same attributes.

    Args:
        data: The metric's data that they belong to. Sums and histograms are added up; of a gauge the last value
            counts; what cannot be added up (histograms of other boundaries, exponential ones) stays apart.
        points: The points, with their attributes redacted.
    """
    series: dict[Any, Any] = {}
    for point in points:
        key: tuple[Any, ...] = tuple(sorted((name, repr(value)) for name, value in (point.attributes or {}).items()))
        while (before := series.get(key)) is not None:
            if (both := _together(data, before, point)) is not None:
                point = both  # noqa: PLW2901 - takes the other's place
                break
            key = (*key, "")  # another series of the same attributes
        series[key] = point
    return points if len(series) == len(points) else list(series.values())


def _together(data: Any, one: Any, other: Any) -> Any:
    """Return two points as one; None where they cannot be."""
    start = min(one.start_time_unix_nano or 0, other.start_time_unix_nano or 0)
    end = max(one.time_unix_nano, other.time_unix_nano)
    exemplars = [*one.exemplars, *other.exemplars]
    if isinstance(one, NumberDataPoint):
        if isinstance(data, Gauge):
            return other if other.time_unix_nano >= one.time_unix_nano else one
        return dataclasses.replace(
            one, start_time_unix_nano=start, time_unix_nano=end, value=one.value + other.value, exemplars=exemplars
        )
    if not isinstance(one, HistogramDataPoint) or tuple(one.explicit_bounds) != tuple(other.explicit_bounds):
        return None
    return dataclasses.replace(
        one, start_time_unix_nano=start, time_unix_nano=end, count=one.count + other.count, sum=one.sum + other.sum,
        bucket_counts=[a + b for a, b in zip(one.bucket_counts, other.bucket_counts, strict=True)],
        min=min(one.min, other.min), max=max(one.max, other.max), exemplars=exemplars,
    )  # fmt: skip
