"""The sliding window log: what one key has used, and whether it may use more.

A hit counts while it is younger than the window; at exactly its end it is out. Each hit is kept with its
time, so that in any window of ``per`` seconds never more than ``limit`` units pass and nothing is refused that
would have stayed within it.

Of a key with more than :data:`EXACT` hits alive, further ones within a ten-thousandth of the window share an
entry, which counts until the last of them is out: on the strict side, and a key with a million hits costs no
more than one with ten thousand. Where costs differ from one, an entry holds the running total of units up to
and including it, so that "how much is used" is one subtraction and "when has enough of it left" is one
bisection: a cost of a thousand takes as long as a cost of one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final

from mobius_otel.security.rate_limit.algorithms.plan import Plan, microseconds
from mobius_otel.security.rate_limit.facts import NEVER, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["EXACT", "WindowLog", "WindowPlan"]

#: Entries of a key that are exact; beyond them hits are grouped.
EXACT: Final = 1000
_GROUPS: Final = 10_000
_MOST: Final = 2**32 - 1
_FEW: Final = 32


class WindowLog:
    """What one key has used of one limit.

    Attributes:
        used: Units in use, as of the last :meth:`prune`.
        expires: Until then nothing leaves.
        ticks: The times of the entries, in nanoseconds.
        head: The first entry that counts.
        totals: The running totals of the entries; None while each is one unit.

    Example:
        >>> log = WindowLog()
        >>> log.prune(now=5, window=10)
        >>> log.charge(now=5, cost=3, quantum=1)
        >>> log.prune(now=14, window=10); log.used
        3
        >>> log.prune(now=15, window=10); log.used
        0
    """

    __slots__ = ("_shared_until", "expires", "head", "ticks", "totals", "used")

    def __init__(self) -> None:
        self.used = 0
        self.expires = 0
        self.ticks = array("q")
        self.totals: array[int] | None = None
        self.head = 0
        self._shared_until = 0  # until then further hits share the newest entry

    def prune(self, now: int, window: int) -> None:
        """Let go of what has left the window at `now`."""
        ticks, head, edge = self.ticks, self.head, now - window
        size = len(ticks)
        if head < size and ticks[head] <= edge:
            head += 1
            if head < size and ticks[head] <= edge:  # mostly one has left since the last time
                head = bisect_right(ticks, edge, head)
            if head == size:
                self.used = self.head = self._shared_until = 0
                self.totals = None
                del ticks[:]
            else:
                self.head = head
                totals = self.totals
                self.used = size - head if totals is None else totals[-1] - totals[head - 1]
                if head > _FEW and head * 16 > size:
                    self._drop()
        self.expires = (self.ticks[self.head] if self.used else now) + window

    def charge(self, now: int, cost: int, quantum: int) -> None:
        """Add `cost` units, at least one, that are used at `now`, which is not before the last charge.

        Args:
            now: The time in nanoseconds; pruned up to it.
            cost: Units.
            quantum: Beyond :data:`EXACT` entries hits within the same `quantum` nanoseconds share one.
        """
        self.used += cost
        ticks, totals = self.ticks, self.totals
        if totals is None:
            if cost == 1 and len(ticks) - self.head < EXACT:
                ticks.append(now)
                return
            totals = self._weigh()
        total = cost + (totals[-1] if totals else 0)
        if total > _MOST:  # the running total is about to leave its 32 bits
            totals, total = self._drop(), self.used
        if now < self._shared_until and ticks:
            ticks[-1] = now
            totals[-1] = total
        else:
            ticks.append(now)
            totals.append(total)
            if len(ticks) - self.head > EXACT:
                self._shared_until = now - now % quantum + quantum

    def refund(self, at: int, cost: int, quantum: int) -> bool:
        """Give back `cost` units that were used at `at`; return whether they were still in use."""
        index = bisect_left(self.ticks, at, self.head)
        if index == len(self.ticks) or (self.ticks[index] != at and self.ticks[index] // quantum != at // quantum):
            return False
        if self.totals is None:
            if cost != 1:
                return False
            del self.ticks[index]
        else:
            for later in range(index, len(self.totals)):
                self.totals[later] -= cost
        self.used -= cost
        return True

    def freed_at(self, units: int) -> int:
        """Return the time of the hit with which the oldest `units` units in use are complete."""
        if self.totals is None:
            return self.ticks[self.head + units - 1]
        base = self.totals[-1] - self.used
        return self.ticks[bisect_left(self.totals, base + units, self.head)]

    def copy(self) -> WindowLog:
        """Return a log of its own with the same entries."""
        log = WindowLog()
        log.used, log.expires, log.head = self.used, 0, self.head
        log.ticks = self.ticks[:]
        log.totals = None if self.totals is None else self.totals[:]
        return log

    def _weigh(self) -> array[int]:
        """Begin to keep running totals."""
        self._drop()
        self.totals = totals = array("I", range(1, len(self.ticks) + 1))
        return totals

    def _drop(self) -> array[int]:
        """Take the entries that count no more out of the arrays; return the totals of the others."""
        head = self.head
        del self.ticks[:head]
        self.head = 0
        if self.totals is None:
            return array("I")
        base = self.totals[head - 1] if head else 0
        self.totals = totals = array("I", [total - base for total in self.totals[head:]])
        return totals


class WindowPlan(Plan):
    """Decides by sliding window logs, exactly.

    Example:
        >>> plan = WindowPlan([RateLimit(2, per=1.0)])
        >>> logs = plan.new()
        >>> [plan.decide(logs, now, 1, charge=True)[0] for now in (0, 1, 2, 1_000_000_000)]
        [True, True, False, True]
    """

    __slots__ = ("quanta", "resets")

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        super().__init__(limits)
        #: How long hits are grouped for, of a key that has many.
        self.quanta = tuple([max(1, window // _GROUPS) for window in self.windows])
        #: The windows in microseconds: when all is free again, right after a charge.
        self.resets = tuple([microseconds(window) for window in self.windows])

    def new(self) -> Any:
        """Return a log, or a tuple of logs where there are several limits."""
        return tuple([WindowLog() for _ in self.limits]) if self.several else WindowLog()

    def decide(self, state: Any, now: int, cost: int, *, charge: bool) -> Facts:
        """As :meth:`Plan.decide`."""
        if self.several:
            return self._decide_several(state, now, cost, charge)
        log: WindowLog = state
        limit, window = self.limits[0], self.windows[0]
        if now >= log.expires:
            log.prune(now, window)
        used = log.used
        over = used + cost - limit.limit
        if over > 0:
            if used > self.peaks[0]:  # noqa: PLR1730 - half the price of max(), here and below
                self.peaks[0] = used
            # The times of _times(), in one piece: of an attack most decisions are denials.
            reset = (log.ticks[-1] + window - now + 999) // 1000 if used else 0
            if over > used:
                return False, limit, used, reset, NEVER, 0, "local"
            freed = log.ticks[log.head + over - 1] if log.totals is None else log.freed_at(over)
            return False, limit, used, reset, (freed + window - now + 999) // 1000, 0, "local"
        if not charge or not cost:
            return True, limit, used, microseconds(log.ticks[-1] + window - now) if used else 0, 0, 0, "local"
        used += cost
        if cost == 1 and log.totals is None and used <= EXACT:  # what charge() does, for what is usual
            log.used = used
            log.ticks.append(now)
        else:
            log.charge(now, cost, self.quanta[0])
        if used > self.peaks[0]:  # noqa: PLR1730
            self.peaks[0] = used
        # One more than the time, since a clock may begin at zero.
        return True, limit, used, self.resets[0], 0, now + 1, "local"

    def _decide_several(self, logs: tuple[WindowLog, ...], now: int, cost: int, charge: bool) -> Facts:
        for log, window in zip(logs, self.windows, strict=True):
            if now >= log.expires:
                log.prune(now, window)
        denied = [index for index, log in enumerate(logs) if log.used + cost > self.limits[index].limit]
        if denied:  # all of them must have room again: the one with the longest wait shows
            times = {index: self._times(logs[index], index, cost, now) for index in denied}
            index = max(denied, key=lambda each: times[each][1])
            self.saw(index, logs[index].used)
            return False, self.limits[index], logs[index].used, *times[index], 0, "local"
        charged = charge and cost > 0
        for index, log in enumerate(logs):
            if charged:
                log.charge(now, cost, self.quanta[index])
            self.saw(index, log.used)
        left = [limit.limit - log.used for limit, log in zip(self.limits, logs, strict=True)]
        index = left.index(min(left))
        reset, _ = self._times(logs[index], index, 0, now)
        return True, self.limits[index], logs[index].used, reset, 0, now + 1 if charged else 0, "local"

    def _times(self, log: WindowLog, index: int, cost: int, now: int) -> tuple[int, int]:
        """Return when all is free and when `cost` would pass, in microseconds from `now`."""
        window, limit = self.windows[index], self.limits[index].limit
        reset = microseconds(log.ticks[-1] + window - now) if log.used else 0
        over = log.used + cost - limit
        if over <= 0:
            return reset, 0
        return reset, microseconds(log.freed_at(over) + window - now) if cost <= limit else NEVER

    def refund(self, state: Any, now: int, cost: int, at: int) -> bool:
        """As :meth:`Plan.refund`."""
        given_back = False
        for index, log in enumerate(state if self.several else [state]):
            log.prune(now, self.windows[index])
            given_back = log.refund(at - 1, cost, self.quanta[index]) or given_back
        return given_back

    def carry(self, state: Any, before: Plan, now: int) -> Any:
        """As :meth:`Plan.carry`; the hits themselves go on, so nothing is lost and nothing is guessed."""
        logs = state if before.several else [state]
        for log, window in zip(logs, before.windows, strict=True):
            log.prune(now, window)
        carried = tuple([logs[self.inherited(before, index)].copy() for index in range(len(self.limits))])
        return carried if self.several else carried[0]
