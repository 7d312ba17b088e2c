"""From OTLP to numbers: what a worker sends, without secrets, in the form that is merged.

Whoever sends is not trusted: a body that cannot be read is refused as a whole, a point that cannot be merged
is refused alone and counted, and attributes pass redaction before they are kept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from mobius_otel.errors import MissingExtra
from mobius_otel.sidecar.merge import Export, Kind, Merged, MetricKey, Series
from mobius_otel.telemetry.redaction import Redactor
from mobius_otel.telemetry.rules import check_name

__all__ = ["Decoder", "Rejected", "messages"]

_log = logging.getLogger("mobius_otel")
_INSTANCE = "service.instance.id"
_TEXT = 1024


class Rejected(Exception):
    """A request that is refused as a whole.

    Args:
        status: The HTTP status.
        reason: One line for its sender, without anything of the body.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


def messages() -> Any:
    """Return the module of OTLP's metrics service.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """
    try:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    except ImportError:
        raise MissingExtra("sidecar", "otlp", "opentelemetry-proto") from None
    return metrics_service_pb2


class Decoder:
    """Reads requests for one service.

    Args:
        merged: Where the series are.
        redactor: What attributes and descriptions pass.
        service: The service's name; empty: the one of the first request.
    """

    def __init__(self, merged: Merged, redactor: Redactor, service: str = "") -> None:
        self._merged = merged
        self._redactor = redactor
        self.service = service
        #: How many points were refused.
        self.rejected = 0
        self._told: set[str] = set()
        # By the attributes as they were sent: redaction and the look-up are done once for each.
        self._known: dict[Any, Series] = {}
        self._metrics: dict[tuple[Any, ...], MetricKey | None] = {}

    def read(self, request: Any) -> list[tuple[Export, int, str]]:
        """Return what a request reports, by worker, with the number of points refused and why; under the lock.

        Raises:
            Rejected: It belongs to another service.
        """
        return [self._resource(each) for each in request.resource_metrics]

    def _resource(self, resource_metrics: Any) -> tuple[Export, int, str]:
        resource = _attributes(resource_metrics.resource.attributes)
        name = str(resource.get("service.name", "unknown_service"))[:_TEXT]
        if not self.service:
            self.service = self._redactor.text(name, "resource")
        if self.service not in {name, self._redactor.text(name, "resource")}:
            raise Rejected(400, "this sidecar is another service's: start one for each, or give both one name")
        worker = str(
            resource.get(_INSTANCE) or "-".join(str(resource.get(k, "")) for k in ("host.name", "process.pid"))
        )
        self._note(resource)
        export, refused, why = Export(self._redactor.text(worker[:_TEXT], "resource")), 0, ""
        for scope_metrics in resource_metrics.scope_metrics:
            scope = (scope_metrics.scope.name, scope_metrics.scope.version)
            for metric in scope_metrics.metrics:
                number, reason = self._metric(metric, scope, export)
                refused += number
                why = reason or why
        self.rejected += refused
        return export, refused, why

    def _note(self, resource: dict[str, Any]) -> None:
        """Keep what all workers have in common, for target_info."""
        known = self._merged.resource
        own = {k: v for k, v in resource.items() if k != _INSTANCE and not k.startswith(("process.", "thread."))}
        if not known:
            self._merged.resource = dict(self._redactor.redact(own, "resource").value)
        elif known.keys() - own.keys():
            self._merged.resource = {name: value for name, value in known.items() if name in own}

    def _metric(self, metric: Any, scope: tuple[str, str], export: Export) -> tuple[int, str]:
        form = metric.WhichOneof("data")
        data: Any = getattr(metric, form) if form else None
        points = data.data_points if data is not None else ()
        temporality = getattr(data, "aggregation_temporality", 2)
        kind: Kind | None = None
        if form == "sum" and temporality in {1, 2}:
            kind = "counter" if getattr(data, "is_monotonic", False) else "up_down_counter"
        elif form == "gauge":
            kind = "gauge"
        elif form == "histogram" and temporality in {1, 2}:
            kind = "histogram"
        if kind is None:
            if points:
                self._tell(metric.name, f"its data ({form or 'none'}) has no place on a Prometheus page")
            return len(points), "sums, gauges and histograms with explicit buckets are merged"
        key = self._key((*scope, metric.name, metric.unit, kind))
        if key is None:
            return len(points), "a metric's name breaks OpenTelemetry's rules"
        delta = int(temporality == 1)
        add: Callable[[int, Any, int, Export], bool] = _ADD[kind]
        refused, why = 0, ""
        for point in points:
            series = self._series(key, metric.description, point.attributes)
            if series is None:
                refused += 1
                why = f"the sidecar keeps {self._merged.max_series} series"
                self._tell("", f"there are more than {self._merged.max_series} series (--max-series)")
            elif point.flags & 1:  # "no recorded value"
                continue
            elif not add(series.number, point, delta, export):
                refused += 1
                why = "a value is missing, not finite or below zero"
                self._tell(metric.name, why)
        return refused, why

    def _key(self, identity: tuple[Any, ...]) -> MetricKey | None:
        found = self._metrics.get(identity)
        if found is None and identity not in self._metrics:
            scope, version, name, unit, kind = identity
            try:
                check_name(name)
                clean = self._redactor.text
                found = MetricKey(clean(scope[:_TEXT], "metric"), version[:_TEXT], name, unit[:63], kind)
            except ValueError:
                self._tell("", "a name breaks OpenTelemetry's rules")
            if len(self._metrics) < self._merged.max_series:
                self._metrics[identity] = found
        return found

    def _series(self, metric: MetricKey, description: str, pairs: Iterable[Any]) -> Series | None:
        sent = tuple((pair.key, _value(pair.value)) for pair in pairs)
        key = (metric, sent, tuple(type(value) for _, value in sent))
        found = self._known.get(key)
        if found is None:
            clean = self._redactor.redact(dict(sent), "metric").value
            text = self._redactor.text(description[:_TEXT], "metric")
            found = self._merged.find(metric, text, clean if isinstance(clean, dict) else {})
            if found is not None and len(self._known) < 2 * self._merged.max_series:
                self._known[key] = found
        return found

    def _tell(self, name: str, why: str) -> None:
        if (text := f"{name}: {why}" if name else why) not in self._told and len(self._told) < 1000:
            self._told.add(text)
            _log.warning("mobius_otel: the sidecar leaves out %s: %s", self._redactor.text(name or "points"), why)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value[:_TEXT]
    if kind in {"bool_value", "int_value", "double_value"}:
        return getattr(value, kind)
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    return "" if kind is None else f"({kind})"


