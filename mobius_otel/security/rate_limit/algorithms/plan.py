"""What both algorithms share: limits, worked out for deciding. Times are whole nanoseconds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from mobius_otel.security.rate_limit.facts import NANOSECONDS_PER_TICK, Facts, ticks
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["Plan"]


class Plan(ABC):
    """The limits of a limiter or of one key, and how the state of a key changes under them.

    A plan knows no key, no clock and no lock: whoever holds the states calls it with all of them.

    Args:
        limits: The limits; all must allow, and none is charged when one denies.
    """

    __slots__ = ("limits", "longest", "most", "peaks", "several", "windows")

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self.limits = tuple(limits)
        self.several = len(self.limits) > 1
        #: Each limit's units in a window, and its window in nanoseconds.
        self.most = tuple([limit.limit for limit in limits])
        self.windows = tuple([ticks(limit) * NANOSECONDS_PER_TICK for limit in limits])
        #: The longest of them: of a key that was idle for so long nothing is left.
        self.longest = max(self.windows)
        #: The most in use that a decision saw, for each limit.
        self.peaks = [0] * len(self.limits)

    @abstractmethod
    def new(self) -> Any:
        """Return the state of a key that has used nothing."""

    def first(self, now: int) -> Any:  # noqa: ARG002 - not every state depends on it
        """Return the state of a key that has used nothing, as the fast path keeps it.

        Args:
            now: The time in nanoseconds.
        """
        return self.new()

    def opened(self, state: Any) -> Any:
        """Return a state of the fast path as :meth:`new` makes them, which is what the other methods take."""
        return state

    @abstractmethod
    def decide(self, state: Any, now: int, cost: int, *, charge: bool) -> Facts:
        """Decide whether `cost` units may pass at `now`; charge them if they may and `charge` says so.

        Args:
            state: The key's state; changed in place.
            now: The time in nanoseconds; it never goes back.
            cost: Units, zero or more.
            charge: Whether to charge what may pass.
        """

    @abstractmethod
    def refund(self, state: Any, now: int, cost: int, at: int) -> bool:
        """Give back `cost` units that were charged; return whether any were still in use.

        Args:
            state: The key's state; changed in place.
            now: The time in nanoseconds.
            cost: Units, one or more.
            at: The sixth of the facts of that charge.
        """

    @abstractmethod
    def carry(self, state: Any, before: Plan, now: int) -> Any:
        """Return the state of a key that goes on under this plan with what it has used under another one."""

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        peaks, self.peaks = self.peaks, [0] * len(self.limits)
        return self.highest(peaks)

    def highest(self, peaks: Sequence[int]) -> float:
        """Return the highest share of a limit that its peak is."""
        return max(peak / limit.limit for peak, limit in zip(peaks, self.limits, strict=True))

    def saw(self, index: int, used: int) -> None:
        """Note how much of a limit a decision saw in use."""
        if used > self.peaks[index]:  # noqa: PLR1730 - half the price of max()
            self.peaks[index] = used

    def inherited(self, before: Plan, index: int) -> int:
        """Return which limit of another plan the limit `index` goes on from: that of its window, else the longest."""
        windows = before.windows
        window = self.windows[index]
        return windows.index(window if window in windows else before.longest)
