"""``mobius-otel audit stats`` and ``prune``: how a ledger is doing, and how long it keeps what a collector has."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mobius_otel.cli.common import Subparsers, add_json, add_ledger, ledger_of, policy_of
from mobius_otel.cli.output import fields, json_line, progress, table
from mobius_otel.cli.when import size, span
from mobius_otel.errors import ConfigurationError
from mobius_otel.opening import open_ledger
from mobius_otel.telemetry.audit.browse import count_events
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.reading import UNREADABLE, read
from mobius_otel.telemetry.audit.risk import band
from mobius_otel.telemetry.audit.signing import key_from_environment
from mobius_otel.telemetry.audit.standing import reasons_of, stats_of
from mobius_otel.telemetry.audit.stream import SEALED

__all__ = ["add_parsers", "existing_ledger"]


def add_parsers(verbs: Subparsers) -> None:
    """Add the commands to the group's parser."""
    stats = verbs.add_parser("stats", help="how a ledger is doing: backlog, quarantine, streams, size, events")
    add_ledger(stats)
    add_json(stats)
    stats.set_defaults(run=_stats)
    prune = verbs.add_parser(
        "prune",
        help="remove old records that a collector has",
        description="Records that no collector has acknowledged stay, whatever their age. What is removed leaves its"
        " count and its last hash, so that `audit verify` goes on proving the rest.",
    )
    add_ledger(prune)
    prune.add_argument("--older-than", metavar="SPAN", help="90d, 24h, 30m; default: the policy's")
    prune.add_argument("--max-bytes", metavar="SIZE", help="then the oldest until the records take no more: 500M, 2G")
    add_json(prune)
    prune.set_defaults(run=_prune)


@contextmanager
def existing_ledger(args: argparse.Namespace) -> Iterator[Ledger]:
    """Open the ledger that the arguments name: as the policy has it, where it is that one; none is made.

    Raises:
        ConfigurationError: There is none, or it cannot be opened.
    """
    path = Path(ledger_of(args)).absolute()
    read(path, lambda _: None)  # it is one, and that is found out without a change to it
    policy = policy_of(args)
    of_policy = policy.audit.ledger is not None and policy.beside(policy.audit.ledger) == path
    own = open_ledger(policy, damaged=True) if of_policy else None
    with closing(own or Ledger(path, key=key_from_environment(), damaged=True)) as ledger, _answered(str(path)):
        yield ledger


@contextmanager
def _answered(path: str) -> Iterator[None]:
    """Say where a file is damaged what can be done."""
    try:
        yield
    except (*UNREADABLE, ConfigurationError) as error:
        why = error.__cause__ if isinstance(error, ConfigurationError) else error
        if not isinstance(why, UNREADABLE):
            raise
        raise ConfigurationError(
            "audit ledger", path, "a SQLite file that can be read and written",
            f"SQLite says: {why}. `mobius-otel audit verify {path}` says what can still be read.",
        ) from error  # fmt: skip


def _stats(args: argparse.Namespace) -> int:
    path = str(Path(ledger_of(args)).absolute())
    with _answered(path):  # read as it is: whoever only asks leaves a killed process's files as they are
        found, reasons = read(
            path, lambda reader: (stats_of(reader, os.path.realpath(path), (), time.time()), reasons_of(reader))
        )
        events = count_events(path)
    if args.json:
        json_line({
            **dataclasses.asdict(found),
            "quarantine": [
                {"record_id": record_id, "since": since, "attempts": attempts, "reason": reason}
                for record_id, (since, attempts, reason) in reasons.items()
            ],
            "events": [
                {"event_name": name, "outcome": outcome, "records": count, "highest_risk": risk}
                for name, outcome, count, risk in events
            ],
        })  # fmt: skip
        return 0
    notes = sum(count for name, _, count, _ in events if name in SEALED)
    fields({
        "ledger": path,
        "records": f"{found.records:,}" + (f", of which {notes:,} about its streams" if notes else "")
        + (f" ({found.pruned:,} older ones were pruned)" if found.pruned else ""),
        "waiting": f"{found.backlog:,} that no collector has"
        + (f"; the oldest for {_ago(found.oldest)}" if found.oldest is not None else ""),
        "quarantined": f"{found.quarantined:,} that a collector refused alone",
        "streams": f"{found.streams:,}, of which {found.open_streams:,} open, {found.adopted_streams:,} adopted",
        "size": f"{_bytes(found.bytes)}, of which {_bytes(found.payload_bytes)} records",
    })  # fmt: skip
    if events:
        print()
        rows = [
            (name, outcome, f"{count:,}", None if risk is None else f"{risk} ({band(risk).name})")
            for name, outcome, count, risk in events
        ]
        table(["event", "outcome", "records", "highest risk"], rows)
    if reasons:
        print()
        refused = [(record_id, attempts, reason) for record_id, (_, attempts, reason) in reasons.items()]
        table(["in quarantine", "refused", "last answer"], refused)
    return 0


def _prune(args: argparse.Namespace) -> int:
    age, most = span("--older-than", args.older_than), size("--max-bytes", args.max_bytes)
    with existing_ledger(args) as ledger:
        if age is None and most is None and not ledger.bounded:
            raise ConfigurationError(
                "--older-than",
                "",
                "a span of time",
                "The policy does not say what is old. For example: --older-than 90d",
            )
        removed = ledger.prune(max_age=age, max_bytes=most, progress=progress("pruning"))
        left = ledger.stats()
    if args.json:
        json_line({"pruned": removed, "records": left.records, "backlog": left.backlog})
    else:
        print(f"{removed:,} records are removed; {left.records:,} are left, {left.backlog:,} of them not delivered")
    return 0


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1_000_000 else f"{count / 1e3:,.1f} kB"


def _ago(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
