"""Counters, gauges and timers: thin facades over the instruments of one OpenTelemetry meter.

A handle may be made at import, before any provider exists: it does nothing until one is installed and
lights up then. No handle ever raises where it is used; what breaks a rule is refused when it is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import metrics as otel

from mobius_otel.conventions import METRICS
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry import bound
from mobius_otel.telemetry.bound import BoundSeries
from mobius_otel.telemetry.instruments import Counter, Gauge, Histogram, Instrument, UpDownCounter
from mobius_otel.telemetry.rules import Buckets, bounds_of, check_name, check_unit
from mobius_otel.telemetry.safety import count_error, swallow
from mobius_otel.telemetry.streams import CARDINALITY_LIMIT, Attributes, Observation, Scope, Stream, scope_of
from mobius_otel.telemetry.timer import Timer, Timing

if TYPE_CHECKING:
    from mobius_otel.telemetry.memory import InMemoryMetricsBackend

__all__ = [
    "BoundSeries", "Buckets", "Counter", "Gauge", "Histogram", "MetricEmitter", "Timer", "Timing", "UpDownCounter",
    "metric_timer",
]  # fmt: skip

I = TypeVar("I", bound=Instrument[Any])  # noqa: E741 - an instrument
_log = logging.getLogger("mobius_otel")


class MetricEmitter:
    """Makes the instruments of one scope (one OpenTelemetry meter).

    Emitters of the same scope, version and provider share their instruments, so that a name is one stream of
    the process however many modules count in it.

    Args:
        scope: The instrumentation scope, for example the name of your package.
        version: The scope's version.
        backend: A place in memory to record to instead of OpenTelemetry's global provider, for tests.
        meter_provider: The provider to record to; default: the global one, whenever it is installed.
        default_attributes: Attributes of every measurement; those of a call win.
        cardinality_limit: How many attribute sets an instrument keeps apart, at least 1; what comes after falls
            into one series with ``otel.metric.overflow=true``. It holds for the instruments that this emitter
            is the first to make.

    Raises:
        ConfigurationError: `scope` is empty, `cardinality_limit` is below 1, or both `backend` and
            `meter_provider` are given.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> backend = InMemoryMetricsBackend()
        >>> emitter = MetricEmitter("checkout", version="1.2", backend=backend)
        >>> emitter.counter("orders.placed", unit="{order}").add(2, {"currency": "EUR"})
        >>> backend.value("orders.placed", currency="EUR")
        2
    """

    def __init__(
        self,
        scope: str,
        version: str | None = None,
        *,
        backend: InMemoryMetricsBackend | None = None,
        meter_provider: otel.MeterProvider | None = None,
        default_attributes: Attributes | None = None,
        cardinality_limit: int = CARDINALITY_LIMIT,
    ) -> None:
        if not scope or not isinstance(scope, str):
            raise ConfigurationError(
                "scope", scope, "a name that is not empty", 'For example: MetricEmitter("checkout")'
            )
        if backend is not None and meter_provider is not None:
            raise ConfigurationError("meter_provider", meter_provider, "absent when a backend is given")
        if not isinstance(cardinality_limit, int) or isinstance(cardinality_limit, bool) or cardinality_limit < 1:
            raise ConfigurationError("cardinality_limit", cardinality_limit, "a whole number, at least 1")
        provider = backend.meter_provider if backend is not None else meter_provider
        self.scope = scope
        self._scope: Scope = scope_of(scope, version or "", provider)
        self._defaults = dict(default_attributes or {})
        self._limit = cardinality_limit
        self._made: dict[str, tuple[tuple[object, ...], Any]] = {}
        self._new_lock()
        on_fork(self)

    def _new_lock(self) -> None:
        self._lock = threading.RLock()

    def counter(self, name: str, unit: str = "1", description: str = "") -> Counter:
        """Return the counter `name`: a sum that only grows.

        Args:
            name: A dotted name of letters, digits and ``_.-/``, at most 255 characters; case makes no difference.
            unit: A UCUM unit, for example ``By`` or ``{order}``.
            description: One sentence.

        Raises:
            ConfigurationError: The name or unit breaks its rule, or the name was made before as something else.
        """
        meter = self._scope.meter
        return self._make(
            Counter, name, (unit, description),
            lambda: self._cells(name, meter.create_counter(name, unit, description), bound.CounterSeries),
        )  # fmt: skip

    def up_down_counter(self, name: str, unit: str = "1", description: str = "") -> UpDownCounter:
        """Return the up-down counter `name`: a sum that grows and shrinks, and adds up over workers.

        Args and Raises: as :meth:`counter`.
        """
        meter = self._scope.meter
        return self._make(
            UpDownCounter, name, (unit, description),
            lambda: self._cells(
                name, meter.create_up_down_counter(name, unit, description), bound.UpDownSeries, signed=True
            ),
        )  # fmt: skip

    def gauge(self, name: str, unit: str = "1", description: str = "") -> Gauge:
        """Return the gauge `name`: a value that is set, or moved up and down.

        Args and Raises: as :meth:`counter`.
        """
        meter = self._scope.meter
        return self._make(
            Gauge, name, (unit, description),
            lambda: Stream(
                self._scope, name, meter.create_gauge(name, unit, description), bound.GaugeSeries,
                signed=True, limit=self._limit,
            ),
        )  # fmt: skip

    def histogram(self, name: str, unit: str = "1", description: str = "", buckets: Buckets | None = None) -> Histogram:
        """Return the histogram `name`: a distribution of values.

        Args:
            name: As for :meth:`counter`.
            unit: As for :meth:`counter`.
            description: One sentence.
            buckets: Upper bounds in the instrument's unit, or ``"http"`` or ``"fast"`` for seconds; None: those
                that the SDK takes (0 to 10,000, made for milliseconds).

        Raises:
            ConfigurationError: As for :meth:`counter`, or the bounds do not rise.
        """
        return self._distribution(Histogram, name, unit, description, None if buckets is None else bounds_of(buckets))

    def timer(self, name: str, description: str = "", buckets: Buckets = "fast") -> Timer:
        """Return the timer `name`: a histogram of durations in seconds.

        Args:
            name: As for :meth:`counter`.
            description: One sentence.
            buckets: ``"fast"`` for microseconds to seconds, ``"http"`` for requests, or upper bounds in seconds.

        Raises:
            ConfigurationError: As for :meth:`counter`, or the bounds do not rise.
        """
        return self._distribution(Timer, name, "s", description, bounds_of(buckets))

    def observe(
        self,
        name: str,
        callback: Callable[[], Iterable[Observation]],
        unit: str = "1",
        description: str = "",
    ) -> None:
        """Report a gauge whose values are asked for at each collection.

        Args:
            name: As for :meth:`counter`.
            callback: Returns pairs of a value and its attributes; what it raises costs this gauge alone. It is
                called by whoever collects, so it should be quick.
            unit: A UCUM unit.
            description: One sentence.

        Raises:
            ConfigurationError: The name or unit breaks its rule, or was made before by this emitter.

        Example:
            >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
            >>> backend, jobs = InMemoryMetricsBackend(), ["a", "b"]
            >>> MetricEmitter("shop", backend=backend).observe("queue.depth", lambda: [(len(jobs), {"queue": "mail"})])
            >>> backend.value("queue.depth", queue="mail")
            2
        """
        check_name(name)
        check_unit(unit)
        self._scope.observe(self, name, (unit, description), lambda: self._asked(name, callback))

    def close(self) -> None:
        """Ask no callback of :meth:`observe` any more: what it would look at is gone."""
        self._scope.forget(self)

    # --- how they are made ----------------------------------------------------------------------------------

    def _make(self, kind: type[I], name: str, identity: tuple[object, ...], build: Callable[[], Stream[Any]]) -> I:
        known = self._made.get(name)  # a dict read needs no lock
        if known is not None and known[0] == (kind, *identity):
            return cast(I, known[1])
        check_name(name)
        check_unit(identity[0])
        with self._lock:
            stream = self._scope.stream(_KINDS[kind], name, identity, build)
            known = self._made.get(name)
            if known is None:
                known = self._made[name] = ((kind, *identity), kind(name, stream, self._defaults, self._limit))
            return cast(I, known[1])

    def _cells(
        self, name: str, instrument: Any, plain: Callable[..., BoundSeries], *, signed: bool = False
    ) -> Stream[BoundSeries]:
        """Return a stream of bound series: the API's own where it can bind, else ours."""

        def make(attributes: dict[str, Any], slow: bound.Slow) -> BoundSeries:
            if hasattr(stream.instrument, "bind"):
                return bound.DelegatedSeries(attributes, slow, stream.instrument.bind(attributes))
            return plain(attributes, slow)

        stream: Stream[BoundSeries] = Stream(self._scope, name, instrument, make, signed=signed, limit=self._limit)
        return stream

    def _distribution(
        self, kind: type[I], name: str, unit: str, description: str, bounds: tuple[float, ...] | None
    ) -> I:
        def build() -> Stream[dict[str, Any]]:
            instrument = self._scope.meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=bounds
            )
            return Stream(
                self._scope, name, instrument, lambda attributes, _: attributes, signed=False, limit=self._limit
            )

        return self._make(kind, name, (unit, description, bounds), build)

    def _asked(self, name: str, callback: Callable[[], Iterable[Observation]]) -> Iterable[otel.Observation]:
        spec = METRICS.get(name)
        found: list[otel.Observation] = []
        try:
            for value, attributes in callback():
                own = {**self._defaults, **attributes}
                if spec is not None and not own.keys() <= set(spec.attributes):
                    raise ConfigurationError(
                        "attributes", sorted(own), f"those that the registry declares for {name}",
                        f"It has {sorted(spec.attributes)}.",
                    )  # fmt: skip
                if len(found) >= self._limit:
                    count_error("metrics", "cardinality_overflow")
                    break
                found.append(otel.Observation(value, own))
        except Exception as error:
            swallow("metrics", error)
        return found

    def _timer_of(self, name: str) -> Timer:
        """Return the timer `name` as it was made, whatever its description and buckets; else a new one."""
        known = self._made.get(name)
        return known[1] if known is not None and isinstance(known[1], Timer) else self.timer(name)

    def _after_fork_in_child(self) -> None:
        self._new_lock()

    def __repr__(self) -> str:
        return f"MetricEmitter({self.scope!r}, {len(self._made)} instruments)"


_KINDS = {
    Counter: "counter", UpDownCounter: "up-down counter", Gauge: "gauge", Histogram: "histogram", Timer: "timer",
}  # fmt: skip


def metric_timer(name: str, /, **attributes: Any) -> Timing:
    """Time a block on the default emitter.

    Args:
        name: The histogram's name, as for :meth:`MetricEmitter.timer`.
        **attributes: The series.

    Raises:
        ConfigurationError: The name breaks the rule.

    Example:
        >>> with metric_timer("checkout.duration", step="pay") as timing:
        ...     timing.attributes["method"] = "card"
    """
    from mobius_otel.telemetry import defaults

    return defaults.emitter()._timer_of(name).time(attributes)
