"""A block, or a call of a function, that becomes one audit record at its end."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mobius_otel.errors import AuditUnavailable, InvalidEvent
from mobius_otel.telemetry.audit.aside import Aside, aside
from mobius_otel.telemetry.audit.event import AuditEvent, Outcome, Target, checked_risk, unchecked
from mobius_otel.telemetry.safety import guarded, swallow

if TYPE_CHECKING:
    from mobius_otel.telemetry.audit.ledger import Ledger
    from mobius_otel.telemetry.audit.logger import AuditLogger
    from mobius_otel.telemetry.audit.receipt import Receipt

__all__ = ["Audited", "wrap"]


class Audited:
    """A block that is being audited; made by :meth:`AuditLogger.audited`.

    What is learned inside the block goes into its record: ``attributes`` is a dictionary to add to, and
    ``risk_score``, ``target`` and ``reason`` can be set.

    Example:
        >>> from mobius_otel import Actor, AuditLogger, Target
        >>> with AuditLogger("shop").audited("order.place", actor=Actor("u-1")) as a:
        ...     a.target = Target("order-9", "order")
        ...     a.attributes["items"] = 3
        ...     a.set_risk(60)
        >>> a.receipt.durability
        'none'
    """

    __slots__ = ("_event", "_failed", "_logger", "_risk_score", "attributes", "reason", "receipt", "target")

    def __init__(self, logger: AuditLogger, event: AuditEvent) -> None:
        self._logger = logger
        self._event = event
        self._failed = False
        self._risk_score = event.risk_score
        self.attributes: dict[str, Any] = dict(event.attributes)
        self.target: Target | None = event.target
        self.reason: str | None = event.reason
        #: The receipt, after the block.
        self.receipt: Receipt | None = None

    @property
    def risk_score(self) -> int | None:
        """The risk that the record will have, 0 to 100.

        Raises:
            InvalidEvent: It is set to anything else.
        """
        return self._risk_score

    @risk_score.setter
    def risk_score(self, score: int | None) -> None:
        self._risk_score = checked_risk(score)

    def set_risk(self, score: int | None) -> None:
        """Set the risk that the record will have.

        Args:
            score: 0 (none) to 100 (critical); None: not rated.

        Raises:
            InvalidEvent: It is anything else.
        """
        self.risk_score = score

    def fail(self, reason: str | None = None) -> None:
        """Say that the block did not achieve what it was for, although nothing was raised.

        Args:
            reason: Why, in words.
        """
        self._failed = True
        self.reason = reason or self.reason

    def __enter__(self) -> Self:
        if self._logger.mode_of(self._event) == "strict":
            self._logger.emit(self._event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        broken: InvalidEvent | None = None
        try:
            try:
                event = self._ended(kind)
            except InvalidEvent as failed:  # what was done is done: its record is kept all the same
                broken = failed
                event = self._ended_anyhow(kind)
            self.receipt = self._logger._emit(
                event, None, f"{broken.field} must be {broken.rule}" if broken else "",
                raised="" if kind is None else kind.__qualname__,
            )  # fmt: skip
        except AuditUnavailable as failed:
            if kind is None:
                raise
            with guarded("audit"):  # the block's own error is the one to go on
                swallow("audit", failed)
        if broken is not None and kind is None:
            swallow("audit.event", broken)

    def _outcome(self, kind: type[BaseException] | None) -> Outcome:
        if kind is GeneratorExit:  # whoever read it did not want the rest
            return "unknown"
        return "failure" if self._failed or kind is not None else "success"

    def _ended(self, kind: type[BaseException] | None) -> AuditEvent:
        e = self._event
        return AuditEvent(
            e.event_name, e.action, e.actor, self._outcome(kind), self.target, self.risk_score, self.reason, e.source,
            e.tenant, self.attributes,
        )  # fmt: skip

    def _ended_anyhow(self, kind: type[BaseException] | None) -> AuditEvent:
        """Return the event although the block put into it what breaks a rule."""
        attributes = self.attributes if isinstance(self.attributes, dict) else {"attributes": self.attributes}
        return unchecked(
            self._event,
            outcome=self._outcome(kind),
            target=self.target if isinstance(self.target, Target) else self._event.target,
            risk_score=self.risk_score,
            reason=self.reason if isinstance(self.reason, str) else self._event.reason,
            attributes=attributes,
        )

    @property
    def ledger(self) -> Ledger | None:
        """The ledger that the record goes to."""
        return self._logger.ledger

    async def __aenter__(self) -> Self:
        await aside(self.__enter__, ledger=self.ledger)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await aside(self.__exit__, kind, error, traceback, ledger=self.ledger)

    def __repr__(self) -> str:
        return f"Audited({self._event.event_name!r})"


def wrap(function: Callable[..., Any], block: Callable[..., AbstractContextManager[Any]]) -> Callable[..., Any]:
    """Return `function` with every call of it inside a block.

    Args:
        function: A function, a coroutine function, or a generator function of either kind; the block of a
            generator is open from the first item to the last.
        block: Called with the arguments of each call; returns the block.
    """
    if inspect.iscoroutinefunction(function):

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            async with _aside(block(*args, **kwargs)):
                return await function(*args, **kwargs)

        return functools.wraps(function)(coroutine)
    if inspect.isasyncgenfunction(function):

        async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            async with _aside(block(*args, **kwargs)), aclosing(function(*args, **kwargs)) as items:
                async for item in items:
                    yield item

        return functools.wraps(function)(asynchronous_generator)
    if inspect.isgeneratorfunction(function):

        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with block(*args, **kwargs):
                return (yield from function(*args, **kwargs))

        return functools.wraps(function)(generator)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with block(*args, **kwargs):
            return function(*args, **kwargs)

    return functools.wraps(function)(wrapped)


def _aside(block: AbstractContextManager[Any]) -> Aside:
    return Aside(block, block.ledger if isinstance(block, Audited) else None)
