"""Rate limits: who may go on, and who came too fast."""

from __future__ import annotations

from mobius_otel.security.rate_limit.decision import Decision, RateLimitExceeded
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.security.rate_limit.limiter import RateLimiter

__all__ = ["Decision", "RateLimit", "RateLimitExceeded", "RateLimiter"]
