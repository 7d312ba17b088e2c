"""The bridge from standard :mod:`logging`: a record with ``extra={"audit": …}`` becomes an audit event too."""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from mobius_otel.errors import InvalidEvent
from mobius_otel.telemetry.audit.catalogue import default_action
from mobius_otel.telemetry.audit.event import Actor, AuditEvent, Source, Target, unchecked
from mobius_otel.telemetry.audit.logger import AuditLogger
from mobius_otel.telemetry.audit.refusals import invalid
from mobius_otel.telemetry.safety import swallow

__all__ = ["AuditHandler", "bridge_logging", "unbridge_logging"]

_log = logging.getLogger("mobius_otel")
#: The attribute of a log record that holds an event, and the one that says it was recorded.
_EXTRA: Final = "audit"
_DONE: Final = "audit_record_id"
_FIELDS: Final = (
    "event_name", "actor", "action", "outcome", "target", "risk_score", "reason", "source", "tenant", "attributes",
    "timestamp",
)  # fmt: skip
_MOST_PLACES: Final = 1000
_complained: set[tuple[str, int]] = set()


class AuditHandler(logging.Handler):
    """Writes log records that carry an audit event into the audit trail; leaves all others alone.

    ``extra={"audit": …}`` is an :class:`AuditEvent`, or a dictionary of its fields: ``event_name`` and ``actor`` at
    least. Actor, target and source may be given by their ids. What is left out comes from the log record: the
    outcome is ``failure`` where it has an exception, the reason is its message. The logger's name becomes the scope.

    A record that is below its logger's level is never made, so it cannot be audited: where that matters, use
    :class:`AuditLogger`. An event that breaks a rule is recorded with what keeps the rules, the actor else ``unknown``,
    and says in ``mobius.audit.invalid`` which it breaks; that is reported, once for each place in the code. Only one
    whose name is none is not recorded.

    The log record gets the audit record's id as ``audit_record_id``, for formatters and handlers that come later.

    Args:
        audit: What writes the events; default: one by the name of the log record's logger.

    Example:
        >>> log = logging.getLogger("doc.shop")
        >>> log.addHandler(AuditHandler())
        >>> log.error("card declined", extra={"audit": {"event_name": "payment.refund", "actor": "u-1"}})
    """

    def __init__(self, audit: AuditLogger | None = None) -> None:
        super().__init__()
        self._audit = audit

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Record the event, without the handler's lock: the ledger has its own, and threads share a commit."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed  # type: ignore[no-any-return]

    def emit(self, record: logging.LogRecord) -> None:
        """Record the event that `record` carries.

        Raises:
            AuditUnavailable: It cannot be kept, as for :meth:`AuditLogger.emit`.
        """
        given = record.__dict__.get(_EXTRA)
        if given is None or record.__dict__.get(_DONE) is not None:
            return
        if not isinstance(given, AuditEvent | Mapping):  # somebody else's attribute of this name
            return
        broken: list[InvalidEvent] = []
        try:
            event = given if isinstance(given, AuditEvent) else _event(given, record, broken)
        except InvalidEvent as error:
            _complain(record, error, "not recorded")
            return
        except Exception as error:
            swallow("audit.logging", error)
            return
        raised = "" if isinstance(given, AuditEvent) else _raised(record)
        told = "; ".join(f"{error.field} must be {error.rule}" for error in broken)
        audit = self._audit or _audit_logger(record.name)
        record.__dict__[_DONE] = audit._emit(event, None, told, raised=raised).record_id
        if broken:
            _complain(record, broken[0], "recorded without what breaks a rule")


@functools.lru_cache(maxsize=1024)
def _audit_logger(name: str) -> AuditLogger:
    return AuditLogger(name)


