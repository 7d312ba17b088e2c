"""Times and audits functions of the service by name, without a changed line of it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import wrapt

from mobius_otel import conventions
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.instrumentation.tasks import TaskWrapper
from mobius_otel.instrumentation.unseen import why_unseen
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, Target
from mobius_otel.telemetry.audit.blocks import wrap
from mobius_otel.telemetry.audit.event import Outcome
from mobius_otel.telemetry.audit.fail_modes import configured_mode
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.rules import check_name
from mobius_otel.telemetry.safety import guarded, swallow
from mobius_otel.web import current_principal
from mobius_otel.web.recorder import told_actor

__all__ = ["RISK_OF_A_CALL", "audit_function", "time_function"]

_log = logging.getLogger("mobius_otel")
#: What stands in a class for a function and is none itself.
_DESCRIPTORS = (staticmethod, classmethod, functools.partialmethod, functools.singledispatchmethod)
#: The risk score of an audited call.
RISK_OF_A_CALL = conventions.FUNCTION_CALLED.risk


def time_function(target: str, timer: str) -> None:
    """Record every call of a function in a timer, once its module is imported.

    Args:
        target: ``"package.module:name"``.
        timer: The name of the histogram, in seconds.

    Raises:
        ConfigurationError: The name breaks the rule.
    """
    check_name(timer)

    def around(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        timing = _timing(timer)
        if inspect.iscoroutinefunction(wrapped):

            async def timed() -> Any:
                with timing:
                    return await wrapped(*args, **kwargs)

            return timed()
        with timing:
            return wrapped(*args, **kwargs)

    _wrap_when_imported(target, around)


def _timing(timer: str) -> AbstractContextManager[object]:
    """Return what times a call; where the name is in use for something else, the call goes on untimed."""
    try:
        return defaults.emitter().timer(timer).time()
    except Exception as error:
        swallow("metrics", error)
        return nullcontext()


def audit_function(target: str, actor: str | None = None) -> None:
    """Write every call of a function into the audit trail, once its module is imported.

    The record is kept when the call has ended: of a coroutine when it returns, of a generator after its last item.
    With ``fail_mode = "strict"`` an ``unknown`` one is kept before it, and a call that cannot be recorded does not
    happen; a module that lacks the function is then not imported. Arguments are not recorded.

    Args:
        target: ``"package.module:name"``.
        actor: ``"module:function"`` that says who did it; None, or where it does not know: the owner of the key that
            the request came with.
    """

    def around(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        return wrap(wrapped, lambda *_, **__: _Call(target, actor))(*args, **kwargs)

    _wrap_when_imported(target, around, demanded=_is_strict)


def _is_strict() -> bool:
    return configured_mode(conventions.FUNCTION_CALLED.name, RISK_OF_A_CALL) == "strict"


class _Call:
    """One call that is being audited."""

    __slots__ = ("_actor", "_target")

    def __init__(self, target: str, actor: str | None) -> None:
        self._target = target
        self._actor = actor

    def __enter__(self) -> None:
        if _is_strict():
            self._record("unknown", None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended: Outcome = "success" if kind is None else "unknown" if kind is GeneratorExit else "failure"
        try:
            self._record(ended, kind)
        except AuditUnavailable as unkept:
            if kind is None:
                raise
            with guarded("audit"):  # the call's own error is the one to go on
                swallow("audit", unkept)

    def _record(self, outcome: Outcome, kind: type[BaseException] | None) -> None:
        attributes: dict[str, Any] = {conventions.CODE_FUNCTION: self._target.replace(":", ".")}
        if kind is not None:
            attributes[conventions.ERROR_TYPE] = kind.__qualname__
        record_event(
            conventions.FUNCTION_CALLED,
            actor=self._who(),
            outcome=outcome,
            target=Target(self._target, "function"),
            attributes=attributes,
            risk_score=RISK_OF_A_CALL,
            wait=True,
        )

    def _who(self) -> Actor:
        if found := told_actor(self._actor):
            return found
        key = current_principal()
        return Actor(key.owner, "service") if key is not None else Actor("service", "system")


def _wrap_when_imported(target: str, around: Callable[..., Any], demanded: Callable[[], bool] = lambda: False) -> None:
    module, _, name = target.partition(":")
    tasks = TaskWrapper(target, around)

    def hook(imported: Any) -> None:
        unseen = why_unseen(imported, name)
        try:
            found: Any = wrapt.resolve_path(imported, name)[2]
            if not callable(found) and not isinstance(found, _DESCRIPTORS):
                raise AttributeError
            if tasks.takes(found):
                return
            wrapt.wrap_function_wrapper(imported, name, around)
        except AttributeError:
            if demanded():  # what cannot be recorded must not happen
                rule = f"a function of {module}, as it is strictly to be audited"
                raise ConfigurationError("audit.functions", target, rule) from None
            _log.error("mobius_otel: the policy names %s, but the module has no such function", target)
            return
        if unseen:
            _log.warning(
                "mobius_otel: calls of %s may pass unseen: %s. What calls it by its name is seen; name a function that"
                " it calls, or its route in [audit] routes",
                target,
                unseen,
            )

    wrapt.register_post_import_hook(hook, module)
