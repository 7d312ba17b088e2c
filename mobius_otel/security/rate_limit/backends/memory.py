"""Hits in the memory of this process."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Hashable, Sequence

from mobius_otel.clock import Clock
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.algorithms import SlidingWindow, WindowLog
from mobius_otel.security.rate_limit.backends.protocol import LimiterSpec
from mobius_otel.security.rate_limit.facts import TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["MemoryBackend", "MemoryCounts"]


class MemoryBackend:
    """Counts in memory: exact for one process; a forked child begins with nothing."""

    __slots__ = ()

    capabilities = frozenset({"sliding_window_log", "several_limits"})

    def counts(self, spec: LimiterSpec) -> MemoryCounts:
        """Return the counts of a new limiter."""
        return MemoryCounts(spec.limits, spec.clock)

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
        >>> counts.take("a", 1)[0], counts.take("a", 1)[0], len(counts)
        (True, False, 1)
    """

    __slots__ = (
        "__weakref__", "_clock", "_last", "_limits", "_lock", "_longest", "_offset", "_old", "_own", "_turn", "_window",
        "_young",
    )  # fmt: skip

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
        self._own: dict[Hashable, SlidingWindow] = {}
        self._longest = self._window.longest
        self._last: int | None = None
        self._offset = 0
        self._turn = self._now() + self._longest + 1

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit of the key allows it."""
        return self._decide(key, cost, charge=True)

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        return self._decide(key, cost, charge=False)

    def _decide(self, key: Hashable, cost: int, *, charge: bool) -> Facts:
        with self._lock:  # the clock is read inside, so that what is written is in order
            now = self._now()
            if now >= self._turn:
                self._turn_over(now)
            window = self._own.get(key, self._window)
            logs = self._young.get(key)
            if logs is None:
                logs = self._old.pop(key, None)
                if logs is None:
                    logs = window.new()
                    facts = window.take(logs, now, cost, charge=charge)
                    if facts[0] and charge and cost:  # who only looks, or is refused, leaves no trace
                        self._young[key] = logs
                    return facts
                self._young[key] = logs
            return window.take(logs, now, cost, charge=charge)

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that were charged at tick `at`; return whether any were still in use."""
        with self._lock:
            logs = self._young.get(key) or self._old.get(key) or ()
            return sum(log.refund(at, cost) for log in logs) > 0  # every log, not the first alone

    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own; None: those of the limiter again."""
        with self._lock:
            before = self._own.pop(key, self._window)
            if limits is not None:
                self._own[key] = SlidingWindow(limits)
                self._longest = max(self._longest, self._own[key].longest)
            self._carry(key, before, self._own.get(key, self._window))

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones."""
        with self._lock:
            before, self._window = self._window, SlidingWindow(limits)
            self._limits = tuple(limits)
            self._longest = max(self._longest, self._window.longest)
            for key in [key for key in (*self._young, *self._old) if key not in self._own]:
                self._carry(key, before, self._window)

    def _carry(self, key: Hashable, before: SlidingWindow, after: SlidingWindow) -> None:
        """Let the logs of `key` go on under other limits: that of the same window, else of the longest one."""
        for keys in (self._young, self._old):
            if key in keys:
                logs = dict(zip((limit.per for limit in before.limits), keys[key], strict=True))
                longest = logs[max(logs)]
                keys[key] = tuple([copy.deepcopy(logs.get(limit.per, longest)) for limit in after.limits])

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
            if self._last - now > self._longest:
                self._offset = self._last - read
            now = self._last
        self._last = now
        return now

    def _turn_over(self, now: int) -> None:
        longest = self._longest
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
            shares = [0.0]
            for window in (self._window, *self._own.values()):
                peaks, window.peaks = window.peaks, [0] * len(window.limits)
                shares += [peak / limit.limit for peak, limit in zip(peaks, window.limits, strict=True)]
        return max(shares)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"MemoryCounts({len(self)} keys)"
