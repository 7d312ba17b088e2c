"""A metrics backend in memory, for tests and small tools: an OpenTelemetry meter provider without the SDK."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from opentelemetry import metrics as api

from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.safety import guarded

__all__ = ["InMemoryMetricsBackend", "Series"]

Attributes = Mapping[str, Any]
#: What tells a series apart: its metric's name and its attributes, sorted, each with the type of its value.
Key = tuple[str, tuple[tuple[str, str, Any], ...]]
#: What a snapshot holds of a series: a number, and of a histogram a number for the count and one for the sum.
Snapshot = Mapping[Key, tuple[float, float]]
Kind = Literal["sum", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Series:
    """One series, as it stood when it was asked for.

    Args:
        name: The metric.
        attributes: Its attributes.
        kind: ``sum``, ``gauge`` or ``histogram``.
        value: The sum or the gauge's value; of a histogram the sum of its values.
        count: How many values a histogram has; 0 for the other kinds.
        values: A histogram's values, in the order in which they came.
    """

    name: str
    attributes: Mapping[str, Any]
    kind: Kind
    value: float
    count: int = 0
    values: tuple[float, ...] = ()


class InMemoryMetricsBackend:
    """Keeps what an emitter records and answers questions about it; exact under threads.

    What was recorded before a question is in its answer. Every question takes attributes, by keyword or, for
    names that are no keywords, as a mapping; it is about all series that have at least these.

    Example:
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> emitter = MetricEmitter("x", backend=backend)
        >>> emitter.gauge("queue.depth").set(3, {"queue": "mail"})
        >>> backend.value("queue.depth", queue="mail")
        3
        >>> timer = emitter.timer("checkout.duration")
        >>> for seconds in (0.1, 0.2, 0.3):
        ...     timer.record(seconds, {"http.route": "/pay"})
        >>> backend.count("checkout.duration"), backend.percentile("checkout.duration", 50, {"http.route": "/pay"})
        (3, 0.2)
        >>> backend.names()
        ['checkout.duration', 'queue.depth']
    """

    def __init__(self) -> None:
        #: The provider that an emitter with this backend records to; any OpenTelemetry code may.
        self.meter_provider: api.MeterProvider
        self.meter_provider = provider = _Provider()
        self._store = provider.store

    def value(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> float:
        """Return the sum over the series: of a counter what it counted, of a gauge its value, of a timer seconds.

        Args:
            name: The metric.
            attributes: Attributes, for names that are no keywords (``{"http.route": "/"}``).
            **more: Further attributes.

        Returns:
            The number; 0 where nothing was recorded.
        """
        return sum(series.value for series in self.series(name, attributes, **more))

    def sum(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> float:
        """Return the sum of what was recorded; another name for :meth:`value`, for histograms."""
        return self.value(name, attributes, **more)

    def count(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> int:
        """Return how many values a timer or histogram recorded."""
        return sum(series.count for series in self.series(name, attributes, **more))

    def values(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> list[float]:
        """Return the values that a timer or histogram recorded; within a series in the order in which they came."""
        return [value for series in self.series(name, attributes, **more) for value in series.values]

    def percentile(self, name: str, percent: float, attributes: Attributes | None = None, /, **more: Any) -> float:
        """Return a percentile of what a timer or histogram recorded, between its neighbours in proportion.

        Args:
            name: The metric.
            percent: 0 to 100; 50 is the median.
            attributes: Attributes, for names that are no keywords.
            **more: Further attributes.

        Raises:
            ConfigurationError: `percent` is outside of its range, or nothing was recorded.
        """
        if not 0 <= percent <= 100:
            raise ConfigurationError("percent", percent, "0 to 100")
        ordered = sorted(self.values(name, attributes, **more))
        if not ordered:
            raise ConfigurationError("name", name, f"a timer or histogram with values; there is {self.names()}")
        place = (len(ordered) - 1) * percent / 100
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    def series(self, name: str, attributes: Attributes | None = None, /, **more: Any) -> list[Series]:
        """Return the series of a metric that have at least these attributes, in the order of their first value."""
        wanted = {**(attributes or {}), **more}
        return [
            series
            for series in self._store.read()
            if series.name == name
            and all(key in series.attributes and series.attributes[key] == value for key, value in wanted.items())
        ]

    def names(self) -> list[str]:
        """Return the names of the metrics that have data, sorted."""
        return sorted({series.name for series in self._store.read()})

    def snapshot(self) -> Snapshot:
        """Return every series as it stands now, to compare with later: see :meth:`diff`."""
        return {_key(series.name, series.attributes): (series.value, series.count) for series in self._store.read()}

    def diff(self, before: Snapshot) -> list[Series]:
        """Return what changed since a snapshot.

        Args:
            before: What :meth:`snapshot` returned.

        Returns:
            Of a counter or histogram what it grew by, with the values that were new; of a gauge the new value.
        """
        changed = []
        for series in self._store.read():
            value, count = before.get(_key(series.name, series.attributes), (0, 0))
            new = series.values[int(count) :]
            if series.kind == "gauge":
                if before.get(_key(series.name, series.attributes)) != (series.value, 0):
                    changed.append(series)
            elif (series.value, series.count) != (value, count):
                grown = series.value - value, series.count - int(count)
                changed.append(Series(series.name, series.attributes, series.kind, *grown, new))
        return changed

    def reset(self) -> None:
        """Forget everything that was recorded; handles stay as they are and go on from zero."""
        self._store.reset()

    def __repr__(self) -> str:
        return f"InMemoryMetricsBackend({len(self.names())} metrics)"


def _key(name: str, attributes: Attributes) -> Key:
    return name, tuple(sorted((key, type(value).__name__, _frozen(value)) for key, value in attributes.items()))


def _frozen(value: Any) -> Any:
    return repr(value) if isinstance(value, list | tuple | dict) else value


# --- the provider ---------------------------------------------------------------------------------------------


class _Store:
    """The series of one backend."""

    def __init__(self) -> None:
        self._series: dict[Key, tuple[Kind, Attributes, list[float]]] = {}
        self._callbacks: list[tuple[_Observed, Sequence[Any]]] = []
        self._after_fork_in_child()
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._series.clear()

    def record(
        self, kind: Kind, name: str, amount: float, attributes: Attributes | None, *, replace: bool = False
    ) -> None:
        own = dict(attributes or {})
        with self._lock:
            found = self._series.setdefault(_key(name, own), (kind, own, []))[2]
            if kind == "histogram" or not found:
                found.append(amount)
            elif kind == "gauge" or replace:
                found[0] = amount
            else:
                found[0] += amount

    def watch(self, instrument: _Observed, callbacks: Iterable[Any] | None) -> None:
        with self._lock:
            self._callbacks.append((instrument, list(callbacks or ())))

    def read(self) -> list[Series]:
        with self._lock:
            for instrument, callbacks in list(self._callbacks):
                instrument.ask(callbacks)
            return [_series(key[0], *kept) for key, kept in self._series.items()]

    def reset(self) -> None:
        with self._lock:
            self.read()  # what bound series hold is told, and forgotten with the rest
            self._series.clear()


def _series(name: str, kind: Kind, attributes: Attributes, values: list[float]) -> Series:
    if kind == "histogram":
        return Series(name, dict(attributes), kind, math.fsum(values), len(values), tuple(values))
    return Series(name, dict(attributes), kind, values[0])


class _Provider(api.MeterProvider):
    """The meter provider of one backend."""

    def __init__(self) -> None:
        self.store = _Store()
        self._meters: dict[tuple[str, str | None], _Meter] = {}

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes | None = None,  # noqa: ARG002 - OpenTelemetry's signature
    ) -> api.Meter:
        return self._meters.setdefault((name, version), _Meter(self.store, name, version, schema_url))


class _Instrument:
    exemplar_filter: Final = "always_off"

    def __init__(self, store: _Store, name: str) -> None:
        self._store = store
        self.name = name


class _Counter(_Instrument, api.Counter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:  # noqa: ARG002
        self._store.record("sum", self.name, amount, attributes)


class _UpDownCounter(_Instrument, api.UpDownCounter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:  # noqa: ARG002
        self._store.record("sum", self.name, amount, attributes)


class _Gauge(_Instrument, api._Gauge):
    def set(self, amount: float, attributes: Any = None, context: Any = None) -> None:  # noqa: ARG002
        self._store.record("gauge", self.name, amount, attributes)


class _Histogram(_Instrument, api.Histogram):
    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:  # noqa: ARG002
        self._store.record("histogram", self.name, amount, attributes)


class _Observed(_Instrument):
    """What the observable instruments share: a reading takes the place of the last one."""

    _kind: Kind = "sum"

    def ask(self, callbacks: Sequence[Callable[[api.CallbackOptions], Iterable[api.Observation]]]) -> None:
        for callback in callbacks:
            with guarded("metrics"):
                for seen in callback(api.CallbackOptions()):
                    self._store.record(self._kind, self.name, seen.value, seen.attributes, replace=True)


class _ObservableCounter(_Observed, api.ObservableCounter):
    pass


class _ObservableUpDownCounter(_Observed, api.ObservableUpDownCounter):
    pass


class _ObservableGauge(_Observed, api.ObservableGauge):
    _kind = "gauge"


I = TypeVar("I", bound=_Observed)  # noqa: E741 - an instrument


class _Meter(api.Meter):
    def __init__(self, store: _Store, name: str, version: str | None, schema_url: str | None) -> None:
        super().__init__(name, version, schema_url)
        self._store = store

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:  # noqa: ARG002
        return _Counter(self._store, name)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:  # noqa: ARG002
        return _UpDownCounter(self._store, name)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> api._Gauge:  # noqa: ARG002
        return _Gauge(self._store, name)

    def create_histogram(
        self,
        name: str,
        unit: str = "",  # noqa: ARG002
        description: str = "",  # noqa: ARG002
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,  # noqa: ARG002
    ) -> api.Histogram:
        return _Histogram(self._store, name)

    def create_observable_counter(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",  # noqa: ARG002
        description: str = "",  # noqa: ARG002
    ) -> api.ObservableCounter:
        return self._observed(_ObservableCounter(self._store, name), callbacks)

    def create_observable_up_down_counter(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",  # noqa: ARG002
        description: str = "",  # noqa: ARG002
    ) -> api.ObservableUpDownCounter:
        return self._observed(_ObservableUpDownCounter(self._store, name), callbacks)

    def create_observable_gauge(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",  # noqa: ARG002
        description: str = "",  # noqa: ARG002
    ) -> api.ObservableGauge:
        return self._observed(_ObservableGauge(self._store, name), callbacks)

    def _observed(self, instrument: I, callbacks: Sequence[Any] | None) -> I:
        self._store.watch(instrument, callbacks)
        return instrument
