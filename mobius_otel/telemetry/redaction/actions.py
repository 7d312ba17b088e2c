"""What happens to a secret that was found: masked, shown in part, dropped, given a pseudonym, or let through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction.hits import marker
from mobius_otel.telemetry.redaction.names import words

if TYPE_CHECKING:
    from mobius_otel.telemetry.redaction.policy import RedactionPolicy

__all__ = ["ACTIONS", "PARTIAL_KINDS", "Action", "Pseudonyms", "RedactionRule", "Show", "deciding"]

Action = Literal["mask", "partial", "drop", "pseudonym", "pass"]
#: Decides what stands in the place of a secret: kind, secret, the name that it stands under. None: it stays.
Show = Callable[[str, str, str], str | None]
ACTIONS: Final = get_args(Action)
#: The kinds whose last four characters may be shown (PCI DSS 4.0, requirement 3.4.1, allows them of a card).
PARTIAL_KINDS: Final = frozenset({"card", "iban", "phone"})
_ENVIRONMENT: Final = "MOBIUS_OTEL_PSEUDONYM_KEY"
_KEY_ID = re.compile(r"[a-z0-9_]{1,16}")
_SHORTEST_KEY = 16
_NO_WORD = re.compile(r"[^0-9A-Za-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRule:
    """What happens to some of what is found: where everything that is given fits.

    Args:
        action: ``mask``, ``partial``, ``drop``, ``pseudonym`` or ``pass``.
        kind: The kind of secret; empty: any.
        name: The name that it stands under, also as the end of a longer one (``email`` fits ``customer.email``);
            empty: any.
        location: Where it stands: ``audit``, ``log``, ``span``, ``resource``, ``metric``, ``logging``,
            ``baggage``, ``other``; empty: anywhere.

    Raises:
        ConfigurationError: A value breaks its rule.

    Example:
        >>> RedactionRule(action="pseudonym", kind="email", location="audit").action
        'pseudonym'
    """

    action: Action
    kind: str = ""
    name: str = ""
    location: str = ""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigurationError("redaction.rules.action", self.action, f"one of {', '.join(ACTIONS)}")
        if not (self.kind or self.name or self.location):
            raise ConfigurationError("redaction.rules", self.action, "a rule with a kind, a name or a location")
        if self.action == "partial" and self.kind not in PARTIAL_KINDS:
            raise ConfigurationError(
                "redaction.rules.kind",
                self.kind,
                f"one of {', '.join(sorted(PARTIAL_KINDS))} where the action is partial",
            )

    def fits(self, kind: str, name: str, location: str) -> bool:
        """Return whether it decides about a secret of `kind` under `name` at `location`."""
        if (self.kind and self.kind != kind) or (self.location and self.location != location):
            return False
        if not self.name:
            return True
        wanted = words(self.name)
        return bool(wanted) and words(name)[-len(wanted) :] == wanted


class Pseudonyms:
    """Gives the same secret the same pseudonym, by keys that can be changed.

    A pseudonym is a keyed hash (HMAC-SHA-256, 80 bits of it): who has no key can neither go back nor try values
    out. Where the tenants differ, so do the pseudonyms of one value.

    Args:
        keys: Keys by their ids (lower-case letters, digits, ``_``), the newest first: it makes pseudonyms, the
            others are for looking up older ones. A key has at least 16 characters.

    Raises:
        ConfigurationError: There is no key, or one breaks its rule.

    Example:
        >>> pseudonyms = Pseudonyms({"k2": "a made-up key of tests", "k1": "an older made-up key"})
        >>> pseudonyms.of("email", "Ann@Example.com") == pseudonyms.of("email", "ann@example.com")
        True
        >>> sorted(pseudonyms.all("email", "ann@example.com"))
        ['k1', 'k2']
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, str | bytes]) -> None:
        self._keys: dict[str, bytes] = {}
        for name, key in keys.items():
            if not _KEY_ID.fullmatch(name):
                raise ConfigurationError(_ENVIRONMENT, name, "ids of lower-case letters, digits and '_', at most 16")
            raw = key.encode() if isinstance(key, str) else bytes(key)
            if len(raw) < _SHORTEST_KEY:
                raise ConfigurationError(
                    _ENVIRONMENT,
                    f"key {name!r}",
                    f"at least {_SHORTEST_KEY} characters",
                    "Make one: openssl rand -hex 32",
                )
            self._keys[name] = raw
        if not self._keys:
            raise ConfigurationError(_ENVIRONMENT, "", "one key or more where something gets a pseudonym",
                                     "For example: k1:<openssl rand -hex 32>")  # fmt: skip

    @classmethod
    def from_environment(cls) -> Self:
        """Return those of ``MOBIUS_OTEL_PSEUDONYM_KEY``: ``id:key``, several with commas, the newest first.

        Raises:
            ConfigurationError: The variable is missing or breaks its rule.
        """
        keys: dict[str, str] = {}
        for part in filter(None, os.environ.get(_ENVIRONMENT, "").split(",")):
            name, colon, key = part.strip().partition(":")
            if not colon:
                raise ConfigurationError(_ENVIRONMENT, "a part without a colon", "id:key, several with commas")
            if name in keys:
                raise ConfigurationError(_ENVIRONMENT, name, "the id of one key alone")
            if key.startswith("<"):
                raise ConfigurationError(_ENVIRONMENT, f"key {name!r}", "a key, not what stands in its place",
                                         "Make one: openssl rand -hex 32")  # fmt: skip
            keys[name] = key
        return cls(keys)

    def of(self, kind: str, value: str, tenant: str = "") -> str:
        """Return the marker that stands in the place of `value`."""
        name = next(iter(self._keys))
        return self._marker(name, kind, value, tenant)

    def all(self, kind: str, value: str, tenant: str = "") -> dict[str, str]:
        """Return the markers that `value` has had, by the id of the key: for an investigator who knows the value."""
        return {name: self._marker(name, kind, value, tenant) for name in self._keys}

    def _marker(self, name: str, kind: str, value: str, tenant: str) -> str:
        plain = "\0".join((kind, tenant, _plain(kind, value))).encode("utf-8", "surrogatepass")
        digest = hmac.new(self._keys[name], plain, hashlib.sha256).digest()[:10]
        return f"[redacted:{kind}:{name}.{base64.b32encode(digest).decode().lower()}]"

    def __repr__(self) -> str:
        return f"Pseudonyms({', '.join(self._keys)})"


