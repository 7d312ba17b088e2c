"""The error about an audit event that breaks a rule: with the value, without its secrets."""

from __future__ import annotations

from mobius_otel.errors import InvalidEvent
from mobius_otel.telemetry.redaction.redactor import configured_redactor

__all__ = ["invalid"]


def invalid(field: str, value: object, rule: str) -> InvalidEvent:
    """Return the error.

    Args:
        field: The field of the event.
        value: What was given; an error may end in a log, so what is shown of it is redacted.
        rule: What is asked for, as the end of "it must be ...".

    Example:
        >>> print(invalid("risk_score", "password=hunter2", "a number"))
        AuditEvent.risk_score = 'password=[redacted:password]': it must be a number.
    """
    try:
        shown = configured_redactor().redact(value, "audit").value
    except Exception:
        shown = f"a {type(value).__name__}"
    return InvalidEvent(field, shown, rule)
