"""What a limiter decided."""

from __future__ import annotations

import math

from mobius_otel.errors import MobiusError
from mobius_otel.security.rate_limit.facts import NEVER, TICKS_PER_SECOND, Facts

__all__ = ["Decision", "RateLimitExceeded"]


class Decision:
    """The answer of a limiter: true where the caller may go on.

    A plain class with slots, whose numbers are worked out when they are asked for: one is made for every
    request.

    Attributes:
        allowed: Whether the caller may go on; always true in shadow mode.
        shadow_denied: Whether it would have been denied, had the mode been ``enforce``.
        policy: The limiter's name.
    """

    __slots__ = ("_facts", "allowed", "policy", "shadow_denied")

    def __init__(self, facts: Facts, policy: str, *, shadow: bool = False) -> None:
        self._facts = facts
        self.allowed = facts[0] or shadow
        self.shadow_denied = shadow and not facts[0]
        self.policy = policy

    @property
    def source(self) -> str:
        """Who decided: ``local``, ``remote``, or ``fallback`` where the backend was gone."""
        return self._facts[6]

    @property
    def limit(self) -> int:
        """Units in a window, of the limit that denied, else of the one with the fewest units left."""
        return self._facts[1].limit

    @property
    def window(self) -> float:
        """That limit's window in seconds."""
        return self._facts[1].per

    @property
    def remaining(self) -> int:
        """Units that are left of it after this decision."""
        return max(0, self.limit - self._facts[2])

    @property
    def reset_after(self) -> float:
        """Seconds until nothing of it is in use any more, if nothing else is charged."""
        return self._facts[3] / TICKS_PER_SECOND

    @property
    def retry_after(self) -> float:
        """Seconds until the same cost would pass; 0 when allowed, infinite when it is above the limit."""
        if self.allowed:
            return 0.0
        return math.inf if self._facts[4] >= NEVER else self._facts[4] / TICKS_PER_SECOND

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        verdict = "shadow_denied" if self.shadow_denied else "allowed" if self.allowed else "denied"
        return (
            f"Decision({verdict}, policy={self.policy!r}, limit={self.limit}, window={self.window:g}, "
            f"remaining={self.remaining}, retry_after={self.retry_after:g}, reset_after={self.reset_after:g}, "
            f"source={self.source!r})"
        )


class RateLimitExceeded(MobiusError):
    """A call that :meth:`RateLimiter.limit` guards came too fast.

    Args:
        decision: The denial, with ``retry_after`` in seconds.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(f"limit {decision.policy!r} is used up; try again in {decision.retry_after:.3g} s")
