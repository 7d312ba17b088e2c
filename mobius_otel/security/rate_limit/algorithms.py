"""The sliding window log: what one key has used, and whether it may use more.

Times are whole microseconds, called ticks. A hit counts while it is younger than the window; at exactly its
end it is out. Hits of one tick share an entry, and an entry holds the running total of units up to and
including it, so that "how much is used" is one subtraction and "when has enough of it left" is one
bisection: a cost of a thousand takes as long as a cost of one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from mobius_otel.security.rate_limit.facts import NEVER, Facts, ticks
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["ALGORITHMS", "SlidingWindow", "WindowLog"]

#: What ``RateLimiter(algorithm=…)`` may be.
ALGORITHMS = ("sliding_window_log",)
_MOST = 2**32 - 1
_FEW = 32


class WindowLog:
    """What one key has used of one limit.

    Example:
        >>> log = WindowLog()
        >>> log.charge(now=5, cost=3), log.used(edge=4), log.used(edge=5)
        (None, 3, 0)
    """

    __slots__ = ("_base", "_head", "_ticks", "_totals")

    def __init__(self) -> None:
        self._ticks = array("q")
        self._totals = array("I")
        self._head = 0  # the first entry that counts
        self._base = 0  # the total before it

    def used(self, edge: int) -> int:
        """Let go of what came at `edge` or earlier and return how many units are left in use."""
        ticks, head = self._ticks, self._head
        size = len(ticks)
        if head < size and ticks[head] <= edge:
            self._head = head = bisect_right(ticks, edge, head)
            self._base = self._totals[head - 1]
            if head > _FEW and head * 2 > size:
                self._drop()
        return self._totals[-1] - self._base if self._totals else 0

    def charge(self, now: int, cost: int) -> None:
        """Add `cost` units that are used at `now`, which is not before the last charge."""
        ticks, totals = self._ticks, self._totals
        if not ticks:
            ticks.append(now)
            totals.append(cost)
            return
        total = totals[-1] + cost
        if total > _MOST:  # the running total is about to leave its 32 bits
            self._drop()
            totals = self._totals
            total = (totals[-1] if totals else 0) + cost
        if ticks and ticks[-1] == now:
            totals[-1] = total
        else:
            ticks.append(now)
            totals.append(total)

    def freed_at(self, units: int) -> int:
        """Return the tick of the hit with which the oldest `units` units in use are complete."""
        return self._ticks[bisect_left(self._totals, self._base + units, self._head)]

    def refund(self, at: int, cost: int) -> bool:
        """Give back `cost` units that were used at `at`; return whether they were still in use."""
        index = bisect_left(self._ticks, at, self._head)
        if index == len(self._ticks) or self._ticks[index] != at:
            return False
        for later in range(index, len(self._totals)):
            self._totals[later] -= cost
        return True

    @property
    def last(self) -> int:
        """The tick of the newest hit."""
        return self._ticks[-1]

    def _drop(self) -> None:
        """Take the entries that count no more out of the arrays."""
        head, base = self._head, self._base
        del self._ticks[:head]
        self._totals = array("I", [total - base for total in self._totals[head:]])
        self._head = self._base = 0


class SlidingWindow:
    """Decides over one limit or several, exactly.

    Args:
        limits: The limits; all must allow, and none is charged when one denies.

    Example:
        >>> window = SlidingWindow([RateLimit(2, per=1.0)])
        >>> logs = window.new()
        >>> [window.take(logs, tick, 1, charge=True)[0] for tick in (0, 1, 2, 1_000_000)]
        [True, True, False, True]
    """

    __slots__ = ("_several", "_windows", "limits", "longest", "peaks")

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self.limits = tuple(limits)
        self._windows = [(limit.limit, ticks(limit)) for limit in limits]
        self._several = len(self._windows) > 1
        #: The longest window, in ticks: of a key that was idle for so long nothing is left.
        self.longest = max(window for _, window in self._windows)
        #: The most units in use that a decision saw, for each limit.
        self.peaks = [0] * len(self._windows)

    def new(self) -> tuple[WindowLog, ...]:
        """Return the logs of a key that has used nothing, one for each limit."""
        return tuple([WindowLog() for _ in self._windows])

    def take(self, logs: tuple[WindowLog, ...], now: int, cost: int, *, charge: bool) -> Facts:
        """Decide whether `cost` units may pass at `now`; charge them if they may and `charge` says so.

        Args:
            logs: The key's logs.
            now: The time in ticks; it never goes back.
            cost: Units, zero or more.
            charge: Whether to charge what may pass.
        """
        if self._several:
            return self._take_several(logs, now, cost, charge)
        (log,), (limit, window) = logs, self._windows[0]
        used = log.used(now - window)
        if used + cost > limit:
            self._saw(0, used)
            reset, wait = self._reset(log, 0, used, now), self._wait(log, 0, used, cost, now)
            return False, self.limits[0], used, reset, wait, 0, "local"
        if charge and cost:
            log.charge(now, cost)
            used += cost
        if used > self.peaks[0]:  # noqa: PLR1730 - half the price of max()
            self.peaks[0] = used
        return True, self.limits[0], used, log.last + window - now if used else 0, 0, now, "local"

    def _take_several(self, logs: tuple[WindowLog, ...], now: int, cost: int, charge: bool) -> Facts:
        uses = [log.used(now - window) for log, (_, window) in zip(logs, self._windows, strict=True)]
        denied = [index for index, (limit, _) in enumerate(self._windows) if uses[index] + cost > limit]
        if denied:
            waits = [(self._wait(logs[index], index, uses[index], cost, now), index) for index in denied]
            wait, index = max(waits)  # all of them must have room again
            self._saw(index, uses[index])
            reset = self._reset(logs[index], index, uses[index], now)
            return False, self.limits[index], uses[index], reset, wait, 0, "local"
        for index, log in enumerate(logs):
            if charge and cost:
                log.charge(now, cost)
                uses[index] += cost
            self._saw(index, uses[index])
        left = [limit - used for (limit, _), used in zip(self._windows, uses, strict=True)]
        index = left.index(min(left))
        reset = self._reset(logs[index], index, uses[index], now)
        return True, self.limits[index], uses[index], reset, 0, now, "local"

    def _wait(self, log: WindowLog, index: int, used: int, cost: int, now: int) -> int:
        limit, window = self._windows[index]
        return log.freed_at(used + cost - limit) + window - now if cost <= limit else NEVER

    def _reset(self, log: WindowLog, index: int, used: int, now: int) -> int:
        return log.last + self._windows[index][1] - now if used else 0

    def _saw(self, index: int, used: int) -> None:
        if used > self.peaks[index]:  # noqa: PLR1730
            self.peaks[index] = used
