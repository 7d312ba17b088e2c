"""``mobius-otel keys issue|rotate|revoke|purge|import|maintain``: what changes keys."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from typing import Any, get_args

from mobius_otel.cli.common import policy_of
from mobius_otel.cli.keys_common import (
    add_secret_file,
    add_yes,
    as_json,
    confirmed,
    days,
    days_or_none,
    hand_over,
    hours,
    is_there,
    manager_of,
    opened,
    operator,
    time_of,
    verb,
)
from mobius_otel.cli.output import json_line, note, progress, table, utc
from mobius_otel.errors import ConfigurationError, MobiusError
from mobius_otel.opening import open_rotator
from mobius_otel.security.api_keys import ApiKey, ApiKeyManager
from mobius_otel.security.api_keys.imported import ImportKind

__all__ = ["add_import", "add_issue", "add_maintain", "add_purge", "add_revoke", "add_rotate"]

# What a line of `keys import` may hold.
_LINE = (
    "owner", "secret", "kind", "found_by", "scopes", "name", "tenant", "networks", "limit", "metadata", "ttl_days",
)  # fmt: skip


def add_issue(verbs: Any) -> None:
    """Add ``keys issue``."""
    parser = verb(verbs, "issue", _issue, "issue a key; its secret is printed once, on standard output")
    parser.add_argument("owner", metavar="OWNER", help="who gets the key")
    _add_facts(parser)
    add_secret_file(parser)
    parser.add_argument(
        "--if-none", action="store_true",
        help="only where the owner has no key of this name yet; status 0 either way, 1 where --secret-file is missing",
    )  # fmt: skip


def add_rotate(verbs: Any) -> None:
    """Add ``keys rotate``."""
    parser = verb(verbs, "rotate", _rotate, "give a key a successor; the old secret works until its grace ends")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--grace-hours", type=hours, metavar="HOURS", help="default: the policy's; 0: none")
    parser.add_argument("--request-id", metavar="ID", help="the same one again gives the same key, without its secret")
    parser.add_argument(
        "--confirm-by-first-use", action="store_true", help="the grace begins when the new secret is first used"
    )
    add_secret_file(parser)


def add_revoke(verbs: Any) -> None:
    """Add ``keys revoke``."""
    parser = verb(verbs, "revoke", _revoke, "revoke a key, a lineage or all keys of an owner, at once and for ever")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?")
    which.add_argument("--lineage", metavar="ID", help="this key, its predecessors and its successors")
    which.add_argument("--owner", metavar="OWNER", help="every key of this owner")
    parser.add_argument("--reason", default="", help="why; it goes into the audit trail")
    add_yes(parser)


def add_purge(verbs: Any) -> None:
    """Add ``keys purge``."""
    parser = verb(verbs, "purge", _purge, "remove keys that have been dead for a while")
    parser.add_argument(
        "--older-than-days", type=days_or_none, metavar="DAYS", help="how long (default: the policy's; 30)"
    )
    add_yes(parser)


def add_import(verbs: Any) -> None:
    """Add ``keys import``."""
    parser = verb(verbs, "import", _import, "take over a key that was made elsewhere; it is read from standard input")
    parser.add_argument("owner", metavar="OWNER", nargs="?", help="who has it; absent: standard input is JSON lines")
    parser.add_argument("--kind", choices=get_args(ImportKind), default="plain", help="what is read (default: plain)")
    parser.add_argument("--found-by", metavar="TEXT", help="for bcrypt and argon2: the part that names the key")
    parser.add_argument(
        "--form", action="append", default=[], metavar="REGEX", help="what such keys look like (default: the policy's)"
    )
    _add_facts(parser)
    parser.epilog = (
        'A line: {"owner": "alice", "secret": "…", "kind": "sha256", "scopes": ["read"]}. What it may hold: '
        f"{', '.join(_LINE)}. What it leaves out is as the options say."
    )


def add_maintain(verbs: Any) -> None:
    """Add ``keys maintain``."""
    parser = verb(
        verbs, "maintain", _maintain, "rotate what ends soon and remove what is dead, once; for cron and CronJobs"
    )
    parser.add_argument(
        "--sink", metavar="SINK", help="file:PATH, command:PROGRAM …, https://… (default: the policy's)"
    )
    parser.add_argument("--rotate-before-days", type=days, metavar="DAYS", help="default: the policy's; 7")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _add_facts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="may be given several times")
    parser.add_argument("--name", default="", help="what the key is for")
    parser.add_argument("--ttl-days", type=days, metavar="DAYS", help="how long it lives (default: the policy's)")
    parser.add_argument("--no-expiry", action="store_true", help="it lives until it is revoked")
    parser.add_argument("--tenant", metavar="TENANT", help="on whose behalf it acts")
    parser.add_argument("--network", action="append", default=[], metavar="CIDR", help="where it may come from")
    parser.add_argument("--limit", action="append", default=[], metavar="LIMIT", help='its own: "100/minute"')
    parser.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", help="facts of your own")


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    metadata = dict(pair.partition("=")[::2] for pair in args.metadata)
    if "" in metadata or len(metadata) != len(args.metadata):
        raise ConfigurationError("metadata", args.metadata, "NAME=VALUE, each name once")
    ttl = time_of(args.ttl_days)
    return {
        "scopes": set(args.scope), "name": args.name, "ttl": float("inf") if args.no_expiry else ttl,
        "tenant": args.tenant, "networks": args.network, "limit": args.limit or None, "metadata": metadata or None,
        "issued_by": operator(),
    }  # fmt: skip


def _issue(args: argparse.Namespace) -> int:
    if not args.if_none and is_there(args.secret_file):
        raise ConfigurationError(
            "secret-file", args.secret_file, "a file that is not there yet", "It may hold a secret that is in use."
        )
    with manager_of(args) as manager:
        issued = manager.issue(args.owner, **_facts(args), if_none=args.if_none)
        if issued.secret is not None:
            hand_over(args, manager, issued)
            return 0
    if args.json:
        json_line({**as_json(issued.key), "secret": None})
    else:
        note(f"{args.owner} has the key {issued.key.id} already; nothing was issued")
    if args.secret_file is None or is_there(args.secret_file):
        return 0
    note(f"{args.secret_file} is not there: mobius-otel keys rotate {issued.key.id} --secret-file {args.secret_file}")
    return 1


def _rotate(args: argparse.Namespace) -> int:
    grace = timedelta(hours=args.grace_hours) if args.grace_hours is not None else None
    with manager_of(args) as manager:
        issued = manager.rotate(
            args.id, grace_period=grace, request_id=args.request_id, issued_by=operator(),
            confirm_by_first_use=args.confirm_by_first_use,
        )  # fmt: skip
        if issued.secret is None:
            return _repeated(args, issued.key)
        hand_over(args, manager, issued)
        old = manager.get(args.id)
    if not args.json:
        ends = utc(old.retire_at)
        note(f"the old secret works until {ends}" if ends else "the old secret works until the new one has been seen")
    return 0


def _repeated(args: argparse.Namespace, key: ApiKey) -> int:
    if args.json:
        json_line({**as_json(key), "secret": None})
    else:
        note(f"this request made the key {key.id} before; its secret was shown then and is stored nowhere")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    by, reason = operator(), args.reason or None
    with manager_of(args) as manager:
        meant = _meant(args, manager)
        if args.dry_run or not confirmed(args, f"Revoke {len(meant)} keys ({', '.join(key.id for key in meant[:3])}…)"):
            return _say(args, meant, "would be revoked")
        if args.id is not None:
            revoked = [manager.revoke(args.id, reason=reason, revoked_by=by)]
        elif args.lineage is not None:
            revoked = manager.revoke_lineage(args.lineage, reason=reason, revoked_by=by)
        else:
            revoked = manager.revoke_owner(args.owner, reason=reason, revoked_by=by)
    if args.id is not None and args.json:
        json_line(as_json(revoked[0]))
        return 0
    return _say(args, revoked, "is revoked" if len(revoked) == 1 else "are revoked")


def _meant(args: argparse.Namespace, manager: ApiKeyManager) -> list[ApiKey]:
    if args.id is not None:
        return [manager.get(args.id)]
    if args.lineage is not None:
        found = manager.list(lineage=manager.get(args.lineage).lineage_id)
    else:
        found = manager.list(owner=args.owner)
        if not found:  # a name that is mistyped must not look like a key that was revoked
            raise ConfigurationError("owner", args.owner, "somebody who has or had a key", "Nothing was revoked.")
    return [key for key in found if key.state.lets_in]


def _say(args: argparse.Namespace, keys: list[ApiKey], what: str) -> int:
    if args.json:
        json_line({"keys": [as_json(key) for key in keys], "dry_run": args.dry_run})
    elif not keys:
        print("there is nothing to revoke")
    else:
        print(f"{', '.join(key.id for key in keys)} {what}")
    return 0


def _purge(args: argparse.Namespace) -> int:
    older = time_of(args.older_than_days)
    with manager_of(args) as manager:
        count = manager.purge(older_than=older, dry_run=True)
        done = not args.dry_run and count > 0 and confirmed(args, f"Remove {count:,} dead keys for ever")
        if done:
            count = manager.purge(older_than=older, progress=progress("purging"))
    if args.json:
        json_line({"purged": count, "dry_run": args.dry_run})
    elif args.dry_run or done or not count:
        print(f"{count} dead keys {'would be' if args.dry_run else 'were'} removed")
    return 0


def _import(args: argparse.Namespace) -> int:
    if sys.stdin.isatty():
        note("Type or paste what is to be imported, then end with Ctrl-D:")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError("standard input", "…", "text in UTF-8") from None
    if args.form:
        known = policy_of(args).api_keys.imported
        args.policy_changes = {"imported": tuple(args.form)}
        if missing := [form for form in args.form if form not in known]:
            note(f"the service knows them once its policy does: [api_keys] imported = {json.dumps([*known, *missing])}")
    with manager_of(args) as manager:
        if args.owner is None:
            return _import_lines(args, manager, text)
        key = manager.import_key(text.strip(), args.owner, kind=args.kind, found_by=args.found_by, **_facts(args))
    if args.json:
        json_line(as_json(key))
    else:
        print(f"{key.id} was imported for {key.owner}; it opens under its old secret")
    return 0


def _import_lines(args: argparse.Namespace, manager: ApiKeyManager, text: str) -> int:
    """Import one key for each line of JSON; what cannot be is named by its line, and the rest goes on."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    draw, imported, failed = progress("importing"), [], []
    for done, (number, line) in enumerate(lines, 1):
        try:
            imported.append(manager.import_key(**_line_facts(args, line)))
        except Exception as error:  # whatever one line does, the others go on
            # All but our own may quote the line, which holds a secret.
            failed.append(
                (
                    number,
                    str(error) if isinstance(error, MobiusError) else f"no JSON object with keys of {', '.join(_LINE)}",
                )
            )
        if draw is not None:
            draw(done, len(lines))
    for number, reason in failed:
        note(f"line {number}: {reason}")
    if args.json:
        json_line({"imported": [as_json(key) for key in imported], "failed": [number for number, _ in failed]})
    else:
        print(f"{len(imported)} keys were imported, {len(failed)} were not")
    return 1 if failed else 0


