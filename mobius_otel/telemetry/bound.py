"""Bound series: a number in memory, told to OpenTelemetry when somebody collects.

``counter.add`` of the SDK costs microseconds for every call; a number in memory costs a twentieth. What the
cells hold is added to the ordinary synchronous instrument from the callback of an observable one, which the
SDK calls at every collection: so there is one stream, views, limits and temporality apply as usual, and it is
exact with several readers. What it cannot have is an exemplar, for the moment of the call is gone.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import Context

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.rules import LARGEST

__all__ = ["BoundSeries", "CounterSeries", "DelegatedSeries", "GaugeSeries", "UpDownSeries"]

#: Returns an amount that the quick check did not pass as the number to record, or None.
Slow = Callable[[Any], float | None]

#: No span, no baggage: whoever collects must not become the exemplar of what others counted. (Not empty, since the
#: SDK takes the current context for an empty one.)
_NOWHERE: Final = Context({"mobius_otel.collecting": True})


class BoundSeries(ABC):
    """One series of a counter or gauge, shaped as OpenTelemetry's Bind API.

    It is made by ``bind()``, not by hand.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> backend = InMemoryMetricsBackend()
        >>> euros = MetricEmitter("shop", backend=backend).counter("orders.placed").bind({"currency": "EUR"})
        >>> euros.add()
        >>> euros.add(2)
        >>> backend.value("orders.placed", currency="EUR")
        3
    """

    __slots__ = ("_live", "_slow", "_told", "_touched", "attributes", "direct", "value")

    #: Whether a plain ``value += 1`` counts as :meth:`increment` does, once somebody listens.
    _in_one_piece = False

    def __init__(self, attributes: dict[str, Any], slow: Slow) -> None:
        #: The attributes of the series, redaction and defaults included; not to be changed.
        self.attributes = attributes
        self._slow = slow
        self._listened_to(False)
        self._reset()

    def _listened_to(self, live: bool) -> None:
        self._live = live
        #: Whether the rare path that feels a call may add to :attr:`value` by itself.
        self.direct = live and self._in_one_piece

    @property
    def heard(self) -> bool:
        """Whether somebody listens: an SDK's provider has been installed, as far as it is known."""
        return self._live

    def _reset(self) -> None:
        #: What has been added.
        self.value: float = 0
        self._told: float = 0
        self._touched = False

    @abstractmethod
    def add(self, amount: float = 1) -> None:
        """Add `amount` to the series; never raises.

        Args:
            amount: A finite number; a counter takes none below zero. What breaks the rule is refused once with
                a log line, and counted.
        """

    def increment(self) -> None:
        """Add one: :meth:`add` without a look at the amount, for paths where that is felt; never raises."""
        self.add(1)

    def set(self, value: float) -> None:  # noqa: ARG002 - a gauge takes it
        """Set the value of a gauge's series; never raises.

        Args:
            value: A finite number.

        Raises:
            ConfigurationError: The series belongs to a counter.
        """
        raise ConfigurationError("set", type(self).__name__, "called on the series of a gauge", "A counter has add().")

    def _publish(self, instrument: Any) -> None:
        """Tell `instrument` what has been added since the last time; under the lock of the scope."""
        value = self.value
        amount = value - self._told
        if amount or self._touched:
            self._touched = False
            self._told = value
            instrument.add(amount, self.attributes, _NOWHERE)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.attributes)} attributes)"


# Why the classes below need no lock where there is a GIL: CPython switches threads (and runs signal handlers and
# finalizers) at calls and backward jumps alone, and `self.value += amount` over plain int and float has neither.
# A test with eight threads asserts the exact number; where there is no GIL the locked classes take over.


class _CounterSeries(BoundSeries):
    __slots__ = ()
    _in_one_piece = True

    def add(self, amount: float = 1) -> None:
        kind = type(amount)
        if (kind is int or kind is float) and 0 < amount < LARGEST and self._live:
            self.value += amount
        elif (number := self._slow(amount)) is not None:
            self._touched = True
            self.value += number

    def increment(self) -> None:
        if self._live:
            self.value += 1
        else:
            self.add(1)


class _UpDownSeries(BoundSeries):
    __slots__ = ()

    def add(self, amount: float = 1) -> None:
        kind = type(amount)
        if (kind is int or kind is float) and -LARGEST < amount < LARGEST and self._live:
            self.value += amount
            self._touched = True
        elif (number := self._slow(amount)) is not None:
            self.value += number
            self._touched = True


class _GaugeSeries(_UpDownSeries):
    __slots__ = ()

    def set(self, value: float) -> None:
        kind = type(value)
        if (kind is int or kind is float) and -LARGEST < value < LARGEST and self._live:
            self.value = value
            self._touched = True
        elif (number := self._slow(value)) is not None:
            self.value = number
            self._touched = True

    def _publish(self, instrument: Any) -> None:
        if self._touched:
            self._touched = False  # before the value is read: a set meanwhile is told the next time
            instrument.set(self.value, self.attributes, _NOWHERE)


class _Locked(BoundSeries):
    """What the series for Pythons without a GIL share."""

    __slots__ = ("_lock",)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        super()._reset()

    def add(self, amount: float = 1) -> None:
        with self._lock:
            super().add(amount)  # type: ignore[safe-super]  # that of the class beside it

    def increment(self) -> None:
        self.add(1)

    def set(self, value: float) -> None:
        with self._lock:
            super().set(value)


class LockedCounterSeries(_Locked, _CounterSeries):
    """A counter's series for Pythons without a GIL."""

    __slots__ = ()
    _in_one_piece = False


class LockedUpDownSeries(_Locked, _UpDownSeries):
    """An up-down counter's series for Pythons without a GIL."""

    __slots__ = ()


class LockedGaugeSeries(_Locked, _GaugeSeries):
    """A gauge's series for Pythons without a GIL."""

    __slots__ = ()


class DelegatedSeries(BoundSeries):
    """A series of an OpenTelemetry API that can bind by itself; it keeps exemplars."""

    __slots__ = ("_bound",)

    def __init__(self, attributes: dict[str, Any], slow: Slow, bound: Any) -> None:
        super().__init__(attributes, slow)
        self._bound = bound

    def add(self, amount: float = 1) -> None:
        """Add `amount`; as :meth:`BoundSeries.add`."""
        if (number := self._slow(amount)) is not None:
            self._bound.add(number)

    def _publish(self, instrument: Any) -> None:
        """Do nothing: the API has been told."""


_HAS_GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
CounterSeries = _CounterSeries if _HAS_GIL else LockedCounterSeries
UpDownSeries = _UpDownSeries if _HAS_GIL else LockedUpDownSeries
GaugeSeries = _GaugeSeries if _HAS_GIL else LockedGaugeSeries