def _number(point: Any) -> float | None:
    kind = point.WhichOneof("value")
    return getattr(point, kind) if kind else None


def _counter(series: int, point: Any, delta: int, export: Export) -> bool:
    value = _number(point)
    if value is None or not 0 <= value < math.inf:
        return False
    export.numbers.append((series, point.time_unix_nano if delta else point.start_time_unix_nano, value, delta))
    return True


def _level(series: int, point: Any, delta: int, export: Export) -> bool:
    value = _number(point)
    if value is None or not math.isfinite(value):
        return False
    export.levels.append((series, point.time_unix_nano, value, delta))
    return True


def _gauge(series: int, point: Any, _: int, export: Export) -> bool:
    return _level(series, point, 0, export)


def _histogram(series: int, point: Any, delta: int, export: Export) -> bool:
    bounds: Sequence[float] = tuple(point.explicit_bounds)
    counts = tuple(point.bucket_counts) or (point.count,)
    rising = all(low < high for low, high in pairwise(bounds))
    if len(counts) != len(bounds) + 1 or not rising or not math.isfinite(point.sum) or len(bounds) > 1000:
        return False
    stamp = point.time_unix_nano if delta else point.start_time_unix_nano
    export.histograms.append((series, stamp, bounds, counts, point.sum, delta))
    return True


_ADD: dict[Kind, Callable[[int, Any, int, Export], bool]] = {
    "counter": _counter, "up_down_counter": _level, "gauge": _gauge, "histogram": _histogram,
}  # fmt: skip
