"""Redaction of the standard ``logging`` output of the process.

Access logs print query strings, tracebacks print arguments. :func:`cover_logging` covers handlers at class
level, so it reaches every handler of every logger, whoever made it and when, after its formatter has made the
line: message, arguments, exception and stack alike.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import logging.handlers
import sys
import traceback
from collections.abc import Callable
from typing import Any

from mobius_otel.telemetry.redaction.cover import Cover, RedactorGetter
from mobius_otel.telemetry.redaction.hits import marker
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.redaction.statement_logs import redacted_message

__all__ = ["RedactingFilter", "cover_logging", "uncover_logging"]

_UNREADABLE = marker("unreadable")
_PRINTS_ERRORS = logging.Handler.handleError
_cover = Cover()


def _redacted(line: Any, record: logging.LogRecord) -> Any:
    """Return a formatted line without its secrets; some handlers format to bytes or to a dictionary."""
    redactor = _cover.redactor()
    if type(line) is str:
        return redacted_message(record.name, line, lambda text: redactor.text(text, "logging"), record.getMessage)
    return redactor.redact(line, "logging").value


def _wrap_format(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def format_(self: Any, record: logging.LogRecord) -> Any:
        if _cover.getter is None:
            return original(self, record)
        try:
            return _redacted(original(self, record), record)
        except Exception as error:
            # The standard library would print the record as it is, with its arguments.
            place = f"{record.pathname}:{record.lineno}"
            return f"{_UNREADABLE} {record.levelname} {record.name} at {place}: {type(error).__name__}"

    return format_


def _without_contents(record: logging.LogRecord, redactor: Redactor) -> logging.LogRecord:
    """Return a copy of a record that holds what it says without secrets, and nothing live."""
    clean = copy.copy(record)
    try:
        clean.__dict__ = dict(redactor.redact(_fields(record), "logging").value)
        clean.exc_text = None
        if record.exc_info:
            clean.exc_text = redactor.text(logging.Formatter().formatException(record.exc_info), "logging")
        said = redacted_message(record.name, record.getMessage(), lambda text: redactor.text(text, "logging"))
        clean.msg = clean.message = said
    except Exception:
        clean.msg, clean.exc_text, clean.stack_info = _UNREADABLE, None, None
    clean.args, clean.exc_info = None, None
    return clean


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    left_out = {"msg", "args", "exc_info", "exc_text", "message"}
    return {name: value for name, value in record.__dict__.items() if name not in left_out}


class RedactingFilter(logging.Filter):
    """Takes the secrets out of log records, for a handler that one sets up by hand or by ``dictConfig``.

    Put it on handlers: a logger asks its filters for its own records alone, not for those of loggers below it.
    The record itself is changed, for every handler that comes after: its message is put together, its exception
    is text.

    Args:
        redactor: What redacts; None: the configured one.

    Example:
        >>> record = logging.makeLogRecord({"msg": "GET /v1?token=%s", "args": ("hunter2",)})
        >>> RedactingFilter().filter(record), record.getMessage()
        (True, 'GET /v1?token=[redacted:token]')
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record and let it pass."""
        record.__dict__ = _without_contents(record, self._redactor or configured_redactor()).__dict__
        return True


def _wrap_record(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what sends or prints a record without formatting it."""

    @functools.wraps(original)
    def with_record(self: Any, record: logging.LogRecord) -> Any:
        return original(self, record if _cover.getter is None else _without_contents(record, _cover.redactor()))

    return with_record


def _wrap_error(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what says that a record could not be written: it prints the error, and the one that was being handled."""
    own = original is not _PRINTS_ERRORS

    @functools.wraps(original)
    def handle_error(self: Any, record: logging.LogRecord) -> None:
        if _cover.getter is None:
            original(self, record)
        elif own:
            original(self, _without_contents(record, _cover.redactor()))
        elif logging.raiseExceptions and sys.stderr is not None:
            said = "".join(traceback.format_exception(sys.exception()))
            clean = _without_contents(record, _cover.redactor())
            place = f"Logged from file {record.filename}, line {record.lineno}\nMessage: {clean.msg!r}"
            text = f"--- Logging error ---\n{_cover.redactor().text(said, 'logging')}{place}\n"
            with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody is there to read it
                sys.stderr.write(text)

    return handle_error


def _wrap_emit(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what draws an exception by itself, with the values of its variables, and prints no formatted line."""

    @functools.wraps(original)
    def emit(self: Any, record: logging.LogRecord) -> Any:
        if _cover.getter is not None and record.exc_info and getattr(self, "rich_tracebacks", False):
            record = _without_contents(record, _cover.redactor())
        return original(self, record)

    return emit


def cover_logging(redactor_getter: RedactorGetter) -> None:
    """Redact every line that any ``logging`` handler of this process writes.

    A line that cannot be made becomes ``[redacted:unreadable]`` with its place in the code. Records that leave
    without being formatted (over a socket, over HTTP, as the error of a handler) are covered too, and a traceback
    that rich would draw is printed as redacted text. Not covered: another handler that reads ``record.msg`` or
    ``getMessage()`` itself, ``print``, and other logging libraries (for structlog there is ``redact_event``).

    Args:
        redactor_getter: Returns the redactor; asked at every line, so that a new policy holds at once.
    """
    _cover.put_on(
        redactor_getter,
        {
            (logging.Handler, "format"): _wrap_format,
            (logging.Handler, "handleError"): _wrap_error,
            (logging.Handler, "emit"): _wrap_emit,
            (logging.handlers.SocketHandler, "makePickle"): _wrap_record,
            (logging.handlers.HTTPHandler, "mapLogRecord"): _wrap_record,
        },
    )


def uncover_logging() -> None:
    """Take back what :func:`cover_logging` did."""
    _cover.take_off()
