"""The guard: facts in, verdict out."""

import json
import re

import pytest

from mobius_otel.errors import KeyStoreUnavailable
from mobius_otel.policy import parse_policy
from mobius_otel.web import Facts, Guard
from tests.web.conftest import POLICY


def ask(guard, path="/v1/items", method="GET", key=None, **more):
    headers = {"x-api-key": [key]} if key else {}
    headers.update(more.pop("headers", {}))
    return guard.judge(Facts(method, path, headers=headers, peer=more.pop("peer", "192.0.2.1"), **more))


def test_a_good_key_passes_and_is_shown_its_limit(guard, keys):
    """Who, whether, how fast: one verdict with all of it."""
    issued = keys.issue("alice", scopes={"read"})
    verdict = ask(guard, key=issued.secret)
    assert (verdict.result, verdict.problem, verdict.key.owner) == ("passed", None, "alice")
    assert dict(verdict.headers) == {"ratelimit-policy": '"per-key";q=3;w=60', "ratelimit": '"per-key";r=2;t=60'}
    assert verdict.attributes["mobius.guard.result"] == "passed"
    assert verdict.attributes["mobius.api_key.id"] == issued.key.id


def test_no_key_a_wrong_key_and_a_missing_scope_differ(guard, keys):
    """The bare challenge, the same 401 for every wrong key, 403 with what is required."""
    issued = keys.issue("alice", scopes={"read"})
    bare, wrong = ask(guard), ask(guard, key="nonsense")
    assert (bare.problem.status, wrong.problem.status) == (401, 401)
    assert dict(bare.problem.headers)["www-authenticate"].startswith("ApiKey realm=")
    assert 'error="invalid_token"' in wrong.problem.headers[3][1]
    lacking = ask(guard, "/v1/refunds", "POST", issued.secret)
    assert (lacking.result, lacking.problem.status) == ("forbidden", 403)
    assert b"required: refund" in lacking.problem.body


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": ["a", "b"]},
        {"authorization": ["Bearer a", "Bearer b"]},
        {"authorization": ["Bearer \x00"]},
        {"x-api-key": ["é" * 70_000]},
        {"x-api-key": [""], "authorization": ["Bearer nonsense"]},
    ],
)
def test_hostile_headers_get_the_answer_of_a_wrong_key(guard, headers):
    """Doubled, absurd, enormous: 401 and nothing else."""
    verdict = ask(guard, headers=headers)
    assert verdict.problem.status == 401


def test_the_own_header_wins_over_the_services_authorization(guard, keys):
    """A service with a login of its own keeps its Authorization header."""
    issued = keys.issue("alice")
    verdict = ask(guard, key=issued.secret, headers={"x-api-key": [issued.secret], "authorization": ["Bearer its-own"]})
    assert verdict.result == "passed"


def test_a_public_path_and_a_preflight_need_no_key(guard):
    """What a browser sends without credentials, and what the policy says is open."""
    assert ask(guard, "/v1/open").result == "passed"
    assert ask(guard, "/v1/open/../items").result == "unauthenticated"
    cors = {"origin": ["https://a"], "access-control-request-method": ["GET"]}
    assert ask(guard, method="OPTIONS", headers=cors).result == "passed"
    assert ask(guard, method="OPTIONS").result == "unauthenticated"
    assert ask(guard, method="HEAD").result == "unauthenticated"


def test_too_fast_is_429_for_the_key_and_its_successor(guard, keys):
    """A rotation brings no fresh quota; a shadow rule is never enforced nor shown."""
    issued = keys.issue("alice")
    for _ in range(3):
        assert ask(guard, key=issued.secret).result == "passed"
    successor = keys.rotate(issued.key.id)
    for secret in (issued.secret, successor.secret):
        limited = ask(guard, key=secret)
        assert (limited.result, limited.problem.status) == ("limited", 429)
    assert json.loads(limited.problem.body)["violated-policies"] == ["per-key"]
    assert dict(limited.problem.headers)["ratelimit"].startswith('"per-key";r=0;t=')
    assert ask(guard, key=keys.issue("bob").secret).result == "passed"


