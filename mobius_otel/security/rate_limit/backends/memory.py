"""Hits in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence

from mobius_otel.clock import Clock
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.algorithms import TICKS_PER_SECOND, Facts, SlidingWindow, WindowLog
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["MemoryBackend", "MemoryCounts"]


class MemoryBackend:
    """Counts in memory: exact for one process; a forked child begins with nothing."""

    __slots__ = ()

    def counts(self, limits: Sequence[RateLimit], *, name: str, algorithm: str, clock: Clock | None) -> MemoryCounts:  # noqa: ARG002
        """Return the counts of a new limiter.

        Args:
            limits: Its limits.
            name: Its name; counts are the limiter's own anyway.
            algorithm: ``sliding_window_log``.
            clock: Seconds as a float; None: the monotonic clock.
        """
        return MemoryCounts(limits, clock)

    def __repr__(self) -> str:
        return "MemoryBackend()"


class MemoryCounts:
    """The counts of one limiter.

    Keys live in two dicts. Every longest window the young one becomes the old one and what was old is
    forgotten: a key that is asked for moves to the young one, so what is forgotten was idle for a whole
    window and has nothing in use. No timer, no scan, and no key with something in use is ever forgotten.

    Args:
        limits: The limits.
        clock: Seconds as a float; None: the monotonic clock.

    Example:
        >>> counts = MemoryCounts([RateLimit(1, per=60.0)])
        >>> counts.take("a", 1, charge=True)[0], counts.take("a", 1, charge=True)[0], len(counts)
        (True, False, 1)
    """

    __slots__ = ("__weakref__", "_clock", "_last", "_limits", "_lock", "_offset", "_old", "_turn", "_window", "_young")

    source = "local"

    def __init__(self, limits: Sequence[RateLimit], clock: Clock | None = None) -> None:
        self._limits = tuple(limits)
        self._clock = clock
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._window = SlidingWindow(self._limits)
        self._young: dict[Hashable, tuple[WindowLog, ...]] = {}
        self._old: dict[Hashable, tuple[WindowLog, ...]] = {}
        self._last: int | None = None
        self._offset = 0
        self._turn = self._now() + self._window.longest + 1

    def take(self, key: Hashable, cost: int, *, charge: bool) -> Facts:
        """Decide whether `cost` units of `key` may pass, and charge them if they may and `charge` says so."""
        with self._lock:  # the clock is read inside, so that what is written is in order
            now = time.monotonic_ns() // 1000 if self._clock is None else self._now()
            if now >= self._turn:
                self._turn_over(now)
            logs = self._young.get(key)
            if logs is None:
                logs = self._old.pop(key, None)
                if logs is None:
                    logs = self._window.new()
                    facts = self._window.take(logs, now, cost, charge=charge)
                    if facts[0] and charge and cost:  # who only looks, or is refused, leaves no trace
                        self._young[key] = logs
                    return facts
                self._young[key] = logs
            return self._window.take(logs, now, cost, charge=charge)

    def _now(self) -> int:
        """Return the time in ticks; it never goes back.

        A given clock that steps back by less than the longest window stands still until it has caught up.
        After a greater step (somebody set the wall clock) time goes on from where it was, since nobody
        shall be locked out for as long as the step.
        """
        if self._clock is None:
            return time.monotonic_ns() // 1000
        read = round(self._clock() * TICKS_PER_SECOND)
        now = read + self._offset
        if self._last is not None and now < self._last:
            if self._last - now > self._window.longest:
                self._offset = self._last - read
            now = self._last
        self._last = now
        return now

    def _turn_over(self, now: int) -> None:
        longest = self._window.longest
        self._old = self._young if now < self._turn + longest else {}
        self._young = {}
        self._turn = now + longest + 1

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used."""
        with self._lock:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        with self._lock:
            peaks, self._window.peaks = self._window.peaks, [0] * len(self._limits)
        return max(peak / limit.limit for peak, limit in zip(peaks, self._limits, strict=True))

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"MemoryCounts({len(self)} keys)"
