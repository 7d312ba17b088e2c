"""What several commands share: the policy they work by and what they open by it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from mobius_otel.errors import ConfigurationError
from mobius_otel.opening import open_ledger
from mobius_otel.policy import Policy, load_policy
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.fail_modes import FailModes

__all__ = [
    "POLICY_HELP", "add_json", "add_ledger", "add_policy", "ledger_of", "policy_of", "records", "shown_limits",
    "shown_store",     "why_not_imported",
]  # fmt: skip

Subparsers = Any
POLICY_HELP = "the policy file (default: MOBIUS_OTEL_POLICY, else mobius.toml)"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add ``--policy``."""
    parser.add_argument("--policy", metavar="FILE", help=POLICY_HELP)


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Add ``LEDGER`` and ``--policy``."""
    parser.add_argument("ledger", nargs="?", metavar="LEDGER", help="the file (default: what the policy names)")
    add_policy(parser)


def ledger_of(args: argparse.Namespace) -> str:
    """Return the ledger that the arguments name, else the one of the policy.

    Raises:
        ConfigurationError: Neither names one.
        PolicyError: The policy breaks a rule.
    """
    if args.ledger:
        return str(args.ledger)
    policy = policy_of(args)
    if not policy.audit.ledger:
        where = f"{policy.file} has no [audit] ledger" if policy.file else "there is no policy file here"
        raise ConfigurationError("LEDGER", "", "the path of an audit ledger", f"None was given, and {where}.")
    return str(policy.beside(policy.audit.ledger))


def policy_of(args: argparse.Namespace) -> Policy:
    """Return the policy that the arguments name; the defaults where there is no file.

    Raises:
        PolicyError: It breaks a rule.
    """
    policy = load_policy(args.policy) or Policy()
    if store := getattr(args, "store", None):
        keys = dataclasses.replace(policy.api_keys, store=store)
        policy = dataclasses.replace(policy, api_keys=keys)
    if changes := getattr(args, "policy_changes", None):
        policy = dataclasses.replace(policy, api_keys=dataclasses.replace(policy.api_keys, **changes))
    return policy


def shown_limits(policy: Policy) -> list[str]:
    """Return each rule of a policy with its limits; one that only counts says so."""
    return [
        f"{rule.name} ({' and '.join(rule.limit)}{', only counted' if rule.mode == 'shadow' else ''})"
        for rule in policy.rate_limit.rules
    ]


def shown_store(policy: Policy) -> str:
    """Return where the keys of a policy are; of a database the kind alone: its URL may hold a password."""
    scheme, _, _ = policy.api_keys.store.partition("://")
    return policy.api_keys.store if scheme in {"memory", "sqlite"} else f"{scheme}://…"


def why_not_imported(error: Exception) -> str:
    """Return why a service's module cannot be imported; of a strange error the class alone: it may quote a secret."""
    known = isinstance(error, ImportError | AttributeError | SyntaxError | NameError)
    return f"{type(error).__name__}: {error}" if known else type(error).__name__


@contextlib.contextmanager
def records(policy: Policy) -> Iterator[None]:
    """Write what a command does into the ledger of the policy, where it names one.

    Raises:
        ConfigurationError: The ledger cannot be opened.
    """
    ledger = open_ledger(policy)
    before = defaults.install(
        defaults.Defaults(
            ledger=ledger, fail_mode=policy.audit.fail_mode, fail_modes=FailModes(policy.audit.fail_modes)
        )
    )
    try:
        yield
    finally:
        defaults.install(before)
        if ledger is not None:
            ledger.close()
