"""The limits of the policy, applied to a request; and what the client is told about them.

Header fields: those of draft-ietf-httpapi-ratelimit-headers, in the version that the policy names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from mobius_otel.errors import ConfigurationError
from mobius_otel.policy import Policy, RateLimitRule, RateLimitSection
from mobius_otel.security.rate_limit import Decision, RateLimit, RateLimiter
from mobius_otel.security.rate_limit.backends import Backend, MemoryBackend
from mobius_otel.security.rate_limit.backends.opening import open_backend
from mobius_otel.security.rate_limit.headers import FIRST_NAMED, Draft, policy_items
from mobius_otel.web.facts import Facts
from mobius_otel.web.paths import PathRules

if TYPE_CHECKING:
    from mobius_otel.security.api_keys import ApiKey

__all__ = ["OWN_RULE", "LimitRule", "Limits", "Outcome", "open_limits", "open_server"]

Headers = tuple[tuple[str, str], ...]
Charged = tuple[tuple[str, ...], "ApiKey | None"]
#: What the limits of a key itself are called, in telemetry and in the headers.
OWN_RULE = "key"
_MOST_OWN = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the limits say about one request.

    Args:
        denied: The decision that refused it, or None.
        headers: What the client is told; empty where no rule holds.
        policies: The names of the rules that were asked.
        remaining: Units left of the tightest of them.
    """

    denied: Decision | None
    headers: Headers = ()
    policies: tuple[str, ...] = ()
    remaining: int | None = None


class LimitRule:
    """One rule of the policy with its limiter.

    Args:
        rule: The rule.
        section: What holds for all of them.
        backend: Where hits are counted.
    """

    __slots__ = ("_draft", "_legacy", "_paths", "by", "limiter", "name", "shadow", "stated")

    def __init__(self, rule: RateLimitRule, section: RateLimitSection, backend: Backend) -> None:
        limits = [RateLimit.parse(text) for text in rule.limit]
        self.name = rule.name
        self.by = rule.by
        self.shadow = rule.mode == "shadow"
        self.limiter = RateLimiter(
            limits,
            name=rule.name,
            mode=rule.mode,
            backend=backend,
            on_backend_error=section.on_backend_error,
            local_share=section.local_share,
            lease=section.lease or 0.0,
            algorithm=rule.algorithm,
            max_keys=rule.max_keys,
        )
        self._paths = PathRules(rule.paths)
        self.stated = policy_items(rule.name, tuple(limits))
        self._draft: Draft = 0 if section.draft == "off" else cast(Draft, int(section.draft))
        self._legacy = section.legacy_headers

    def match(self, path_forms: Iterable[str]) -> str | None:
        """Return the pattern that makes this rule hold for a path, or None."""
        return self._paths.match(path_forms)

    def fields(self, decision: Decision, asked: Iterable[LimitRule]) -> Headers:
        """Return the header fields of a decision of this rule, the tightest of those that were asked."""
        fields = decision.headers(self._draft, legacy=self._legacy)
        fields.pop("Retry-After", None)  # a refusal has it anyway
        if self._draft >= FIRST_NAMED:
            fields["RateLimit-Policy"] = ", ".join(rule.stated for rule in asked)
        return tuple((name.lower(), value) for name, value in fields.items())

    def subject(self, facts: Facts, pattern: str, client: str | None, lineage: str | None) -> str:
        """Return what the rule counts by, for this request."""
        if self.by == "api_key" and lineage is not None:
            return f"key:{lineage}"
        if self.by == "route":
            return f"route:{facts.method} {pattern}"
        if self.by == "global":
            return "global"
        if self.by.startswith("header:") and (value := facts.header(self.by[7:].lower())) is not None:
            return f"header:{value[:256]}"
        return f"address:{client}"


