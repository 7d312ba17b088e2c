"""What was decided, as plain numbers: what a backend tells the limiter."""

from __future__ import annotations

from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["ALGORITHMS", "NEVER", "TICKS_PER_SECOND", "Facts", "ticks"]

#: What ``RateLimiter(algorithm=…)`` may be.
ALGORITHMS = ("sliding_window_log", "gcra")
#: Times in facts are whole microseconds, called ticks.
TICKS_PER_SECOND = 1_000_000
#: The ticks that a cost above the limit has to wait.
NEVER = 2**63 - 1

#: Whether it may pass; the limit that shows (the denying one with the longest wait, else the one with the
#: fewest units left); units of it in use afterwards; ticks until all of them are free again; ticks until the
#: same cost would pass (0: now; NEVER: it is above the limit); what the backend needs to find the charge again
#: for a refund (any number; 0 where nothing was charged); and who decided: ``local``, ``remote`` or ``fallback``.
Facts = tuple[bool, RateLimit, int, int, int, int, str]


def ticks(limit: RateLimit) -> int:
    """Return the window of `limit` in ticks, at least one.

    Example:
        >>> ticks(RateLimit(5, per=1.5))
        1500000
    """
    return max(1, round(limit.per * TICKS_PER_SECOND))
