"""What the record of a function's calls says: some of it the same for every call, some of it from the arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mobius_otel.errors import InvalidEvent
from mobius_otel.telemetry.audit.event import Actor, AuditEvent, Source, Target
from mobius_otel.telemetry.safety import swallow

__all__ = ["Call"]

#: Who it was where the function that should say so failed.
_NOBODY: Final = Actor("unknown")


@dataclass(frozen=True, slots=True)
class Call:
    """The event of a call; every field but the names is a value, or a function of the call's arguments.

    Args and Raises: as :class:`AuditEvent`; what is no function is checked at once.
    """

    event_name: str
    action: str
    actor: Actor | Callable[..., Actor | str]
    target: Target | Callable[..., Target | str | None] | None = None
    risk_score: int | None = None
    reason: str | None = None
    source: Source | Callable[..., Source | str | None] | None = None
    tenant: str | Callable[..., str | None] | None = None
    attributes: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        def fixed(value: Any, otherwise: Any = None) -> Any:
            return otherwise if callable(value) else value

        AuditEvent(
            self.event_name, self.action, fixed(self.actor, _NOBODY), "unknown", fixed(self.target), self.risk_score,
            self.reason, fixed(self.source), fixed(self.tenant), fixed(self.attributes) or {},
        )  # fmt: skip

    def event(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AuditEvent:
        """Return the event of a call with these arguments; never raises in production."""

        def told(value: Any, kind: Callable[[str], Any] = str) -> Any:
            """Ask, and make of an id what has one; an answer that cannot be had is none."""
            if not callable(value):
                return value
            try:
                answer = value(*args, **kwargs)
                return kind(answer) if isinstance(answer, str) else answer
            except Exception as error:
                swallow("audit.call", error)
                return None

        actor, target, source = told(self.actor, Actor), told(self.target, Target), told(self.source, Source)
        tenant, attributes = told(self.tenant), told(self.attributes)
        try:
            return AuditEvent(
                self.event_name, self.action, actor or _NOBODY, "unknown", target, self.risk_score, self.reason, source,
                tenant, attributes or {},
            )  # fmt: skip
        except InvalidEvent as error:
            swallow("audit.call", error)
        return AuditEvent(
            self.event_name, self.action, actor if isinstance(actor, Actor) else _NOBODY, "unknown",
            target if isinstance(target, Target) else None, self.risk_score, self.reason,
            source if isinstance(source, Source) else None,
        )  # fmt: skip
