"""Merging: what the workers of a service report becomes one number a series.

Counters and histograms are sums that never shrink: what a worker added since its last report is added, so a
worker that dies takes nothing away and one that starts anew is no reset. Gauges and up-down counters are
states of living workers and are put together when somebody asks.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from mobius_otel import conventions

__all__ = ["MERGES", "Export", "Merge", "Merged", "MetricKey", "Series", "Worker"]

Merge = Literal["sum", "max", "last", "worker"]
#: Series, start (of a delta: its time), bounds, counts, sum, 1 for a delta.
Spread = tuple[int, int, Sequence[float], Sequence[int], float, int]
Kind = Literal["counter", "up_down_counter", "gauge", "histogram"]
#: How the gauges of the registry are merged; others keep one series for each worker.
MERGES: Final[Mapping[str, Merge]] = {m.name: m.merge for m in conventions.METRICS.values() if m.kind == "gauge"}
#: A worker is taken for dead after three of its intervals and this, at most after _SILENT.
_GRACE: Final = 10.0
_SILENT: Final = 180.0
_FORGOTTEN_AFTER: Final = 3600.0
_STREAMS: Final = 100_000


@dataclass(frozen=True, slots=True)
class MetricKey:
    """What tells two metrics apart.

    Args:
        scope: The instrumentation scope's name.
        version: Its version.
        name: The metric's name.
        unit: Its unit.
        kind: What it is.
    """

    scope: str
    version: str
    name: str
    unit: str
    kind: Kind


@dataclass(slots=True)
class Series:
    """One series of one metric.

    Args:
        number: Its number, its place in every worker's columns.
        metric: Whose it is.
        attributes: Its attributes, without secrets.
        total: The sum over all workers there ever were; unused for gauges.
        bounds: Upper bounds of a histogram's buckets.
        counts: How many values lie in each bucket.
    """

    number: int
    metric: MetricKey
    attributes: dict[str, Any]
    total: float = 0
    bounds: tuple[float, ...] | None = None
    counts: list[int] = field(default_factory=list)

    def spread(self, bounds: tuple[float, ...], counts: Sequence[int], total: float) -> None:
        """Add to a histogram; where the bounds differ, those that both have remain."""
        if self.bounds is None:
            self.bounds, self.counts = bounds, [0] * len(counts)
        if bounds != self.bounds:
            common = tuple(sorted(set(bounds) & set(self.bounds)))
            self.counts = _rebucket(self.bounds, self.counts, common)
            counts = _rebucket(bounds, counts, common)
            self.bounds = common
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.total += total


def _rebucket(bounds: Sequence[float], counts: Sequence[int], fewer: Sequence[float]) -> list[int]:
    found = [0] * (len(fewer) + 1)
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        found[bisect_left(fewer, bound)] += count
    return found


@dataclass(slots=True)
class Export:
    """One report of one worker, as numbers. What is journalled, and what is merged.

    Args:
        worker: The worker.
        numbers: Points of counters: series, start (of a delta: its time) in nanoseconds, value, 1 for a delta.
        levels: Points of gauges and up-down counters: series, time, value, 1 for a delta.
        histograms: Points of histograms.
    """

    worker: str
    numbers: list[tuple[int, int, float, int]] = field(default_factory=list)
    levels: list[tuple[int, int, float, int]] = field(default_factory=list)
    histograms: list[Spread] = field(default_factory=list)


class Worker:
    """What one worker has reported so far, so that its next report can be told from it.

    Args:
        name: Its ``service.instance.id``.
        since: Streams that began before (nanoseconds) were counted already, when it was forgotten.
    """

    __slots__ = ("delta_times", "gap", "histograms", "lasts", "levels", "name", "seen", "since", "starts", "superseded")

    def __init__(self, name: str, since: int = 0) -> None:
        self.name = name
        self.since = since
        self.seen = 0.0
        self.gap = 60.0
        # Columns, since 64 workers may report 50,000 series each.
        self.starts = array("Q")
        self.lasts = array("d")
        self.levels: dict[int, tuple[int, float]] = {}
        # By series and start: processes that share an instance id have streams of their own.
        self.histograms: dict[tuple[int, int], tuple[tuple[float, ...], tuple[int, ...], float]] = {}
        self.superseded: dict[tuple[int, int], float] = {}
        self.delta_times: dict[int, int] = {}

    def report(self, now: float) -> None:
        """Note that it is alive."""
        if self.seen:
            self.gap = min(max(now - self.seen, self.gap * 0.8), 60.0)
        self.seen = now

    def is_alive(self, now: float) -> bool:
        """Return whether it has reported lately, by its own rhythm."""
        return now - self.seen < min(3 * self.gap + _GRACE, _SILENT)

    def grown(self, number: int, start: int, value: float, delta: int) -> float | None:
        """Return what a counter has grown by since the last report, None where the report is no news."""
        missing = number + 1 - len(self.starts)
        if missing > 0:
            self.starts.extend((0,) * missing)
            self.lasts.extend((0.0,) * missing)
        known = self.starts[number]
        if delta:
            if start <= known:
                return None
            self.starts[number] = start
            return value
        last = _like(self.lasts[number], value)
        if start == known:
            if value == last or (value < last and start):
                return None  # the same stream cannot shrink: a report that came late
            grown = value - last if value >= last else value
        else:
            earlier = self.superseded.get((number, start))
            if earlier is not None:
                self.superseded[number, start] = max(value, earlier)
                return max(value - _like(earlier, value), 0)
            if known:
                _shorten(self.superseded)
                self.superseded[number, known] = last
            self.starts[number] = start
            grown = 0 if start < self.since else value
        self.lasts[number] = value
        return grown

    def spread(self, point: Spread) -> tuple[Sequence[int], float] | None:
        """Return what a histogram has grown by since the last report, None where the report is no news."""
        number, start, bounds, counts, total, delta = point
        bounds = tuple(bounds)
        if delta:
            if start <= self.delta_times.get(number, 0):
                return None
            self.delta_times[number] = start
            return counts, total
        key = (number, start)
        known = self.histograms.get(key)
        if known is None:
            _shorten(self.histograms)
            self.histograms[key] = (bounds, tuple(counts), total)
            return None if start < self.since else (counts, total)
        before, added = known[1], known[2]
        if known[0] == bounds and before == tuple(counts):
            return None
        if known[0] != bounds or any(new < old for new, old in zip(counts, before, strict=True)):
            if start:
                return None  # the same stream cannot shrink: a report that came late
            before, added = (0,) * len(counts), 0.0  # its start is unknown: it began anew
        self.histograms[key] = (bounds, tuple(counts), total)
        return [new - old for new, old in zip(counts, before, strict=True)], total - added


def _shorten(streams: dict[Any, Any]) -> None:
    """Forget the oldest of too many streams."""
    for key in list(islice(streams, max(len(streams) - _STREAMS, 0))):
        del streams[key]


def _like(number: float, other: float) -> float:
    return int(number) if type(other) is int else number


class Merged:
    """All series of a service.

    Args:
        max_series: How many series are kept; further ones are refused.
        max_workers: How many workers are remembered; the one silent the longest is forgotten first.
        merges: How gauges are merged, by the metric's name; ``worker``, the default: not at all.
    """

    def __init__(
        self, *, max_series: int = 100_000, max_workers: int = 1024, merges: Mapping[str, Merge] | None = None
    ) -> None:
        self.lock = threading.RLock()
        self.max_series = max_series
        self.max_workers = max_workers
        self.merges: dict[str, Merge] = {**MERGES, **(merges or {})}
        self.metrics: dict[MetricKey, list[Series]] = {}
        self.descriptions: dict[MetricKey, str] = {}
        self.series: list[Series] = []
        self.workers: dict[str, Worker] = {}
        self.forgotten: dict[str, int] = {}
        self.resource: dict[str, Any] = {}
        #: Counts every change, so that a page can be kept until the next one.
        self.changes = 0
        self._index: dict[Any, Series] = {}

    def find(self, metric: MetricKey, description: str, attributes: dict[str, Any]) -> Series | None:
        """Return the series, made when it is asked for the first time; None where there are too many."""
        key = (metric, _identity(attributes))
        found = self._index.get(key)
        if found is None and len(self.series) < self.max_series:
            found = self._index[key] = Series(len(self.series), metric, attributes)
            self.series.append(found)
            self.metrics.setdefault(metric, []).append(found)
            self.descriptions.setdefault(metric, description)
        return found

    def apply(self, export: Export, now: float) -> Export:
        """Merge one report; return what of it was news.

        Args:
            export: The report.
            now: The time in seconds, since the epoch.
        """
        worker = self._worker(export.worker, now)
        worker.report(now)
        kept = Export(export.worker)
        for point in export.numbers:
            number, start, value, delta = point
            grown = worker.grown(number, start, value, delta)
            if grown is not None:
                self.series[number].total += grown
                kept.numbers.append(point)
        for point in export.levels:
            number, time, value, delta = point
            known = worker.levels.get(number)
            if known is None or time > known[0]:
                moved = known[1] + value if delta and known is not None else value
                worker.levels[number] = (time, moved)
                kept.levels.append(point)
        for spread in export.histograms:
            grown_by = worker.spread(spread)
            if grown_by is not None:
                self.series[spread[0]].spread(tuple(spread[2]), *grown_by)
                kept.histograms.append(spread)
        self.changes += 1
        return kept

    def _worker(self, name: str, now: float) -> Worker:
        found = self.workers.get(name)
        if found is None:
            self._forget(now)
            found = self.workers[name] = Worker(name, self.forgotten.pop(name, 0))
        return found

    def _forget(self, now: float) -> None:
        """Forget workers that have been silent for long, and those silent the longest where there are too many."""
        silent = sorted((worker.seen, name) for name, worker in self.workers.items())
        spare = len(silent) - self.max_workers + 1
        for index, (seen, name) in enumerate(silent):
            if index >= spare and now - seen < _FORGOTTEN_AFTER:
                break
            del self.workers[name]
            self.forgotten[name] = int(now * 1e9)
        _shorten(self.forgotten)

    # --- reading --------------------------------------------------------------------------------------------

    def alive(self, now: float) -> list[Worker]:
        """Return the workers that have reported lately."""
        return [worker for worker in self.workers.values() if worker.is_alive(now)]

    def levels(self, metric: MetricKey, now: float) -> Iterator[tuple[object, dict[str, Any], float]]:
        """Return the values of a gauge or up-down counter: what tells it apart, attributes, value."""
        rule: Merge = "sum" if metric.kind == "up_down_counter" else self.merges.get(metric.name, "worker")
        alive = [worker for worker in self.alive(now) if worker.levels]
        for series in self.metrics[metric]:
            number = series.number
            found = [(*level, worker.name) for worker in alive if (level := worker.levels.get(number)) is not None]
            if rule == "worker":
                for _, value, name in found:
                    yield (number, name), {**series.attributes, "service.instance.id": name}, value
            elif found:
                yield number, series.attributes, _merged(rule, found)


def _merged(rule: Merge, found: Iterable[tuple[int, float, str]]) -> float:
    if rule == "last":
        return max(found)[1]
    values = [value for _, value, _ in found]
    return max(values) if rule == "max" else sum(values)


def _identity(attributes: Mapping[str, Any]) -> frozenset[tuple[str, str, str]]:
    return frozenset((name, type(value).__name__, str(value)) for name, value in attributes.items())
