"""The command ``mobius-otel``."""

from __future__ import annotations

from mobius_otel.cli.main import main

__all__ = ["main"]