class Limits:
    """Every limit of the policy, and those that keys have of their own.

    Args:
        section: The rules, in the order of the policy, and what holds for all of them.
        backend: Where they count.

    Attributes:
        remote: Whether a server is asked, which takes time.
    """

    __slots__ = ("_backend", "_make", "_own", "_rules", "remote")

    def __init__(self, section: RateLimitSection, backend: Backend) -> None:
        self._make = partial(LimitRule, section=section, backend=backend)
        self._rules = tuple(self._make(rule) for rule in section.rules)
        self._own: dict[tuple[str, ...], LimitRule] = {}
        self._backend = backend
        self.remote = not isinstance(backend, MemoryBackend)

    def decide(
        self,
        facts: Facts,
        path_forms: tuple[str, ...],
        client: str | None,
        key: ApiKey | None,
        before: Charged = ((), None),
    ) -> Outcome | None:
        """Ask every rule that holds for a request; where one denies, none is charged.

        Args:
            facts: The request.
            path_forms: The forms of its path.
            client: The client's address.
            key: The key that it came with; its lineage shares one count, and its own limits stand in the place of the
                rules that count by key.
            before: Under which forms of its path, and for which key, it was charged before; those are not asked again.

        Returns:
            What they say; None where no rule holds.
        """
        decisions: list[tuple[LimitRule, Decision]] = []
        for rule, subject in self._asked(facts, path_forms, client, key, before):
            decision = rule.limiter.acquire(subject)
            if not decision.allowed:
                for earlier, charged in decisions:
                    earlier.limiter.refund(charged)
                return _outcome([(rule, decision)])
            decisions.append((rule, decision))
        return _outcome(decisions) if decisions else None

    async def decide_async(
        self,
        facts: Facts,
        path_forms: tuple[str, ...],
        client: str | None,
        key: ApiKey | None,
        before: Charged = ((), None),
    ) -> Outcome | None:
        """Do what :meth:`decide` does without blocking the loop."""
        decisions: list[tuple[LimitRule, Decision]] = []
        for rule, subject in self._asked(facts, path_forms, client, key, before):
            decision = await rule.limiter.acquire_async(subject)
            if not decision.allowed:
                for earlier, charged in decisions:
                    await earlier.limiter.refund_async(charged)
                return _outcome([(rule, decision)])
            decisions.append((rule, decision))
        return _outcome(decisions) if decisions else None

    def _asked(
        self,
        facts: Facts,
        path_forms: tuple[str, ...],
        client: str | None,
        key: ApiKey | None,
        before: Charged = ((), None),
    ) -> list[tuple[LimitRule, str]]:
        lineage = key.lineage_id if key is not None else None
        own = self._own_rule(key.limit) if key is not None and key.limit else None
        asked = [
            (rule, rule.subject(facts, pattern, client, lineage))
            for rule in self._rules
            if not (own is not None and rule.by == "api_key") and (pattern := rule.match(path_forms)) is not None
            if rule.match(before[0]) is None
        ]
        return asked if own is None or before[1] is not None else [*asked, (own, f"key:{lineage}")]

    def _own_rule(self, limits: tuple[str, ...]) -> LimitRule:
        """Return the rule for keys that have these limits of their own; each lineage has its own count."""
        rule = self._own.get(limits)
        if rule is None:
            if len(self._own) >= _MOST_OWN:
                self._own.clear()
            rule = self._own[limits] = self._make(RateLimitRule(name=OWN_RULE, limit=limits))
        return rule

    def close(self) -> None:
        """Close the connections to the server, where there is one."""
        close = getattr(self._backend, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        return f"Limits({len(self._rules)} rules)"


def open_limits(policy: Policy) -> Limits:
    """Return the limits of a policy, over one backend for all of them.

    Raises:
        ConfigurationError: As :func:`open_server`.
    """
    backend = open_server(policy)
    return Limits(policy.rate_limit, backend)


def open_server(policy: Policy) -> Backend:
    """Return where a policy's hits are counted; a server is not asked for it.

    Raises:
        ConfigurationError: The URL is none, a package is missing, or it cannot do what is asked for.
    """
    section = policy.rate_limit
    try:
        if section.backend == "memory://":
            if section.lease is not None:
                raise ConfigurationError("rate_limit.lease", section.lease, "absent: memory:// asks no server")
            return MemoryBackend()
        return open_backend(section.backend, section.deadline)
    except ConfigurationError as error:
        if error.setting == "backend":
            error.setting = "rate_limit.backend"
            error.args = (str(error).replace("backend", error.setting, 1),)
        raise policy.placed(error) from None


def _outcome(decisions: list[tuple[LimitRule, Decision]]) -> Outcome:
    denied = next((decision for _, decision in decisions if not decision.allowed), None)
    told = [(rule, decision) for rule, decision in decisions if not rule.shadow]
    policies = tuple(rule.name for rule, _ in decisions)
    if not told:
        return Outcome(denied, (), policies)
    rule, tightest = min(told, key=lambda pair: (pair[1].allowed, pair[1].remaining / pair[1].limit))
    headers = rule.fields(tightest, [rule for rule, _ in told])
    return Outcome(denied, headers, policies, int(tightest.remaining))
