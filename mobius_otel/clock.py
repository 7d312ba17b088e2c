"""The clock everything takes, so that tests can freeze time.

A clock is any callable that returns seconds as a float: ``time.time``, ``time.monotonic``, or a
:class:`FrozenClock`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

__all__ = ["Clock", "FrozenClock"]

Clock = Callable[[], float]


class FrozenClock:
    """A clock that moves when it is told to, for tests.

    Args:
        start: The first reading, in seconds.

    Example:
        >>> clock = FrozenClock(1000.0)
        >>> clock.advance(2.5)
        1002.5
        >>> clock()
        1002.5
    """

    __slots__ = ("_lock", "_now", "_watching")

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = float(start)
        self._watching: list[weakref.WeakMethod[Callable[[], object]]] = []

    def __call__(self) -> float:
        """Return the reading, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move the clock by `seconds` (negative: back) and return the new reading."""
        with self._lock:
            self._now = now = self._now + seconds
        self._tell()
        return now

    def set(self, now: float) -> None:
        """Move the clock to `now`, in seconds."""
        with self._lock:
            self._now = float(now)
        self._tell()

    def watch(self, moved: Callable[[], object]) -> None:
        """Call `moved` whenever the clock has been moved, so that who waits by this clock need not look at it.

        Args:
            moved: A bound method; its object is not kept alive.
        """
        with self._lock:
            self._watching = [each for each in self._watching if each() is not None]
            self._watching.append(weakref.WeakMethod(moved))

    def _tell(self) -> None:
        for each in list(self._watching):
            moved = each()
            if moved is not None:
                moved()

    def __repr__(self) -> str:
        return f"FrozenClock({self._now!r})"
