"""What the commands about keys share: the store, what is shown of a key, where a secret goes."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from mobius_otel.cli.common import add_json, add_policy, policy_of, records
from mobius_otel.cli.output import json_line, note, utc
from mobius_otel.errors import ConfigurationError
from mobius_otel.opening import open_keys
from mobius_otel.policy import Policy
from mobius_otel.security.api_keys import ApiKey, ApiKeyManager, IssuedKey
from mobius_otel.security.api_keys.sinks import write_secret

__all__ = [
    "add_secret_file", "add_yes", "as_json", "confirmed", "days", "days_or_none", "hand_over", "hours", "is_there",
    "manager_of", "opened", "operator", "state_of", "time_of", "verb",
]  # fmt: skip


def verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
    """Add one command about keys."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[:1].upper() + about[1:] + "."
    )
    add_policy(parser)
    add_json(parser)
    parser.add_argument("--store", metavar="URL", help="the key store (default: the policy's)")
    parser.set_defaults(run=run)
    return parser


def add_secret_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--secret-file``."""
    parser.add_argument(
        "--secret-file", metavar="PATH", help="write the secret there (mode 0600, in one step) instead of printing it"
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes`` and ``--dry-run``."""
    parser.add_argument("--yes", action="store_true", help="do not ask; without it a person at a terminal is asked")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _number(text: str, unit: str, *, zero: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < 1e6) or (value == 0 and not zero):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of {unit}{'' if zero else ' above zero'}")
    return value


def days(text: str) -> float:
    """Return a number of days above zero."""
    return _number(text, "days", zero=False)


def days_or_none(text: str) -> float:
    """Return a number of days."""
    return _number(text, "days", zero=True)


def hours(text: str) -> float:
    """Return a number of hours."""
    return _number(text, "hours", zero=True)


def time_of(number: float | None) -> timedelta | None:
    """Return so many days, or None."""
    return None if number is None else timedelta(days=number)


@contextlib.contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[ApiKeyManager, Policy]]:
    """Open the store that the arguments name.

    Raises:
        ConfigurationError: It is one that ends with this command, or it cannot be opened.
    """
    policy = policy_of(args)
    if policy.store_url.startswith("memory:"):
        raise ConfigurationError(
            "store", "memory://", "a store that outlives this command", 'For example: store = "sqlite:///keys.db"'
        )
    with records(policy), open_keys(policy) as manager:
        yield manager, policy


@contextlib.contextmanager
def manager_of(args: argparse.Namespace) -> Iterator[ApiKeyManager]:
    """Open the store that the arguments name; as :func:`opened`."""
    with opened(args) as (manager, _):
        yield manager


def operator() -> str:
    """Return who is at it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a name for its user
        return "operator"


def confirmed(args: argparse.Namespace, question: str) -> bool:
    """Return whether it shall be done; a person at a terminal is asked, a script has said so already.

    Args:
        args: With ``yes``.
        question: What is about to be done, without the question mark.
    """
    if args.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    note("nothing was done")
    return False


def is_there(path: str | None) -> bool:
    """Return whether a file has something in it."""
    with contextlib.suppress(OSError):
        return path is not None and Path(path).stat().st_size > 0
    return False


def hand_over(args: argparse.Namespace, manager: ApiKeyManager, issued: IssuedKey, **more: Any) -> None:
    """Give a new secret to whoever asked: into a file, or once on standard output.

    Args:
        args: With ``secret_file`` and ``json``.
        manager: Takes the key back where its secret cannot be written.
        issued: The key.
        more: Further facts for machines.

    Raises:
        ConfigurationError: The file cannot be written; the new key has been revoked.
    """
    if args.secret_file is not None:
        _into_file(args.secret_file, manager, issued)
    key = issued.key
    if args.json:
        shown = {} if args.secret_file is not None else {"secret": issued.secret}
        json_line({**as_json(key), **more, **shown})
        return
    note(f"key {key.id} for {key.owner}, expires {utc(key.expires_at) or 'never'}")
    if args.secret_file is not None:
        note(f"its secret is in {args.secret_file}")
    else:
        note("This is its secret. It is shown once and stored nowhere:")
        print(issued.secret)


def _into_file(path: str, manager: ApiKeyManager, issued: IssuedKey) -> None:
    assert issued.secret is not None
    try:
        write_secret(Path(path), issued.secret)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        manager.revoke(issued.key.id, reason="its secret could not be written", revoked_by=operator())
        raise ConfigurationError(
            "secret-file", path, "a file that can be written", f"{reason}. The new key has been revoked."
        ) from None


def state_of(key: ApiKey) -> str:
    """Return the state of a key now."""
    return key.state_at(time.time()).value


def as_json(key: ApiKey) -> dict[str, Any]:
    """Return what is shown of a key; its secret is not among it."""
    return {
        "id": key.id,
        "owner": key.owner,
        "name": key.name,
        "state": state_of(key),
        "scopes": sorted(key.scopes),
        "environment": key.environment,
        "created": utc(key.created_at),
        "expires": utc(key.expires_at),
        "retires": utc(key.retire_at),
        "revoked": utc(key.revoked_at),
        "last_used": utc(key.last_used_at),
        "lineage": key.lineage_id,
        "generation": key.generation,
        "rotated_from": key.rotated_from,
        "rotated_to": key.rotated_to,
        "waits_for_first_use": key.grace_on_first_use is not None,
        "grace_can_end_since": utc(key.unused_since),
        "tenant": key.tenant,
        "networks": list(key.networks),
        "limit": list(key.limit),
        "imported": key.prefix == "",
        "issued_by": key.issued_by,
        "metadata": dict(key.metadata),
    }
