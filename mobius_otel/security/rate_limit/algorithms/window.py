"""The sliding window log: what one key has used, and whether it may use more.

A hit counts while it is younger than the window; at exactly its end it is out. Each hit is kept with its
time, so that in any window of ``per`` seconds never more than ``limit`` units pass and nothing is refused that
would have stayed within it.

Of a key with more than :data:`EXACT` hits alive, further ones within a ten-thousandth of the window share an
entry, which counts until the last of them is out: on the strict side, and a key with a million hits costs no
more than one with ten thousand. Where costs differ from one, an entry holds the running total of units up to
and including it, so that "how much is used" is one subtraction and "when has enough of it left" is one
bisection: a cost of a thousand takes as long as a cost of one.

Most keys have few hits, of one unit each. Theirs are kept as bytes alone, eight a hit, and a hit more is another
bytes: one small object in place of a log, its array and the array's memory. Among very many keys a decision spends
most of its time waiting for memory, and then each object less is a fifth of it.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final

from mobius_otel.security.rate_limit.algorithms.plan import Plan
from mobius_otel.security.rate_limit.facts import NEVER, Facts, rounded
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["EXACT", "FEW", "WindowLog", "WindowPlan", "few_facts", "few_left", "window_facts"]

#: Entries of a key that are exact; beyond them hits are grouped.
EXACT: Final = 1000
#: The most bytes that the hits of a key are kept as, eight a hit: what CPython's own allocator still serves.
FEW: Final = 56 * 8
_GROUPS: Final = 10_000
_MOST: Final = 2**32 - 1
_FEW: Final = 32
#: Into how many parts a window is cut, within each of which one edge serves all keys.
_GLANCES: Final = 128
_NOT_YET: Final = -(2**63)


class WindowLog:
    """What one key has used of one limit.

    Attributes:
        used: Units in use, as of the last :meth:`prune`.
        expires: When the oldest of them leaves.
        times: The times of the entries, in nanoseconds.
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

    __slots__ = ("_shared_until", "expires", "head", "times", "totals", "used")

    def __init__(self) -> None:
        self.used = 0
        self.expires = _NOT_YET
        self.times = array("q")
        self.totals: array[int] | None = None
        self.head = 0
        self._shared_until = 0  # until then further hits share the newest entry

    @classmethod
    def of(cls, few: bytes) -> WindowLog:
        """Return a log of hits that were kept as bytes; it is pruned before anything else."""
        log = cls()
        log.times.frombytes(few)
        if sys.byteorder == "little":
            log.times.byteswap()
        log.used = len(log.times)
        return log

    def prune(self, now: int, window: int) -> None:
        """Let go of what has left the window at `now`."""
        times, head, edge = self.times, self.head, now - window
        size = len(times)
        if head < size and times[head] <= edge:
            head += 1
            if head < size and times[head] <= edge:  # mostly one has left since the last time
                head = bisect_right(times, edge, head)
            if head == size:
                self.used = self.head = self._shared_until = 0
                self.totals = None
                del times[:]
            else:
                self.head = head
                totals = self.totals
                self.used = size - head if totals is None else totals[-1] - totals[head - 1]
                if head > _FEW and head * 16 > size:
                    self._drop()
        self.expires = (self.times[self.head] if self.used else now) + window

    def charge(self, now: int, cost: int, quantum: int) -> None:
        """Add `cost` units, at least one, that are used at `now`, which is not before the last charge.

        Args:
            now: The time in nanoseconds; pruned up to it.
            cost: Units.
            quantum: Beyond :data:`EXACT` entries hits within the same `quantum` nanoseconds share one.
        """
        self.used += cost
        times, totals = self.times, self.totals
        if totals is None:
            if cost == 1 and len(times) - self.head < EXACT:
                times.append(now)
                return
            totals = self._weigh()
        total = cost + (totals[-1] if totals else 0)
        if total > _MOST:  # the running total is about to leave its 32 bits
            totals, total = self._rebase(), self.used
        if now < self._shared_until and times:
            times[-1] = now
            totals[-1] = total
        else:
            times.append(now)
            totals.append(total)
            if len(times) - self.head > EXACT:
                self._shared_until = now - now % quantum + quantum

    def refund(self, at: int, cost: int, quantum: int) -> bool:
        """Give back `cost` units that were used at `at`; return whether they were still in use."""
        times, totals = self.times, self.totals
        first = bisect_left(times, at, self.head)
        if first == len(times) or (times[first] != at and times[first] // quantum != at // quantum):
            return False
        if totals is None:
            if cost != 1:
                return False
            del times[first]
        else:  # what came at the same time may stand in several entries
            after = bisect_right(times, times[first], first)
            cost = min(cost, totals[after - 1] - (totals[first - 1] if first else 0))
            left = totals[after - 1] - cost
            for index in range(first, len(totals)):
                totals[index] = min(totals[index], left) if index < after else totals[index] - cost
        self.used -= cost
        return cost > 0

    def freed_at(self, units: int) -> int:
        """Return the time of the hit with which the oldest `units` units in use are complete."""
        if self.totals is None:
            return self.times[self.head + units - 1]
        base = self.totals[-1] - self.used
        return self.times[bisect_left(self.totals, base + units, self.head)]

    def copy(self) -> WindowLog:
        """Return a log of its own with the same entries."""
        log = WindowLog()
        log.used, log.head = self.used, self.head
        log.times = self.times[:]
        log.totals = None if self.totals is None else self.totals[:]
        return log

    def _weigh(self) -> array[int]:
        """Begin to keep running totals."""
        self._drop()
        self.totals = totals = array("I", range(1, len(self.times) + 1))
        return totals

    def _drop(self) -> None:
        """Take the entries that count no more out of the arrays; of totals one stays, which says what came before."""
        gone = self.head if self.totals is None else self.head - 1
        del self.times[:gone]
        if self.totals is not None:
            del self.totals[:gone]
        self.head -= gone

    def _rebase(self) -> array[int]:
        """Let the running totals begin at zero again."""
        head, totals = self.head, self.totals or array("I")
        base = totals[head - 1] if head else 0
        self.totals = rebased = array("I", [total - base for total in totals[head:]])
        del self.times[:head]
        self.head = 0
        return rebased


def few_left(few: bytes, now: int, window: int) -> bytes:
    """Return which of a few hits are still in the window at `now`.

    Args:
        few: Their times, each as eight bytes, the oldest first; the most significant byte first, so that they
            compare as their numbers do.
        now: The time in nanoseconds.
        window: The window.
    """
    if now < window:
        return few
    edge, gone = (now - window).to_bytes(8), 0
    while gone < len(few) and few[gone : gone + 8] <= edge:
        gone += 8
    return few[gone:]


def few_facts(allowed: bool, plan: Plan, few: bytes, now: int) -> Facts:
    """Return the facts of a decision about one unit of a key with few hits; `few` is what it has after it."""
    if allowed:
        return window_facts(allowed, plan, len(few) // 8, now, now, now)
    newest, oldest = int.from_bytes(few[-8:]), int.from_bytes(few[:8])
    return window_facts(allowed, plan, len(few) // 8, newest, oldest + plan.windows[0], now)


def window_facts(  # noqa: PLR0917 - one call for what a tuple holds
    allowed: bool, plan: Plan, used: int, newest: int, free: int, now: int
) -> Facts:
    """Return the facts of a decision about one limit.

    Args:
        allowed: Whether it may pass.
        plan: The limit, worked out.
        used: Units in use.
        newest: When the newest of them was used, in nanoseconds.
        free: When the same cost would pass.
        now: When it was decided.
    """
    return allowed, plan.limits[0], used, rounded(newest + plan.windows[0] - now), rounded(free - now), now, "local"


class WindowPlan(Plan):
    """Decides by sliding window logs, exactly.

    Example:
        >>> plan = WindowPlan([RateLimit(2, per=1.0)])
        >>> logs = plan.new()
        >>> [plan.decide(logs, now, 1, charge=True)[0] for now in (0, 1, 2, 1_000_000_000)]
        [True, True, False, True]
    """

    __slots__ = ("edge", "fresh", "full", "quanta", "room", "seen")

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        super().__init__(limits)
        #: Below how many bytes a key that is kept as bytes may have one unit more; at how many it is denied one.
        self.room = min(8 * self.most[0], FEW)
        self.full = 8 * self.most[0]
        #: The first peak, as far as such keys reach, in bytes.
        self.seen = 0
        #: Until `fresh` whatever came after `edge` is in the window: of most keys a glance at the oldest hit is enough.
        self.edge, self.fresh = b"", _NOT_YET
        #: How long hits are grouped for, of a key that has many.
        self.quanta = tuple([max(1, window // _GROUPS) for window in self.windows])

    def new(self) -> Any:
        """Return a log, or a tuple of logs where there are several limits."""
        return tuple([WindowLog() for _ in self.limits]) if self.several else WindowLog()

    def first(self, now: int) -> Any:
        """As :meth:`Plan.first`: no bytes yet, since it has used nothing."""
        return self.new() if self.several or now >> 63 else b""

    def renew(self, now: int, turn: int) -> None:
        """Set :attr:`edge` and :attr:`fresh` anew at `now`, for no longer than until `turn`."""
        fresh = min(now + self.windows[0] // _GLANCES, turn)
        self.edge = max(0, fresh - self.windows[0]).to_bytes(8)
        self.fresh = fresh  # after the edge: who sees this one sees that one

    def opened(self, state: Any) -> Any:
        """As :meth:`Plan.opened`."""
        return WindowLog.of(state) if state.__class__ is bytes else state

    def saturation(self) -> float:
        """As :meth:`Plan.saturation`."""
        self.seen, peaks, self.peaks = 0, self.peaks, [0] * len(self.limits)
        return self.highest(peaks)

    def saw(self, index: int, used: int) -> None:
        """As :meth:`Plan.saw`, in one piece: a key with few hits is not always decided about under a lock."""
        peaks = self.peaks
        if used > peaks[index]:  # noqa: PLR1730 - as there; and it is no call
            peaks[index] = used
        self.seen = 8 * peaks[0] if 8 * peaks[0] < FEW else FEW  # noqa: FURB136 - likewise

    def decide(self, state: Any, now: int, cost: int, *, charge: bool) -> Facts:
        """As :meth:`Plan.decide`."""
        logs: Sequence[WindowLog] = state if self.several else (state,)
        over = []
        for index, log in enumerate(logs):
            if now >= log.expires:
                log.prune(now, self.windows[index])
            over.append(log.used + cost - self.most[index])
        if max(over) > 0:
            return self._denied(logs, now, over)
        charged = charge and cost > 0
        for index, log in enumerate(logs):
            if charged:
                log.charge(now, cost, self.quanta[index])
            elif not log.used:
                log.expires = _NOT_YET  # what comes first is not the next thing that leaves
            self.saw(index, log.used)
        index = 0
        if self.several:  # the one with the fewest units left shows
            left = [most - log.used for most, log in zip(self.most, logs, strict=True)]
            index = left.index(min(left))
        return True, self.limits[index], logs[index].used, self._reset(logs[index], index, now), 0, now, "local"

    def _denied(self, logs: Sequence[WindowLog], now: int, over: list[int]) -> Facts:
        # All limits must have room again, so the one with the longest wait shows.
        waits = [
            0 if more <= 0 else NEVER if more > log.used else rounded(log.freed_at(more) + window - now)
            for log, more, window in zip(logs, over, self.windows, strict=True)
        ]
        index = waits.index(max(waits))
        log = logs[index]
        self.saw(index, log.used)
        for each in logs:
            if not each.used:
                each.expires = _NOT_YET
        return False, self.limits[index], log.used, self._reset(log, index, now), waits[index], now, "local"

    def _reset(self, log: WindowLog, index: int, now: int) -> int:
        return rounded(log.times[-1] + self.windows[index] - now) if log.used else 0

    def refund(self, state: Any, now: int, cost: int, at: int) -> bool:
        """As :meth:`Plan.refund`."""
        given_back = False
        for index, log in enumerate(state if self.several else [state]):
            log.prune(now, self.windows[index])
            given_back = log.refund(at, cost, self.quanta[index]) or given_back
        return given_back

    def carry(self, state: Any, before: Plan, now: int) -> Any:
        """As :meth:`Plan.carry`; the hits themselves go on, so nothing is lost and nothing is guessed."""
        logs = state if before.several else [state]
        for log, window in zip(logs, before.windows, strict=True):
            log.prune(now, window)
        carried = tuple([logs[self.inherited(before, index)].copy() for index in range(len(self.limits))])
        return carried if self.several else carried[0]
