"""The demo's story: what its clients do, what they should be answered, and what they were."""

from __future__ import annotations

import http.client
import secrets
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mobius_otel.cli.demo.world import Answer, DemoFailed, World

__all__ = ["EVENTS", "LIMIT", "METRICS", "Check", "Step", "Story"]

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_HURRY = 25
_OWNERS = {"alice": ("read", "refund"), "bob": ("read",), "carol": ("read",), "eve": ("read",)}
#: Requests a minute and key that the example's policy allows.
LIMIT = 20
#: Audit events that the story has to leave behind.
EVENTS = (
    "api_key.issued", "api_key.rejected", "api_key.reused", "api_key.revoked", "authorization.failed",
    "http.request", "rate_limit.exceeded",
)  # fmt: skip
#: Metrics that it has to leave behind.
METRICS = (
    "mobius.api_key.verifications", "mobius.audit.records", "mobius.guard.armed", "mobius.guard.requests",
    "mobius.rate_limit.requests", "mobius.redaction.matches",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody did.

    Args:
        who: The client.
        does: What it sent, as it may be shown.
        answer: What it got, in a few characters.
        expected: What it should have got.
        why: What this shows.
    """

    who: str
    does: str
    answer: str
    expected: str
    why: str

    @property
    def ok(self) -> bool:
        """Whether it went as it should."""
        return self.answer == self.expected


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at afterwards."""

    what: str
    ok: bool
    detail: str


class Story:
    """Drives the service as its clients would.

    Args:
        world: Where it happens.

    Attributes:
        keys: The issued keys, by owner: ``{"id", "secret", …}``.
        trace_id: The trace of the refund.
        refund: The refund's body, as it was sent.
        checks: What was compared on the way.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys: dict[str, dict[str, Any]] = {}
        self.trace_id = secrets.token_hex(16)
        self.refund = {
            "order": "order-1042",
            "amount": 2900,
            "card": world.secrets.card,
            "password": world.secrets.password,
            "reason": "broken lid",
        }
        self.checks: list[Check] = []
        self.answers: list[Answer] = []

    @property
    def card_path(self) -> str:
        """The path that carries a card number."""
        return f"/v1/cards/{self.world.secrets.card.replace(' ', '')}/block"

    def issue(self) -> Iterator[Step]:
        """Issue the keys with the real command line."""
        for owner, scopes in _OWNERS.items():
            flags = [part for scope in scopes for part in ("--scope", scope)]
            _, issued = self.world.command("keys", "issue", owner, *flags)
            if not isinstance(issued, dict) or not {"id", "secret"} <= issued.keys():
                raise DemoFailed("mobius-otel keys issue printed no id and secret")
            self.keys[owner] = issued
            yield Step("operator", f"keys issue {owner} {' '.join(flags)}", "issued", "issued", "by the command line")

    def run(self) -> Iterator[Step]:
        """Do everything, one step after the other."""
        alike: list[Answer] = []
        yield self._get("anyone", "/health", 200, "an open path stays open")
        yield self._get("anyone", "/v1/items", 401, "no key")
        yield self._get("anyone", "/v1/items", 401, "a mistyped key", secret=self._mistyped(), kept=alike)
        yield self._get("anyone", "/v1/items", 401, "a key nobody issued", secret=_unknown_key(), kept=alike)
        yield self._in_the_query()
        yield self._get("alice", "/v1/items", 200, "a good key", secret=self._secret("alice"))
        yield self._post("alice", "/v1/orders", 201, "a good key", {"items": [1]})
        yield self._get("eve", "/v1/items", 200, "a good key, still", secret=self._secret("eve"))
        yield self._revoke("eve")
        yield self._get("eve", "/v1/items", 401, "revoked a moment ago", secret=self._secret("eve"), kept=alike)
        yield self._post("bob", "/v1/refunds", 403, "a good key without the scope", self.refund)
        yield self._refund()
        yield self._block()
        yield self._get("alice", "/v1/report", 500, "an exception with a password", secret=self._secret("alice"))
        yield self._hurry("carol")
        yield self._get("prometheus", "/metrics", 200, "scraped")
        self._compare(alike)

    def _secret(self, owner: str) -> str:
        return str(self.keys[owner]["secret"])

    def _mistyped(self) -> str:
        secret = self._secret("alice")
        return secret[:20] + ("A" if secret[20] != "A" else "B") + secret[21:]

    def _ask(self, method: str, path: str, secret: str | None, **more: Any) -> Answer:
        headers = dict(more.pop("headers", None) or {})
        if secret is not None:
            headers["X-API-Key"] = secret
        try:
            answer = self.world.ask(method, path, headers=headers, **more)
        except (OSError, http.client.HTTPException) as error:
            raise DemoFailed(f"{method} got no answer: {error}. {self.world.broken()}") from error
        self.answers.append(answer)
        return answer

    def _get(
        self,
        who: str,
        path: str,
        expected: int,
        why: str,
        *,
        secret: str | None = None,
        kept: list[Answer] | None = None,
    ) -> Step:
        answer = self._ask("GET", path, secret)
        if kept is not None:
            kept.append(answer)
        return Step(who, f"GET {path}", str(answer.status), str(expected), why)

    def _post(self, who: str, path: str, expected: int, why: str, body: Any) -> Step:
        answer = self._ask("POST", path, self._secret(who), body=body)
        return Step(who, f"POST {path}", str(answer.status), str(expected), why)

    def _refund(self) -> Step:
        traced = {"traceparent": f"00-{self.trace_id}-{secrets.token_hex(8)}-01"}
        answer = self._ask("POST", "/v1/refunds", self._secret("alice"), headers=traced, body=self.refund)
        return Step("alice", "POST /v1/refunds", str(answer.status), "201", "audited; card, password in the body")

    def _block(self) -> Step:
        answer = self._ask("POST", self.card_path, self._secret("alice"))
        return Step("alice", "POST /v1/cards/…/block", str(answer.status), "204", "audited; a card in the path")

    def _in_the_query(self) -> Step:
        answer = self._ask("GET", f"/v1/items?api_key={self._secret('alice')}", None)
        return Step("alice", "GET /v1/items?api_key=…", str(answer.status), "401", "a good key in the wrong place")

    def _revoke(self, owner: str) -> Step:
        status, _ = self.world.command("keys", "revoke", str(self.keys[owner]["id"]), "--reason", "left the company")
        return Step("operator", f"keys revoke {owner}'s key", "revoked" if status == 0 else "?", "revoked",
                    "while the service runs")  # fmt: skip

    def _hurry(self, owner: str) -> Step:
        answers = [self._ask("GET", "/v1/items", self._secret(owner)) for _ in range(_HURRY)]
        let_in = sum(answer.status == 200 for answer in answers)
        slowed = sum(answer.status == 429 and answer.header("Retry-After") is not None for answer in answers)
        last = answers[-1]
        fields = {name: last.header(name) for name in ("Retry-After", "RateLimit", "RateLimit-Policy")}
        self.checks.append(
            Check("429 says when to come back", None not in fields.values(),
                  ", ".join(f"{name}: {value}" for name, value in fields.items()))
        )  # fmt: skip
        return Step(
            owner, f"GET /v1/items, {_HURRY} times", f"{let_in}x200 {slowed}x429",
            f"{LIMIT}x200 {_HURRY - LIMIT}x429", f"the limit is {LIMIT} a minute",
        )  # fmt: skip

    def _compare(self, same: list[Answer]) -> None:
        alike = len({answer.without_date() for answer in same}) == 1
        self.checks.append(
            Check("every wrong key gets the same 401", alike and "WWW-Authenticate".lower() in _names(same[0]),
                  "mistyped, unknown and revoked: byte for byte" if alike else "the answers differ")
        )  # fmt: skip
        bare = [answer.status for answer in self.answers if answer.header("X-Content-Type-Options") != "nosniff"]
        self.checks.append(
            Check("security headers are on every answer", not bare,
                  f"{len(self.answers)} answers" if not bare else f"missing on {len(bare)}: status {sorted(set(bare))}")
        )  # fmt: skip


def _names(answer: Answer) -> set[str]:
    return {name.lower() for name, _ in answer.headers}


def _unknown_key() -> str:
    """Return a key with the right shape and checksum that nobody issued."""
    start = "mob_live_" + "".join(secrets.choice(_BASE62) for _ in range(43))
    number, check = zlib.crc32(start.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = _BASE62[digit] + check
    return start + check
