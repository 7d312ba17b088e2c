"""``mobius-otel demo``: a collector, an example service, clients, and what came of it."""

from __future__ import annotations

from mobius_otel.cli.demo.command import add_parser

__all__ = ["add_parser"]
