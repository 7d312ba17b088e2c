"""Streams: what stands behind the handles of an instrument, once for a scope and name.

A stream knows its OpenTelemetry instrument, its series and their limit; a scope knows its streams, tells
OpenTelemetry at collection what the bound series hold, and begins anew in a forked child.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from opentelemetry import metrics as otel

from mobius_otel import compat, conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.bound import BoundSeries
from mobius_otel.telemetry.rules import number_of
from mobius_otel.telemetry.safety import count_error, swallow

__all__ = ["CARDINALITY_LIMIT", "OVERFLOW", "Attributes", "Scope", "Stream", "renew_on_fork", "scope_of"]

Attributes = Mapping[str, Any]
Observation = tuple[float, Attributes]
S = TypeVar("S")

#: How many attribute sets an instrument keeps apart, as the SDK's own limit (specification, "Cardinality limits").
CARDINALITY_LIMIT: Final = 2000
#: The attributes of everything beyond.
OVERFLOW: Final = {"otel.metric.overflow": True}
_log = logging.getLogger("mobius_otel")
#: The name of the observable instrument that carries the bound series; it reports nothing itself.
_PUMP: Final = "mobius_otel.bound_series"


class Stream(Generic[S]):
    """One metric of a scope: what every handle of its name shares.

    Args:
        scope: Whose it is.
        name: Its name.
        instrument: The API's instrument.
        make: Makes one series from its attributes and the check of unusual amounts.
        signed: Whether amounts may be negative.
        limit: How many attribute sets are kept apart.
    """

    def __init__(
        self,
        scope: Scope,
        name: str,
        instrument: Any,
        make: Callable[[dict[str, Any], Callable[[Any], float | None]], S],
        *,
        signed: bool,
        limit: int,
    ) -> None:
        self.name = name
        self.instrument = instrument
        self.live = False
        #: Whether a call in a sampled span goes to the instrument, which makes an exemplar of it.
        self.exemplars: compat.ExemplarFilter = "trace_based"
        self._scope = scope
        self._make = make
        self._signed = signed
        self._limit = limit
        spec = conventions.METRICS.get(name)
        self._declared = frozenset(spec.attributes) if spec is not None else None
        self._series: dict[Any, S] = {}
        self._overflow: S | None = None
        self._refused = False
        self.light_up()

    # --- life -----------------------------------------------------------------------------------------------

    def light_up(self) -> bool:
        """Return whether somebody listens by now: an SDK's provider has been installed."""
        real = compat.real_instrument(self.instrument)
        if real is None:
            return False
        with self._scope.lock:
            self.instrument = real
            self.exemplars = compat.exemplar_filter(real)
            self.live = True
            for series in self.all():
                if isinstance(series, BoundSeries):
                    series._listened_to(True)
        return True

    def all(self) -> list[S]:
        """Return every series."""
        with self._scope.lock:
            found = list(self._series.values())
            return found if self._overflow is None else [*found, self._overflow]

    def publish(self) -> None:
        """Tell the instrument what the bound series hold."""
        if not self.live:
            return
        for series in self.all():
            if isinstance(series, BoundSeries):
                try:
                    series._publish(self.instrument)
                except Exception as error:
                    swallow("metrics", error)

    def begin_anew(self) -> None:
        """Forget what the parent of this process counted."""
        for series in self.all():
            if isinstance(series, BoundSeries):
                series._reset()
        if self.live:
            compat.renew_after_fork(self.instrument)

    # --- series ---------------------------------------------------------------------------------------------

    def find(self, attributes: Attributes) -> tuple[S, bool]:
        """Return the series of `attributes`, and whether it is theirs alone (false: the limit has been reached).

        Args:
            attributes: All of them, defaults included.
        """
        own = dict(attributes)
        if self._declared is not None and not own.keys() <= self._declared:
            self._undeclared(own)
        key = _identity(own)
        with self._scope.lock:
            found = self._series.get(key)
            if found is None and len(self._series) < self._limit:
                found = self._series[key] = self._new(own)
            if found is not None:
                return found, True
            first = self._overflow is None
            if self._overflow is None:
                self._overflow = self._new(dict(OVERFLOW))
            overflow = self._overflow
        self._overflowed(own, first)
        return overflow, False

    def _new(self, attributes: dict[str, Any]) -> S:
        series = self._make(attributes, self.checked)
        if isinstance(series, BoundSeries):
            series._listened_to(self.live)
        return series

    def _undeclared(self, attributes: dict[str, Any]) -> None:
        declared = self._declared or frozenset()
        extra = sorted(str(name) for name in attributes.keys() - declared)
        for name in extra:
            attributes.pop(name, None)
        swallow(
            "metrics",
            ConfigurationError(
                "attributes", extra, f"those that the registry declares for {self.name}", f"It has {sorted(declared)}."
            ),
        )

    def _overflowed(self, attributes: dict[str, Any], first: bool) -> None:
        count_error("metrics", "cardinality_overflow")
        if first:
            _log.warning(
                "mobius_otel: %s has reached its limit of %d attribute sets; further ones are counted together with"
                " otel.metric.overflow=true (the attribute with the most values is %r: give it fewer)",
                self.name, self._limit, self._grown() or ", ".join(map(str, attributes)),
            )  # fmt: skip

    def _grown(self) -> str | None:
        values: dict[str, set[Any]] = {}
        for key in list(self._series):
            for name, value in key:
                values.setdefault(name, set()).add(value)
        return max(values, key=lambda name: len(values[name]), default=None)

    # --- amounts --------------------------------------------------------------------------------------------

    def checked(self, amount: Any) -> float | None:
        """Return an unusual amount as the number to record; None where nobody listens or it breaks the rule."""
        try:
            if not self.live and not self.light_up():
                return None
            number = number_of(amount, signed=self._signed)
            if number is None:
                self._refuse(amount)
            return number
        except Exception as error:
            swallow("metrics", error)
            return None

    def _refuse(self, amount: object) -> None:
        count_error("metrics", "invalid_amount")
        if not self._refused:
            self._refused = True
            _log.warning(
                "mobius_otel: %s refused an amount of type %s: it must be a finite number%s"
                " (further ones are counted in %s alone)",
                self.name, type(amount).__name__, "" if self._signed else ", zero or more",
                conventions.INTERNAL_ERRORS.name,
            )  # fmt: skip


