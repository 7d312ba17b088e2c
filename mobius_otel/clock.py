"""The clock everything takes, so that tests can freeze time.

A clock is any callable that returns seconds as a float: ``time.time``, ``time.monotonic``, or a
:class:`FrozenClock`.
"""

from __future__ import annotations

import threading
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

    __slots__ = ("_lock", "_now")

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = float(start)

    def __call__(self) -> float:
        """Return the reading, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move the clock by `seconds` (negative: back) and return the new reading."""
        with self._lock:
            self._now += seconds
            return self._now

    def set(self, now: float) -> None:
        """Move the clock to `now`, in seconds."""
        with self._lock:
            self._now = float(now)

    def __repr__(self) -> str:
        return f"FrozenClock({self._now!r})"
