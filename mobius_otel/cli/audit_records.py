"""``mobius-otel audit tail``, ``show`` and ``events``: records and what is known of them, for people."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mobius_otel import conventions
from mobius_otel.cli.common import Subparsers, add_json, add_ledger, ledger_of, why_not_imported
from mobius_otel.cli.output import fields, json_line, note, plain_table, printable, table
from mobius_otel.errors import ConfigurationError, MobiusError
from mobius_otel.telemetry.audit.browse import Found, find_records
from mobius_otel.telemetry.audit.catalogue import EventType, known_events
from mobius_otel.telemetry.audit.event import AuditEvent
from mobius_otel.telemetry.audit.risk import band
from mobius_otel.telemetry.audit.verify import read_records

__all__ = ["add_parsers"]

_POLL_SECONDS = 0.5
_PATIENCE = 10  # looks in a row that fail
_COLUMNS = ["time", "event", "actor", "outcome", "target", "risk", "id"]
_WIDTHS = [24, 22, 20, 8, 28, 4, 0]
#: What `show` says in words of its own.
_SHOWN = frozenset({
    conventions.AUDIT_ACTION, conventions.AUDIT_ACTOR_ID, conventions.AUDIT_ACTOR_TYPE, conventions.AUDIT_OUTCOME,
    conventions.AUDIT_TARGET_ID, conventions.AUDIT_TARGET_TYPE, conventions.AUDIT_SOURCE_ID,
    conventions.AUDIT_SOURCE_TYPE, conventions.AUDIT_TENANT, conventions.AUDIT_REASON, conventions.AUDIT_RISK_SCORE,
    conventions.AUDIT_RECORD_ID, conventions.LOG_RECORD_UID, conventions.AUDIT_STREAM_ID, conventions.AUDIT_SEQUENCE,
    conventions.AUDIT_PREVIOUS_HASH, conventions.AUDIT_INTEGRITY_VALUE, conventions.AUDIT_CANONICALIZATION,
    conventions.AUDIT_SCHEMA_VERSION,
})  # fmt: skip


def add_parsers(verbs: Subparsers) -> None:
    """Add the commands to the group's parser."""
    tail = verbs.add_parser("tail", help="show the newest records")
    add_ledger(tail)
    tail.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as new ones come; Ctrl-C ends it")
    tail.add_argument("--notes", action="store_true", help="also what the ledger wrote about itself")
    add_json(tail)
    tail.set_defaults(run=_tail)
    show = verbs.add_parser(
        "show",
        help="show one record whole",
        description="Status 1 where there is none. LEDGER may also stand before ID, as with the other commands.",
    )
    show.add_argument("id", metavar="ID", help="the record's id, or the beginning of it")
    add_ledger(show)
    add_json(show)
    show.set_defaults(run=_show)
    events = verbs.add_parser(
        "events",
        help="print the catalogue of known events, yours too",
        description="Events of this package, and those that MODULE registers with register_event. --json: with the"
        " JSON Schema of each.",
    )
    events.add_argument("modules", nargs="*", metavar="MODULE", help="imported first, for example shop.events")
    events.add_argument("--markdown", action="store_true", help="as a page for your own documentation")
    add_json(events)
    events.set_defaults(run=_events)


# --- tail -----------------------------------------------------------------------------------------------------


def _tail(args: argparse.Namespace) -> int:
    ledger = ledger_of(args)
    shown = False
    for _, record in _newest(ledger, args):
        if args.json:
            json_line(record)
        else:
            _line(record, header=not shown)
        sys.stdout.flush()
        shown = True
    if not shown and not args.json:
        print("no records")
    return 0


