"""Compatibility kits: what a backend of your own has to do, as tests that you run over it."""

from __future__ import annotations

from mobius_otel.testing.kits.key_store import KeyStoreKit
from mobius_otel.testing.kits.limiter_backend import LimiterBackendKit

__all__ = ["KeyStoreKit", "LimiterBackendKit"]
