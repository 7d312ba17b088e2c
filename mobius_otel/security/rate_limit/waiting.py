"""Waiting for one's turn: fair, without polling, for threads and for asyncio alike.

Whoever waits for a key stands in the line of that key, first come, first served. The first of it tries, and
sleeps for exactly as long as the denial said; the others sleep until they are the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable
from typing import Protocol

from mobius_otel.security.rate_limit.facts import NEVER, TICKS_PER_SECOND, Facts

__all__ = ["AsyncWaiter", "Lines", "ThreadWaiter", "turns"]

#: A step of waiting: a number of seconds to sleep for (None: until woken), or "take" or "peek" to be done.
Step = float | str | None


class Waiter(Protocol):
    """Somebody who waits."""

    def wake(self) -> None:
        """End the sleep that goes on, or the next one."""


class ThreadWaiter:
    """A thread that waits."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        """End the sleep that goes on, or the next one."""
        self._event.set()

    def sleep(self, seconds: float | None) -> None:
        """Sleep for `seconds` (None: without an end) or until woken."""
        self._event.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        self._event.clear()


class AsyncWaiter:
    """A task that waits; whoever wakes it may be another thread."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """End the sleep that goes on, or the next one."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody sleeps there any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def sleep(self, seconds: float | None) -> None:
        """Sleep for `seconds` (None: without an end) or until woken."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class Lines:
    """The lines of one limiter, one for each key that somebody waits for."""

    __slots__ = ("__weakref__", "_lines", "_lock")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget everybody, for a new process."""
        self._lock = threading.Lock()
        self._lines: dict[Hashable, deque[Waiter]] = {}

    def enter(self, key: Hashable, waiter: Waiter) -> None:
        """Stand at the end of a line."""
        with self._lock:
            self._lines.setdefault(key, deque()).append(waiter)

    def is_first(self, key: Hashable, waiter: Waiter) -> bool:
        """Return whether it is one's turn."""
        with self._lock:
            return self._lines[key][0] is waiter

    def leave(self, key: Hashable, waiter: Waiter) -> None:
        """Leave a line, wherever one stands in it; the first of the others is woken."""
        with self._lock:
            line = self._lines[key]
            line.remove(waiter)
            if line:
                line[0].wake()
            else:
                del self._lines[key]

    def wake(self, key: Hashable | None = None) -> None:
        """Let the first of a line (None: of every line) try again: something has been given back."""
        if not self._lines:  # mostly nobody waits
            return
        with self._lock:
            for line in list(self._lines.values()) if key is None else filter(None, [self._lines.get(key)]):
                line[0].wake()

    def wake_everybody(self) -> None:
        """Let everybody look at the time again: the clock has been moved."""
        with self._lock:
            for line in self._lines.values():
                for waiter in line:
                    waiter.wake()

    def __len__(self) -> int:
        return sum(map(len, list(self._lines.values())))


def turns(
    lines: Lines, key: Hashable, waiter: Waiter, deadline: float | None, now: Callable[[], float]
) -> Generator[Step, Facts, Facts]:
    """Say, step by step, what is to be done until `key` passes or cannot pass in time.

    Args:
        lines: The limiter's lines.
        key: Who asks.
        waiter: Who waits for it.
        deadline: When to give up, by `now`; None: never.
        now: Seconds.

    Yields:
        Seconds to sleep for, or ``take`` or ``peek``, whose facts are sent back.

    Returns:
        The facts of the last try.
    """
    lines.enter(key, waiter)
    try:
        while True:
            left = None if deadline is None else deadline - now()
            if not lines.is_first(key, waiter):
                if left is not None and left <= 0:
                    return (yield "peek")
                yield left
                continue
            facts = yield "take"
            wait = facts[4] / TICKS_PER_SECOND
            if facts[0] or facts[4] >= NEVER or (left is not None and wait > left):
                return facts
            yield wait
    finally:
        lines.leave(key, waiter)