class Scope:
    """The streams of one meter.

    Args:
        meter: The meter, real or waiting for one.
    """

    def __init__(self, meter: otel.Meter) -> None:
        self.meter = meter
        self.lock = threading.RLock()
        self._publishing = threading.RLock()
        self._streams: dict[str, tuple[tuple[object, ...], Any]] = {}
        self._observed: dict[str, list[tuple[object, Callable[[], Iterable[otel.Observation]]]]] = {}
        meter.create_observable_gauge(_PUMP, [self._publish], "1", "Carries bound series; it has no values")
        on_fork(self)

    def is_of(self, meter: otel.Meter) -> bool:
        """Return whether `meter` is the same: what it records arrives where this scope's does."""
        return compat.real_meter(self.meter) is compat.real_meter(meter)

    def stream(self, kind: str, name: str, identity: tuple[object, ...], build: Callable[[], Stream[S]]) -> Stream[S]:
        """Return the stream `name`, made when it is asked for the first time.

        Raises:
            ConfigurationError: It was made before as something else.
        """
        whole = (kind, *identity)
        with self.lock:
            known = self._streams.get(name.lower())
            if known is None:
                known = self._streams[name.lower()] = (whole, build())
            elif known[0] != whole:
                raise ConfigurationError(
                    "name", name, f"used for one instrument; it was made as {_shown(known[0])}, now as {_shown(whole)}"
                )
            stream: Stream[S] = known[1]
            return stream

    def observe(
        self, owner: object, name: str, identity: tuple[str, str], ask: Callable[[], Iterable[otel.Observation]]
    ) -> None:
        """Report a gauge of `owner`; the owners of one name are asked in turn.

        Raises:
            ConfigurationError: The name was made before as something else, or by this owner.
        """

        def build() -> Any:
            def asked(_: otel.CallbackOptions) -> list[otel.Observation]:
                return [observation for _, each in list(self._observed[name.lower()]) for observation in each()]

            return self.meter.create_observable_gauge(name, [asked], *identity)

        with self.lock:
            asking = self._observed.setdefault(name.lower(), [])
            if any(known is owner for known, _ in asking):
                raise ConfigurationError("name", name, "observed once by an emitter; it is observed already")
            self.stream("observed gauge", name, identity, build)
            asking.append((owner, ask))

    def forget(self, owner: object) -> None:
        """Ask none of `owner`'s callbacks any more."""
        with self.lock:
            for asking in self._observed.values():
                asking[:] = [pair for pair in asking if pair[0] is not owner]

    def _publish(self, _: otel.CallbackOptions) -> Sequence[otel.Observation]:
        with self.lock:
            streams = [stream for _, stream in self._streams.values() if isinstance(stream, Stream)]
        with self._publishing:  # two readers may collect at once
            for stream in streams:
                stream.publish()
        return ()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        self._publishing = threading.RLock()
        compat.renew_meter_after_fork(self.meter)
        for _, stream in self._streams.values():
            if isinstance(stream, Stream):
                stream.begin_anew()


def _shown(identity: tuple[object, ...]) -> str:
    kind, unit, description, *buckets = identity
    return f"a {kind} in {unit!r} described as {description!r}" + (f" with buckets {buckets[0]}" if buckets else "")


def _identity(attributes: Attributes) -> frozenset[tuple[str, Any]]:
    """Return what tells two attribute sets apart; True, 1 and 1.0 differ, as they do in the SDK."""
    return frozenset((name, _frozen(value)) for name, value in attributes.items())


def _frozen(value: Any) -> Any:
    if type(value) is str:  # the usual one, as it is: every other kind of value becomes a tuple
        return value
    if value is None or isinstance(value, str | bool | int | float | bytes):
        return (type(value).__name__, value)
    if isinstance(value, Mapping):
        return ("mapping", _identity(value))
    if isinstance(value, Sequence):
        return ("sequence", tuple(map(_frozen, value)))
    return (type(value).__name__, str(value))


_scopes: dict[tuple[str, str], list[weakref.ref[Scope]]] = {}
_lock = threading.RLock()


class _Renewal:
    def __init__(self) -> None:
        self.providers: weakref.WeakSet[Any] = weakref.WeakSet()
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.RLock()
        for provider in list(self.providers):
            compat.renew_after_fork(provider)


_renewal = _Renewal()


def renew_on_fork(provider: otel.MeterProvider) -> None:
    """Let every forked child of this process count from zero and hang nowhere, with all instruments of `provider`."""
    _renewal.providers.add(provider)


def scope_of(name: str, version: str, provider: otel.MeterProvider | None) -> Scope:
    """Return the scope of this name and version at `provider`, the same one to everybody who asks.

    Args:
        name: The scope's name.
        version: Its version; empty: none.
        provider: The provider; None: the global one, whenever it is installed.
    """
    meter = otel.get_meter(name, version, meter_provider=provider)
    with _lock:
        alive = [scope for each in _scopes.get((name, version), ()) if (scope := each()) is not None]
        for scope in alive:
            if scope.is_of(meter):
                return scope
        scope = Scope(meter)
        _scopes[(name, version)] = [weakref.ref(each) for each in (*alive, scope)]
        return scope