def test_an_address_that_shows_wrong_keys_waits(guard, keys):
    """Five unknown keys a minute, then 429 before the store is asked; mistyped ones cost nothing."""
    strangers = [keys.issue("x").secret for _ in range(6)]
    for key in keys.list(owner="x"):
        keys.revoke(key.id)
    for _ in range(20):
        assert ask(guard, key="mistyped").problem.status == 401
    for secret in strangers[:5]:
        assert ask(guard, key=secret).problem.status == 401
    throttled = ask(guard, key=strangers[5])
    assert (throttled.result, throttled.problem.status) == ("limited", 429)
    assert ask(guard, key=strangers[5], peer="192.0.2.99").problem.status == 401


def test_a_dead_store_and_a_bug_close_the_door(guard, keys, monkeypatch):
    """503 without details; an error of any kind never lets anybody in."""
    secret = keys.issue("alice").secret
    for error in (KeyStoreUnavailable("disk on fire"), RuntimeError("leaked words"), MemoryError()):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(guard, "_keys", type("Broken", (), {"verify": staticmethod(fail)}))
        verdict = ask(guard, key=secret)
        assert (verdict.result, verdict.problem.status) == ("unavailable", 503)
        assert b"fire" not in verdict.problem.body
        assert b"leaked" not in verdict.problem.body


def test_a_request_is_counted_once_with_its_route_pattern(guard, keys, telemetry):
    """The metric carries the policy's pattern, never the path."""
    ask(guard, "/v1/items/4111")
    assert (
        telemetry.metric("mobius.guard.requests", {"http.route": "/v1/*", "mobius.guard.result": "unauthenticated"})
        == 1
    )


def test_a_policy_that_demands_keys_needs_a_manager():
    """A guard without one would have to fail open or always closed."""
    with pytest.raises(ValueError, match="key manager"):
        Guard(parse_policy(POLICY))


@pytest.mark.parametrize(
    ("draft", "fields"),
    [
        ('draft = "7"', {"ratelimit-policy": "3;w=60", "ratelimit": "limit=3, remaining=2, reset=60"}),
        ('draft = "6"', {"ratelimit-limit": "3", "ratelimit-remaining": "2", "ratelimit-reset": "60"}),
        ('draft = "off"', {}),
    ],
)
def test_the_policy_chooses_how_limits_are_told(draft, fields):
    """In the version of the draft that the clients know; the old names beside it."""
    rules = '[[rate_limit.rules]]\nname = "all"\nlimit = "3/minute"\nalgorithm = "gcra"\nmax_keys = 10\n'
    guard = Guard(parse_policy(f"[rate_limit]\n{draft}\n{rules}"))
    told = dict(guard.judge(Facts("GET", "/", peer="192.0.2.1")).headers)
    assert told.keys() == fields.keys()
    assert {name: value for name, value in told.items() if "reset" not in value + name} == {
        name: value for name, value in fields.items() if "reset" not in value + name
    }
    old = Guard(parse_policy(f"[rate_limit]\nlegacy_headers = true\n{rules}"))
    told = dict(old.judge(Facts("GET", "/", peer="192.0.2.1")).headers)
    assert (told["x-ratelimit-remaining"], told["ratelimit-policy"]) == ("2", '"all";q=3;w=60')


def test_a_key_s_own_limit_stands_in_the_place_of_the_rule_for_keys(guard, keys):
    """Shared by its lineage, stated in the headers, and of no account for other keys."""
    own, other = keys.issue("alice", limit="5/minute"), keys.issue("bob")
    results = [ask(guard, key=own.secret).result for _ in range(4)]
    new = keys.rotate(own.key.id)
    results += [ask(guard, key=secret).result for secret in (new.secret, own.secret, new.secret)]
    assert results == ["passed"] * 5 + ["limited"] * 2
    headers = dict(ask(guard, key=new.secret).headers)
    assert headers["ratelimit-policy"] == '"key";q=5;w=60'
    assert [ask(guard, key=other.secret).result for _ in range(4)] == ["passed"] * 3 + ["limited"]
    free = keys.issue("carol", limit="1/minute")
    assert [ask(guard, "/v1/items", key=free.secret).result for _ in range(2)] == ["passed", "limited"]


def test_a_key_from_another_network_is_a_wrong_key(guard, keys):
    """The same answer, byte for byte; the address is that of the client past the proxies."""
    issued = keys.issue("alice", networks=["192.0.2.0/24"])
    assert ask(guard, key=issued.secret).result == "passed"
    wrong, unknown = ask(guard, key=issued.secret, peer="198.51.100.1"), ask(guard, key="nonsense")
    assert (wrong.problem.status, wrong.problem.body, wrong.problem.headers) == (
        401, unknown.problem.body, unknown.problem.headers,
    )  # fmt: skip
    forwarded = {"x-forwarded-for": ["192.0.2.9"]}
    assert ask(guard, key=issued.secret, peer="10.0.0.1", headers=forwarded).result == "passed"
    assert ask(guard, key=issued.secret, peer="198.51.100.1", headers=forwarded).result == "unauthenticated"


