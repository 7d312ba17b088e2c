"""The audit event: who did what to what, from where, how it ended and how much it matters."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from mobius_otel.errors import InvalidEvent
from mobius_otel.telemetry.audit.catalogue import ACTION, ID_IN_NAME, NAME, EventType, event_type
from mobius_otel.telemetry.audit.chain import Plainer, plain_text
from mobius_otel.telemetry.audit.refusals import invalid
from mobius_otel.telemetry.audit.risk import BANDS, severity
from mobius_otel.telemetry.audit.stream import SEALED

__all__ = [
    "Actor",
    "ActorType",
    "AuditEvent",
    "Outcome",
    "Source",
    "SourceType",
    "Target",
    "checked_risk",
    "unchecked",
]

Outcome = Literal["success", "failure", "unknown"]
ActorType = Literal["user", "service", "system"]
SourceType = Literal["ipv4", "ipv6", "hostname"]

# An id may come from whoever knocks: one that is too long is cut, because refusing the record would let a
# caller switch its own trail off.
_LONGEST_ID: Final = 1024
_LONGEST_REASON: Final = 8192
_LONGEST_NAME: Final = 128
# Whoever gives seconds, milliseconds or microseconds is told, rather than taken to 1970.
_EARLIEST: Final = 946_684_800_000_000_000
_LATEST: Final = 2**63
# What `ipaddress` takes as well, at a tenth of its price.
_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_OUTCOMES: Final = get_args(Outcome)
_ACTOR_TYPES: Final = get_args(ActorType)
_SOURCE_TYPES: Final = get_args(SourceType)
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": _LONGEST_ID}


def _text(name: str, value: object, longest: int = _LONGEST_ID) -> str:
    if type(value) is str and len(value) <= longest and value.isascii() and value and not value.isspace():
        return value
    if not isinstance(value, str) or not value.strip():
        raise invalid(name, value, "a text that is not empty")
    value = plain_text(value)
    return value if len(value) <= longest else value[: longest - 1] + "…"


def _optional(name: str, value: object, longest: int = _LONGEST_ID) -> str | None:
    return None if value is None else _text(name, value, longest)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise invalid(name, value, f"one of {', '.join(allowed)}")


def checked_risk(score: int | None) -> int | None:
    """Return a risk score that is one.

    Raises:
        InvalidEvent: It is not.
    """
    if score is not None and (not isinstance(score, int) or isinstance(score, bool) or not 0 <= score <= 100):
        raise invalid("risk_score", score, "a whole number from 0 (none) to 100 (critical), or None")
    return score


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
        if (text := _text("actor.id", self.id)) is not self.id:
            object.__setattr__(self, "id", text)
        _one_of("actor.type", self.type, _ACTOR_TYPES)


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
        if (text := _text("target.id", self.id)) is not self.id:
            object.__setattr__(self, "id", text)
        if self.type is not None and (text := _text("target.type", self.type)) is not self.type:
            object.__setattr__(self, "type", text)


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
        if (text := _text("source.id", self.id)) is not self.id:
            object.__setattr__(self, "id", text)
        found = source_type(text)
        if self.type is None:
            object.__setattr__(self, "type", found)
            return
        _one_of("source.type", self.type, _SOURCE_TYPES)
        if self.type not in (found, "hostname"):
            raise invalid("source.type", self.type, f"{found}, as its id is, or left out")


def source_type(source: str) -> SourceType:
    """Return what a source's id is.

    Example:
        >>> source_type("203.0.113.9"), source_type("::1"), source_type("bastion.example")
        ('ipv4', 'ipv6', 'hostname')
    """
    if _IPV4.fullmatch(source):
        return "ipv4"
    try:
        return "ipv4" if ipaddress.ip_address(source).version == 4 else "ipv6"
    except ValueError:
        return "hostname"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened, as the audit trail keeps it.

    Args:
        event_name: A dotted name of few values, for example ``payment.refund``; no id, no outcome is part of it.
        action: An upper-case verb, for example ``UPDATE``.
        actor: Who did it.
        outcome: ``success``, ``failure`` or ``unknown``.
        target: What it was done to.
        risk_score: 0 to 19 informational, 20 to 39 low, 40 to 59 medium, 60 to 79 high, 80 to 100 critical;
            None: as its name is registered (:func:`register_event`), else not rated.
        reason: Why it was done or refused, in words; cut at 8192 characters.
        source: Where it came from.
        tenant: On whose behalf.
        attributes: Anything of JSON's shapes; other objects are kept as their text. It is copied. Where the event's
            name is registered with attributes, they are checked.
        timestamp: When it happened, in nanoseconds since the epoch (``time.time_ns()``), of the year 2000 or later;
            None: when it is emitted.

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
    #: Whether all numbers among the attributes are written alike by every writer of JSON.
    _alike: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        if not type(self.event_name) is type(self.action) is type(self.outcome) is str:
            for name in ("event_name", "action", "outcome"):  # of an enumeration's member the text is what counts
                object.__setattr__(self, name, str.__str__(getattr(self, name)))
        if self.reason is not None:
            reason = None if isinstance(self.reason, str) and not self.reason else self.reason
            object.__setattr__(self, "reason", _optional("reason", reason, _LONGEST_REASON))
        if self.tenant is not None:
            object.__setattr__(self, "tenant", _text("tenant", self.tenant))
        given: object = self.attributes
        if given is None:
            object.__setattr__(self, "attributes", {})
        elif type(given) is not dict and not isinstance(given, Mapping):
            raise invalid("attributes", given, "a mapping of names to values")
        known = event_type(self.event_name)
        if known is not None:
            if known.name in SEALED:
                raise invalid("event_name", known.name, "another: the ledger writes of its streams under this one")
            self._check_known(known)
        self._freeze(self.attributes)

    def _freeze(self, attributes: Mapping[str, Any]) -> None:
        plainer = Plainer()
        found = plainer.visit(attributes, 0)
        if not isinstance(found, dict):  # that cannot be read
            found = {"attributes": found}
        object.__setattr__(self, "attributes", MappingProxyType(found))
        object.__setattr__(self, "_alike", plainer.alike)

    def _check_known(self, known: EventType) -> None:
        try:
            known.check(self.attributes, self.outcome)
        except InvalidEvent:
            raise
        except Exception as error:  # whatever a strange object does when it is looked at
            raise invalid("attributes", type(error).__name__, "values that can be compared") from error
        if self.risk_score is None and not known.own:
            object.__setattr__(self, "risk_score", known.risk)

    def _check(self) -> None:
        name, action, time = self.event_name, self.action, self.timestamp
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _is_name(name):
            raise invalid(
                "event_name", name, 'a dotted name of letters, digits, "_" and "-", at most 128 characters,'
                ' such as "payment.refund"',
            )  # fmt: skip
        if _has_id(name):
            raise invalid("event_name", name, "a name of few values, without an id: that belongs into the target")
        if not isinstance(action, str) or len(action) > _LONGEST_NAME or not _is_action(action):
            raise invalid("action", action, 'an upper-case verb such as "UPDATE"')
        _one_of("outcome", self.outcome, _OUTCOMES)
        if not isinstance(self.actor, Actor):
            raise invalid("actor", self.actor, "an Actor, for example Actor('…')")
        if self.target is not None and not isinstance(self.target, Target):
            raise invalid("target", self.target, "a Target, for example Target('…')")
        if self.source is not None and not isinstance(self.source, Source):
            raise invalid("source", self.source, "a Source, for example Source('…')")
        checked_risk(self.risk_score)
        if time is not None and (
            not isinstance(time, int) or isinstance(time, bool) or not _EARLIEST <= time < _LATEST
        ):
            raise invalid("timestamp", time, "nanoseconds since the epoch, of the year 2000 or later: time.time_ns()")

    @classmethod
    def schema(cls, event_name: str | None = None) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of events, as data.

        Args:
            event_name: A known event name: the schema of its events, attributes and all; None: that of any event.

        Raises:
            InvalidEvent: The name is not known.

        Example:
            >>> AuditEvent.schema()["properties"]["outcome"]
            {'enum': ['success', 'failure', 'unknown']}
        """
        if event_name is None:
            return _schema()
        known = event_type(event_name)
        if known is None:
            raise invalid("event_name", event_name, "registered: register_event(name, …)")
        return _schema(known)

    def to_ocsf(self) -> dict[str, Any]:
        """Return the event as an OCSF 1.x event, without its secrets.

        It is redacted and gets an id as :meth:`AuditLogger.emit` would do it; nothing is recorded.

        Example:
            >>> event = AuditEvent("user.login", "LOGIN", Actor("u-1"), outcome="failure", reason="wrong password")
            >>> made = event.to_ocsf()
            >>> made["class_name"], made["activity_name"], made["status"], made["user"]["uid"]
            ('Authentication', 'Logon', 'Failure', 'u-1')
        """
        from mobius_otel.telemetry.audit.ocsf import ocsf_event
        from mobius_otel.telemetry.audit.record import build

        return ocsf_event(build(self, "", None))

    @property
    def severity_number(self) -> int:
        """The OpenTelemetry severity number, from risk and outcome."""
        return severity(self.risk_score, self.outcome)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled or deep-copied.
        fields = (getattr(self, name) for name in self.__match_args__)
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in fields)


