"""The generic cell rate algorithm: one number for each key, a steady rate with a burst.

Source: ITU-T I.371, "virtual scheduling". A limit of ``100/minute`` lets a key that was idle use 100 units at
once and gives it a new one each 0.6 seconds. So a window of a minute may see up to 199 units: it is a rate
with a burst, not a window; who needs "never more than 100 in any minute" takes the sliding window log.

The number is the theoretical arrival time: when all that was used would have been used at the steady rate. It
is kept in nanoseconds times the limit, so that every unit costs exactly one window and nothing is ever rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mobius_otel.security.rate_limit.algorithms.plan import Plan
from mobius_otel.security.rate_limit.facts import NEVER, Facts, rounded
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["GcraPlan", "gcra_facts"]


def gcra_facts(  # noqa: PLR0917 - one call for what a tuple holds
    allowed: bool, plan: Plan, index: int, ahead: int, cost: int, now: int
) -> Facts:
    """Return the facts of a decision.

    Args:
        allowed: Whether it may pass.
        plan: The limits, worked out.
        index: The one that shows.
        ahead: How far its arrival time lies ahead of now, after the decision, in nanoseconds times the limit.
        cost: Units.
        now: When it was decided.
    """
    limit, window = plan.limits[index], plan.windows[index]
    most, wait = limit.limit, 0
    if not allowed:
        wait = rounded(-(-(ahead + (cost - most) * window) // most)) if cost <= most else NEVER
    return allowed, limit, -(-ahead // window), rounded(-(-ahead // most)), wait, now, "local"


class GcraPlan(Plan):
    """Decides by theoretical arrival times, exactly.

    Example:
        >>> plan = GcraPlan([RateLimit(2, per=1.0)])
        >>> state = plan.new()
        >>> [plan.decide(state, now, 1, charge=True)[0] for now in (0, 1, 2, 500_000_000)]
        [True, True, False, True]
    """

    __slots__ = ("capacities",)

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        super().__init__(limits)
        #: How far the arrival time may lie ahead of now: the whole burst in use.
        self.capacities = tuple([most * window for most, window in zip(self.most, self.windows, strict=True)])

    def new(self) -> Any:
        """Return a list of arrival times, one for each limit."""
        return [0] * len(self.limits)

    def decide(self, state: Any, now: int, cost: int, *, charge: bool) -> Facts:
        """As :meth:`Plan.decide`."""
        # How far each arrival time lies ahead of now: what is in use, in windows.
        ahead = [at - now * limit.limit for at, limit in zip(state, self.limits, strict=True)]
        index = self._denying(ahead, cost)
        if index is not None:
            return self._facts(False, index, ahead[index], cost, now)
        if charge and cost:
            for each, (limit, window) in enumerate(zip(self.limits, self.windows, strict=True)):
                ahead[each] = max(0, ahead[each]) + cost * window
                state[each] = now * limit.limit + ahead[each]
        index = 0
        if self.several:
            left = [limit.limit - self._used(each, ahead[each]) for each, limit in enumerate(self.limits)]
            index = left.index(min(left))
            for each, units in enumerate(ahead):
                self.saw(each, units)
        return self._facts(True, index, ahead[index], cost, now)

    def saturation(self) -> float:
        """As :meth:`Plan.saturation`; the peaks are kept as times ahead, which saves a division at each decision."""
        peaks, self.peaks = self.peaks, [0] * len(self.limits)
        return max(-(-peak // window) / most for peak, window, most in zip(peaks, self.windows, self.most, strict=True))

    def _denying(self, ahead: list[int], cost: int) -> int | None:
        """Return which limit has no room for `cost`, the one with the longest wait of several; None: all have."""
        longest, denying = 0.0, None
        for index, window in enumerate(self.windows):
            most = self.limits[index].limit
            over = max(0, ahead[index]) + (cost - most) * window
            wait = math.inf if cost > most else over / most
            if over > 0 and wait > longest:
                longest, denying = wait, index
        return denying

    def _used(self, index: int, ahead: int) -> int:
        return -(-ahead // self.windows[index]) if ahead > 0 else 0

    def _facts(self, allowed: bool, index: int, ahead: int, cost: int, now: int) -> Facts:
        ahead = max(0, ahead)
        self.saw(index, min(ahead, self.capacities[index]))
        return gcra_facts(allowed, self, index, ahead, cost, now)

    def refund(self, state: Any, now: int, cost: int, at: int) -> bool:  # noqa: ARG002 - a rate has no single hits
        """As :meth:`Plan.refund`; what has flowed off since is not given back twice."""
        given_back = False
        for index, (limit, window) in enumerate(zip(self.limits, self.windows, strict=True)):
            given_back = given_back or state[index] > now * limit.limit
            state[index] = max(now * limit.limit, state[index] - cost * window)
        return given_back

    def carry(self, state: Any, before: Plan, now: int) -> Any:
        """As :meth:`Plan.carry`; the units in use go on, and are given back at the new rate."""
        carried = []
        for index, (limit, window) in enumerate(zip(self.limits, self.windows, strict=True)):
            old = self.inherited(before, index)
            ahead = max(0, state[old] - now * before.limits[old].limit)
            carried.append(now * limit.limit + -(-ahead * window // before.windows[old]))
        return carried