def _line_facts(args: argparse.Namespace, line: str) -> dict[str, Any]:
    data = json.loads(line)
    if not isinstance(data, dict) or not data.keys() <= set(_LINE):
        raise ValueError
    ttl = data.pop("ttl_days", None)
    if ttl is not None and not (type(ttl) in {int, float} and 0 < ttl < 1e6):
        raise ConfigurationError("ttl_days", "…", "a number of days above zero")
    facts = {**_facts(args), **({} if ttl is None else {"ttl": timedelta(days=ttl)})}
    return {"kind": args.kind, **facts, **data}


def _maintain(args: argparse.Namespace) -> int:
    changes: dict[str, Any] = {}
    if args.sink is not None:
        changes["sink"] = args.sink
    if args.rotate_before_days is not None:
        changes["rotate_before_days"] = args.rotate_before_days
    args.policy_changes = changes
    with opened(args) as (manager, policy):
        before = timedelta(days=policy.api_keys.rotate_before_days)
        due = [key for key in manager.list(state="active", expires_within=before) if key.rotated_to is None]
        if args.dry_run:
            return _would_maintain(args, manager, due)
        rotator = open_rotator(policy, manager)
        if rotator is None and due:
            note(f"{len(due)} keys end soon, and there is no sink for their successors: --sink, or [api_keys] sink")
        run = rotator.run_once() if rotator is not None else None
        purged = run.purged if run is not None else manager.purge(progress=progress("purging"))
    rotated, undelivered, failed, unused = (
        (run.rotated, run.undelivered, run.failed, run.unused) if run is not None else ((), (), (), ())
    )
    answer = {"rotated": rotated, "undelivered": undelivered, "failed": failed, "unused": unused, "purged": purged}
    if args.json:
        json_line(answer)
    else:
        shown = [[name, len(ids), " ".join(ids)] for name, ids in list(answer.items())[:4]]  # type: ignore[arg-type]
        table(["", "keys", "ids"], [*shown, ["purged", purged, ""]])
    return 1 if undelivered or failed or (run is None and due) else 0


def _would_maintain(args: argparse.Namespace, manager: ApiKeyManager, due: list[ApiKey]) -> int:
    purged = manager.purge(dry_run=True)
    if args.json:
        json_line({"rotated": [key.id for key in due], "purged": purged, "dry_run": True})
    else:
        print(f"{len(due)} keys would be rotated, {purged} dead keys would be removed")
    return 0
