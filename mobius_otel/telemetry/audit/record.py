"""From an event to the record that is kept: redacted, with its id, ready to be chained."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber

from mobius_otel import conventions
from mobius_otel.telemetry.audit.catalogue import EventType, event_type
from mobius_otel.telemetry.audit.chain import Record, new_record_id
from mobius_otel.telemetry.audit.event import AuditEvent, source_type
from mobius_otel.telemetry.audit.risk import severity as severity_of
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
_MOST_KNOWN: Final = 2048
#: Places among our texts.
_TENANT: Final = 1
_SOURCE: Final = 2
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
    own = isinstance(spec, conventions.Event)
    texts, attributes, count, kinds = _redacted(event, scope, redactor, own=own)
    reason, tenant, address, target_type, target, action, actor, name, scope = texts
    observed = str(now)
    timestamp = event.timestamp
    record: dict[str, Any] = Record() if kinds is None and event._alike else {}
    record["event_name"] = name
    record["scope"] = scope
    record["timestamp"] = observed if timestamp is None else str(timestamp)
    record["observed_timestamp"] = observed if timestamp is None or timestamp < now else str(timestamp)
    if severity == "risk":
        number = severity_of(event.risk_score, event.outcome)
        record["severity_number"] = number
        record["severity_text"] = _SEVERITY_TEXTS[number]
    span = trace.get_current_span()
    if span is not trace.INVALID_SPAN and (context := span.get_span_context()).is_valid:
        record["trace_id"] = f"{context.trace_id:032x}"
        record["span_id"] = f"{context.span_id:016x}"
        record["trace_flags"] = int(context.trace_flags)
    # The caller's first, then ours, what must be there last: where attributes are limited, OpenTelemetry's SDK drops
    # those that were set first.
    if not _HARMLESS.issuperset(attributes):
        attributes = _of_caller(attributes, _NOTHING if own else _said(event, error))
    actor_type = event.actor.type
    _add_standard(attributes, address, actor, actor_type)
    if error:
        attributes[conventions.ERROR_TYPE] = error
    if count:
        attributes[conventions.REDACTION_COUNT] = count
        attributes[conventions.REDACTION_KINDS] = kinds
        used = redactor if redactor is not None else configured_redactor()
        if isinstance(used, Redactor):
            attributes[conventions.REDACTION_POLICY] = used.policy.version
    if (spec := spec or event_type(event.event_name)) is not None:
        _add_known(attributes, spec)
    if invalid:
        attributes[conventions.AUDIT_INVALID] = invalid
    if event.risk_score is not None:
        attributes[conventions.AUDIT_RISK_SCORE] = event.risk_score
    if event.source is not None:
        attributes[conventions.AUDIT_SOURCE_TYPE] = event.source.type
    if reason is not None:
        attributes[conventions.AUDIT_REASON] = reason
    if tenant is not None:
        attributes[conventions.AUDIT_TENANT] = tenant
    if address is not None:
        attributes[conventions.AUDIT_SOURCE_ID] = address
    if target_type is not None:
        attributes[conventions.AUDIT_TARGET_TYPE] = target_type
    if target is not None:
        attributes[conventions.AUDIT_TARGET_ID] = target
    attributes[conventions.AUDIT_ACTION] = action
    attributes[conventions.AUDIT_ACTOR_ID] = actor
    attributes[conventions.AUDIT_ACTOR_TYPE] = actor_type
    attributes[conventions.AUDIT_OUTCOME] = event.outcome
    attributes[conventions.AUDIT_SCHEMA_VERSION] = _SCHEMA_VERSION
    attributes[conventions.AUDIT_CANONICALIZATION] = _CANONICALIZATION
    attributes[conventions.AUDIT_RECORD_ID] = new_record_id(now)
    record["attributes"] = attributes
    return record


def _said(event: AuditEvent, error: str) -> frozenset[str]:
    """Return the standard names that are the event's own to say: where it says them, a caller's count for nothing."""
    keeps_error = event.outcome == "failure" and not error
    return _SAID[event.source is not None, event.actor.type == "user", keeps_error]


_NOTHING: Final[frozenset[str]] = frozenset()
_EVER_SAID: Final = {
    conventions.COUNT, conventions.CLIENT_ADDRESS, conventions.USER_ID, conventions.ENDUSER_PSEUDO_ID,
    conventions.ERROR_TYPE,
}  # fmt: skip
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


def _of_caller(user: dict[str, Any], said: frozenset[str]) -> dict[str, Any]:
    """Return the caller's attributes, those with a name of ours under another one."""
    found: dict[str, Any] = {}
    for name, value in user.items():
        whose = None if name in _HARMLESS else _whose(name)
        ours = whose is _OURS or name in said or (whose is _ROOTS and type(value) in _FLATTENED)
        found[_free(name, user, found) if ours else name] = value
        if whose is None and name not in _EVER_SAID and len(name) <= _LONGEST_KNOWN:
            if len(_HARMLESS) >= _MOST_KNOWN:
                _HARMLESS.clear()
            _HARMLESS.add(name)
    return found


