"""For tests: what a piece of code told telemetry, as plain dicts. The pytest fixture is called ``telemetry``."""

from __future__ import annotations

from mobius_otel.testing.capture import TelemetryCapture

__all__ = ["TelemetryCapture"]
