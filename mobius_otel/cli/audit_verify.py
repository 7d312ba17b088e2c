"""``mobius-otel audit verify``: is anything missing, changed or put in?"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from mobius_otel.cli.common import Subparsers, add_json, add_policy, ledger_of
from mobius_otel.cli.output import json_line, note, printable, progress
from mobius_otel.errors import ConfigurationError, MobiusError
from mobius_otel.telemetry.audit.findings import NOTHING, VerifyResult, parse_checkpoint
from mobius_otel.telemetry.audit.signing import AuditKey, key_from, key_from_environment
from mobius_otel.telemetry.audit.verify import verify_records

__all__ = ["add_parsers"]

_MOST_SHOWN = 50
_MOST_TAILS = 3
_EPILOG = """\
what it names: changed, missing, reordered, doubled, cut, forged, unreadable

Without a key it proves that nobody changed a part; who wrote the whole file anew, hashes and all, is found by a
signature (--key, MOBIUS_OTEL_AUDIT_KEY) or by what a metric said meanwhile: mobius.audit.stream.records is the count.

status: 0 whole, 1 broken, 2 cannot be read, or there is no record in it
"""


def add_parsers(verbs: Subparsers) -> None:
    """Add the command to the group's parser."""
    verify = verbs.add_parser(
        "verify",
        help="prove that records are whole: a ledger, an export, a collector's file",
        description="Recompute every hash of every stream.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument(
        "ledger", nargs="?", metavar="LEDGER|FILE|-",
        help="a ledger, JSON lines, or OTLP/JSON as a collector's file exporter writes it; - is standard input"
        " (default: the ledger that the policy names)",
    )  # fmt: skip
    verify.add_argument(
        "--key", action="append", default=[], metavar="FILE",
        help="whose signatures count: an Ed25519 key, the public half is enough, or an HMAC secret; every stream must"
        " then be signed (default: MOBIUS_OTEL_AUDIT_KEY, MOBIUS_OTEL_AUDIT_KEY_FILE)",
    )  # fmt: skip
    verify.add_argument(
        "--expect", action="append", default=[], metavar="STREAM:COUNT[:HEAD]",
        help="how far a stream was, as a metric or a span event said",
    )  # fmt: skip
    verify.add_argument("--partial", action="store_true", help="an export may begin in the middle of a stream")
    add_policy(verify)
    add_json(verify)
    verify.set_defaults(run=_verify)


def _verify(args: argparse.Namespace) -> int:
    try:
        source = ledger_of(args)
        shown = "standard input" if source == "-" else source
        result = verify_records(
            source,
            keys=_keys(args.key),
            expected=[parse_checkpoint(text) for text in args.expect],
            partial=args.partial,
            progress=progress("verifying"),
        )
    except MobiusError as error:
        if args.json:
            json_line({"ok": False, "error": str(error)})
        else:
            note(f"mobius-otel: {error}")
        return 2
    # Damaged is broken; what holds no record at all is no audit trail.
    nothing = not (result.ok or result.records + result.notes) and {p.what for p in result.problems} == {"unreadable"}
    if args.json:
        json_line(dataclasses.asdict(result))
    elif nothing:
        why = "" if result.problems == (NOTHING,) else f"; {printable(result.problems[0].text)}"
        note(f"mobius-otel: {shown}: {NOTHING.text}, so nothing is proven{why}")
    else:
        _tell(shown, result)
        if not args.partial and any(p.what == "missing" and p.sequence == 1 for p in result.problems):
            print("  (an export since a day, or a file that was rotated, begins later: --partial)")
    return 0 if result.ok else 2 if nothing else 1


def _keys(files: list[str]) -> list[AuditKey]:
    found = []
    for file in files:
        try:
            found.append(key_from(Path(file).read_bytes()))
        except OSError as error:
            raise ConfigurationError("--key", file, "a file that can be read", f"{error.strerror}.") from None
    if not found and (configured := key_from_environment()):
        found.append(configured)
    return found


def _tell(source: str, result: VerifyResult) -> None:
    if result.ok:
        print(f"{source}: whole; {_many(result.records, 'record')} in {_many(result.streams, 'stream')}")
    else:
        print(f"{source}: BROKEN; {_many(len(result.problems), 'problem')} in {_many(result.records, 'record')}")
    for problem in result.problems[:_MOST_SHOWN]:
        print(f"  {problem.what}: {printable(problem.text)}")
    if len(result.problems) > _MOST_SHOWN:
        print(f"  … and {len(result.problems) - _MOST_SHOWN:,} more (--json shows all)")
    for count, text in (
        (result.signed, "{} checked and good"),
        (result.unchecked, "{} not checked, because no key was given: --key FILE"),
    ):
        if count:
            print(f"  {text.format(_many(count, 'signature'))}")
    if result.tails:
        print(f"  no signature covers {_tails(result)}")
    if result.pruned:
        print(f"  {_many(result.pruned, 'older record')} noted as removed after a collector had them")
    if result.kept:
        print(f"  {_many(result.kept, 'record')} in quarantine, kept while those around were removed: audit stats")
    if result.duplicates:
        print(f"  {_many(result.duplicates, 'record')} there twice, with the same id: a collector may have that")
    if result.unended:
        print(f"  {_many(result.unended, 'stream')} without an end: still being written, or the process was killed")


def _tails(result: VerifyResult) -> str:
    """Say which records whoever can write the file could have made anew."""
    if not result.signed + result.unchecked:
        return "any of them"
    shown = [
        f"{tail.records:,} of stream {printable(tail.stream_id)} since number {tail.since:,}"
        for tail in sorted(result.tails, key=lambda tail: -tail.records)[:_MOST_TAILS]
    ]
    more = len(result.tails) - len(shown)
    return (
        f"{_many(result.unsigned, 'record')}: "
        + ", ".join(shown)
        + (f" and so on in {more:,} more (--json shows all)" if more else "")
    )


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
