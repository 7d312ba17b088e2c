"""Where a rate limiter counts."""

from __future__ import annotations

from mobius_otel.security.rate_limit.backends.memory import MemoryBackend, MemoryCounts
from mobius_otel.security.rate_limit.backends.protocol import AsyncCounts, Backend, Counts, LimiterSpec
from mobius_otel.security.rate_limit.backends.valkey import ValkeyBackend

__all__ = ["AsyncCounts", "Backend", "Counts", "LimiterSpec", "MemoryBackend", "MemoryCounts", "ValkeyBackend"]
