"""Redaction of what structlog prints.

:func:`redact_event` is a processor for ``structlog.configure(processors=[…])``; structlog itself is not imported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from mobius_otel.telemetry.redaction.hits import marker
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.redaction.tally import tally

__all__ = ["redact_event"]

#: What structlog hands from one of its processors to the next, for itself: it never prints them.
_ITS_OWN = frozenset({"_record", "_from_structlog", "_logger", "_name"})
_UNREADABLE = marker("unreadable")


def redact_event(logger: Any, method_name: str, event_dict: Any) -> Any:  # noqa: ARG001 - structlog's signature
    """Return what a structlog processor is given, without its secrets; never raises.

    Its place is the last one before the renderer, so that it sees what the others add. Earlier it does what would
    bring secrets back later: the arguments are put into the message, the exception is made a text. After the
    renderer it redacts the line.

    Args:
        logger: The wrapped logger; not used.
        method_name: The name of the method that was called; not used.
        event_dict: The event; or the line, after a renderer.

    Returns:
        The event without its secrets; the caller's own is not changed.

    Example:
        >>> redact_event(None, "info", {"event": "login token=abc", "password": "hunter2", "user": "ann"})
        {'event': 'login token=[redacted:token]', 'password': '[redacted:password]', 'user': 'ann'}
    """
    try:
        return _clean(event_dict, configured_redactor())
    except Exception:
        tally.add(["unreadable"], "logging")
        return {"event": _UNREADABLE} if isinstance(event_dict, Mapping) else _UNREADABLE


def _clean(given: Any, redactor: Redactor) -> Any:
    if isinstance(given, Mapping):
        return _event(dict(given), redactor)
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        positional, named = given  # what a renderer for the standard library makes
        return tuple(_clean(part, redactor) for part in positional), _event(dict(named), redactor)
    return redactor.redact(given, "logging").value


def _event(event: MutableMapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    own = {name: event.pop(name) for name in _ITS_OWN & event.keys()}
    arguments = event.pop("positional_args", None)
    if arguments and isinstance(event.get("event"), str):
        single = len(arguments) == 1 and isinstance(arguments[0], Mapping)
        event["event"] %= arguments[0] if single and arguments[0] else arguments
    exception = _exception(event.pop("exc_info", None))
    clean = dict(redactor.redact(event, "logging").value)
    if exception:
        text = redactor.text(exception, "logging")
        if "event" not in clean and isinstance(clean.get("msg"), str):
            clean["msg"] += f"\n{text}"  # arguments of the standard library, which knows no "exception"
        else:
            clean["exception"] = text
    extra = event.get("extra")
    if isinstance(extra, Mapping) and not _ITS_OWN.isdisjoint(extra):
        clean["extra"] = {**clean["extra"], **{name: extra[name] for name in _ITS_OWN & extra.keys()}}
    return {**clean, **own}


def _exception(told: Any) -> str | None:
    """Return the text of an exception in any of the forms that ``exc_info`` may have."""
    if not told:
        return None
    if isinstance(told, BaseException):
        told = (type(told), told, told.__traceback__)
    elif not isinstance(told, tuple):
        told = sys.exc_info()
    return logging.Formatter().formatException(told) if told[0] is not None else None
