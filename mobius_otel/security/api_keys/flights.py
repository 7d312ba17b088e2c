"""One look-up for all who ask the same at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mobius_otel.forks import on_fork

__all__ = ["AsyncFlights", "Flights"]

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.error: Exception | None = None
        self.result: T | None = None


class Flights(Generic[T]):
    """Lets one thread do what several want at once.

    Example:
        >>> Flights().do(b"a", lambda: 5)
        (5, True)
    """

    __slots__ = ("__weakref__", "_lock", "_open")

    def __init__(self) -> None:
        self._after_fork_in_child()
        on_fork(self)

    def do(self, key: Hashable, work: Callable[[], T]) -> tuple[T, bool]:
        """Do `work`, or wait for the thread that does it already.

        Returns:
            What came of it, and whether it was done here.

        Raises:
            Exception: What `work` raised, to all.
        """
        with self._lock:
            flight = self._open.get(key)
            leads = flight is None
            if flight is None:
                flight = self._open[key] = _Flight()
        if not leads:
            with flight.done:
                pass
            if flight.error is not None:
                raise flight.error
            return flight.result, False  # type: ignore[return-value]
        try:
            flight.result = result = work()
        except Exception as error:
            flight.error = error
            raise
        except BaseException:
            flight.error = RuntimeError("the thread that asked was ended")
            raise
        finally:
            with self._lock:
                self._open.pop(key, None)
            flight.done.release()
        return result, True

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, _Flight[T]] = {}


class AsyncFlights(Generic[T]):
    """Lets one task of an event loop do what several want at once."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, Hashable], asyncio.Task[T]] = {}

    async def do(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Do `work`, or wait for the task that does it already; a caller that is cancelled stops nobody else.

        Returns and Raises: as :meth:`Flights.do`.
        """
        loop = asyncio.get_running_loop()
        place = (id(loop), key)
        task = self._open.get(place)
        leads = task is None or task.get_loop() is not loop  # the id of a loop that is gone may come again
        if task is None or leads:
            task = self._open[place] = asyncio.ensure_future(_awaited(work))
            task.add_done_callback(lambda done: self._ended(place, done))
        return await asyncio.shield(task), leads

    def _ended(self, place: tuple[int, Hashable], task: asyncio.Task[T]) -> None:
        if self._open.get(place) is task:
            del self._open[place]
        if not task.cancelled():
            task.exception()  # it has been looked at, also where every caller has gone


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
