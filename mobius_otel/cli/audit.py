"""``mobius-otel audit``: prove that a ledger is whole, look at its records, take them elsewhere."""

from __future__ import annotations

import argparse

from mobius_otel.cli import audit_export, audit_keeping, audit_records, audit_shipping
from mobius_otel.cli.common import Subparsers, add_json, add_ledger, ledger_of
from mobius_otel.cli.output import json_line, note, progress
from mobius_otel.errors import MobiusError
from mobius_otel.telemetry.audit.verify import verify_ledger

__all__ = ["add_parser"]

_MOST_SHOWN = 50
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
        help="verify an audit ledger, look at its records, export them",
        description="Without LEDGER: the one that the policy file names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")
    verify = verbs.add_parser(
        "verify",
        help="prove that a ledger is whole",
        description="Recompute every hash of every stream. Status 0: whole; 1: broken; 2: cannot be read.",
    )
    add_ledger(verify)
    add_json(verify)
    verify.set_defaults(run=_verify)
    audit_records.add_parsers(verbs)
    audit_export.add_parsers(verbs)
    audit_keeping.add_parsers(verbs)
    audit_shipping.add_parsers(verbs)


def _verify(args: argparse.Namespace) -> int:
    try:
        ledger = ledger_of(args)
        result = verify_ledger(ledger, progress=progress("verifying"))
    except MobiusError as error:
        if args.json:
            json_line({"ok": False, "error": str(error)})
        else:
            note(f"mobius-otel: {error}")
        return 2
    problems = [
        {"what": p.what, "record_id": p.record_id, "stream_id": p.stream_id, "sequence": p.sequence, "text": p.text}
        for p in result.problems
    ]
    if args.json:
        json_line({"ok": result.ok, "records": result.records, "streams": result.streams, "problems": problems})
    elif result.ok:
        print(f"{ledger}: whole; {result.records:,} records in {result.streams:,} streams")
    else:
        print(f"{ledger}: BROKEN; {len(problems):,} problems in {result.records:,} records")
        for problem in problems[:_MOST_SHOWN]:
            print(f"  {problem['what']}: {problem['text']}")
        if len(problems) > _MOST_SHOWN:
            print(f"  … and {len(problems) - _MOST_SHOWN:,} more (--json shows all)")
    return 0 if result.ok else 1
