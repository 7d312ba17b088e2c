"""The one guard that keeps telemetry from ever breaking its host.

In production an error of this package's telemetry is swallowed, counted (``mobius.internal.errors``) and
logged: the first of its kind at WARNING, later ones at DEBUG, so that a broken exporter is no flood.
Under tests (:func:`raise_errors`) it is raised.
"""

from __future__ import annotations

import inspect
import logging
import sqlite3
import threading
from types import TracebackType

from mobius_otel.errors import AuditUnavailable

__all__ = ["STRANGE", "count_error", "guarded", "of_handler", "raise_errors", "swallow"]

_log = logging.getLogger("mobius_otel")
#: What code of a stranger may raise that was called to be read: also what ends a process or a generator.
STRANGE = (Exception, SystemExit, GeneratorExit)
_QUOTES_NOTHING = (AuditUnavailable, sqlite3.OperationalError)
_seen: set[tuple[str, str]] = set()
_raising = False
_busy = threading.local()


def raise_errors(on: bool) -> bool:
    """Say whether internal errors are raised (in tests) or swallowed; return what was set before."""
    global _raising
    before, _raising = _raising, on
    return before


def swallow(component: str, error: BaseException) -> None:
    """Count and log `error` of `component`; raise it under tests.

    Args:
        component: Which part of the package, for example ``"redaction"``.
        error: What was caught. Its text is not logged, as it may quote what was being redacted, but for those whose
            texts quote nothing: why a ledger cannot be written. What a signal handler
            raised is raised again: it means the service, whose time is over, and not the code that it came upon.
    """
    if _raising or of_handler(error):
        raise error
    kind = type(error).__qualname__
    first = (component, kind) not in _seen
    if first and len(_seen) < 1000:
        _seen.add((component, kind))
    _log.log(
        logging.WARNING if first else logging.DEBUG,
        "mobius_otel: %s failed with %s; the service goes on with less telemetry"
        " (further failures of this kind are logged at DEBUG)",
        component,
        f"{kind}: {error}" if isinstance(error, _QUOTES_NOTHING) else kind,
    )
    count_error(component, kind)


def of_handler(error: BaseException) -> bool:
    """Return whether a handler of a signal raised `error`: it was given the very frame that it came upon.

    Args:
        error: What was caught.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        interrupted, trace = trace.tb_frame, trace.tb_next
        code = trace.tb_frame.f_code
        if code.co_argcount >= 2 or code.co_flags & inspect.CO_VARARGS:
            for value in trace.tb_frame.f_locals.values():
                if value is interrupted or (type(value) is tuple and value[1:2] == (interrupted,)):
                    return True
    return False


def count_error(component: str, kind: str) -> None:
    """Count an internal error in ``mobius.internal.errors``; never raises.

    Args:
        component: Which part of the package.
        kind: The class of the error, or a word for it.
    """
    if getattr(_busy, "counting", False):  # the counter itself is what fails
        return
    _busy.counting = True
    try:
        from mobius_otel import conventions
        from mobius_otel.telemetry import defaults

        defaults.counter(conventions.INTERNAL_ERRORS).add(
            1, {conventions.COMPONENT: component, conventions.ERROR_TYPE: kind}
        )
    except Exception:
        _log.debug("mobius_otel: the error could not be counted")
    finally:
        _busy.counting = False


class guarded:  # noqa: N801 - used as a statement: ``with guarded("audit"):``
    """Keep the errors of a block from the host.

    Args:
        component: Which part of the package the block belongs to.

    Example:
        >>> with guarded("metrics"):
        ...     pass
    """

    __slots__ = ("_component",)

    def __init__(self, component: str) -> None:
        self._component = component

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        swallow(self._component, error)
        return True
