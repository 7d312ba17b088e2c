"""Writes down every answer of a route that the policy audits.

The record is committed before the first byte of the answer leaves, so that an answered request is in the
ledger whatever happens next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from mobius_otel import conventions
from mobius_otel.errors import AuditUnavailable
from mobius_otel.telemetry.audit import Actor, Source, Target
from mobius_otel.telemetry.audit.fail_modes import configured_mode
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.audit.vocabulary import ACTION_TYPES
from mobius_otel.telemetry.safety import guarded
from mobius_otel.web.verdict import Verdict

__all__ = ["RouteRecorder", "find_function", "told_actor"]

_ACTIONS = {"GET": "READ", "HEAD": "READ", "POST": "CREATE", "PUT": "UPDATE", "PATCH": "UPDATE", "DELETE": "DELETE"}
_RISK_OF_A_CHANGE = 40
#: What others call a request, by what it does.
_SPECS = {
    action: dataclasses.replace(
        conventions.HTTP_REQUEST, owasp=f"sensitive_{action.lower()}", ocsf=ACTION_TYPES[action]
    )
    for action in ("CREATE", "READ", "UPDATE", "DELETE")
}


def find_function(target: str) -> Callable[..., Any]:
    """Import what ``"package.module:name"`` names.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such name.
    """
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def told_actor(target: str | None) -> Actor | None:
    """Ask the service who acts now.

    Args:
        target: ``"module:function"`` that returns an ``Actor``, an id of a user, or None; None: nobody is asked.

    Returns:
        None where it does not know, or fails.
    """
    if target is not None:
        with guarded("audit.actor"):
            found = find_function(target)()
            return found if found is None or isinstance(found, Actor) else Actor(str(found), "user")
    return None


class RouteRecorder:
    """Records requests to audited routes.

    Where the fail mode of such a record is ``strict``, an ``unknown`` one is kept before the service acts, and a second
    one with the outcome after it; a request whose first record cannot be kept is refused.

    Args:
        actor: ``"module:function"`` that says who did it: an ``Actor``, an id, or None for the key's owner.
    """

    __slots__ = ("_actor",)

    def __init__(self, actor: str | None = None) -> None:
        self._actor = actor

    def before(self, verdict: Verdict) -> bool:
        """Keep the intent where that is demanded; return False where the service must not act."""
        if configured_mode(conventions.HTTP_REQUEST.name, _risk(_action(verdict))) != "strict":
            return True
        try:
            return self._record(verdict, None, None, None) is not None
        except AuditUnavailable:
            return False

    def after(self, verdict: Verdict, status: int, route: str | None, error_type: str | None = None) -> None:
        """Keep the outcome; an error of ours never changes the answer.

        Args:
            verdict: What the guard said.
            status: The HTTP status of the answer.
            route: The route as the framework declares it.
            error_type: The class of an exception that the service let through.
        """
        with guarded("audit"), contextlib.suppress(AuditUnavailable):  # it was counted; the intent is kept
            self._record(verdict, status, route, error_type)

    def _record(self, verdict: Verdict, status: int | None, route: str | None, error_type: str | None) -> Any:
        facts = verdict.facts
        action = _action(verdict)
        attributes: dict[str, Any] = {
            conventions.HTTP_METHOD: facts.method,
            conventions.HTTP_ROUTE: route or verdict.audited,
            conventions.URL_PATH: facts.path,
        }
        if status is not None:
            attributes[conventions.HTTP_STATUS] = status
        if error_type is not None:
            attributes[conventions.ERROR_TYPE] = error_type
        return record_event(
            _SPECS.get(action, conventions.HTTP_REQUEST),
            actor=self._who(verdict),
            action=action,
            outcome="unknown" if status is None else "success" if status < 400 else "failure",
            target=Target(f"{facts.method} {route or verdict.audited}", "route"),
            source=Source(verdict.client) if verdict.client else None,
            attributes=attributes,
            risk_score=_risk(action),
            wait=True,
        )

    def _who(self, verdict: Verdict) -> Actor:
        if found := told_actor(self._actor):
            return found
        if verdict.key is not None:
            return Actor(verdict.key.owner, "service")
        return Actor("anonymous", "user")

    def __repr__(self) -> str:
        return f"RouteRecorder(actor={self._actor!r})"


def _action(verdict: Verdict) -> str:
    return _ACTIONS.get(verdict.facts.method, "ACCESS")


def _risk(action: str) -> int:
    return conventions.HTTP_REQUEST.risk if action == "READ" else _RISK_OF_A_CHANGE
