"""What a limiter decided."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

from mobius_otel.errors import MobiusError
from mobius_otel.security.rate_limit.facts import NEVER, TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.headers import Draft, limit_headers

if TYPE_CHECKING:
    from mobius_otel.security.rate_limit.limiter import RateLimiter

__all__ = ["Decision", "LocalDecision", "RateLimitExceeded"]

Raw = tuple[Any, ...]


class Decision:
    """The answer of a limiter: true where the caller may go on.

    A plain class with slots, whose numbers are worked out when they are asked for: one is made for every
    request. It is not changed by what comes after it.

    Attributes:
        allowed: Whether the caller may go on; always true in shadow mode.
    """

    __slots__ = ("_cost", "_facts", "_key", "_limiter", "allowed")

    def __init__(self, facts: Facts, allowed: bool, key: Hashable, cost: int, limiter: RateLimiter) -> None:
        self.allowed = allowed
        self._facts = facts
        self._key = key
        self._cost = cost
        self._limiter = limiter

    @property
    def policy(self) -> str:
        """The limiter's name."""
        return self._limiter.name

    @property
    def source(self) -> str:
        """Who decided: ``local``, ``remote``, or ``fallback`` where the backend was gone."""
        return self._facts[6]

    @property
    def shadow_denied(self) -> bool:
        """Whether it would have been denied, had the mode been ``enforce``."""
        return self.allowed and not self._facts[0]

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
        return max(0, self._facts[1].limit - self._facts[2])

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

    def headers(self, draft: Draft = 11, *, legacy: bool = False) -> dict[str, str]:
        """Return what the client is told about it, as HTTP header fields.

        ``Retry-After`` is there when it was denied and trying again makes sense, never else. Every number is a
        whole one, rounded up where it is a time.

        Args:
            draft: The version of draft-ietf-httpapi-ratelimit-headers: 11 (and 8 to 10) has ``RateLimit-Policy``
                and ``RateLimit`` with the policy's name, 7 the same two without names, 6 (and before)
                ``RateLimit-Limit``, ``-Remaining`` and ``-Reset``; 0: none of them.
            legacy: Also ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``, the last one in seconds since the
                epoch, as GitHub and Flask-Limiter have them.

        Raises:
            ConfigurationError: There is no such draft.

        Example:
            >>> from mobius_otel import RateLimiter
            >>> limiter = RateLimiter("2/minute", name="api")
            >>> limiter.acquire("client-42").headers()
            {'RateLimit-Policy': '"api";q=2;w=60', 'RateLimit': '"api";r=1;t=60'}
            >>> _ = limiter.acquire("client-42")
            >>> limiter.acquire("client-42").headers(draft=6)["Retry-After"]
            '60'
        """
        return limit_headers(
            self.policy, self._limiter.limits_of(self._key), self._facts[1], remaining=self.remaining,
            reset_after=self.reset_after, retry_after=self.retry_after, draft=draft, legacy=legacy,
        )  # fmt: skip

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        verdict = "shadow_denied" if self.shadow_denied else "allowed" if self.allowed else "denied"
        return (
            f"Decision({verdict}, policy={self.policy!r}, limit={self.limit}, window={self.window:g}, "
            f"remaining={self.remaining}, retry_after={self.retry_after:g}, reset_after={self.reset_after:g}, "
            f"source={self.source!r})"
        )


class LocalDecision(Decision):
    """A decision of the fast path: even its facts are worked out when they are asked for.

    Whoever makes one sets its attributes: a call of ``__init__`` would be a third of what it costs.
    """

    __slots__ = ("_raw",)

    __init__ = object.__init__
    #: A function, and what it makes the facts of; or the facts, once they were asked for.
    _raw: Raw

    @property
    def _facts(self) -> Facts:  # type: ignore[override]
        raw = self._raw
        if raw[0].__class__ is not bool:  # not worked out yet
            raw = self._raw = raw[0](*raw[1:])
        return cast("Facts", raw)


class RateLimitExceeded(MobiusError):
    """A call that :meth:`RateLimiter.limit` guards came too fast.

    Args:
        decision: The denial, with ``retry_after`` in seconds.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(f"limit {decision.policy!r} is used up; try again in {decision.retry_after:.3g} s")
