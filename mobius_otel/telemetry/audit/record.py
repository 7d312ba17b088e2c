"""From an event to the record that is kept: redacted, with its id, ready to be chained."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber

from mobius_otel import conventions
from mobius_otel.telemetry.audit.catalogue import EventType, event_type
from mobius_otel.telemetry.audit.chain import new_record_id
from mobius_otel.telemetry.audit.event import AuditEvent, source_type
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.safety import swallow

__all__ = ["SEVERITIES", "AnyRedactor", "SeverityMode", "build"]

SeverityMode = Literal["risk", "omit"]
SEVERITIES: Final = ("risk", "omit")

_SCHEMA_VERSION: Final = "1"
_CANONICALIZATION: Final = "jcs"
#: What stands where a value could not be redacted.
_BLANK: Final = "[redacted]"
# A marker with a pseudonym in it: the same for the same actor.
_PSEUDONYM = re.compile(r"\[redacted:[a-z0-9_]+:[a-z0-9_]+\.[a-z2-7]{16}\]")
# A caller's attributes may come from a request; one with a name of ours is kept under this one, so that nobody can
# forge a field of the record, nor keep it from being written.
_ESCAPE: Final = "attribute."
_UNSEEN: Final = (
    r"[\s\0-\x1f\x7f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*"  # what a reader or a backend may leave out
)
_OURS: Final = re.compile(
    rf"{_UNSEEN}(?:(?:audit|mobius{_UNSEEN}\.{_UNSEEN}(?:audit|redaction)){_UNSEEN}\.|log{_UNSEEN}\.{_UNSEEN}record\.uid)",
    re.IGNORECASE,
)
# What backends that flatten mappings would make such names of.
_ROOTS: Final = re.compile(
    rf"{_UNSEEN}(?:audit|mobius(?:\.(?:audit|redaction))?|log(?:\.record)?){_UNSEEN}\Z", re.IGNORECASE
)
_FLATTENED: Final = (dict, list)
_LONGEST_KNOWN: Final = 128
_EVENT_NAME: Final = "event_name"
_SCOPE: Final = "scope"
#: Our texts; their places are the names that they have for the redactor.
_TEXTS: Final = (
    conventions.AUDIT_REASON, conventions.AUDIT_TENANT, conventions.AUDIT_SOURCE_ID, conventions.AUDIT_TARGET_TYPE,
    conventions.AUDIT_TARGET_ID, conventions.AUDIT_ACTION, conventions.AUDIT_ACTOR_ID, _EVENT_NAME, _SCOPE,
)  # fmt: skip
_SOURCE: Final = _TEXTS.index(conventions.AUDIT_SOURCE_ID)
_SEVERITY_TEXTS: Final = {number.value: number.name for number in SeverityNumber}


class Redaction(Protocol):
    """What a redaction returns."""

    @property
    def value(self) -> Any: ...

    @property
    def matches(self) -> tuple[Any, ...]: ...


class AnyRedactor(Protocol):
    """What takes secrets out of a record."""

    def redact(self, value: Any, location: str = ...) -> Redaction:
        """Return `value` without its secrets, and what was found."""
        ...


def build(
    event: AuditEvent,
    scope: str,
    redactor: AnyRedactor | None,
    spec: conventions.Event | EventType | None = None,
    *,
    severity: SeverityMode = "risk",
    invalid: str = "",
    error: str = "",
) -> dict[str, Any]:
    """Return the redacted record of `event`.

    Args:
        event: What happened.
        scope: The name of the logger.
        redactor: Takes the secrets out; None: the configured one. Should it fail, every text is blanked.
        spec: What names others know the event by; default: as it is registered.
        severity: ``risk``: from risk and outcome. ``omit``: none, as OpenTelemetry's draft for audit records has it.
        invalid: Which rule of its kind the event breaks, where it has to be kept all the same.
        error: The class of the exception that ended it.

    Returns:
        A record of JSON's shapes. Nanoseconds are texts, because a double cannot hold them.
    """
    now = time.time_ns()
    texts, user, count, kinds = _redacted(event, scope, redactor)
    timestamp = event.timestamp or now
    record: dict[str, Any] = {
        "event_name": texts.pop(_EVENT_NAME),
        "scope": texts.pop(_SCOPE),
        "timestamp": str(timestamp),
        "observed_timestamp": str(max(now, timestamp)),
    }
    if severity == "risk":
        number = event.severity_number
        record["severity_number"] = number
        record["severity_text"] = _SEVERITY_TEXTS[number]
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record["trace_id"] = f"{context.trace_id:032x}"
        record["span_id"] = f"{context.span_id:016x}"
        record["trace_flags"] = int(context.trace_flags)
    # The caller's first, then ours, what must be there last: where attributes are limited, OpenTelemetry's SDK drops
    # those that were set first.
    own = isinstance(spec, conventions.Event)
    attributes = _of_caller(user, _NOTHING if own else _said(event, error))
    _add_standard(attributes, texts, event.actor.type)
    if error:
        attributes[conventions.ERROR_TYPE] = error
    if count:
        attributes[conventions.REDACTION_COUNT] = count
        attributes[conventions.REDACTION_KINDS] = kinds
        used = redactor if redactor is not None else configured_redactor()
        if isinstance(used, Redactor):
            attributes[conventions.REDACTION_POLICY] = used.policy.version
    _add_known(attributes, spec or event_type(event.event_name))
    if invalid:
        attributes[conventions.AUDIT_INVALID] = invalid
    if event.risk_score is not None:
        attributes[conventions.AUDIT_RISK_SCORE] = event.risk_score
    if event.source is not None:
        attributes[conventions.AUDIT_SOURCE_TYPE] = event.source.type
    attributes.update(texts)
    attributes[conventions.AUDIT_ACTOR_TYPE] = event.actor.type
    attributes[conventions.AUDIT_OUTCOME] = event.outcome
    attributes[conventions.AUDIT_SCHEMA_VERSION] = _SCHEMA_VERSION
    attributes[conventions.AUDIT_CANONICALIZATION] = _CANONICALIZATION
    attributes[conventions.AUDIT_RECORD_ID] = new_record_id()
    record["attributes"] = attributes
    return record


def _said(event: AuditEvent, error: str) -> frozenset[str]:
    """Return the standard names that are the event's own to say: where it says them, a caller's count for nothing."""
    keeps_error = event.outcome == "failure" and not error
    return _SAID[event.source is not None, event.actor.type == "user", keeps_error]


_NOTHING: Final[frozenset[str]] = frozenset()
_SAID: Final = {
    (source, user, keeps_error): frozenset(
        (conventions.COUNT,)
        + ((conventions.CLIENT_ADDRESS,) if source else ())
        + ((conventions.USER_ID, conventions.ENDUSER_PSEUDO_ID) if user else ())
        + (() if keeps_error else (conventions.ERROR_TYPE,))
    )
    for source in (False, True)
    for user in (False, True)
    for keeps_error in (False, True)
}


def _of_caller(user: Mapping[str, Any], said: frozenset[str]) -> dict[str, Any]:
    """Return the caller's attributes, those with a name of ours under another one."""
    found: dict[str, Any] = {}
    for name, value in user.items():
        whose = _whose(name) if len(name) <= _LONGEST_KNOWN else _whose.__wrapped__(name)
        ours = whose is _OURS or name in said or (whose is _ROOTS and type(value) in _FLATTENED)
        found[_free(name, user, found) if ours else name] = value
    return found


