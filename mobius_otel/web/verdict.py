"""What the guard says about one request, and what becomes of it on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mobius_otel.web.facts import Facts
from mobius_otel.web.problems import Problem

if TYPE_CHECKING:
    from mobius_otel.security.api_keys import ApiKey

__all__ = ["Verdict"]


@dataclass(slots=True)
class Verdict:
    """What the guard says about one request.

    Args:
        result: A value of ``mobius.guard.result``.
        problem: The guard's own answer; None: the request is let through.
        key: The key that it came with.
        headers: Header fields to add to the service's answer.
        attributes: What the server span shall say.
        pattern: The path pattern of the policy that the request fell under.
        client: The client's address.
        https: Whether the client came by TLS.
        audited: The pattern of the audited route, or None.
        facts: The request.
        completed: Whether the answer's head has what the guard adds.
        at_server: Whether it was judged as the server handed it over, before a framework has said where it is mounted.
        scopes: What its key was asked for; None: for no key was asked.
    """

    result: str
    facts: Facts
    problem: Problem | None = None
    key: ApiKey | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    pattern: str | None = None
    client: str | None = None
    https: bool = False
    audited: str | None = None
    completed: bool = False
    at_server: bool = False
    scopes: frozenset[str] | None = None

    def holds_for(self, method: str, path: str, root: str) -> bool:
        """Return whether nobody in between has made another request of the one that was judged.

        A prefix that a router has taken off for a mounted application makes none; one that is told for the first time
        does, where the request was judged before its framework saw it.
        """
        judged = self.facts
        return method == judged.method and path == judged.path and (root == judged.root or not self.at_server)
