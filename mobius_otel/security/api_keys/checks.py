"""What callers may say about a key: every value is checked before anything is done with it."""

from __future__ import annotations

import functools
import ipaddress
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from mobius_otel.errors import ConfigurationError, KeyNotFound
from mobius_otel.policy.rules import LIMIT
from mobius_otel.security.api_keys.record import ApiKey, KeyState

__all__ = [
    "checked_limit",
    "checked_metadata",
    "checked_networks",
    "checked_reason",
    "checked_scopes",
    "checked_text",
    "decide",
    "is_within",
    "key_not_found",
    "one_of",
    "seconds_of",
    "shown_id",
]

C = TypeVar("C")

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # RFC 6749, section 3.3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ID = re.compile(r"key_[0-9A-Za-z]{1,32}", re.ASCII)
_LONGEST_TEXT = 256
_LARGEST_METADATA = 8192
_MOST_NETWORKS = 64
_LONGEST_ADDRESS = 64


def decide(key: ApiKey | None, now: float, required: frozenset[str], address: str | None = None) -> str:
    """Say what a verification finds: the decision, and nothing but it.

    Args:
        key: What the store knows, or None.
        now: Seconds since the epoch.
        required: The scopes that the action asks for.
        address: Where the client comes from.

    Returns:
        A value of ``mobius.api_key.result``, or ``wrong_network``; ``valid`` alone opens.

    Example:
        >>> key = ApiKey(id="key_1", owner="alice", scopes=frozenset({"read"}), expires_at=100.0)
        >>> decide(key, 99.0, frozenset({"read"})), decide(key, 100.0, frozenset()), decide(None, 0.0, frozenset())
        ('valid', 'expired', 'unknown')
    """
    if key is None:
        return "unknown"
    state = key.state_at(now)
    if state is not KeyState.ACTIVE and state is not KeyState.RETIRING:
        return state.value
    if key.networks and not is_within(address, key.networks):
        return "wrong_network"
    if required and not key.holds(required):
        return "insufficient_scope"
    return "valid"


def is_within(address: str | None, networks: tuple[str, ...]) -> bool:
    """Return whether an address lies in one of these networks; what is no address lies nowhere.

    Example:
        >>> is_within("10.1.2.3", ("10.0.0.0/8",)), is_within("::ffff:10.1.2.3", ("10.0.0.0/8",))
        (True, True)
        >>> is_within(None, ("::/0",))
        False
    """
    if not isinstance(address, str) or len(address) > _LONGEST_ADDRESS:
        return False
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in _parsed(networks))


@functools.lru_cache(1024)
def _parsed(networks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in networks)


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return `scopes` as a set.

    Raises:
        ConfigurationError: It is one text, or one of them is no scope.
    """
    if isinstance(scopes, str) or not isinstance(scopes, Iterable):
        raise ConfigurationError("scopes", scopes, "a set of texts", 'For example: scopes={"read"}')
    found = list(scopes)
    for scope in found:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise ConfigurationError(
                "scopes", scope, "1 to 128 ASCII characters without blanks, quotes and backslashes"
            )
    return frozenset(found)


def checked_text(setting: str, value: str | None, *, needed: bool = False) -> str | None:
    """Return `value` if it is a text of at most 256 characters without control characters; None where it is blank.

    Raises:
        ConfigurationError: It is not, or it is blank though it is needed.
    """
    if value is None and not needed:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or _CONTROL.search(value):
        raise ConfigurationError(setting, value, "a text of at most 256 characters without control characters")
    if not value.strip():
        if needed:
            raise ConfigurationError(setting, value, "a text that is not blank")
        return None
    return value


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of `metadata` as JSON gives it back.

    Raises:
        ConfigurationError: It is no mapping, JSON does not know its values, or it is larger than 8 KiB.
    """
    if metadata is None:
        return {}
    rule = "a mapping of texts to what JSON knows, at most 8 KiB"
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise ConfigurationError("metadata", type(metadata).__qualname__, rule)
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError("metadata", type(metadata).__qualname__, rule) from None
    if len(text) > _LARGEST_METADATA:
        raise ConfigurationError("metadata", f"{len(text)} characters", rule)
    copied: dict[str, Any] = json.loads(text)
    return copied


