"""The audit events that are known: this package's own, and those that a service registers."""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.refusals import invalid
from mobius_otel.telemetry.audit.risk import BANDS
from mobius_otel.telemetry.audit.vocabulary import OCSF_CLASSES, OWASP, is_type_uid

__all__ = [
    "ACTION",
    "ID_IN_NAME",
    "NAME",
    "EventType",
    "Shape",
    "default_action",
    "event_type",
    "known_events",
    "register_event",
]

#: What an attribute may be: a type, a list of the values it can have, or None: anything.
Shape = type | tuple[Any, ...] | None

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
ACTION: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
#: What makes a name one of many: a long number, a UUID, a hash.
ID_IN_NAME: Final = re.compile(
    r"[0-9]{6}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|(?<![0-9a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]{16}"
)
_LONGEST_NAME: Final = 128
_JSON_TYPES: Final = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", tuple: "array", dict: "object",
}  # fmt: skip
_WORDS: Final = {
    str: "a text", int: "a whole number", float: "a number", bool: "True or False", list: "a list", tuple: "a list",
    dict: "a dictionary",
}  # fmt: skip
_LONG_INTEGER = re.compile(r"-?[0-9]{16,}")  # as an integer that a double cannot hold is kept


@dataclass(frozen=True, slots=True)
class EventType:
    """What is known of all events of one name; made by :func:`register_event`.

    Args:
        name: The dotted event name.
        meaning: One sentence.
        action: The verb that its events have where none is given.
        risk: The risk score that they have where none is given; None: not rated.
        owasp: Its name in the OWASP Logging Vocabulary.
        ocsf: Its OCSF ``type_uid``.
        attributes: The attributes that its events may have; None: any.
        required: Those that an event of outcome ``success`` must have.
        own: Whether it is one of this package's.
    """

    name: str
    meaning: str = ""
    action: str = "EXECUTE"
    risk: int | None = None
    owasp: str | None = None
    ocsf: int | None = None
    attributes: Mapping[str, Shape] | None = None
    required: frozenset[str] = field(default_factory=frozenset)
    own: bool = False

    def check(self, attributes: Mapping[str, Any], outcome: str) -> None:
        """Check the attributes of an event.

        Raises:
            InvalidEvent: One is not known, is of another shape, or is missing.
        """
        if self.attributes is None or self.own:
            return
        for name, value in attributes.items():
            if name in self.attributes:
                if not _fits(self.attributes[name], value):
                    raise invalid(f"attributes[{name!r}]", value, self.shape_of(name))
            elif name not in conventions.ATTRIBUTES:
                raise invalid("attributes", name, self._known(str(name)))
        for name in sorted(self.required) if outcome == "success" else ():
            if attributes.get(name) is None:
                raise invalid(f"attributes[{name!r}]", None, f"given where a {self.name} succeeded")

    def shape_of(self, name: str) -> str:
        """Return in words what an attribute must be."""
        shape = (self.attributes or {}).get(name)
        if isinstance(shape, tuple):
            return f"one of {', '.join(map(str, shape))}"
        return "anything" if shape is None else _WORDS.get(shape, f"a {shape.__name__}")

    def _known(self, name: str) -> str:
        known = sorted(self.attributes or ())
        near = difflib.get_close_matches(name, known, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return f"one of those that {self.name} is registered with ({', '.join(known) or 'none'}){meant}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the attributes of its events."""
        if self.attributes is None:
            return {"type": "object"}
        return {
            "type": "object",
            "properties": {name: _schema_of(shape) for name, shape in self.attributes.items()},
            "required": sorted(self.required),
        }


_lock = threading.Lock()
_registered: dict[str, EventType] = {}
_own: Final[Mapping[str, EventType]] = MappingProxyType({
    event.name: EventType(
        event.name, event.meaning, event.action, event.risk, event.owasp, event.ocsf,
        MappingProxyType(dict.fromkeys(event.attributes)), own=True,
    )
    for event in conventions.EVENTS.values()
})  # fmt: skip


def register_event(
    name: str,
    *,
    attributes: Mapping[str, Any] | Iterable[str] | None = None,
    required: Iterable[str] = (),
    owasp: str | None = None,
    ocsf: int | None = None,
    risk: int | None = None,
    action: str = "EXECUTE",
    meaning: str = "",
) -> EventType:
    """Make an event name known: its events are checked, and carry the names that others know them by.

    Register at import, beside the code that records the event. ``mobius-otel audit events MODULE`` prints the
    catalogue.

    Args:
        name: The dotted event name, for example ``payment.refund``.
        attributes: The attributes that its events may have, beside those that OpenTelemetry and this package have
            names for: each with its type (``str``, ``int``, ``float``, ``bool``, ``list``, ``dict`` or a class),
            a list of its values, or None for anything. Names alone: anything each. None: any attributes.
        required: Those that an event of outcome ``success`` must have.
        owasp: The name in the OWASP Logging Vocabulary, for example ``sensitive_update``.
        ocsf: The OCSF ``type_uid``, for example 600303 (API Activity: Update).
        risk: The risk score where an event gives none, 0 to 100.
        action: The action where an event gives none.
        meaning: One sentence, for the catalogue.

    Returns:
        What is known of it now. The same registration twice does nothing.

    Raises:
        ConfigurationError: An argument breaks its rule, or the name is registered with something else.

    Example:
        >>> from mobius_otel import Actor, AuditEvent
        >>> _ = register_event(
        ...     "doc.payment.refund", attributes={"amount": float, "currency": ["EUR", "USD"]}, required=["amount"],
        ...     owasp="sensitive_update", ocsf=600303, risk=60, action="UPDATE", meaning="Money went back.",
        ... )
        >>> AuditEvent("doc.payment.refund", "UPDATE", Actor("u-1"), attributes={"amount": 5}).risk_score
        60
        >>> AuditEvent("doc.payment.refund", "UPDATE", Actor("u-1"), attributes={"amount": "5 EUR"})
        Traceback (most recent call last):
        mobius_otel.errors.InvalidEvent: AuditEvent.attributes['amount'] = '5 EUR': it must be a number.
    """
    shapes = _shapes(attributes)
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not NAME.fullmatch(name):
        raise ConfigurationError("name", name, 'a dotted name such as "payment.refund"')
    if ID_IN_NAME.search(name):
        raise ConfigurationError("name", name, "a name of few values", "An id belongs into the target.")
    if name in _own:
        raise ConfigurationError("name", name, "a name of your own: mobius_otel emits an event of this one")
    wanted = frozenset([required] if isinstance(required, str) else required)
    if wanted - (shapes or {}).keys():
        raise ConfigurationError("required", sorted(wanted), "among the attributes")
    _check_names(owasp, ocsf, risk, action)
    made = EventType(name, meaning, action, risk, owasp, ocsf, shapes, wanted)
    with _lock:
        if _registered.setdefault(name, made) != made:
            raise ConfigurationError("name", name, "registered once", "It is registered with something else already.")
    return _registered[name]


def event_type(name: str) -> EventType | None:
    """Return what is known of an event name, or None."""
    return _registered.get(name) or _own.get(name)


def default_action(event_name: object) -> str:
    """Return the action of an event that names none: as it is registered, else ``EXECUTE``."""
    known = event_type(event_name) if isinstance(event_name, str) else None
    return known.action if known is not None else "EXECUTE"


def known_events() -> list[EventType]:
    """Return every known event: this package's own, then the registered ones, each by name."""
    with _lock:
        registered = list(_registered.values())
    return [*sorted(_own.values(), key=_name), *sorted(registered, key=_name)]


def _name(known: EventType) -> str:
    return known.name


def _check_names(owasp: object, ocsf: object, risk: object, action: object) -> None:
    if owasp is not None and owasp not in OWASP:
        near = difflib.get_close_matches(str(owasp), OWASP, 1)
        hint = f"Did you mean {near[0]!r}?" if near else "For example: sensitive_update"
        raise ConfigurationError("owasp", owasp, "a name of the OWASP Logging Vocabulary, without arguments", hint)
    if ocsf is not None and not is_type_uid(ocsf):
        classes = ", ".join(f"{uid} {title}" for uid, (title, _) in OCSF_CLASSES.items())
        raise ConfigurationError(
            "ocsf", ocsf, "the type_uid (class * 100 + activity) of a class that an audit event can be", f"{classes}."
        )
    if risk is not None and (not isinstance(risk, int) or isinstance(risk, bool) or not 0 <= risk <= 100):
        scale = ", ".join(f"{band.name} from {band.lowest}" for band in BANDS)
        raise ConfigurationError("risk", risk, "a whole number from 0 to 100, or None", f"{scale}.")
    if not isinstance(action, str) or not ACTION.fullmatch(action):
        raise ConfigurationError("action", action, 'an upper-case verb such as "UPDATE"')


def _shapes(attributes: Mapping[str, Any] | Iterable[str] | None) -> Mapping[str, Shape] | None:
    if attributes is None:
        return None
    if isinstance(attributes, str):
        raise ConfigurationError("attributes", attributes, "names with their types, or a list of names")
    given = attributes if isinstance(attributes, Mapping) else dict.fromkeys(attributes)
    found: dict[str, Shape] = {}
    for name, shape in given.items():
        if not isinstance(name, str) or not name:
            raise ConfigurationError("attributes", name, "a name")
        if isinstance(shape, list | tuple | set | frozenset) and shape:
            found[name] = tuple(shape)
        elif shape is None or isinstance(shape, type):
            found[name] = shape
        else:
            raise ConfigurationError(f"attributes[{name!r}]", shape, "a type, a list of values, or None for anything")
    return MappingProxyType(found)


def _fits(shape: Shape, value: Any) -> bool:
    """Return whether a value has a shape; what JSON does not know may also come as the text it is kept as."""
    if shape is None or value is None:
        return True
    if isinstance(shape, tuple):
        return value in shape
    check = _CHECKS.get(shape)
    return check(value) if check else isinstance(value, (shape, str, int, float))


_CHECKS: Final[dict[type, Callable[[Any], bool]]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_long_integer(value),
    float: lambda value: (isinstance(value, int | float) and not isinstance(value, bool)) or _is_long_integer(value),
    str: lambda value: isinstance(value, str),
    list: lambda value: isinstance(value, list | tuple | set | frozenset),
    tuple: lambda value: isinstance(value, list | tuple | set | frozenset),
    dict: lambda value: isinstance(value, Mapping),
}


def _is_long_integer(value: Any) -> bool:
    return isinstance(value, str) and _LONG_INTEGER.fullmatch(value) is not None


def _schema_of(shape: Shape) -> dict[str, Any]:
    if shape is None:
        return {}
    if isinstance(shape, tuple):
        return {"enum": list(shape)}
    return {"type": _JSON_TYPES.get(shape, "string")}