# Names are few and come again and again: each is judged once.
@functools.lru_cache(maxsize=1024)
def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


@functools.lru_cache(maxsize=1024)
def _has_id(name: str) -> bool:
    return ID_IN_NAME.search(name) is not None


@functools.lru_cache(maxsize=1024)
def _is_action(action: str) -> bool:
    return ACTION.fullmatch(action) is not None


def _schema(known: EventType | None = None) -> dict[str, Any]:
    name = {"const": known.name} if known else {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": 128}
    scale = ", ".join(f"{band.name} from {band.lowest}" for band in BANDS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": known.name if known else "AuditEvent",
        **({"description": known.meaning} if known and known.meaning else {}),
        "type": "object",
        "properties": {
            "event_name": name,
            "action": {"type": "string", "pattern": f"^{ACTION.pattern}$"},
            "actor": {**_party({"enum": list(_ACTOR_TYPES)}), "type": "object"},
            "outcome": {"enum": list(_OUTCOMES)},
            "target": _party({**_TEXT, "type": ["string", "null"]}),
            "risk_score": {"type": ["integer", "null"], "minimum": 0, "maximum": 100, "description": f"{scale}."},
            "reason": {"type": ["string", "null"], "maxLength": _LONGEST_REASON},
            "source": _party({"enum": [*_SOURCE_TYPES, None]}),
            "tenant": {**_TEXT, "type": ["string", "null"]},
            "attributes": known.schema() if known else {"type": "object"},
            "timestamp": {
                "type": ["integer", "null"], "minimum": _EARLIEST, "exclusiveMaximum": _LATEST,
                "description": "Nanoseconds since the epoch.",
            },
        },
        "required": ["event_name", "action", "actor"],
        "additionalProperties": False,
    }  # fmt: skip


def _party(kind: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": ["object", "null"], "properties": {"id": _TEXT, "type": kind}, "required": ["id"],
        "additionalProperties": False,
    }  # fmt: skip


def unchecked(event: AuditEvent, **changes: Any) -> AuditEvent:
    """Return a copy of `event` whose changes are not checked: for what has happened and must be written down.

    Args:
        event: An event that was checked.
        **changes: Fields and their values; attributes are copied in JSON's shapes.
    """
    made = object.__new__(AuditEvent)
    for name in AuditEvent.__match_args__:
        value = changes.get(name, getattr(event, name))
        if name == "reason":
            value = _optional(name, value or None, _LONGEST_REASON)
        object.__setattr__(made, name, value)
    made._freeze(made.attributes)
    return made