def _whose(name: str) -> re.Pattern[str] | None:
    return next((pattern for pattern in (_OURS, _ROOTS) if pattern.match(name)), None)


#: Names that are none of ours, whatever the event says. They are few and come again and again: each is judged once.
_HARMLESS: Final[set[str]] = set()


def _free(name: str, *taken: dict[str, Any]) -> str:
    name = _ESCAPE + name
    while any(name in names for names in taken):
        name = _ESCAPE + name
    return name


def _add_known(attributes: dict[str, Any], spec: conventions.Event | EventType) -> None:
    """Add the names that others know the event by."""
    if spec.owasp is not None:
        attributes[conventions.AUDIT_OWASP] = spec.owasp
    if spec.ocsf is not None:
        attributes[conventions.AUDIT_OCSF] = spec.ocsf


def _add_standard(attributes: dict[str, Any], source: str | None, actor: str, actor_type: str) -> None:
    """Add what OpenTelemetry's semantic conventions call the source and the actor, as they were redacted."""
    if source:
        attributes.setdefault(conventions.CLIENT_ADDRESS, source)
    if actor_type == "user":
        if "[redacted" not in actor:
            attributes.setdefault(conventions.USER_ID, actor)
        elif _PSEUDONYM.search(actor):
            attributes.setdefault(conventions.ENDUSER_PSEUDO_ID, actor)


def _redacted(
    event: AuditEvent, scope: str, redactor: AnyRedactor | None, *, own: bool
) -> tuple[Sequence[Any], dict[str, Any], int, list[str] | None]:
    """Redact our texts as bare values, whatever their names, and the caller's attributes with their names.

    Returns:
        The texts, in the order of :func:`build`, and the attributes, without what was found, how much that is, and of
        which kinds; None: all of it is as it was.
    """
    source, target, name, action, actor = event.source, event.target, event.event_name, event.action, event.actor.id
    reason, tenant = event.reason, event.tenant
    address = target_type = target_id = None
    public = False
    if source is not None:
        # Where it came from is what an audit trail is for; as personal data it would be blanked.
        address = source.id
        public = source.type != "hostname" or source_type(address) != "hostname"
    if target is not None:
        target_type, target_id = target.type, target.id
    texts = (reason, tenant, address, target_type, target_id, action, actor, name, scope)
    try:
        if redactor is None:
            redactor = configured_redactor()
        if not own and type(redactor) is Redactor:  # somebody's own decides on names itself
            redactor = redactor.for_others
        user = event.attributes.copy()  # type: ignore[attr-defined] # a mapping proxy's
        if type(redactor) is Redactor and type(scope) is str and redactor.is_clean(
            user,
            (
                reason or name, tenant or name, name if public else address or name, target_type or name,
                target_id or name, action, actor, name, scope,
            ),
        ):  # fmt: skip
            return texts, user, 0, None
        return _taken_out(texts, user, redactor, public)
    except Exception as error:
        swallow("audit.redaction", error)
        found = [None if text is None else _BLANK for text in texts]
        count = len(found) - found.count(None) + len(event.attributes)
        return found, {"attributes": _BLANK}, count, ["error"]


def _taken_out(
    texts: tuple[Any, ...], user: dict[str, Any], redactor: AnyRedactor, public: bool
) -> tuple[list[Any], dict[str, Any], int, list[str]]:
    """Do so where it does not show at once that there is no secret.

    Args:
        texts: Our texts.
        user: The caller's attributes.
        redactor: Takes the secrets out.
        public: Whether the source is kept as it is.
    """
    # By their places: a name must not tell here, and what a policy drops must not move the others. First, so that
    # a flood of attributes beyond the limits of the policy takes none of them.
    asked: dict[Any, Any] = {place: text for place, text in enumerate(texts) if text is not None}
    if public:
        del asked[_SOURCE]
    places = tuple(asked)
    asked.update(user)
    tenant = texts[_TENANT]
    if tenant and isinstance(redactor, Redactor):
        result: Redaction = redactor.redact(asked, location="audit", tenant=tenant)
    else:
        result = redactor.redact(asked, location="audit")
    found, clean = dict(result.value), [*texts]
    for place in places:
        clean[place] = str(found.pop(place, ""))
    if public:
        clean[_SOURCE] = str(texts[_SOURCE])
    return clean, found, len(result.matches), sorted({str(match.kind) for match in result.matches})
