"""``mobius-otel keys``: issue, look at, rotate, revoke and purge API keys, and find leaked ones."""

from __future__ import annotations

import argparse

from mobius_otel.cli import keys_life, keys_look, keys_scan
from mobius_otel.cli.common import Subparsers

__all__ = ["add_parser"]

_EPILOG = """\
examples:
  mobius-otel keys issue alice --scope read                 its secret is printed once, on standard output
  mobius-otel keys issue alice --if-none --secret-file /run/secrets/key     the first key of a container
  mobius-otel keys rotate key_4SAE… --grace-hours 24        a new secret; the old one works for a day
  mobius-otel keys list --expires-within-days 7
  mobius-otel keys scan . --git                             has one of our keys leaked into this repository?

No secret is ever taken from the command line, where every process of the machine could read it.
"""


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    group = commands.add_parser(
        "keys",
        help="issue, list, rotate, revoke, purge and import API keys; find leaked ones",
        description="The store is that of the policy file, or --store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")
    keys_life.add_issue(verbs)
    keys_look.add_list(verbs)
    keys_look.add_show(verbs)
    keys_life.add_rotate(verbs)
    keys_life.add_revoke(verbs)
    keys_life.add_purge(verbs)
    keys_life.add_import(verbs)
    keys_life.add_maintain(verbs)
    keys_look.add_stats(verbs)
    keys_scan.add_scan(verbs)
    keys_scan.add_pattern(verbs)
