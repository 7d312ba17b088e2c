"""From an event to the record that is kept: redacted, with its id, ready to be chained."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber

from mobius_otel import conventions
from mobius_otel.telemetry.audit.catalogue import EventType, event_type
from mobius_otel.telemetry.audit.chain import new_record_id
from mobius_otel.telemetry.audit.event import AuditEvent
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
_OURS: Final = ("audit.", "mobius.audit.", "mobius.redaction.", conventions.LOG_RECORD_UID)


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
) -> dict[str, Any]:
    """Return the redacted record of `event`.

    Args:
        event: What happened.
        scope: The name of the logger.
        redactor: Takes the secrets out; None: the configured one. Should it fail, every text is blanked.
        spec: What names others know the event by; default: as it is registered.
        severity: ``risk``: from risk and outcome. ``omit``: none, as OpenTelemetry's draft for audit records has it.
        invalid: Which rule of its kind the event breaks, where it has to be kept all the same.

    Returns:
        A record of JSON's shapes. Nanoseconds are texts, because a double cannot hold them.
    """
    now = time.time_ns()
    spec = spec or event_type(event.event_name)
    texts = {"event_name": event.event_name, "scope": scope, **_texts(event)}
    texts, user, count, kinds = _redacted(texts, dict(event.attributes), redactor)
    record: dict[str, Any] = {
        "event_name": texts.pop("event_name"),
        "scope": texts.pop("scope"),
        "timestamp": str(event.timestamp or now),
        "observed_timestamp": str(max(now, event.timestamp or now)),
    }
    if severity == "risk":
        record["severity_number"] = event.severity_number
        record["severity_text"] = SeverityNumber(event.severity_number).name
    record.update(_trace_context())
    # The caller's first, then ours, what must be there last: where attributes are limited, OpenTelemetry's SDK drops
    # those that were set first.
    attributes = {_escaped(name): value for name, value in user.items()}
    for name, value in _standard(texts).items():
        attributes.setdefault(name, value)
    if count:
        attributes[conventions.REDACTION_COUNT] = count
        attributes[conventions.REDACTION_KINDS] = kinds
        used = redactor if redactor is not None else configured_redactor()
        if isinstance(used, Redactor):
            attributes[conventions.REDACTION_POLICY] = used.policy.version
    if spec is not None and spec.owasp is not None:
        attributes[conventions.AUDIT_OWASP] = spec.owasp
    if spec is not None and spec.ocsf is not None:
        attributes[conventions.AUDIT_OCSF] = spec.ocsf
    if invalid:
        attributes[conventions.AUDIT_INVALID] = invalid
    if event.risk_score is not None:
        attributes[conventions.AUDIT_RISK_SCORE] = event.risk_score
    attributes.update(texts)
    attributes[conventions.AUDIT_OUTCOME] = event.outcome
    attributes[conventions.AUDIT_SCHEMA_VERSION] = _SCHEMA_VERSION
    attributes[conventions.AUDIT_CANONICALIZATION] = _CANONICALIZATION
    attributes[conventions.AUDIT_RECORD_ID] = new_record_id()
    record["attributes"] = attributes
    return record


def _standard(texts: Mapping[str, str]) -> dict[str, str]:
    """Return what OpenTelemetry's semantic conventions call the source and the actor, as they were redacted."""
    found = {}
    if source := texts.get(conventions.AUDIT_SOURCE_ID):
        found[conventions.CLIENT_ADDRESS] = source
    if texts.get(conventions.AUDIT_ACTOR_TYPE) == "user":
        actor = texts[conventions.AUDIT_ACTOR_ID]
        if _PSEUDONYM.search(actor):
            found[conventions.ENDUSER_PSEUDO_ID] = actor
        elif "[redacted" not in actor:
            found[conventions.USER_ID] = actor
    return found


def _texts(event: AuditEvent) -> dict[str, Any]:
    target, source = event.target, event.source
    texts = {
        conventions.AUDIT_REASON: event.reason,
        conventions.AUDIT_TENANT: event.tenant,
        conventions.AUDIT_SOURCE_TYPE: source and source.type,
        conventions.AUDIT_SOURCE_ID: source and source.id,
        conventions.AUDIT_TARGET_TYPE: target and target.type,
        conventions.AUDIT_TARGET_ID: target and target.id,
        conventions.AUDIT_ACTION: event.action,
        conventions.AUDIT_ACTOR_TYPE: event.actor.type,
        conventions.AUDIT_ACTOR_ID: event.actor.id,
    }
    return {name: value for name, value in texts.items() if value is not None}


def _redacted(
    texts: dict[str, Any], user: dict[str, Any], redactor: AnyRedactor | None
) -> tuple[dict[str, Any], dict[str, Any], int, list[str]]:
    """Redact our texts as bare values, whatever their names, and the caller's attributes with their names."""
    try:
        redactor = redactor or configured_redactor()
        # Where it came from is what an audit trail is for; as personal data it would be blanked.
        kept = {name: str(v) for name, v in texts.items() if name == conventions.AUDIT_SOURCE_ID and _is_address(v)}
        asked = [name for name in texts if name not in kept]
        # By their numbers: a name must not tell here, and what a policy drops must not move the others.
        tenant = {"tenant": event_tenant} if (event_tenant := _tenant(texts)) and isinstance(redactor, Redactor) else {}
        ours = redactor.redact({n: texts[name] for n, name in enumerate(asked)}, location="audit", **tenant)
        theirs = redactor.redact(user, location="audit", **tenant)
        found = {name: str(ours.value.get(number, "")) for number, name in enumerate(asked)} | kept
        clean = {name: found[name] for name in texts}  # in their order
        matches = (*ours.matches, *theirs.matches)
        return clean, dict(theirs.value), len(matches), sorted({str(match.kind) for match in matches})
    except Exception as error:
        swallow("audit.redaction", error)
        blank = dict.fromkeys(texts, _BLANK)
        return blank, dict.fromkeys(("attributes",), _BLANK), len(texts) + len(user), ["error"]


def _tenant(texts: Mapping[str, Any]) -> str:
    return str(texts.get(conventions.AUDIT_TENANT) or "")


def _is_address(value: Any) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return isinstance(value, str)


def _escaped(name: str) -> str:
    return _ESCAPE + name if name.startswith(_OURS) else name


def _trace_context() -> Mapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "trace_flags": int(context.trace_flags),
    }
