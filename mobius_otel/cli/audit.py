"""``mobius-otel audit``: verify a ledger, look at its newest records."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from mobius_otel import conventions
from mobius_otel.cli.common import Subparsers, add_json
from mobius_otel.cli.output import json_line, note, plain_table, progress
from mobius_otel.errors import MobiusError
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger

__all__ = ["add_parser"]

_POLL_SECONDS = 0.5
_COLUMNS = ["time", "event", "actor", "outcome", "target", "risk"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    group = commands.add_parser("audit", help="verify an audit ledger, look at its records")
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")
    verify = verbs.add_parser(
        "verify",
        help="prove that a ledger is whole",
        description="Recompute every hash of every stream. Status 0: whole; 1: broken; 2: cannot be read.",
    )
    verify.add_argument("ledger", metavar="LEDGER")
    add_json(verify)
    verify.set_defaults(run=_verify)
    tail = verbs.add_parser("tail", help="show the newest records")
    tail.add_argument("ledger", metavar="LEDGER")
    tail.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as new ones come")
    add_json(tail)
    tail.set_defaults(run=_tail)


def _verify(args: argparse.Namespace) -> int:
    try:
        result = verify_ledger(args.ledger, progress=progress("verifying"))
    except MobiusError as error:
        if args.json:
            json_line({"ok": False, "error": str(error)})
        else:
            note(str(error))
        return 2
    problems = [
        {"what": p.what, "record_id": p.record_id, "stream_id": p.stream_id, "sequence": p.sequence, "text": p.text}
        for p in result.problems
    ]
    if args.json:
        json_line({"ok": result.ok, "records": result.records, "streams": result.streams, "problems": problems})
    elif result.ok:
        print(f"{args.ledger}: whole; {result.records:,} records in {result.streams:,} streams")
    else:
        print(f"{args.ledger}: BROKEN; {len(problems):,} problems in {result.records:,} records")
        for problem in problems[:50]:
            print(f"  {problem['what']}: {problem['text']}")
        if len(problems) > 50:
            print(f"  … and {len(problems) - 50:,} more (--json shows all)")
    return 0 if result.ok else 1


def _tail(args: argparse.Namespace) -> int:
    last, shown = 0, False
    newest = read_records(args.ledger, last=max(args.n, 0))
    while True:
        for number, record in newest:
            last = number
            if args.json:
                json_line(record)
            else:
                _line(record, header=not shown)
            shown = True
        if not args.follow:
            break
        time.sleep(_POLL_SECONDS)
        newest = read_records(args.ledger, after=last)
    if not shown and not args.json:
        print("no records")
    return 0


def _line(record: Mapping[str, Any], *, header: bool) -> None:
    attributes = record.get("attributes", {})
    target = attributes.get(conventions.AUDIT_TARGET_ID)
    row = [
        _time(record.get("timestamp")),
        record.get("event_name"),
        attributes.get(conventions.AUDIT_ACTOR_ID),
        attributes.get(conventions.AUDIT_OUTCOME),
        target if isinstance(target, str | None) else json.dumps(target),
        attributes.get(conventions.AUDIT_RISK_SCORE),
    ]
    widths = [24, 22, 20, 8, 32, 4]
    cells = [_COLUMNS] if header else []
    lines = plain_table([" " * w for w in widths], [*cells, row]).splitlines()[1:]
    print("\n".join(lines), flush=True)


def _time(nanoseconds: Any) -> str | None:
    if nanoseconds is None:
        return None
    seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}Z"
