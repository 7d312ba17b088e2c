"""What a policy describes, opened: the key store, the ledger, the rotator, the redaction; and the check of a policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.policy import Policy
from mobius_otel.secret_files import MAKE_ONE, SHORTEST, read_secret, warn_where_exposed
from mobius_otel.security.api_keys import ApiKeyManager, KeyRotator, ValkeyChannel
from mobius_otel.security.api_keys.digests import NO_PEPPER
from mobius_otel.security.api_keys.imported import ForeignForms
from mobius_otel.security.api_keys.sinks import sink_of
from mobius_otel.security.api_keys.stores import check_store_url
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.signing import key_from_environment
from mobius_otel.telemetry.redaction import RedactionPolicy
from mobius_otel.web.limits import open_server
from mobius_otel.web.prometheus import registry
from mobius_otel.web.throttle import FailureThrottle

__all__ = ["check_policy", "open_keys", "open_ledger", "open_rotator", "redaction_policy"]

_PEPPER = "MOBIUS_OTEL_KEY_PEPPER"
_MAC: dict[str, Literal[False, True, "transition"]] = {"off": False, "on": True, "transition": "transition"}


def open_keys(policy: Policy, throttle: FailureThrottle | None = None) -> ApiKeyManager:
    """Open the key store of a policy.

    Raises:
        ConfigurationError: The store cannot be opened, or the pepper's file cannot be read.
    """
    section = policy.api_keys
    return ApiKeyManager(
        policy.store_url,
        ttl=timedelta(days=section.ttl_days),
        grace_period=timedelta(hours=section.grace_hours),
        pepper=_peppers(),
        prefix=section.prefix,
        environment=section.environment,
        cache_ttl=section.cache_seconds,
        channel=ValkeyChannel(section.channel) if section.channel else None,
        mac=_MAC[section.mac],
        imported=section.imported,
        on_reuse=section.on_reuse,
        audit_success=section.audit_success,
        purge_after=timedelta(days=section.purge_after_days),
        throttle=throttle.wait if throttle else None,
        on_rejected=throttle.note if throttle else None,
    )


def open_rotator(policy: Policy, keys: ApiKeyManager) -> KeyRotator | None:
    """Return what rotates the keys of a policy and removes dead ones, or None where it names no sink.

    Raises:
        ConfigurationError: The sink cannot be.
    """
    section = policy.api_keys
    if section.sink is None:
        return None
    return KeyRotator(
        keys,
        sink=sink_of(section.sink, policy.beside(".")),
        every=timedelta(hours=section.maintain_every_hours or 1),
        rotate_before=timedelta(days=section.rotate_before_days),
        purge=True,
    )


def open_ledger(policy: Policy, *, damaged: bool = False) -> Ledger | None:
    """Open the audit ledger of a policy, or return None where it names none.

    Args:
        policy: The policy.
        damaged: Whether a damaged one is opened too.

    Raises:
        ConfigurationError: The ledger cannot be opened.
    """
    section = policy.audit
    if not section.ledger:
        return None
    return Ledger(
        policy.beside(section.ledger),
        durability=section.durability,
        sink_timeout=section.sink_timeout,
        key=key_from_environment(),
        sign=section.sign,
        max_bytes=None if section.max_megabytes is None else int(section.max_megabytes * 1_000_000),
        max_age=None if section.max_age_days is None else section.max_age_days * 86_400,
        damaged=damaged,
    )


def redaction_policy(policy: Policy) -> RedactionPolicy:
    """Return how a policy wants secrets to be found.

    Raises:
        ConfigurationError: One of its patterns cannot be used, or a detector cannot be imported.
    """
    return RedactionPolicy.from_policy(policy)


def check_policy(policy: Policy) -> None:
    """Check what the policy file's own rules cannot: patterns that compile, URLs, extras, keys that need another.

    Raises:
        ConfigurationError: A pattern or a URL cannot be used, an extra is missing, or a key asks for what only a
            ledger does where there is none.
    """
    redaction_policy(policy)
    open_server(policy)
    if policy.wants_keys:
        with _blamed_on(policy, "api_keys.store"):
            check_store_url(policy.store_url)
        if policy.api_keys.channel:
            with _blamed_on(policy, "api_keys.channel"):
                ValkeyChannel(policy.api_keys.channel)
    with _blamed_on(policy, "api_keys.imported"):
        ForeignForms(policy.api_keys.imported)
    if policy.api_keys.sink is not None:
        with _blamed_on(policy, "api_keys.sink"):
            sink_of(policy.api_keys.sink)
    if policy.api_keys.maintain_every_hours is not None and policy.api_keys.sink is None:
        raise policy.placed(
            ConfigurationError(
                "api_keys.maintain_every_hours", policy.api_keys.maintain_every_hours, "given together with a `sink`",
                "Where else would the new secrets go?",
            )
        )  # fmt: skip
    _check_audit(policy)
    gauges = {name.lower() for name in policy.metrics.gauges}
    for number, spec in enumerate(policy.instrument):
        if spec.timer.lower() in gauges:
            setting, rule = f"instrument[{number}].timer", "another name than a gauge of [metrics] gauges has"
            raise policy.placed(ConfigurationError(setting, spec.timer, rule))
    if policy.metrics.path is not None:
        registry()


def _check_audit(policy: Policy) -> None:
    """Refuse what only a ledger can do where there is none: nobody shall count on it."""
    section = policy.audit
    if section.ledger:
        return
    asked = {
        "fail_mode": section.fail_mode == "strict" and section.fail_mode,
        **{f"fail_modes.{name}": mode == "strict" and mode for name, mode in section.fail_modes.items()},
        "durability": section.durability != "process" and section.durability,
        "sign": section.sign == "record" and section.sign,
    }
    for key, value in asked.items():
        if value:
            raise policy.placed(
                ConfigurationError(
                    f"audit.{key}", value, "given together with a `ledger`",
                    'Without one a record is kept nowhere. Write in [audit]: ledger = "audit.db"',
                )
            )  # fmt: skip


@contextmanager
def _blamed_on(policy: Policy, key: str) -> Iterator[None]:
    """Put the policy's key, file and line into an error about its value."""
    try:
        yield
    except MissingExtra:
        raise
    except ConfigurationError as error:
        error.args = (f"{key}{str(error).removeprefix(error.setting)}",)
        error.setting = key
        raise policy.placed(error) from None


def _peppers() -> list[str | None]:
    """Return the pepper that new digests are made with, and further ones that are accepted."""
    also = [
        None if line == NO_PEPPER else line for line in (_secret_setting(f"{_PEPPER}_ALSO") or "").splitlines() if line
    ]
    return [_pepper(), *also]


def _pepper() -> str | None:
    """Return the pepper; one that is given and empty is a secret that was not mounted, and no key opens without it."""
    pepper = _secret_setting(_PEPPER)
    if pepper is None:
        for name in (f"{_PEPPER}_FILE", _PEPPER):
            if (given := os.environ.get(name)) is not None:
                what = "" if name == _PEPPER else "a file that holds "
                rule = f"{what}at least {SHORTEST} bytes that nobody can guess, or not set at all"
                raise ConfigurationError(name, given, rule, f"It is empty. {MAKE_ONE}")
    return pepper


def _secret_setting(name: str) -> str | None:
    """Return what an environment variable says, or the file that another one names."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        raw = read_secret(f"{name}_FILE", path)
        warn_where_exposed(f"{name}_FILE", path)
        try:
            return raw.decode("utf-8") or None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name}_FILE", path, "a file of text in UTF-8") from None
    return None
