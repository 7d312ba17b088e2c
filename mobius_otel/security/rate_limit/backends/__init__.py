"""Where a rate limiter counts."""

from __future__ import annotations

from mobius_otel.security.rate_limit.backends.memory import GcraCounts, MemoryBackend, MemoryCounts, WindowCounts
from mobius_otel.security.rate_limit.backends.protocol import AsyncCounts, Backend, Counts, LimiterSpec
from mobius_otel.security.rate_limit.backends.valkey import ValkeyBackend

__all__ = [
    "AsyncCounts", "Backend", "Counts", "GcraCounts", "LimiterSpec", "MemoryBackend", "MemoryCounts", "ValkeyBackend",
    "WindowCounts",
]  # fmt: skip
