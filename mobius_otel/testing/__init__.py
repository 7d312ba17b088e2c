"""For tests: what a piece of code told telemetry, as plain dicts (the pytest fixture ``telemetry``), and kits."""

from __future__ import annotations

from mobius_otel.testing.capture import TelemetryCapture
from mobius_otel.testing.kits import KeyStoreKit, LimiterBackendKit

__all__ = ["KeyStoreKit", "LimiterBackendKit", "TelemetryCapture"]