def seconds_of(setting: str, value: timedelta | float, *, zero: bool = False) -> float:
    """Return a length of time in seconds; it may be infinite.

    Args:
        setting: What it is called.
        value: A timedelta or a number of seconds.
        zero: Whether it may be zero.

    Raises:
        ConfigurationError: It is no length of time, below zero, or zero though it may not be.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise ConfigurationError(setting, value, "a timedelta or a number of seconds")
    if seconds < 0 or (seconds == 0 and not zero):
        raise ConfigurationError(setting, value, "zero or more" if zero else "longer than zero")
    return float(seconds)


def checked_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Return networks as CIDR texts, each once, in order.

    Raises:
        ConfigurationError: It is one text, or one of them is no network.

    Example:
        >>> checked_networks(["10.1.0.0/16", "2001:db8::1"])
        ('10.1.0.0/16', '2001:db8::1/128')
    """
    if isinstance(networks, str | bytes) or not isinstance(networks, Iterable):
        raise ConfigurationError("networks", networks, "a list of texts", 'For example: networks=["10.0.0.0/8"]')
    found: dict[str, None] = {}
    for network in networks:
        try:
            if not isinstance(network, str):
                raise ValueError
            found[str(ipaddress.ip_network(network))] = None
        except ValueError:
            raise ConfigurationError(
                "networks", network, 'an address or a network without host bits such as "10.0.0.0/8"'
            ) from None
    if len(found) > _MOST_NETWORKS:
        raise ConfigurationError("networks", f"{len(found)} networks", f"at most {_MOST_NETWORKS}")
    return tuple(found)


def checked_limit(limit: object) -> tuple[str, ...]:
    """Return rate limits as texts; what they do is the business of whoever counts.

    Args:
        limit: A text such as ``"100/minute"``, an object with the numbers ``limit`` and ``per`` (seconds), or a
            list of those; None: none.

    Raises:
        ConfigurationError: One of them is no limit.

    Example:
        >>> checked_limit(["10/second", "1000/hour"])
        ('10/second', '1000/hour')
    """
    if limit is None:
        return ()
    several = limit if isinstance(limit, list | tuple) else [limit]
    return tuple(_limit_text(one) for one in several)


def _limit_text(limit: object) -> str:
    units, per = getattr(limit, "limit", None), getattr(limit, "per", 0.0)
    if type(units) is int and per == int(per) and 1 <= per < 1e7:
        limit = f"{units}/{int(per)} seconds"
    if not isinstance(limit, str) or not LIMIT.check(limit):
        raise ConfigurationError("limit", limit, LIMIT.text)
    return limit


def one_of(setting: str, value: C, *choices: str) -> C:
    """Return `value` if it is one of `choices`.

    Raises:
        ConfigurationError: It is none of them.
    """
    if value not in choices:
        raise ConfigurationError(setting, value, "one of " + ", ".join(f'"{choice}"' for choice in choices))
    return value


def checked_reason(reason: str | None) -> str | None:
    """Return why something is done, or None where nothing was said.

    Raises:
        ConfigurationError: It is no text.
    """
    if reason is not None and not isinstance(reason, str):
        raise ConfigurationError("reason", type(reason).__qualname__, "a text")
    return reason if reason and reason.strip() else None


def shown_id(key_id: object) -> str:
    """Return an id as it may be shown: what does not look like one may be a secret."""
    return key_id if isinstance(key_id, str) and _ID.fullmatch(key_id) else "(not the form of an id)"


def key_not_found(key_id: object) -> KeyNotFound:
    """Return the error for an unknown id."""
    return KeyNotFound(shown_id(key_id))
