"""Counting on a Valkey or Redis server."""

from __future__ import annotations

from mobius_otel.security.rate_limit.backends.valkey.backend import ValkeyBackend

__all__ = ["ValkeyBackend"]
