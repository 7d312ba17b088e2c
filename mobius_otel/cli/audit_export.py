"""``mobius-otel audit export``: records as JSON lines, as OTLP/JSON or as OCSF events."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from mobius_otel import conventions
from mobius_otel.cli.common import Subparsers, add_json, add_ledger, ledger_of, policy_of
from mobius_otel.cli.output import json_line, note, progress
from mobius_otel.cli.when import moment
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.browse import walk_records
from mobius_otel.telemetry.audit.ocsf import ocsf_event
from mobius_otel.telemetry.audit.otlp import encode_json

__all__ = ["add_parsers"]

_BATCH = 512
_EPILOG = """\
formats:
  jsonl   the records as they are, one a line; `audit verify` reads it
  otlp    OTLP/JSON as a collector's file exporter writes it, one request a line; `audit verify` reads it
  ocsf    OCSF events, one a line
"""


def add_parsers(verbs: Subparsers) -> None:
    """Add the command to the group's parser."""
    export = verbs.add_parser(
        "export",
        help="write records for other programs",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_ledger(export)
    export.add_argument("--format", choices=("jsonl", "otlp", "ocsf"), default="jsonl", help="default: jsonl")
    export.add_argument("--since", metavar="WHEN", help="recorded then or later: 24h, 7d, 2026-01-31T08:00")
    export.add_argument("--until", metavar="WHEN", help="recorded before then")
    export.add_argument("-o", "--output", metavar="FILE", help="a new file, for its owner alone (default: stdout)")
    add_json(export)
    export.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    ledger = ledger_of(args)
    since, until = moment("--since", args.since), moment("--until", args.until)
    count = odd = 0
    with _output(args.output) as stream:
        write = _writer(args.format, stream, _resource(args))

        def visit(_: int, record: dict[str, Any]) -> None:
            nonlocal count, odd
            try:
                write(record)
                count += 1
            except ValueError:
                odd += 1

        odd += walk_records(ledger, visit, since=since, until=until, progress=progress("exporting"))
        write(None)
    if args.output or args.json:
        result = {"records": count, "unreadable": odd, "format": args.format, "file": args.output}
        (json_line if args.output and args.json else lambda data: note(_told(data)))(result)
    if odd:
        note(f"mobius-otel: {odd:,} records cannot be read, and are left out: mobius-otel audit verify")
    return 1 if odd else 0


def _told(result: dict[str, Any]) -> str:
    return f"{result['records']:,} records" + (f" are in {result['file']}" if result["file"] else "")


def _resource(args: argparse.Namespace) -> dict[str, str]:
    """Return whose records they are, where that is known: a ledger does not say."""
    name = os.environ.get("OTEL_SERVICE_NAME") or policy_of(args).service.name
    return {conventions.SERVICE_NAME: name} if name else {}


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # as JSON is, whatever the terminal
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(
            "--output", path, "a new file in a folder that can be written", f"{error.strerror}."
        ) from None
    with open(descriptor, "w", encoding="utf-8", newline="\n") as stream:
        yield stream


def _writer(name: str, stream: TextIO, resource: dict[str, str]) -> Callable[[dict[str, Any] | None], None]:
    """Return what writes one record; None at the end."""
    if name == "otlp":
        return _otlp_writer(stream, resource)
    make = ocsf_event if name == "ocsf" else lambda record: record

    def write(record: dict[str, Any] | None) -> None:
        if record is not None:
            stream.write(_line(make(record)))

    return write


def _otlp_writer(stream: TextIO, resource: dict[str, str]) -> Callable[[dict[str, Any] | None], None]:
    waiting: list[dict[str, Any]] = []

    def write(record: dict[str, Any] | None) -> None:
        if record is not None:
            encode_json([record], {})  # a record that is none must not spoil the others of its request
            waiting.append(record)
        if waiting and (record is None or len(waiting) >= _BATCH):
            stream.write(encode_json(waiting, resource).decode() + "\n")
            waiting.clear()

    return write


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
