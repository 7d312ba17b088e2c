"""Decisions: who may come in, and how fast."""

from __future__ import annotations

from mobius_otel.security.api_keys import ApiKey, ApiKeyManager, IssuedKey, KeyRotator, KeyState
from mobius_otel.security.rate_limit import Decision, RateLimit, RateLimiter, RateLimitExceeded

__all__ = [
    "ApiKey",
    "ApiKeyManager",
    "Decision",
    "IssuedKey",
    "KeyRotator",
    "KeyState",
    "RateLimit",
    "RateLimitExceeded",
    "RateLimiter",
]