# Names are few and come again and again: each is judged once.
@functools.lru_cache(maxsize=2048)
def _whose(name: str) -> re.Pattern[str] | None:
    return next((pattern for pattern in (_OURS, _ROOTS) if pattern.match(name)), None)


def _free(name: str, *taken: Mapping[str, Any]) -> str:
    name = _ESCAPE + name
    while any(name in names for names in taken):
        name = _ESCAPE + name
    return name


def _add_known(attributes: dict[str, Any], spec: conventions.Event | EventType | None) -> None:
    """Add the names that others know the event by."""
    if spec is not None and spec.owasp is not None:
        attributes[conventions.AUDIT_OWASP] = spec.owasp
    if spec is not None and spec.ocsf is not None:
        attributes[conventions.AUDIT_OCSF] = spec.ocsf


def _add_standard(attributes: dict[str, Any], texts: Mapping[str, str], actor_type: str) -> None:
    """Add what OpenTelemetry's semantic conventions call the source and the actor, as they were redacted."""
    if source := texts.get(conventions.AUDIT_SOURCE_ID):
        attributes.setdefault(conventions.CLIENT_ADDRESS, source)
    if actor_type == "user":
        actor = texts[conventions.AUDIT_ACTOR_ID]
        if "[redacted" not in actor:
            attributes.setdefault(conventions.USER_ID, actor)
        elif _PSEUDONYM.search(actor):
            attributes.setdefault(conventions.ENDUSER_PSEUDO_ID, actor)


def _redacted(
    event: AuditEvent, scope: str, redactor: AnyRedactor | None
) -> tuple[dict[str, str], Mapping[str, Any], int, list[str]]:
    """Redact our texts as bare values, whatever their names, and the caller's attributes with their names."""
    target, source = event.target, event.source
    # Where it came from is what an audit trail is for; as personal data it would be blanked.
    address = source is not None and (source.type != "hostname" or source_type(source.id) != "hostname")
    texts = (
        event.reason, event.tenant, None if source is None else source.id, None if target is None else target.type,
        None if target is None else target.id, event.action, event.actor.id, event.event_name, scope,
    )  # fmt: skip
    # By their places: a name must not tell here, and what a policy drops must not move the others. First, so that
    # a flood of attributes beyond the limits of the policy takes none of them.
    asked: dict[Any, Any] = {place: text for place, text in enumerate(texts) if text is not None}
    places = tuple(asked)
    if address:
        del asked[_SOURCE]
    try:
        if redactor is None:
            redactor = configured_redactor()
        asked.update(event.attributes)
        if event.tenant and isinstance(redactor, Redactor):
            result: Redaction = redactor.redact(asked, location="audit", tenant=event.tenant)
        else:
            result = redactor.redact(asked, location="audit")
        found = dict(result.value)
        clean = {_TEXTS[place]: str(found.pop(place, "")) for place in places}
        if address:
            clean[_TEXTS[_SOURCE]] = str(texts[_SOURCE])
        return clean, found, len(result.matches), sorted({str(match.kind) for match in result.matches})
    except Exception as error:
        swallow("audit.redaction", error)
        blank = dict.fromkeys((_TEXTS[place] for place in places), _BLANK)
        return blank, {"attributes": _BLANK}, len(places) + len(event.attributes), ["error"]