def _complain(record: logging.LogRecord, error: InvalidEvent, what: str) -> None:
    """Say what is wrong, without the value: it may be a secret."""
    place = (record.pathname, record.lineno)
    if place not in _complained and len(_complained) < _MOST_PLACES:
        _complained.add(place)
        _log.error(
            "mobius_otel: the audit event of the log record at %s:%d was %s: %s must be %s (said once)",
            *place, what, error.field, error.rule,
        )  # fmt: skip
    swallow("audit.logging", error)


def _event(given: Mapping[str, Any], record: logging.LogRecord, broken: list[InvalidEvent]) -> AuditEvent:
    """Return the event; what breaks a rule is left out and told in `broken`: it may come from whoever knocks.

    Raises:
        InvalidEvent: It has no name that is one, which no visitor gives.
    """
    raised = _raised(record)
    # What stands where nothing is given, or what breaks a rule; of the others nothing does.
    instead = {"actor": Actor("unknown"), "outcome": "failure" if raised else "unknown", "reason": _message(record)}
    fields = {name: value for name, value in given.items() if name in _FIELDS}
    for name in given:
        if name not in _FIELDS:
            near = difflib.get_close_matches(str(name), _FIELDS, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            broken.append(invalid("audit", name, f"a dictionary of {', '.join(_FIELDS)}{meant}"))
    fields.setdefault("outcome", "failure" if raised else "success")
    fields.setdefault("reason", instead["reason"])
    for _ in _FIELDS:
        try:
            return _made(fields)
        except InvalidEvent as error:
            broken.append(error)
            name = error.field.partition(".")[0].partition("[")[0]
            if name == "event_name":
                raise
            if name == "attributes":
                return _with_any_attributes(fields)
            fields[name] = instead.get(name)
    raise broken[0]


def _made(fields: Mapping[str, Any]) -> AuditEvent:
    fields = dict(fields)
    for name, kind in (("actor", Actor), ("target", Target), ("source", Source)):
        if isinstance(fields.get(name), str):
            fields[name] = kind(fields[name])
        elif isinstance(fields.get(name), Mapping):
            fields[name] = _party(name, kind, fields[name])
    event_name = fields.pop("event_name", None)
    action = fields.pop("action", None) or default_action(event_name)
    return AuditEvent(event_name, action, fields.pop("actor", None), **fields)


def _with_any_attributes(fields: Mapping[str, Any]) -> AuditEvent:
    """Return the event with attributes that are not those it is registered with, or no mapping."""
    given, outcome = fields["attributes"], fields["outcome"]
    # What is required of a success is not looked at where nobody knows the outcome.
    event = _made({**fields, "attributes": {}, "outcome": "unknown"})
    return unchecked(event, outcome=outcome, attributes=given if isinstance(given, Mapping) else {"attributes": given})


def _raised(record: logging.LogRecord) -> str:
    """Return the class of the exception that it tells of."""
    raised = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    return "" if raised is None else raised.__qualname__


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit: logging reports that itself
        return str(record.msg)


def _party(name: str, kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    if set(given) - {"id", "type"} or "id" not in given:
        raise invalid(name, dict(given), "an id, or a dictionary of id and type")
    return kind(**given)


# --- without a changed line -------------------------------------------------------------------------------------

_handler: AuditHandler | None = None
_original: Callable[[logging.Logger, logging.LogRecord], None] | None = None


def bridge_logging(handler: AuditHandler | None = None) -> None:
    """Let every logger of the process reach the bridge, also those that do not propagate, whoever sets logging up.

    Args:
        handler: Default: a new one.
    """
    global _handler, _original
    _handler = handler or AuditHandler()
    if _original is not None:
        return
    original = _original = logging.Logger.callHandlers

    @functools.wraps(original)
    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if _EXTRA in record.__dict__ and _handler is not None:
            _handler.handle(record)
        original(self, record)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]


def unbridge_logging() -> None:
    """Take back what :func:`bridge_logging` did."""
    global _handler, _original
    _handler = None
    if _original is not None and getattr(logging.Logger.callHandlers, "__wrapped__", None) is _original:
        logging.Logger.callHandlers = _original  # type: ignore[method-assign, assignment]
        _original = None
