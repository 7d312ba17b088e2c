"""Counters, gauges and timers: thin facades over the instruments of one OpenTelemetry meter.

A handle may be made at import, before any provider exists: it does nothing until one is installed and
lights up then. No handle ever raises where it is used; what breaks a rule is refused when it is made.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast

from opentelemetry import metrics as otel

from mobius_otel.conventions import ERROR_TYPE, FAST_SECONDS, HTTP_SECONDS
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.safety import swallow

if TYPE_CHECKING:
    from mobius_otel.telemetry.memory import InMemoryMetricsBackend

__all__ = ["BoundSeries", "Counter", "Gauge", "MetricEmitter", "Timer", "Timing", "metric_timer"]

P = ParamSpec("P")
R = TypeVar("R")
Attributes = Mapping[str, Any]
Observation = tuple[float, Attributes]
Buckets = Literal["http", "fast"] | Sequence[float]

_log = logging.getLogger("mobius_otel")
# OpenTelemetry metrics API, "Instrument name syntax": a letter, then at most 254 of these.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
_UNIT = re.compile(r"[\x20-\x7e]{0,63}")
_BUCKETS = {"http": HTTP_SECONDS, "fast": FAST_SECONDS}


class MetricEmitter:
    """Makes the instruments of one scope (one OpenTelemetry meter).

    Args:
        scope: The instrumentation scope, for example the name of your package.
        version: The scope's version.
        backend: A place in memory to record to instead of OpenTelemetry's global provider, for tests.
        meter_provider: The provider to record to; default: the global one, whenever it is installed.
        default_attributes: Attributes of every measurement; those of a call win.

    Raises:
        ConfigurationError: `scope` is empty, or both `backend` and `meter_provider` are given.

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
    ) -> None:
        if not scope or not isinstance(scope, str):
            raise ConfigurationError(
                "scope", scope, "a name that is not empty", 'For example: MetricEmitter("checkout")'
            )
        if backend is not None and meter_provider is not None:
            raise ConfigurationError("meter_provider", meter_provider, "absent when a backend is given")
        provider = backend.meter_provider if backend is not None else meter_provider
        self.scope = scope
        self._meter = otel.get_meter(scope, version or "", meter_provider=provider)
        self._defaults = dict(default_attributes or {})
        self._lock = threading.RLock()
        self._made: dict[str, tuple[tuple[object, ...], Any]] = {}
        self._closed = False

    def counter(self, name: str, unit: str = "1", description: str = "") -> Counter:
        """Return the counter `name`: a sum that only grows.

        Args:
            name: A dotted name of letters, digits and ``_.-/``, at most 255 characters.
            unit: A UCUM unit, for example ``By`` or ``{order}``.
            description: One sentence.

        Raises:
            ConfigurationError: The name breaks the rule, or was made before as something else.
        """
        return self._make(
            "counter", name, unit, description,
            lambda: Counter(name, self._meter.create_counter(name, unit, description), self._defaults),
        )  # fmt: skip

    def gauge(self, name: str, unit: str = "1", description: str = "") -> Gauge:
        """Return the gauge `name`: a value that is set, or moved up and down.

        Args and Raises: as :meth:`counter`.
        """
        return self._make(
            "gauge", name, unit, description,
            lambda: Gauge(name, self._meter.create_gauge(name, unit, description), self._defaults),
        )  # fmt: skip

    def timer(self, name: str, description: str = "", buckets: Buckets = "fast") -> Timer:
        """Return the timer `name`: a histogram of durations in seconds.

        Args:
            name: As for :meth:`counter`.
            description: One sentence.
            buckets: ``"fast"`` for microseconds to seconds, ``"http"`` for requests, or upper bounds in seconds.

        Raises:
            ConfigurationError: The name breaks the rule, was made before as something else, or the bounds
                do not rise.
        """
        bounds: tuple[Any, ...] = tuple(_BUCKETS.get(buckets, ()) if isinstance(buckets, str) else buckets)
        if not bounds or not all(isinstance(b, int | float) for b in bounds) or list(bounds) != sorted(set(bounds)):
            raise ConfigurationError("buckets", buckets, '"fast", "http" or rising numbers of seconds')
        return self._make(
            "timer", name, "s", description,
            lambda: Timer(
                name,
                self._meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds),
                self._defaults,
            ),
        )  # fmt: skip

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
            callback: Returns pairs of a value and its attributes; what it raises costs this gauge alone.
            unit: A UCUM unit.
            description: One sentence.

        Raises:
            ConfigurationError: The name breaks the rule or was made before.
        """

        def asked(_: otel.CallbackOptions) -> Iterable[otel.Observation]:
            if self._closed:
                return []
            try:
                return [otel.Observation(value, {**self._defaults, **attributes}) for value, attributes in callback()]
            except Exception as error:
                swallow("metrics", error)
                return []

        self._make(
            "observed gauge", name, unit, description,
            lambda: self._meter.create_observable_gauge(name, [asked], unit, description),
            again=False,
        )  # fmt: skip

    def close(self) -> None:
        """Ask no callback of :meth:`observe` any more: what it would look at is gone."""
        self._closed = True

    def _make(
        self, kind: str, name: str, unit: str, description: str, build: Callable[[], R], *, again: bool = True
    ) -> R:
        identity = (kind, unit, description)
        known = self._made.get(name)  # a dict read needs no lock
        if known is not None and again and known[0] == identity:
            return cast(R, known[1])
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                "name", name, "a letter followed by at most 254 letters, digits, '_', '.', '-' or '/'",
                'For example: "orders.placed"',
            )  # fmt: skip
        if not isinstance(unit, str) or not _UNIT.fullmatch(unit):
            raise ConfigurationError("unit", unit, "at most 63 ASCII characters, a UCUM unit", 'For example: "{order}"')
        with self._lock:
            known = self._made.get(name)
            if known is None:
                known = self._made[name] = (identity, build())
            elif known[0] != identity or not again:
                raise ConfigurationError(
                    "name", name, f"used for one instrument; it was made as {known[0]}, now as {identity}"
                )
            return cast(R, known[1])

    def __repr__(self) -> str:
        return f"MetricEmitter({self.scope!r}, {len(self._made)} instruments)"


class _Instrument:
    """What the facades share: a name, an OpenTelemetry instrument, default attributes."""

    __slots__ = ("_defaults", "_instrument", "_refused", "name")

    def __init__(self, name: str, instrument: Any, defaults: dict[str, Any]) -> None:
        self.name = name
        self._instrument = instrument
        self._defaults = defaults
        self._refused = False

    def _attributes(self, attributes: Attributes | None) -> Attributes | None:
        if not self._defaults:
            return attributes
        return {**self._defaults, **attributes} if attributes else self._defaults

    def _refuse(self, amount: object, rule: str) -> None:
        """Say once that `amount` broke the rule; a hot path never raises."""
        if not self._refused:
            self._refused = True
            _log.warning("mobius_otel: %s refused an amount of type %s: it must be %s",
                         self.name, type(amount).__name__, rule)  # fmt: skip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Counter(_Instrument):
    """A sum that only grows."""

    __slots__ = ()

    def add(self, amount: float = 1, attributes: Attributes | None = None) -> None:
        """Add `amount` (zero or more, finite) to the series of `attributes`; never raises.

        Args:
            amount: How much; a negative, infinite or non-numeric amount is refused with one log line.
            attributes: Few and bounded values: each combination is a series for ever.
        """
        try:
            if not (0 <= amount < math.inf):
                self._refuse(amount, "a finite number, zero or more")
                return
            self._instrument.add(amount, self._attributes(attributes))
        except TypeError:
            self._refuse(amount, "a finite number, zero or more")
        except Exception as error:
            swallow("metrics", error)

    def bind(self, attributes: Attributes) -> BoundSeries:
        """Return the series of `attributes`, for where the same ones are counted again and again."""
        return BoundSeries(self, attributes)


class Gauge(_Instrument):
    """A value that is set, or moved up and down."""

    __slots__ = ("_lock", "_values")

    def __init__(self, name: str, instrument: Any, defaults: dict[str, Any]) -> None:
        super().__init__(name, instrument, defaults)
        self._lock = threading.RLock()
        # OpenTelemetry has no instrument with both set and add, so the values are kept here.
        self._values: dict[frozenset[tuple[str, Any]], float] = {}

    def set(self, value: float, attributes: Attributes | None = None) -> None:
        """Set the series of `attributes` to `value` (finite); never raises."""
        self._move(value, attributes, from_last=False)

    def add(self, amount: float = 1, attributes: Attributes | None = None) -> None:
        """Move the series of `attributes` by `amount` (finite, may be negative); never raises."""
        self._move(amount, attributes, from_last=True)

    def bind(self, attributes: Attributes) -> BoundSeries:
        """Return the series of `attributes`."""
        return BoundSeries(self, attributes)

    def _move(self, amount: float, attributes: Attributes | None, *, from_last: bool) -> None:
        try:
            if not math.isfinite(amount):
                self._refuse(amount, "a finite number")
                return
            whole = self._attributes(attributes)
            key = frozenset(whole.items()) if whole else frozenset()
            with self._lock:  # published under the lock, so that the last one in is the last one seen
                value = self._values.get(key, 0) + amount if from_last else amount
                self._values[key] = value
                self._instrument.set(value, whole)
        except TypeError:
            self._refuse(amount, "a finite number, with attributes that can be compared")
        except Exception as error:
            swallow("metrics", error)


class BoundSeries:
    """One series of a counter or gauge, shaped as OpenTelemetry's Bind API."""

    __slots__ = ("_attributes", "_of")

    def __init__(self, of: Counter | Gauge, attributes: Attributes) -> None:
        self._of = of
        self._attributes = dict(attributes)

    def add(self, amount: float = 1) -> None:
        """Add `amount`; as :meth:`Counter.add` or :meth:`Gauge.add`."""
        self._of.add(amount, self._attributes)

    def set(self, value: float) -> None:
        """Set the value of a gauge's series.

        Raises:
            ConfigurationError: The series belongs to a counter.
        """
        if not isinstance(self._of, Gauge):
            raise ConfigurationError("set", self._of.name, "called on the series of a gauge", "A counter has add().")
        self._of.set(value, self._attributes)

    def __repr__(self) -> str:
        return f"BoundSeries({self._of.name!r}, {len(self._attributes)} attributes)"