def test_a_public_path_is_open_as_it_is_written(guard):
    """Another case may be another route: a name such as "Open" under /v1/{name}."""
    assert ask(guard, "/v1/open").result == "passed"
    for path in ("/v1/Open", "/V1/open", "/v1/open/", "//v1/open"):
        assert ask(guard, path).result == "unauthenticated", path
    assert ask(guard, "/open", root="/v1").result == "unauthenticated"


def test_a_scrape_is_free_of_limits_only_where_it_is_answered_as_one():
    """Another spelling of the path goes to the service, so it is a request like any other."""
    policy = '[[rate_limit.rules]]\nname = "all"\nlimit = "1/minute"\nby = "global"\n[metrics]\npath = "/metrics"'
    guard = Guard(parse_policy(policy))
    assert [ask(guard, "/metrics").result for _ in range(3)] == ["passed"] * 3
    assert [ask(guard, "/api/metrics", root="/api").result for _ in range(3)] == ["passed"] * 3
    assert [ask(guard, "/METRICS").result, ask(guard, "/metrics", "POST").result] == ["passed", "limited"]


PREFLIGHT = {"origin": ["https://a.example"], "access-control-request-method": ["PUT"]}


@pytest.mark.parametrize(
    ("more", "result"),
    [({}, "passed"), ({"content-length": ["0"]}, "passed"), ({"access-control-request-headers": ["x"]}, "passed"),
     ({"content-length": ["5"]}, "unauthenticated"), ({"content-length": ["0", "5"]}, "unauthenticated"),
     ({"transfer-encoding": ["chunked"]}, "unauthenticated"), ({"x-http-method-override": ["GET"]}, "unauthenticated"),
     ({"x-http-method": ["GET"]}, "unauthenticated"), ({"x-method-override": ["GET"]}, "unauthenticated"),
     ({"origin": ["a", "b"]}, "unauthenticated"), ({"origin": [""]}, "unauthenticated")],
)  # fmt: skip
def test_a_preflight_is_what_a_browser_sends_and_nothing_more(guard, more, result):
    """A body, or a header that asks for another method, makes a request of it that somebody may answer."""
    assert ask(guard, method="OPTIONS", headers={**PREFLIGHT, **more}).result == result


def test_a_policy_may_judge_preflights_too(keys):
    """Where no browser calls, and where a view answers any method."""
    guard = Guard(parse_policy('[api_keys]\nrequire = ["/v1/*"]\npreflight = "key"'), keys)
    assert ask(guard, method="OPTIONS", headers=PREFLIGHT).result == "unauthenticated"


def test_a_key_that_is_sent_twice_is_a_wrong_one(guard, keys):
    """With one value too, and beside any other field of Authorization: as under WSGI, whose servers join them."""
    secret = keys.issue("alice").secret
    for headers in (
        {"x-api-key": [secret, secret]},
        {"x-api-key": [secret, "other"]},
        {"authorization": [f"Bearer {secret}", f"Bearer {secret}"]},
        {"authorization": ["Basic YTpi", f"Bearer {secret}"]},
    ):
        assert ask(guard, headers=headers).problem == ask(guard, key="nonsense").problem
    bare = ask(guard, headers={"authorization": ["Basic YTpi", "Basic YTpi"]})
    assert bare.problem == ask(guard).problem
    assert ask(guard, headers={"authorization": ["Basic YTpi", "Basic YTpi"], "x-api-key": [secret]}).result == "passed"
    assert ask(guard, headers={"authorization": [f" bearer  {secret}"]}).result == "passed"


def test_a_service_may_be_called_anything(keys):
    """Its name is a part of a header, which servers send in one line of ASCII or not at all."""
    guard = Guard(parse_policy('[service]\nname = "caf\\u2026 \\"é\\"\\r\\nshop"\n[api_keys]\nrequire = ["/*"]'), keys)
    for name, value in ask(guard).problem.headers:
        assert re.fullmatch("[ -~]*", value), name
