"""The guard: facts about a request in, a verdict out. No framework in it.

What it decides, in this order: who (the API key), whether (its scopes), how fast (the limits). It fails
closed: where it cannot say, nobody comes in.

Methods: HEAD is judged as GET; OPTIONS needs a key like any other, except for a CORS preflight, which a
browser sends without credentials (Fetch standard, 4.8) and which is counted by address, unless the policy says
otherwise; a websocket's handshake is judged as GET.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mobius_otel import conventions
from mobius_otel.errors import ApiKeyError, InsufficientScope, InvalidApiKey, KeyThrottled
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import annotate
from mobius_otel.web import problems
from mobius_otel.web.facts import Facts, Proxies
from mobius_otel.web.headers import SecurityHeaders
from mobius_otel.web.limits import Outcome, open_limits
from mobius_otel.web.paths import PathRules, RouteRules, forms
from mobius_otel.web.verdict import Verdict

if TYPE_CHECKING:
    from mobius_otel.policy import Policy
    from mobius_otel.security.api_keys import ApiKey, ApiKeyManager
    from mobius_otel.web.recorder import RouteRecorder

__all__ = ["Guard", "answer_headers", "current_guard", "install_guard"]

_log = logging.getLogger("mobius_otel")
# In place of a key of a request that sends the header twice, with one value or two: no key at all can be meant, and
# WSGI servers join them, so it is a wrong one.
_SENT_TWICE = "\0"


class Guard:
    """Judges requests by a policy.

    Args:
        policy: What is demanded.
        keys: Who verifies keys; needed when the policy demands any.
        recorder: Who writes audited routes down.

    Example:
        >>> from mobius_otel.policy import Policy
        >>> Guard(Policy()).judge(Facts("GET", "/")).result
        'passed'
    """

    def __init__(
        self, policy: Policy, keys: ApiKeyManager | None = None, recorder: RouteRecorder | None = None
    ) -> None:
        self.policy = policy
        self.recorder = recorder
        #: Whether it was put in front of an application.
        self.stands = False
        self.security_headers = SecurityHeaders(policy.headers.preset, policy.headers.override)
        self._keys = keys
        self._proxies = Proxies(policy.service.trusted_proxies)
        self._required = PathRules(policy.api_keys.require)
        # As written: a framework that tells cases apart has another handler under another case.
        self._public = PathRules(policy.api_keys.public, fold=False)
        self._scopes = RouteRules(policy.api_keys.scopes)
        self._limits = open_limits(policy)
        #: Whether judging may wait for a server or a disk: then :meth:`judge_async` keeps a loop free meanwhile.
        self.waits = self._limits.remote or (keys is not None and keys.run_on_loop is not None)
        self._audited = RouteRules(dict.fromkeys(policy.audit.routes, True))
        self._header = policy.api_keys.header.lower()
        self._preflights_pass = policy.api_keys.preflight == "pass"
        realm, shown_header = policy.service.name or "service", policy.api_keys.header
        self._realm = (realm, shown_header)
        self._missing = problems.missing_key(realm, shown_header)
        self._invalid = problems.invalid_key(realm, shown_header)
        self._unavailable = problems.unavailable()
        if policy.wants_keys and keys is None:
            raise ValueError("the policy demands API keys, so the guard needs a key manager")

    def judge(self, facts: Facts) -> Verdict:
        """Return the verdict on a request. Never raises: what goes wrong closes the door.

        Args:
            facts: The request.
        """
        verdict = Verdict("unavailable", facts, self._unavailable)
        try:
            path_forms, needed = self._look(facts, verdict)
            if needed is None or self._let_in(facts, needed, verdict):
                asked = self._asked(path_forms, verdict)
                self._limit(self._limits.decide(facts, *asked) if asked else None, verdict)
        except Exception as error:
            self._failed(error, verdict)
        return self._told(verdict)

    async def judge_async(self, facts: Facts) -> Verdict:
        """Judge as :meth:`judge` does, without blocking the loop while a server is asked for keys or limits.

        Args:
            facts: The request.
        """
        verdict = Verdict("unavailable", facts, self._unavailable)
        try:
            path_forms, needed = self._look(facts, verdict)
            if needed is None or await self._let_in_async(facts, needed, verdict):
                asked = self._asked(path_forms, verdict)
                self._limit(await self._limits.decide_async(facts, *asked) if asked else None, verdict)
        except Exception as error:
            self._failed(error, verdict)
        return self._told(verdict)

    def judge_again(self, facts: Facts, verdict: Verdict) -> None:
        """Judge a request that was let in and that has another path or method since then; write it into its verdict.

        A key is asked for where the new path demands what the old one did not; the limits are those of both, and none
        is charged twice.

        Args:
            facts: The request as it is now.
            verdict: What was said of it.
        """
        try:
            before, path_forms, needed = self._look_again(facts, verdict)
            if needed is None or self._let_in(facts, needed, verdict):
                asked = self._asked(path_forms, verdict)
                self._limit_again(self._limits.decide(facts, *asked, before) if asked else None, verdict)
        except Exception as error:
            self._failed(error, verdict)
        self._told_again(verdict)

    async def judge_again_async(self, facts: Facts, verdict: Verdict) -> None:
        """Judge as :meth:`judge_again` does, without blocking the loop."""
        try:
            before, path_forms, needed = self._look_again(facts, verdict)
            if needed is None or await self._let_in_async(facts, needed, verdict):
                asked = self._asked(path_forms, verdict)
                outcome = await self._limits.decide_async(facts, *asked, before) if asked else None
                self._limit_again(outcome, verdict)
        except Exception as error:
            self._failed(error, verdict)
        self._told_again(verdict)

    def _look_again(
        self, facts: Facts, verdict: Verdict
    ) -> tuple[tuple[tuple[str, ...], ApiKey | None], tuple[str, ...], frozenset[str] | None]:
        """Look at what a request has become; return by what it was charged, its forms, and what a key must hold now."""
        before = forms(verdict.facts.path, verdict.facts.root), verdict.key
        again = Verdict("unavailable", facts, self._unavailable)
        path_forms, needed = self._look(facts, again)
        had, verdict.facts, verdict.at_server = verdict.scopes, facts, False
        verdict.audited, verdict.pattern = verdict.audited or again.audited, again.pattern or verdict.pattern
        if needed is not None and had is not None and needed <= had:
            needed = None
        return before, path_forms, needed

    def _limit_again(self, outcome: Outcome | None, verdict: Verdict) -> None:
        if outcome is not None:
            self._limit(outcome, verdict)

    @staticmethod
    def _told_again(verdict: Verdict) -> None:
        verdict.attributes[conventions.GUARD_RESULT] = verdict.result
        annotate(verdict.attributes)

    def close(self) -> None:
        """Close the connections to the server that counts, where there is one."""
        self._limits.close()

    def _failed(self, error: Exception, verdict: Verdict) -> None:
        # A decision, not telemetry: it fails closed, and under tests too.
        _log.error("mobius_otel: the guard failed with %s and answers 503", type(error).__qualname__)
        verdict.result, verdict.problem = "unavailable", self._unavailable
        with guarded("guard"):
            defaults.counter(conventions.INTERNAL_ERRORS).add(
                1, {conventions.COMPONENT: "guard", conventions.ERROR_TYPE: type(error).__qualname__}
            )

    def _told(self, verdict: Verdict) -> Verdict:
        verdict.attributes[conventions.GUARD_RESULT] = verdict.result
        annotate(verdict.attributes)
        if verdict.problem is not None:
            self.count(verdict, None)
        return verdict

    def count(self, verdict: Verdict, route: str | None) -> None:
        """Count a verdict, once, when the route is known.

        Args:
            verdict: What was decided.
            route: The route as the framework declares it; None: the policy's pattern stands for it.
        """
        attributes = {conventions.GUARD_RESULT: verdict.result}
        if (shown := route or verdict.pattern) is not None:
            attributes[conventions.HTTP_ROUTE] = shown
        defaults.counter(conventions.GUARD_REQUESTS).add(1, attributes)

    def serves_metrics(self, facts: Facts) -> bool:
        """Return whether the request is for the metrics endpoint, written as the policy has it."""
        return facts.method in {"GET", "HEAD"} and facts.path.removeprefix(facts.root) == self.policy.metrics.path

    def _look(self, facts: Facts, verdict: Verdict) -> tuple[tuple[str, ...], frozenset[str] | None]:
        """Write into `verdict` what the request is; return its path's forms and what a key must hold (None: no key)."""
        path_forms = forms(facts.path, facts.root)
        verdict.client = self._proxies.client(facts)
        verdict.https = self._proxies.scheme(facts) in {"https", "wss"}
        if audited := self._audited.match(facts.method, path_forms):
            verdict.audited = verdict.pattern = audited[0][0]
        scoped = self._scopes.match(facts.method, path_forms)
        pattern = self._required.match(path_forms)
        if pattern is not None and self._public and self._public.match_all(forms(facts.path, facts.root, fold=False)):
            pattern = None
        verdict.pattern = verdict.pattern or (scoped[0][0] if scoped else pattern)
        if (pattern is not None or scoped) and not (self._preflights_pass and facts.is_preflight):
            verdict.scopes = frozenset(scope for _, scopes in scoped for scope in scopes)
        return path_forms, verdict.scopes

    def _asked(
        self, path_forms: tuple[str, ...], verdict: Verdict
    ) -> tuple[tuple[str, ...], str | None, ApiKey | None] | None:
        """Return what the limits are to be asked about, or None where nothing limits the request."""
        if self.serves_metrics(verdict.facts):
            return None  # a scrape is not a request of a client
        return path_forms, verdict.client, verdict.key

    def _let_in(self, facts: Facts, scopes: frozenset[str], verdict: Verdict) -> bool:
        """Ask for the key; return whether it opens, else leave the answer in `verdict`."""
        assert self._keys is not None
        secret = self._presented(facts)
        if secret is None:
            return self._has_no_key(verdict)
        try:
            return self._knows(self._keys.verify(secret, scopes=scopes, source=verdict.client), verdict)
        except ApiKeyError as error:
            return self._does_not_know(error, verdict)

    async def _let_in_async(self, facts: Facts, scopes: frozenset[str], verdict: Verdict) -> bool:
        assert self._keys is not None
        secret = self._presented(facts)
        if secret is None:
            return self._has_no_key(verdict)
        try:
            return self._knows(await self._keys.verify_async(secret, scopes=scopes, source=verdict.client), verdict)
        except ApiKeyError as error:
            return self._does_not_know(error, verdict)

    def _has_no_key(self, verdict: Verdict) -> bool:
        verdict.result, verdict.problem = "unauthenticated", self._missing
        return False

    @staticmethod
    def _knows(key: ApiKey, verdict: Verdict) -> bool:
        verdict.key = key
        verdict.attributes[conventions.API_KEY_ID] = key.id
        verdict.attributes[conventions.ENDUSER_PSEUDO_ID] = key.id
        return True

    def _does_not_know(self, error: ApiKeyError, verdict: Verdict) -> bool:
        if isinstance(error, InvalidApiKey):
            verdict.result, verdict.problem = "unauthenticated", self._invalid
        elif isinstance(error, InsufficientScope):
            verdict.result, verdict.problem = "forbidden", problems.forbidden(*self._realm, error.required)
        elif isinstance(error, KeyThrottled):
            verdict.result, verdict.problem = "limited", problems.throttled(error.retry_after)
        else:
            verdict.result, verdict.problem = "unavailable", self._unavailable
        return False

    def _presented(self, facts: Facts) -> str | None:
        """Return the key of a request, or None where it shows none. A query string is never looked at."""
        if named := facts.headers.get(self._header, ()):
            return (named[0].strip() or None) if len(named) == 1 else _SENT_TWICE
        values = [value.strip() for value in facts.headers.get("authorization", ())]
        bearers = [value[7:].strip() for value in values if value[:7].lower() == "bearer "]
        if not bearers:
            return None
        return (bearers[0] or None) if len(values) == 1 else _SENT_TWICE

    def _limit(self, outcome: Outcome | None, verdict: Verdict) -> None:
        """Write what the limits say into `verdict`."""
        verdict.result, verdict.problem = "passed", None
        if outcome is None:
            return
        verdict.headers = outcome.headers
        verdict.attributes[conventions.RATE_LIMIT_POLICY] = ",".join(outcome.policies)
        if outcome.remaining is not None:
            verdict.attributes[conventions.RATE_LIMIT_REMAINING] = outcome.remaining
        if outcome.denied is not None:
            verdict.result = "limited"
            verdict.problem = problems.limited(outcome.policies, outcome.denied.retry_after, outcome.headers)

    def __repr__(self) -> str:
        return f"Guard({self._required!r}, {self._limits!r})"


_installed: dict[str, Guard] = {}


def current_guard() -> Guard | None:
    """Return the guard that ``configure()`` or the command line put in front of this process's service."""
    return _installed.get("guard")


def install_guard(guard: Guard | None) -> None:
    """Make `guard` the one that middleware without a guard of its own uses; None: none."""
    if guard is None:
        _installed.clear()
    else:
        _installed["guard"] = guard


def answer_headers(
    guard: Guard, verdict: Verdict, present: Mapping[str, str], *, own: bool = False
) -> list[tuple[str, str]]:
    """Return the header fields to add to an answer: security headers and limits, where absent.

    Args:
        guard: The guard that judged.
        verdict: What it said.
        present: The answer's fields by lower-case name.
        own: Whether the answer is the guard's own.
    """
    html = present.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))
    added = guard.security_headers.missing(present, https=verdict.https, html=html)
    if not own:
        added += [pair for pair in verdict.headers if pair[0] not in present]
        if verdict.key is not None and "cache-control" not in present and guard.policy.headers.preset != "off":
            added.append(("cache-control", "no-store"))
    return added
