"""``mobius-otel keys``: issue, list, show, rotate, revoke and purge API keys.

A secret is printed once, on standard output; everything meant for a person goes to standard error. No
secret is ever taken from the command line, where every process of the machine could read it.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from mobius_otel.cli.common import Subparsers, add_json, add_policy, policy_of, records
from mobius_otel.cli.output import fields, json_line, note, table, utc
from mobius_otel.errors import ConfigurationError
from mobius_otel.runtime import open_keys
from mobius_otel.security.api_keys import ApiKey, ApiKeyManager, IssuedKey, KeyState

__all__ = ["add_parser"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    group = commands.add_parser("keys", help="issue, list, show, rotate, revoke and purge API keys")
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")

    issue = _verb(verbs, "issue", _issue, "issue a key; its secret is printed once, on standard output")
    issue.add_argument("owner", metavar="OWNER", help="who gets the key")
    issue.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="may be given several times")
    issue.add_argument("--name", default="", help="what the key is for")
    issue.add_argument("--ttl-days", type=_days, metavar="DAYS", help="how long it lives (default: the policy's)")

    listed = _verb(verbs, "list", _list, "list keys")
    listed.add_argument("--owner", metavar="OWNER")
    listed.add_argument("--state", choices=[state.value for state in KeyState])

    _verb(verbs, "show", _show, "show one key").add_argument("id", metavar="ID")

    rotate = _verb(verbs, "rotate", _rotate, "give a key a successor; the old secret works until its grace ends")
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument("--grace-hours", type=_hours, metavar="HOURS", help="default: the policy's; 0: none")

    revoke = _verb(verbs, "revoke", _revoke, "revoke a key, at once")
    revoke.add_argument("id", metavar="ID")
    revoke.add_argument("--reason", default="", help="why; it goes into the audit trail")

    purge = _verb(verbs, "purge", _purge, "remove keys that have been dead for a while")
    purge.add_argument("--older-than-days", type=_days_or_none, default=30.0, metavar="DAYS", help="default: 30")
    purge.add_argument("--dry-run", action="store_true", help="only say how many")


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[:1].upper() + about[1:] + "."
    )
    add_policy(parser)
    add_json(parser)
    parser.add_argument("--store", metavar="URL", help="the key store (default: the policy's)")
    parser.set_defaults(run=run)
    return parser


def _number(text: str, unit: str, *, zero: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < 1e6) or (value == 0 and not zero):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of {unit}{'' if zero else ' above zero'}")
    return value


def _days(text: str) -> float:
    return _number(text, "days", zero=False)


def _days_or_none(text: str) -> float:
    return _number(text, "days", zero=True)


def _hours(text: str) -> float:
    return _number(text, "hours", zero=True)


@contextlib.contextmanager
def _manager(args: argparse.Namespace) -> Iterator[ApiKeyManager]:
    policy = policy_of(args)
    if policy.store_url.startswith("memory:"):
        raise ConfigurationError(
            "store", "memory://", "a store that outlives this command", 'For example: store = "sqlite:///keys.db"'
        )
    with records(policy), open_keys(policy) as manager:
        yield manager


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a name for its user
        return "operator"


def _issue(args: argparse.Namespace) -> int:
    ttl = timedelta(days=args.ttl_days) if args.ttl_days is not None else None
    with _manager(args) as manager:
        issued = manager.issue(args.owner, scopes=set(args.scope), name=args.name, ttl=ttl, issued_by=_operator())
        _hand_over(args, issued)
    return 0


def _hand_over(args: argparse.Namespace, issued: IssuedKey) -> None:
    if args.json:
        json_line({**_as_json(issued.key), "secret": issued.secret})
        return
    note(f"key {issued.key.id} for {issued.key.owner}, expires {utc(issued.key.expires_at) or 'never'}")
    note("This is its secret. It is shown once and stored nowhere:")
    print(issued.secret)


def _list(args: argparse.Namespace) -> int:
    state = KeyState(args.state) if args.state else None
    with _manager(args) as manager:
        found = manager.list(owner=args.owner, state=state)
    if args.json:
        json_line([_as_json(key) for key in found])
        return 0
    rows = [
        [k.id, k.owner, k.name, _state(k), " ".join(sorted(k.scopes)), utc(k.expires_at), utc(k.last_used_at)]
        for k in found
    ]
    table(["id", "owner", "name", "state", "scopes", "expires", "last used"], rows,
          empty="no keys; to issue one: mobius-otel keys issue OWNER --scope read")  # fmt: skip
    return 0


def _show(args: argparse.Namespace) -> int:
    with _manager(args) as manager:
        key = manager.get(args.id)
    if args.json:
        json_line(_as_json(key))
    else:
        fields(_as_json(key))
    return 0


def _rotate(args: argparse.Namespace) -> int:
    grace = timedelta(hours=args.grace_hours) if args.grace_hours is not None else None
    with _manager(args) as manager:
        issued = manager.rotate(args.id, grace_period=grace)
        _hand_over(args, issued)
        old = manager.get(args.id)
    if not args.json:
        note(f"the old secret works until {utc(old.retire_at)}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _manager(args) as manager:
        key = manager.revoke(args.id, reason=args.reason or None)
    if args.json:
        json_line(_as_json(key))
    else:
        print(f"{key.id} is revoked")
    return 0


def _purge(args: argparse.Namespace) -> int:
    with _manager(args) as manager:
        count = manager.purge(older_than=timedelta(days=args.older_than_days), dry_run=args.dry_run)
    if args.json:
        json_line({"purged": count, "dry_run": args.dry_run})
    else:
        print(f"{count} dead keys {'would be' if args.dry_run else 'were'} removed")
    return 0


def _state(key: ApiKey) -> str:
    return key.state_at(time.time()).value


def _as_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "owner": key.owner,
        "name": key.name,
        "state": _state(key),
        "scopes": sorted(key.scopes),
        "environment": key.environment,
        "created": utc(key.created_at),
        "expires": utc(key.expires_at),
        "retires": utc(key.retire_at),
        "revoked": utc(key.revoked_at),
        "last_used": utc(key.last_used_at),
        "generation": key.generation,
        "rotated_from": key.rotated_from,
        "issued_by": key.issued_by,
        "metadata": dict(key.metadata),
    }
