"""``mobius-otel keys list|show|stats``: what there is."""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from typing import Any

from mobius_otel.cli.keys_common import as_json, days_or_none, manager_of, state_of, verb
from mobius_otel.cli.output import fields, json_line, note, table, utc
from mobius_otel.security.api_keys import KeyState

__all__ = ["add_list", "add_show", "add_stats"]

_MOST = 1000
_SPANS = {86400.0: "1d", 7 * 86400.0: "7d", 30 * 86400.0: "30d"}


def add_list(verbs: Any) -> None:
    """Add ``keys list``."""
    parser = verb(verbs, "list", _list, "list keys, oldest first")
    parser.add_argument("--owner", metavar="OWNER")
    parser.add_argument("--tenant", metavar="TENANT")
    parser.add_argument("--state", choices=[state.value for state in KeyState])
    parser.add_argument("--expires-within-days", type=days_or_none, metavar="DAYS")
    parser.add_argument("--most", type=int, default=_MOST, metavar="N", help=f"how many (default: {_MOST})")


def add_show(verbs: Any) -> None:
    """Add ``keys show``."""
    verb(verbs, "show", _show, "show one key").add_argument("id", metavar="ID")


def add_stats(verbs: Any) -> None:
    """Add ``keys stats``."""
    verb(verbs, "stats", _stats, "count the keys: by state, by how soon they end, by pepper")


def _list(args: argparse.Namespace) -> int:
    within = None if args.expires_within_days is None else timedelta(days=args.expires_within_days)
    with manager_of(args) as manager:
        found = manager.list(
            owner=args.owner, tenant=args.tenant, state=KeyState(args.state) if args.state else None,
            expires_within=within, most=args.most + 1 if args.most > 0 else args.most,
        )  # fmt: skip
    if len(found) > args.most:
        found.pop()
        note(f"there are more than {args.most}: --most")
    if args.json:
        json_line([as_json(key) for key in found])
        return 0
    rows = [
        [k.id, k.owner, k.name, state_of(k), " ".join(sorted(k.scopes)), utc(k.expires_at), utc(k.last_used_at)]
        for k in found
    ]
    asked = (args.owner, args.tenant, args.state, args.expires_within_days)
    empty = "no such keys" if any(asked) else "no keys; to issue one: mobius-otel keys issue OWNER --scope read"
    table(["id", "owner", "name", "state", "scopes", "expires", "last used"], rows, empty=empty)
    return 0


def _show(args: argparse.Namespace) -> int:
    with manager_of(args) as manager:
        key = manager.get(args.id)
    if args.json:
        json_line(as_json(key))
        return 0
    shown = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in as_json(key).items()
    }
    fields(shown)
    return 0


def _stats(args: argparse.Namespace) -> int:
    with manager_of(args) as manager:
        census, peppers = manager.census()
        newest = manager.pepper_labels[0]
    oldest = None if census.oldest_active is None else (time.time() - census.oldest_active) / 86400
    answer: dict[str, Any] = {
        "states": {state.value: count for state, count in census.states.items()},
        "expiring": {_SPANS[seconds]: count for seconds, count in census.expiring.items()},
        "never_used": census.never_used,
        "oldest_active_days": None if oldest is None else round(oldest, 2),
        "peppers": {label or "(not labelled)": count for label, count in peppers.items()},
        "newest_pepper": newest,
    }
    if args.json:
        json_line(answer)
        return 0
    rows: list[list[object]] = [[name, count] for name, count in answer["states"].items()]
    rows += [[f"active, end within {span}", count] for span, count in answer["expiring"].items()]
    rows += [["active, never used", census.never_used], ["oldest active, days", answer["oldest_active_days"]]]
    rows += [
        [f"under the {'newest' if label == newest else 'former'} pepper {label}", count]
        for label, count in answer["peppers"].items()
    ]
    table(["", "keys"], rows)
    return 0
