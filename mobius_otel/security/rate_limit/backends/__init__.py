"""Where a rate limiter counts."""

from __future__ import annotations

from mobius_otel.security.rate_limit.backends.memory import MemoryBackend, MemoryCounts
from mobius_otel.security.rate_limit.backends.protocol import Backend, Counts

__all__ = ["Backend", "Counts", "MemoryBackend", "MemoryCounts"]
