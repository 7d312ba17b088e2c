"""Compatibility kits: what a backend of your own has to do, as tests that you run over it."""

from __future__ import annotations

from mobius_otel.testing.kits.key_store import KeyStoreKit

__all__ = ["KeyStoreKit"]