def _plain(kind: str, value: str) -> str:
    """Return a value as it is compared: the ways in which people write one and the same thing are one."""
    if kind in {"card", "iban", "phone", "ssn"}:
        return _NO_WORD.sub("", value).upper()
    return value.strip().lower() if kind in {"email", "ipv4", "ipv6"} else value


def deciding(policy: RedactionPolicy, pseudonyms: Pseudonyms | None, location: str, tenant: str) -> Show | None:
    """Return what decides about each secret at one place; None where everything is masked.

    Args:
        policy: The policy.
        pseudonyms: Its pseudonyms, where it wants any.
        location: Where the value stands.
        tenant: Whose it is.
    """
    rules = tuple(rule for rule in policy.rules if not rule.location or rule.location == location)
    actions = dict(policy.actions)
    if not rules and not actions:
        return None

    def show(kind: str, secret: str, name: str) -> str | None:
        action = next((rule.action for rule in rules if rule.fits(kind, name, location)), None)
        if action is None:
            action = actions.get(kind, "mask")
        if action == "pass":
            return None
        if action == "drop":
            return ""
        if action == "partial" and kind in PARTIAL_KINDS:
            return f"[redacted:{kind}:{_NO_WORD.sub('', secret)[-4:].upper()}]"
        if action == "pseudonym" and pseudonyms is not None:
            return pseudonyms.of(kind, secret, tenant)
        return marker(kind)

    return show
