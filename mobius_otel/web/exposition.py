"""What keeps a page of metrics valid, whatever the service's meters hold.

opentelemetry-exporter-prometheus translates; some of what meters may hold breaks a whole scrape there: an
exponential histogram, two instruments whose names become one, two attributes whose names become one, two
scrapes at the same time. Here such a metric is left out (or told from its like), counted and logged once, and
the rest of the page is served.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from mobius_otel.forks import on_fork
from mobius_otel.telemetry.safety import count_error, swallow

__all__ = ["PageCollector", "PageReader", "translated"]

_log = logging.getLogger("mobius_otel")
#: What a family of each type is called on the page, beside its own name.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("_count", "_sum", "_created"),
    "info": ("_info",),
}


class _Told:
    """Counts and logs once what is left out of the page."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def leave_out(self, name: str, why: str, what: str) -> None:
        if (name, what) in self._known or len(self._known) >= 1000:
            return
        self._known.add((name, what))
        count_error("prometheus", what)
        _log.warning("mobius_otel: /metrics leaves %s out: %s", name, why)


class PageReader(PrometheusMetricReader):
    """A reader that passes on only what can be translated.

    Args:
        registry: Where its collector registers.
        told: Who is told of what cannot.
    """

    def __init__(self, registry: CollectorRegistry, told: _Told) -> None:
        super().__init__(registry=registry)
        self._told = told
        self._good: dict[tuple[str, str, type], bool] = {}

    def _receive_metrics(self, metrics_data: MetricsData | None, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        if metrics_data is not None:
            metrics_data = MetricsData([self._passable(resource) for resource in metrics_data.resource_metrics])
            super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def _passable(self, resource: ResourceMetrics) -> ResourceMetrics:
        scopes = [
            ScopeMetrics(scope.scope, [metric for metric in scope.metrics if self._is_good(metric, scope, resource)],
                         scope.schema_url)
            for scope in resource.scope_metrics
        ]  # fmt: skip
        return ResourceMetrics(resource.resource, scopes, resource.schema_url)

    def _is_good(self, metric: Metric, scope: ScopeMetrics, resource: ResourceMetrics) -> bool:
        """Return whether a metric of this name, unit and kind can be translated; tried out once."""
        key = (metric.name, metric.unit or "", type(metric.data))
        if key not in self._good:
            self._good[key] = good = _translates(metric, scope, resource)
            if not good:
                self._told.leave_out(
                    metric.name, f"Prometheus has no form for its data ({type(metric.data).__name__});"
                    " a view with an explicit bucket histogram gives it one", "untranslatable",
                )  # fmt: skip
        return self._good[key]


def _translates(metric: Metric, scope: ScopeMetrics, resource: ResourceMetrics) -> bool:
    one = ScopeMetrics(scope.scope, [metric], scope.schema_url)
    try:
        found = translated(ResourceMetrics(resource.resource, [one], resource.schema_url))
        return any(True for family in found if family.name != "target" for _ in family.samples)
    except Exception:  # whatever it is, it would have broken the scrape
        return False


def translated(resource: ResourceMetrics) -> list[Family]:
    """Return what opentelemetry-exporter-prometheus makes of collected metrics; ``target`` is the resource's."""
    reader = PrometheusMetricReader(registry=CollectorRegistry())
    reader._collector._callback = None  # it shall not ask for more
    reader._collector.add_metrics_data(MetricsData([resource]))
    return list(reader._collector.collect())


class PageCollector(Collector):
    """The page's families, one scrape at a time, each with a name and label sets of its own.

    Args:
        source: Returns the families; None: those of `reader`.
    """

    def __init__(self, source: Callable[[], Iterable[Family]] | None = None) -> None:
        self._told = _Told()
        registry = CollectorRegistry()
        self.reader = PageReader(registry, self._told)
        self._source = source or registry.collect
        self._after_fork_in_child()
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Family]:
        """Return the families."""
        with self._lock:  # the reader below keeps what it collected in one queue
            try:
                found = list(self._source())
            except Exception as error:
                swallow("prometheus", error)
                found = []
            return self._apart(found)

    def _apart(self, families: Iterable[Family]) -> list[Family]:
        by_name: dict[str, Family] = {}
        kept: list[Family] = []
        for family in families:
            same = by_name.get(family.name)
            if same is not None and same.type == family.type:
                same.samples.extend(family.samples)  # two descriptions of one name: the first one is shown
                continue
            shown = {family.name, *(family.name + suffix for suffix in _SUFFIXES.get(family.type, ()))}
            if taken := next((name for name in shown if name in by_name), None):
                self._told.leave_out(
                    family.name, f"a {family.type} cannot share the name {taken} with a {by_name[taken].type};"
                    " rename one of the two instruments", "name_collision",
                )  # fmt: skip
                continue
            by_name.update(dict.fromkeys(shown, family))
            kept.append(family)
        return [self._once(family) for family in kept]

    def _once(self, family: Family) -> Family:
        """Leave out samples whose labels another one has: attributes such as ``a.b`` and ``a_b`` become one."""
        seen: dict[Any, Any] = {}
        for sample in family.samples:
            seen.setdefault((sample.name, *sorted(sample.labels.items())), sample)
        if len(seen) < len(family.samples):
            self._told.leave_out(
                f"a series of {family.name}", "its attributes read like another one's once their names are written as"
                " Prometheus has them, for example a.b and a_b", "label_collision",
            )  # fmt: skip
            family.samples = list(seen.values())
        return family
