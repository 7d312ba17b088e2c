"""The limits of the policy, applied to a request; and what the client is told about them.

Header fields: ``RateLimit-Policy`` and ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mobius_otel.policy import RateLimitRule
from mobius_otel.security.rate_limit import Decision, RateLimit, RateLimiter
from mobius_otel.web.facts import Facts
from mobius_otel.web.paths import PathRules

__all__ = ["LimitRule", "Limits", "Outcome"]

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the limits say about one request.

    Args:
        denied: The decision that refused it, or None.
        headers: ``RateLimit-Policy`` and ``RateLimit``; empty where no rule holds.
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
        backend: Where hits are counted.
        on_backend_error: Who decides while the backend is gone.
    """

    __slots__ = ("_names", "_paths", "by", "limiter", "name", "shadow", "stated")

    def __init__(self, rule: RateLimitRule, backend: str = "memory://", on_backend_error: str = "local") -> None:
        limits = [RateLimit.parse(text) for text in rule.limit]
        self.name = rule.name
        self.by = rule.by
        self.shadow = rule.mode == "shadow"
        self.limiter = RateLimiter(
            limits,
            name=rule.name,
            mode=rule.mode,
            backend=backend,
            on_backend_error=on_backend_error,  # type: ignore[arg-type]
        )
        self._paths = PathRules(rule.paths)
        names = [rule.name] if len(limits) == 1 else [f"{rule.name}-{n}" for n in range(1, len(limits) + 1)]
        self._names = {(limit.limit, limit.per): name for limit, name in zip(limits, names, strict=True)}
        self.stated = ", ".join(
            f'"{name}";q={limit}' + (f";w={int(per)}" if per >= 1 else "") for (limit, per), name in self._names.items()
        )

    def match(self, path_forms: Iterable[str]) -> str | None:
        """Return the pattern that makes this rule hold for a path, or None."""
        return self._paths.match(path_forms)

    def left(self, decision: Decision) -> str:
        """Return the ``RateLimit`` item of a decision."""
        name = self._names.get((decision.limit, decision.window), self.name)
        left = max(0, int(decision.remaining))
        seconds = (
            decision.reset_after
            if decision.allowed or not math.isfinite(decision.retry_after)
            else decision.retry_after
        )
        return f'"{name}";r={left};t={max(0, math.ceil(seconds))}'

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
    """Every limit of the policy.

    Args:
        rules: The rules, in the order of the policy.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[LimitRule]) -> None:
        self._rules = tuple(rules)

    def decide(
        self, facts: Facts, path_forms: tuple[str, ...], client: str | None, lineage: str | None
    ) -> Outcome | None:
        """Ask every rule that holds for a request; where one denies, none is charged.

        Args:
            facts: The request.
            path_forms: The forms of its path.
            client: The client's address.
            lineage: What an API key and its successors have in common; None without a key.

        Returns:
            What they say; None where no rule holds.
        """
        asked = [
            (rule, rule.subject(facts, pattern, client, lineage))
            for rule in self._rules
            if (pattern := rule.match(path_forms)) is not None
        ]
        if not asked:
            return None
        if len(asked) > 1:  # a rule that will deny goes first and alone, so that the others are not charged
            asked = next(([pair] for pair in asked if not pair[0].limiter.peek(pair[1]).allowed), asked)
        decisions = [(rule, rule.limiter.acquire(subject)) for rule, subject in asked]
        return _outcome(decisions)

    def __repr__(self) -> str:
        return f"Limits({len(self._rules)} rules)"


def _outcome(decisions: list[tuple[LimitRule, Decision]]) -> Outcome:
    denied = next((decision for _, decision in decisions if not decision.allowed), None)
    told = [(rule, decision) for rule, decision in decisions if not rule.shadow]
    policies = tuple(rule.name for rule, _ in decisions)
    if not told:
        return Outcome(denied, (), policies)
    rule, tightest = min(told, key=lambda pair: (pair[1].allowed, pair[1].remaining / pair[1].limit))
    headers = (
        ("ratelimit-policy", ", ".join(rule.stated for rule, _ in told)),
        ("ratelimit", rule.left(tightest)),
    )
    return Outcome(denied, headers, policies, int(tightest.remaining))
