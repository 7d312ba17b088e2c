"""The audit event: who did what to what, from where, how it ended and how much it matters."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from mobius_otel.errors import InvalidEvent
from mobius_otel.telemetry.audit.chain import plain, plain_text

__all__ = ["Actor", "ActorType", "AuditEvent", "Outcome", "Source", "SourceType", "Target", "severity"]

Outcome = Literal["success", "failure", "unknown"]
ActorType = Literal["user", "service", "system"]
SourceType = Literal["ipv4", "ipv6", "hostname"]

# An id may come from whoever knocks: one that is too long is cut, because refusing the record would let a
# caller switch its own trail off.
_LONGEST_ID: Final = 1024
_LONGEST_REASON: Final = 8192
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_LONGEST_NAME: Final = 128
_ACTION = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LATEST: Final = 2**63

# Lower bound of the risk band -> OpenTelemetry severity number of a success, of a failure. An action that
# worked is never an error (17 and above), whatever it risks.
_SEVERITIES: Final = ((80, 15, 18), (60, 14, 17), (40, 13, 14), (20, 10, 13), (0, 9, 10))


def severity(risk_score: int | None, outcome: Outcome) -> int:
    """Return the OpenTelemetry severity number of a risk and an outcome.

    Args:
        risk_score: 0 to 100; None counts as 0.
        outcome: ``unknown`` counts as ``success``.

    Example:
        >>> severity(10, "success"), severity(70, "failure"), severity(100, "success")
        (9, 17, 15)
    """
    failed = outcome == "failure"
    for lowest, worked, refused in _SEVERITIES:
        if (risk_score or 0) >= lowest:
            return refused if failed else worked
    return _SEVERITIES[-1][1]


def _text(name: str, value: object, longest: int = _LONGEST_ID) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidEvent(name, value, "a text that is not empty")
    value = plain_text(value)
    return value if len(value) <= longest else value[: longest - 1] + "…"


def _optional(name: str, value: object, longest: int = _LONGEST_ID) -> str | None:
    return None if value is None else _text(name, value, longest)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidEvent(name, value, f"one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it.

    Args:
        id: The actor's id; cut at 1024 characters.
        type: ``user``, ``service`` or ``system``.

    Raises:
        InvalidEvent: A field breaks its rule.
    """

    id: str
    type: ActorType = "user"

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _text("actor.id", self.id))
        _one_of("actor.type", self.type, get_args(ActorType))


@dataclass(frozen=True, slots=True)
class Target:
    """What it was done to.

    Args:
        id: The target's id; cut at 1024 characters.
        type: What kind of thing it is, for example ``order``.

    Raises:
        InvalidEvent: A field breaks its rule.
    """

    id: str
    type: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _text("target.id", self.id))
        object.__setattr__(self, "type", _optional("target.type", self.type))


@dataclass(frozen=True, slots=True)
class Source:
    """Where it came from.

    Args:
        id: An IP address or a host name; cut at 1024 characters.
        type: ``ipv4``, ``ipv6`` or ``hostname``; default: worked out from `id`.

    Raises:
        InvalidEvent: A field breaks its rule.

    Example:
        >>> Source("2001:db8::1").type, Source("203.0.113.9").type, Source("bastion.example").type
        ('ipv6', 'ipv4', 'hostname')
    """

    id: str
    type: SourceType | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _text("source.id", self.id))
        if self.type is None:
            object.__setattr__(self, "type", _source_type(self.id))
        _one_of("source.type", self.type, get_args(SourceType))


def _source_type(source: str) -> SourceType:
    try:
        return "ipv4" if ipaddress.ip_address(source).version == 4 else "ipv6"
    except ValueError:
        return "hostname"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened, as the audit trail keeps it.

    Args:
        event_name: A dotted name of few values, for example ``payment.refund``; the outcome is not part of it.
        action: An upper-case verb, for example ``UPDATE``.
        actor: Who did it.
        outcome: ``success``, ``failure`` or ``unknown``.
        target: What it was done to.
        risk_score: 0 to 19 informational, 20 to 39 low, 40 to 59 medium, 60 to 79 high, 80 to 100 critical;
            None: not rated.
        reason: Why it was done or refused, in words; cut at 8192 characters.
        source: Where it came from.
        tenant: On whose behalf.
        attributes: Anything of JSON's shapes; other objects are kept as their text. It is copied.
        timestamp: When it happened, in nanoseconds since the epoch; None: when it is emitted.

    Raises:
        InvalidEvent: A field breaks its rule; the error names field, value and rule.

    Example:
        >>> AuditEvent("payment.refund", "UPDATE", Actor("u-1"), target=Target("order-9", "order"), risk_score=70)
        ... # doctest: +ELLIPSIS
        AuditEvent(event_name='payment.refund', action='UPDATE', actor=Actor(id='u-1', type='user'), ...)
        >>> AuditEvent("payment.refund", "update", Actor("u-1"))
        Traceback (most recent call last):
        mobius_otel.errors.InvalidEvent: AuditEvent.action = 'update': it must be an upper-case verb such as "UPDATE".
    """

    event_name: str
    action: str
    actor: Actor
    outcome: Outcome = "success"
    target: Target | None = None
    risk_score: int | None = None
    reason: str | None = None
    source: Source | None = None
    tenant: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    timestamp: int | None = None

    def __post_init__(self) -> None:
        self._check_names()
        self._check_parties()
        self._check_numbers()
        object.__setattr__(self, "reason", _optional("reason", self.reason or None, _LONGEST_REASON))
        object.__setattr__(self, "tenant", _optional("tenant", self.tenant))
        if self.attributes is not None and not isinstance(self.attributes, Mapping):
            raise InvalidEvent("attributes", self.attributes, "a mapping")
        object.__setattr__(self, "attributes", MappingProxyType(plain(self.attributes or {})))

    def _check_names(self) -> None:
        name = self.event_name
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise InvalidEvent(
                "event_name", name, 'a dotted name of letters, digits, "_" and "-", at most 128 characters,'
                ' such as "payment.refund"',
            )  # fmt: skip
        if not isinstance(self.action, str) or not _ACTION.fullmatch(self.action):
            raise InvalidEvent("action", self.action, 'an upper-case verb such as "UPDATE"')
        _one_of("outcome", self.outcome, get_args(Outcome))

    def _check_parties(self) -> None:
        for name, kind in (("actor", Actor), ("target", Target), ("source", Source)):
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "actor"):
                article = "an" if name == "actor" else "a"
                raise InvalidEvent(name, value, f"{article} {kind.__name__}, for example {kind.__name__}('…')")

    def _check_numbers(self) -> None:
        risk, time = self.risk_score, self.timestamp
        if risk is not None and (not isinstance(risk, int) or isinstance(risk, bool) or not 0 <= risk <= 100):
            raise InvalidEvent("risk_score", risk, "a whole number from 0 (none) to 100 (critical), or None")
        if time is not None and (not isinstance(time, int) or isinstance(time, bool) or not 0 < time < _LATEST):
            raise InvalidEvent("timestamp", time, "nanoseconds since the epoch as a whole number, or None")

    @property
    def severity_number(self) -> int:
        """The OpenTelemetry severity number, from risk and outcome."""
        return severity(self.risk_score, self.outcome)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled or deep-copied.
        fields = (getattr(self, name) for name in self.__slots__)
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in fields)
