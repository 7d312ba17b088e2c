"""The handles: counters, gauges and histograms as thin facades over streams.

A handle may be made at import, before any provider exists: it does nothing until one is installed and lights
up then. No handle ever raises where it is used; what breaks a rule is refused when it is made.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from opentelemetry import trace

from mobius_otel.telemetry.bound import BoundSeries
from mobius_otel.telemetry.rules import LARGEST
from mobius_otel.telemetry.safety import swallow
from mobius_otel.telemetry.streams import Attributes, Stream

__all__ = ["Counter", "Gauge", "Histogram", "Instrument", "UpDownCounter"]

S = TypeVar("S")
_SAMPLED: Final = trace.TraceFlags.SAMPLED
#: Values that are equal only if they are the same in the SDK too, given that their types are compared.
_PLAIN: Final = frozenset({str, int, float, bool})
_current_span = trace.get_current_span


class Instrument(Generic[S]):
    """What the facades share: a stream, default attributes, and the series that were looked up before."""

    __slots__ = ("_bare", "_cache", "_defaults", "_most", "_stream", "name")

    def __init__(self, name: str, stream: Stream[S], defaults: dict[str, Any], limit: int) -> None:
        #: The instrument's name.
        self.name = name
        self._stream = stream
        self._defaults = defaults
        # Keyed by the call's attributes in their order, so that looking up costs little; bounded.
        self._cache: dict[Any, S] = {}
        self._most = 4 * limit
        self._bare: S | None = None

    def _series(self, attributes: Attributes | None) -> S:
        if not attributes:
            return self._bare or self._look_up({}, None)
        try:
            return self._cache[(*attributes.items(), *map(type, attributes.values()))]
        except (KeyError, TypeError):
            plain = _PLAIN.issuperset(map(type, attributes.values()))
            key = (*attributes.items(), *map(type, attributes.values())) if plain else None
            return self._look_up(attributes, key)

    def _look_up(self, attributes: Attributes, key: Any) -> S:
        series, own = self._stream.find({**self._defaults, **attributes} if self._defaults else attributes)
        if not attributes:
            self._bare = series
        elif own and key is not None and len(self._cache) < self._most:
            self._cache[key] = series
        return series

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class _Adding(Instrument[BoundSeries]):
    """What counters and up-down counters share."""

    __slots__ = ()
    _lowest = 0.0

    def add(self, amount: float = 1, attributes: Attributes | None = None) -> None:
        """Add `amount` to the series of `attributes`; never raises.

        Inside a sampled span the measurement can become an exemplar of it; elsewhere it costs as little as that
        of a bound series.

        Args:
            amount: A finite number; a counter takes none below zero. What breaks the rule is refused, counted,
                and told once in the log.
            attributes: Few and bounded values: each combination is a series for ever.
        """
        stream = self._stream
        if not stream.live and not stream.light_up():
            return
        try:
            series = self._series(attributes)
            if stream.exemplars == "always_off" or not (
                stream.exemplars == "always_on" or _current_span().get_span_context().trace_flags & _SAMPLED
            ):
                series.add(amount)
                return
            kind = type(amount)
            number: float | None = amount
            if not ((kind is int or kind is float) and self._lowest <= amount < LARGEST):
                number = stream.checked(amount)
            if number is not None:
                stream.instrument.add(number, series.attributes)
        except Exception as error:
            swallow("metrics", error)

    def bind(self, attributes: Attributes | None = None) -> BoundSeries:
        """Return the series of `attributes`, for where the same ones are counted again and again.

        Args:
            attributes: As for :meth:`add`. Beyond the instrument's limit it is the series of the overflow.
        """
        return self._series(attributes)


class Counter(_Adding):
    """A sum that only grows: requests, errors, bytes.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> orders = MetricEmitter("shop", backend=backend).counter("orders.placed", unit="{order}")
        >>> orders.add(2, {"currency": "EUR"})
        >>> backend.value("orders.placed")
        2
    """

    __slots__ = ()


class UpDownCounter(_Adding):
    """A sum that grows and shrinks: open connections, items in a queue. Sums of several workers add up.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> jobs = MetricEmitter("shop", backend=backend).up_down_counter("jobs.running", unit="{job}")
        >>> jobs.add(3)
        >>> jobs.add(-1)
        >>> backend.value("jobs.running")
        2
    """

    __slots__ = ()
    _lowest = float(-LARGEST)


class Gauge(Instrument[BoundSeries]):
    """A value that is set, or moved up and down: a temperature, the size of a cache.

    OpenTelemetry has no instrument with both, so the value is kept here and told when somebody collects.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> depth = MetricEmitter("shop", backend=backend).gauge("queue.depth", unit="{job}")
        >>> depth.set(3)
        >>> depth.add(-1)
        >>> backend.value("queue.depth")
        2
    """

    __slots__ = ()

    def set(self, value: float, attributes: Attributes | None = None) -> None:
        """Set the series of `attributes` to `value` (finite); never raises."""
        if not self._stream.live and not self._stream.light_up():
            return
        try:
            self._series(attributes).set(value)
        except Exception as error:
            swallow("metrics", error)

    def add(self, amount: float = 1, attributes: Attributes | None = None) -> None:
        """Move the series of `attributes` by `amount` (finite, may be negative); never raises."""
        if not self._stream.live and not self._stream.light_up():
            return
        try:
            self._series(attributes).add(amount)
        except Exception as error:
            swallow("metrics", error)

    def bind(self, attributes: Attributes | None = None) -> BoundSeries:
        """Return the series of `attributes`."""
        return self._series(attributes)


class Histogram(Instrument[dict[str, Any]]):
    """A distribution of values: sizes of answers, amounts of orders. For durations: a timer.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> sizes = MetricEmitter("shop", backend=backend).histogram("answer.size", unit="By", buckets=[100, 1000])
        >>> sizes.record(512, {"http.route": "/"})
        >>> backend.count("answer.size"), backend.sum("answer.size")
        (1, 512.0)
    """

    __slots__ = ()

    def record(self, value: float, attributes: Attributes | None = None) -> None:
        """Record one value in the series of `attributes`; never raises.

        Args:
            value: A finite number, zero or more, in the instrument's unit.
            attributes: Few and bounded values: each combination is a series for ever.
        """
        stream = self._stream
        if not stream.live and not stream.light_up():
            return
        try:
            kind = type(value)
            number: float | None = value
            if not ((kind is int or kind is float) and 0 <= value < LARGEST):
                number = stream.checked(value)
            if number is not None:
                stream.instrument.record(number, self._series(attributes))
        except Exception as error:
            swallow("metrics", error)
