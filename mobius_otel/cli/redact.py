"""``mobius-otel redact``: a filter that takes secrets out of text, logs and JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from mobius_otel.cli.common import Subparsers, add_json, add_policy, policy_of
from mobius_otel.cli.output import json_line, note, table
from mobius_otel.errors import ConfigurationError
from mobius_otel.runtime import redaction_policy
from mobius_otel.telemetry.redaction import Redactor

__all__ = ["add_parser"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "redact",
        help="take secrets out of text; a filter",
        description="Read files or standard input, line by line, and print them without their secrets.",
        epilog="Example: mobius-otel redact app.log > clean.log",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: standard input")
    parser.add_argument("--check", action="store_true", help="print no text; status 1 when a secret was found")
    add_policy(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    redactor = Redactor(redaction_policy(policy_of(args)))
    kinds: Counter[str] = Counter()
    for line in _lines(args.files):
        result = redactor.redact(line)
        kinds.update(match.kind for match in result.matches)
        if not (args.check or args.json):
            sys.stdout.write(str(result.value))
    if args.json:
        json_line({"matches": kinds.total(), "kinds": dict(sorted(kinds.items()))})
    elif args.check:
        table(["kind", "found"], sorted(kinds.items()), empty="no secret was found")
    elif kinds:
        note(f"{kinds.total()} secrets were taken out: " + ", ".join(f"{k} {n}" for k, n in sorted(kinds.items())))
    return 1 if args.check and kinds else 0


def _lines(files: list[str]) -> Iterator[str]:
    if not files:
        yield from _kept(sys.stdin)
    for name in files:
        try:
            with open(name, encoding="utf-8", errors="surrogateescape", newline="") as file:
                yield from _kept(file)
        except OSError as error:
            raise ConfigurationError("FILE", name, "a file that can be read", str(error.strerror)) from None


def _kept(stream: TextIO) -> Iterator[str]:
    """Yield the stream line by line, keys in PEM form as one piece: a line of one alone looks like nothing."""
    block: list[str] = []
    for line in stream:
        if block or "-----BEGIN" in line:
            block.append(line)
            if "-----END" in line or len(block) > 200:
                yield "".join(block)
                block = []
        else:
            yield line
    if block:
        yield "".join(block)
