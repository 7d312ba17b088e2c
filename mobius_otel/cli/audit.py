"""``mobius-otel audit``: prove that a ledger is whole, look at its records, take them elsewhere."""

from __future__ import annotations

import argparse

from mobius_otel.cli import audit_export, audit_keeping, audit_records, audit_shipping, audit_verify
from mobius_otel.cli.common import Subparsers

__all__ = ["add_parser"]

_EPILOG = """\
examples:
  mobius-otel audit verify audit.db                   is anything missing or changed? status 0, 1 or 2
  mobius-otel audit tail -f                           what happens now, in the ledger of the policy
  mobius-otel audit show 0199f3                       one record, by the beginning of its id
  mobius-otel audit export --since 24h --format ocsf > day.jsonl
"""


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    group = commands.add_parser(
        "audit",
        help="verify an audit ledger, look at its records, export and ship them",
        description="Without LEDGER: the one that the policy file names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")
    for module in (audit_verify, audit_records, audit_export, audit_keeping, audit_shipping):
        module.add_parsers(verbs)
