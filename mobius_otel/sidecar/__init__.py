"""The bridge for many workers: takes their OTLP metrics, merges them, serves one ``/metrics``."""

from __future__ import annotations

from mobius_otel.sidecar.server import Limits, Sidecar

__all__ = ["Limits", "Sidecar"]
