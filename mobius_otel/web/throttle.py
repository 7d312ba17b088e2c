"""Slows down an address that shows wrong keys, before the key store is asked again."""

from __future__ import annotations

from mobius_otel.policy.rules import FAILURES
from mobius_otel.security.rate_limit import RateLimiter

__all__ = ["FailureThrottle"]


class FailureThrottle:
    """Counts the refused look-ups of each address.

    Keys that are refused by their shape or checksum cost no look-up and are not counted.

    Args:
        limit: How many in which time, for example ``"100/minute"``.

    Example:
        >>> throttle = FailureThrottle("1/minute")
        >>> throttle.note("192.0.2.1"); throttle.wait("192.0.2.1") > 0, throttle.wait("192.0.2.2")
        (True, 0.0)
    """

    __slots__ = ("_limiter",)

    def __init__(self, limit: str) -> None:
        self._limiter = RateLimiter(limit, name=FAILURES, audit=False)

    def wait(self, source: str) -> float:
        """Return the seconds that `source` has to wait; 0: it may try."""
        decision = self._limiter.peek(source)
        return 0.0 if decision.allowed else max(decision.retry_after, 1.0)

    def note(self, source: str) -> None:
        """Count a refused look-up of `source`."""
        self._limiter.acquire(source)

    def __repr__(self) -> str:
        return f"FailureThrottle({self._limiter!r})"
