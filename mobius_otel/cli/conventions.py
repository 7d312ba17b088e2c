"""``mobius-otel conventions``: everything that is emitted, from the registry."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from mobius_otel import conventions
from mobius_otel.cli.common import Subparsers, add_json
from mobius_otel.cli.output import json_line, table

__all__ = ["add_parser"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("conventions", help="list every metric, span and event")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    registry: dict[str, dict[str, Any]] = {
        "metrics": conventions.METRICS,
        "spans": conventions.SPANS,
        "events": conventions.EVENTS,
        "attributes": conventions.ATTRIBUTES,
    }
    if args.json:
        json_line({kind: [dataclasses.asdict(entry) for entry in known.values()] for kind, known in registry.items()})
        return 0
    table(
        ["metric", "kind", "unit", "meaning"],
        [[m.name, m.kind, m.unit, m.meaning] for m in conventions.METRICS.values()],
    )
    print()
    table(["span", "meaning"], [[s.name, s.meaning] for s in conventions.SPANS.values()])
    print()
    table(
        ["event", "OWASP", "risk", "meaning"],
        [[e.name, e.owasp, e.risk, e.meaning] for e in conventions.EVENTS.values()],
    )
    return 0
