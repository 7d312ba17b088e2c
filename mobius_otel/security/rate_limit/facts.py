"""What was decided, as plain numbers: what a backend tells the limiter."""

from __future__ import annotations

from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["ALGORITHMS", "NANOSECONDS_PER_TICK", "NEVER", "TICKS_PER_SECOND", "Facts", "rounded", "ticks"]

#: What ``RateLimiter(algorithm=…)`` may be.
ALGORITHMS = ("sliding_window_log", "gcra")
#: Times in facts are whole microseconds, called ticks.
TICKS_PER_SECOND = 1_000_000
NANOSECONDS_PER_TICK = 1_000
#: The ticks that a cost above the limit has to wait.
NEVER = 2**63 - 1

#: Whether it may pass; the limit that shows (the denying one with the longest wait, else the one with the
#: fewest units left); units of it in use afterwards; ticks until all of them are free again; ticks until the
#: same cost would pass (0: now; NEVER: it is above the limit); when it was decided, by the backend's own clock, or
#: what else the backend needs to find the charge again for a refund; who decided: ``local``, ``remote``, ``fallback``.
Facts = tuple[bool, RateLimit, int, int, int, int, str]


def rounded(nanoseconds: int) -> int:
    """Return a time in ticks, rounded up: after it, what was waited for is so.

    Example:
        >>> rounded(1000), rounded(1001)
        (1, 2)
    """
    return -(-nanoseconds // NANOSECONDS_PER_TICK)


def ticks(limit: RateLimit) -> int:
    """Return the window of `limit` in ticks, at least one.

    Example:
        >>> ticks(RateLimit(5, per=1.5))
        1500000
    """
    return max(1, round(limit.per * TICKS_PER_SECOND))
