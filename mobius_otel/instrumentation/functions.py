"""Times and audits functions of the service by name, without a changed line of it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import wrapt

from mobius_otel import conventions
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, Target
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.web import current_principal

__all__ = ["audit_function", "time_function"]

_log = logging.getLogger("mobius_otel")
_RISK_OF_A_CALL = 40


def time_function(target: str, timer: str) -> None:
    """Record every call of a function in a timer, once its module is imported.

    Args:
        target: ``"package.module:name"``.
        timer: The name of the histogram, in seconds.
    """

    def around(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        timing = defaults.emitter().timer(timer).time()
        if inspect.iscoroutinefunction(wrapped):

            async def timed() -> Any:
                with timing:
                    return await wrapped(*args, **kwargs)

            return timed()
        with timing:
            return wrapped(*args, **kwargs)

    _wrap_when_imported(target, around)


def audit_function(target: str) -> None:
    """Write every call of a function into the audit trail, once its module is imported.

    The record is kept when the call has ended; with ``fail_mode = "strict"`` an ``unknown`` one is kept
    before it, and a call that cannot be recorded does not happen. Arguments are not recorded.

    Args:
        target: ``"package.module:name"``.
    """

    def around(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        if defaults.slot().fail_mode == "strict":
            _record(target, "unknown", None)
        if inspect.iscoroutinefunction(wrapped):
            return _audited(target, wrapped(*args, **kwargs))
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            _record(target, "failure", error)
            raise
        _record(target, "success", None)
        return result

    _wrap_when_imported(target, around)


async def _audited(target: str, coroutine: Any) -> Any:
    try:
        result = await coroutine
    except BaseException as error:
        _record(target, "failure", error)
        raise
    _record(target, "success", None)
    return result


def _record(target: str, outcome: str, error: BaseException | None) -> None:
    key = current_principal()
    attributes: dict[str, Any] = {conventions.CODE_FUNCTION: target.replace(":", ".")}
    if error is not None:
        attributes[conventions.ERROR_TYPE] = type(error).__qualname__
    record_event(
        conventions.FUNCTION_CALLED,
        actor=Actor(key.owner, "service") if key is not None else Actor("service", "system"),
        outcome=outcome,  # type: ignore[arg-type]
        target=Target(target, "function"),
        attributes=attributes,
        risk_score=_RISK_OF_A_CALL,
    )


def _wrap_when_imported(target: str, around: Callable[..., Any]) -> None:
    module, _, name = target.partition(":")

    def hook(imported: Any) -> None:
        try:
            wrapt.wrap_function_wrapper(imported, name, around)
        except AttributeError:
            _log.error("mobius_otel: the policy names %s, but the module has no such function", target)

    wrapt.register_post_import_hook(hook, module)
