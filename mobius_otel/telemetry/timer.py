"""Timers: histograms of durations, around blocks and functions of every kind."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from mobius_otel.conventions import ERROR_TYPE
from mobius_otel.telemetry.instruments import Histogram
from mobius_otel.telemetry.streams import Attributes

__all__ = ["Timer", "Timing"]

P = ParamSpec("P")
R = TypeVar("R")


class Timer(Histogram):
    """A histogram of durations in seconds.

    Example:
        >>> from mobius_otel.telemetry.memory import InMemoryMetricsBackend
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
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

    def time(self, attributes: Attributes | None = None) -> Timing:
        """Time a block; a failure sets ``error.type``.

        Every call gives a block of its own, so they nest and may run in many threads and tasks at once.

        Args:
            attributes: The series; more can be added inside the block.
        """
        return Timing(self, attributes)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Time every call of `function`: a function, a coroutine function, a generator or an asynchronous one.

        A generator is timed from its first step to its end, whoever drives it. What it returns, yields, is sent
        and raises passes unchanged.
        """
        if inspect.iscoroutinefunction(function):
            wrapped: Any = self._around_coroutine(function)
        elif inspect.isasyncgenfunction(function):
            wrapped = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._around_generator(function)
        else:
            wrapped = self._around(function)
        return cast(Callable[P, R], functools.update_wrapper(wrapped, function))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.time():
                return function(*args, **kwargs)

        return timed

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any, **kwargs: Any) -> Any:
            with self.time():
                return await function(*args, **kwargs)

        return timed

    def _around_generator(self, function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self.time():
                return (yield from function(*args, **kwargs))

        return timed

    def _around_async_generator(self, function: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
        async def timed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with self.time():
                inner = function(*args, **kwargs)
                step = inner.__anext__()
                while True:  # what ``yield from`` does, which asynchronous generators have not
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = inner.asend((yield item))
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:
                        step = inner.athrow(error)

        return timed


class Timing:
    """One block that is being timed; ``attributes`` can be added to inside it."""

    __slots__ = ("_start", "_timer", "attributes")

    def __init__(self, timer: Timer, attributes: Attributes | None) -> None:
        self._timer = timer
        #: The attributes of this duration.
        self.attributes: dict[str, Any] = dict(attributes) if attributes else {}

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._start
        if kind is not None and kind is not GeneratorExit:  # nobody wants the rest of a generator: no failure
            self.attributes.setdefault(ERROR_TYPE, kind.__qualname__)
        self._timer.record(seconds, self.attributes)