class Timer(_Instrument):
    """A histogram of durations in seconds.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> backend = InMemoryMetricsBackend()
        >>> timer = MetricEmitter("checkout", backend=backend).timer("checkout.duration")
        >>> with timer.time({"step": "pay"}):
        ...     pass
        >>> @timer
        ... def pay() -> str:
        ...     return "paid"
        >>> pay(), backend.count("checkout.duration"), backend.count("checkout.duration", step="pay")
        ('paid', 2, 1)
    """

    __slots__ = ()

    def record(self, seconds: float, attributes: Attributes | None = None) -> None:
        """Record a duration of `seconds` (zero or more, finite); never raises."""
        try:
            if not (0 <= seconds < math.inf):
                self._refuse(seconds, "a finite number of seconds, zero or more")
                return
            self._instrument.record(seconds, self._attributes(attributes))
        except TypeError:
            self._refuse(seconds, "a finite number of seconds, zero or more")
        except Exception as error:
            swallow("metrics", error)

    def time(self, attributes: Attributes | None = None) -> Timing:
        """Time a block; a failure sets ``error.type``. Every call gives a block of its own, so it nests."""
        return Timing(self, attributes)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Time every call of `function`, which may be a coroutine function."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self.time():
                    return await function(*args, **kwargs)

            return cast(Callable[P, R], timed_async)

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.time():
                return function(*args, **kwargs)

        return timed


class Timing:
    """One block that is being timed; ``attributes`` can be added to inside it."""

    __slots__ = ("_start", "_timer", "attributes")

    def __init__(self, timer: Timer, attributes: Attributes | None) -> None:
        self._timer = timer
        self.attributes: dict[str, Any] = dict(attributes or {})

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._start
        if kind is not None:
            self.attributes.setdefault(ERROR_TYPE, kind.__qualname__)
        self._timer.record(seconds, self.attributes)


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

    return defaults.emitter().timer(name).time(attributes)