def _newest(ledger: str, args: argparse.Namespace) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the newest records, and with ``--follow`` those that come, also from a file in the place of this one."""
    # What lies in a tail has no lasting position: who follows sees it once it has one, a moment later.
    found = read_records(ledger, last=max(args.n, 0), notes=args.notes, tails=not args.follow)
    yield from found
    last, file = 0, _identity(ledger)
    if args.follow:
        seen = read_records(ledger, last=1, notes=True, tails=False)
        last = max((position for position, _ in seen), default=0)
        last = min(last, found[-1][0]) if found else last
    failures, gone = 0, False
    while args.follow:
        time.sleep(_POLL_SECONDS)
        now = _identity(ledger)
        if now is None:  # moved away; a writer makes a new one
            if not gone:
                note(f"mobius-otel: {ledger} is gone; waiting for one in its place")
            gone = True
            continue
        gone = False
        if now != file:
            note(f"mobius-otel: {ledger} is another file now")
            last, file = 0, now
        try:
            newest = read_records(ledger, after=last, notes=args.notes, tails=False)
        except MobiusError:  # it is just being made; what stays so is an error
            failures += 1
            if failures > _PATIENCE:
                raise
            continue
        failures = 0
        for position, record in newest:
            last = position
            yield position, record


def _identity(ledger: str) -> tuple[int, int] | None:
    try:
        found = os.stat(ledger)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        attributes.get(conventions.AUDIT_RECORD_ID),
    ]
    cells = [_COLUMNS] if header else []
    lines = plain_table([" " * w for w in _WIDTHS], [*cells, row]).splitlines()[1:]
    print("\n".join(lines))


def _time(nanoseconds: Any) -> str | None:
    try:
        seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return None if nanoseconds is None else str(nanoseconds)


# --- show -----------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace) -> int:
    if os.path.isfile(args.id):
        if args.ledger is None:
            raise ConfigurationError(
                "ID", args.id, "the beginning of a record's id", "This is a file; `audit tail` shows ids."
            )
        if not os.path.exists(args.ledger):
            args.id, args.ledger = args.ledger, args.id
    ledger = ledger_of(args)
    found = find_records(ledger, args.id)
    if args.json:
        json_line([dataclasses.asdict(one) for one in found] if len(found) != 1 else dataclasses.asdict(found[0]))
    elif not found:
        note(f"mobius-otel: no record in {ledger} has an id that begins with {args.id!r}. The newest: audit tail")
    elif len(found) > 1:
        note(f"mobius-otel: several records have an id that begins with {args.id!r}:")
        for number, one in enumerate(found):
            _line(one.record or {}, header=not number)
    else:
        _whole(found[0])
    return 0 if len(found) == 1 else 1


def _whole(found: Found) -> None:
    if found.record is None:
        note(f"mobius-otel: record number {found.position} was changed, it is no audit record: see audit verify")
        return
    record, attributes = found.record, dict(found.record["attributes"])

    def both(name: str, kind: str) -> str | None:
        value, type_ = attributes.get(name), attributes.get(kind)
        return None if value is None else f"{value} ({type_})" if type_ else str(value)

    risk = attributes.get(conventions.AUDIT_RISK_SCORE)
    rows = {
        "event": record.get("event_name"),
        "time": _time(record.get("timestamp")),
        "recorded": _time(record.get("observed_timestamp")),
        "action": attributes.get(conventions.AUDIT_ACTION),
        "actor": both(conventions.AUDIT_ACTOR_ID, conventions.AUDIT_ACTOR_TYPE),
        "target": both(conventions.AUDIT_TARGET_ID, conventions.AUDIT_TARGET_TYPE),
        "source": both(conventions.AUDIT_SOURCE_ID, conventions.AUDIT_SOURCE_TYPE),
        "tenant": attributes.get(conventions.AUDIT_TENANT),
        "outcome": attributes.get(conventions.AUDIT_OUTCOME),
        "reason": attributes.get(conventions.AUDIT_REASON),
        "risk": f"{risk} ({band(risk).name})" if isinstance(risk, int) else risk,
        "severity": record.get("severity_text"),
        "scope": record.get("scope"),
        "trace": record.get("trace_id"),
        "span": record.get("span_id"),
        "id": attributes.get(conventions.AUDIT_RECORD_ID),
        "stream": attributes.get(conventions.AUDIT_STREAM_ID),
        "number": f"{attributes.get(conventions.AUDIT_SEQUENCE)} of its stream, {found.position} of the ledger",
        "hash": attributes.get(conventions.AUDIT_INTEGRITY_VALUE),
        "hash before": attributes.get(conventions.AUDIT_PREVIOUS_HASH),
        "collector": found.delivery + (f": {found.reason}" if found.reason else ""),
    }
    fields({name: value for name, value in rows.items() if value not in (None, "")})
    rest = {name: value for name, value in attributes.items() if name not in _SHOWN}
    if rest:
        print("attributes")
        for name, value in sorted(rest.items()):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"  {printable(name)}: {printable(text)}")


# --- events ---------------------------------------------------------------------------------------------------


def _events(args: argparse.Namespace) -> int:
    sys.path.insert(0, os.getcwd())  # as `python -m` has it: the service lies here
    for name in args.modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigurationError(
                "MODULE", name, "a module that can be imported from here", f"{why_not_imported(error)}."
            ) from error
    known = known_events()
    if args.json:
        json_line([_described(event) for event in known])
    elif args.markdown:
        print("\n".join(_page(known)))
    else:
        rows = [(e.name, e.action, e.risk, e.owasp, e.ocsf, ", ".join(e.attributes or ())) for e in known]
        table(["event", "action", "risk", "OWASP", "OCSF", "attributes"], rows)
    return 0


def _described(event: EventType) -> dict[str, Any]:
    return {
        "name": event.name, "meaning": event.meaning, "action": event.action, "risk": event.risk,
        "owasp": event.owasp, "ocsf": event.ocsf, "own": event.own, "schema": AuditEvent.schema(event.name),
    }  # fmt: skip


def _page(known: list[EventType]) -> list[str]:
    """Return the catalogue as Markdown, the service's own events with their attributes."""
    lines = ["# Audit events", "", "| event | meaning | action | risk | OWASP vocabulary | OCSF `type_uid` |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for event in known:
        risk = "" if event.risk is None else f"{event.risk} ({band(event.risk).name})"
        owasp = f"`{event.owasp}`" if event.owasp else ""
        lines.append(f"| `{event.name}` | {event.meaning} | {event.action} | {risk} | {owasp} | {event.ocsf or ''} |")
    for event in known:
        if event.attributes and not event.own:
            lines += ["", f"## `{event.name}`", "", "| attribute | must be | required |", "| --- | --- | --- |"]
            lines += [f"| `{name}` | {event.shape_of(name)} | {'yes' if name in event.required else ''} |"
                      for name in event.attributes]  # fmt: skip
    return lines
