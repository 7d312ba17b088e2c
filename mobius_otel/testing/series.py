"""The metric series of one capture, put together from collections that each tell what was added."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from mobius_otel.testing.plain import Plain

__all__ = ["Series"]


class Series:
    """Adds data points of delta temporality to one point a series; a gauge keeps its last value."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: dict[tuple[Any, ...], Plain] = {}

    def add(self, points: Iterable[Plain]) -> None:
        """Add what one collection found; a point in which nothing happened is left out."""
        with self._lock:
            for point in points:
                if point["kind"] != "gauge" and not (point.get("value") or point.get("count")):
                    continue
                key = _identity(point)
                known = self._points.get(key)
                self._points[key] = point if known is None else _joined(known, point)

    def points(self) -> list[Plain]:
        """Return every series that was touched, in the order in which they were."""
        with self._lock:
            return list(self._points.values())

    def matching(self, name: str, attributes: Mapping[str, Any]) -> list[Plain]:
        """Return the series of the metric `name` that have at least these attributes."""
        return [
            point
            for point in self.points()
            if point["name"] == name
            and all(key in point["attributes"] and point["attributes"][key] == v for key, v in attributes.items())
        ]


def _identity(point: Plain) -> tuple[Any, ...]:
    scope = point["scope"] or {}
    return (
        *(str(scope.get(part)) for part in ("name", "version")),
        *(point[part] for part in ("name", "unit", "kind")),
        frozenset((key, type(value).__name__, repr(value)) for key, value in point["attributes"].items()),
    )


def _joined(old: Plain, new: Plain) -> Plain:
    joined = {**new, "exemplars": [*old["exemplars"], *new["exemplars"]]}
    if new["kind"] == "histogram":
        joined["count"] = old["count"] + new["count"]
        joined["sum"] = old["sum"] + new["sum"]
        joined["min"] = min(old["min"], new["min"])
        joined["max"] = max(old["max"], new["max"])
        if "buckets" in new and old.get("bounds") == new["bounds"]:
            joined["buckets"] = [a + b for a, b in zip(old["buckets"], new["buckets"], strict=True)]
    elif new["kind"] != "gauge":
        joined["value"] = old["value"] + new["value"]
    return joined
