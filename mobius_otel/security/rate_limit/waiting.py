"""Waiting for one's turn: fair, without polling, for threads and for asyncio alike.

Whoever waits for a key stands in the line of that key, first come, first served. The first of it tries, and
sleeps for exactly as long as the denial said; the others sleep until they are the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Hashable
from typing import Any, Literal, Protocol

from mobius_otel.clock import Clock
from mobius_otel.security.rate_limit.facts import NEVER, TICKS_PER_SECOND, Facts

__all__ = ["Answer", "Ask", "Lines", "wait", "wait_async"]

#: What may be asked of the counts: to charge what passes, or to look.
Ask = Literal["take", "peek"]
#: The facts, and the class of what went wrong where nobody could count.
Answer = tuple[Facts, str | None]


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
    """The lines of one limiter, one for each key that somebody waits for.

    Args:
        clock: The limiter's; None: the monotonic clock. By one that says when it is moved (a method ``watch``)
            nobody need look at the time: whoever waits is woken.
    """

    __slots__ = ("__weakref__", "_lines", "_lock", "now", "watched")

    def __init__(self, clock: Clock | None = None) -> None:
        self.now: Clock = clock or time.monotonic
        watch = getattr(clock, "watch", None)
        self.watched = watch is not None
        self.begin()
        if watch is not None:
            watch(self.wake_everybody)

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


class _Sleep(float):
    """Seconds to sleep for."""


def _turns(
    lines: Lines, key: Hashable, waiter: Waiter, timeout: float | None
) -> Generator[Ask | _Sleep | None, Any, Answer]:
    """Say, step by step, what is to be done until `key` passes or cannot pass in time.

    Yields:
        ``take`` or ``peek``, whose answer is sent back; or how long to sleep, None: until woken.

    Returns:
        The answer to the last try.
    """
    deadline = None if timeout is None else lines.now() + timeout
    lines.enter(key, waiter)
    try:
        while True:
            left = None if deadline is None else deadline - lines.now()
            if not lines.is_first(key, waiter):
                if left is not None and left <= 0:
                    return (yield "peek")  # type: ignore[no-any-return]
                yield None if left is None or lines.watched else _Sleep(left)
                continue
            answer: Answer = yield "take"
            facts, ticks = answer[0], answer[0][4]
            seconds = ticks / TICKS_PER_SECOND
            if facts[0] or ticks >= NEVER or (left is not None and seconds > left):
                return answer
            yield None if lines.watched else _Sleep(seconds)
    finally:
        lines.leave(key, waiter)


def wait(lines: Lines, key: Hashable, timeout: float | None, ask: Callable[[Ask], Answer]) -> Answer:
    """Block until `key` passes or cannot pass in time.

    Args:
        lines: The limiter's lines.
        key: Who waits.
        timeout: Seconds; None: as long as it takes.
        ask: Asks the counts.
    """
    waiter = ThreadWaiter()
    steps = _turns(lines, key, waiter, timeout)
    try:
        step = next(steps)
        while True:
            if isinstance(step, str):
                step = steps.send(ask(step))
            else:
                waiter.sleep(step)
                step = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def wait_async(
    lines: Lines,
    key: Hashable,
    timeout: float | None,  # noqa: ASYNC109
    ask: Callable[[Ask], Awaitable[Answer]],
) -> Answer:
    """Do what :func:`wait` does without blocking the loop; cancelling leaves the line."""
    waiter = AsyncWaiter()
    steps = _turns(lines, key, waiter, timeout)
    try:
        step = next(steps)
        while True:
            if isinstance(step, str):
                step = steps.send(await ask(step))
            else:
                await waiter.sleep(step)
                step = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()
