"""The policy file: what it may say, and what the errors tell."""

import json
import re

import pytest

from mobius_otel.errors import PolicyError
from mobius_otel.policy import Policy, json_schema, load_policy, parse_policy

WHOLE = """\
[service]
name = "shop"
trusted_proxies = ["10.0.0.0/8"]
[api_keys]
store = "sqlite:///keys.db"
require = ["/v1/*"]
header = "X-API-Key"
ttl_days = 90
grace_hours = 24
[api_keys.scopes]
"POST /v1/refunds" = ["refund"]
[rate_limit]
backend = "memory://"
[[rate_limit.rules]]
name = "per-key"
paths = ["/v1/*"]
limit = "100/minute"
by = "api_key"
mode = "enforce"
[[rate_limit.rules]]
name = "all"
limit = ["10/second", "5/10 seconds"]
by = "header:X-Tenant"
[audit]
ledger = "audit.db"
fail_mode = "spool"
routes = ["POST /v1/refunds"]
actor = "shop.auth:current_user"
functions = ["shop.billing:refund"]
[redaction]
names = ["fiscal_code"]
[redaction.patterns]
badge = "B-[0-9]{6}"
[headers]
preset = "api"
X-Frame-Options = "SAMEORIGIN"
[metrics]
path = "/metrics"
[[instrument]]
target = "shop.billing:charge"
timer = "billing.charge"
"""


def test_an_empty_file_is_valid():
    """Every key has a default."""
    assert parse_policy("") == Policy()


def test_the_whole_file_is_read(tmp_path):
    """Every section of the design arrives as frozen data."""
    policy = parse_policy(WHOLE, file=tmp_path / "mobius.toml")
    assert policy.api_keys.scopes == {"POST /v1/refunds": ("refund",)}
    assert policy.rate_limit.rules[0].limit == ("100/minute",)
    assert policy.rate_limit.rules[1].limit == ("10/second", "5/10 seconds")
    assert policy.headers.override == {"X-Frame-Options": "SAMEORIGIN"}
    assert policy.redaction.patterns == {"badge": "B-[0-9]{6}"}
    assert policy.instrument[0].timer == "billing.charge"
    assert policy.store_url == f"sqlite:///{tmp_path}/keys.db"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "said"),
    [
        ("require =", "requre =", 6, "api_keys.requre", "did you mean 'require'?"),
        ("[audit]", "[audits]", 23 + 1, "audits", "did you mean 'audit'?"),
        ('"100/minute"', '"100/minit"', 17, "rate_limit.rules[0].limit", '"100/minute" or "5/10 seconds"'),
        ('"10/second"', '"0/second"', 22, "rate_limit.rules[1].limit", "'0/second' must be a limit"),
        ('mode = "enforce"', 'mode = "enforced"', 19, "rate_limit.rules[0].mode", "did you mean 'enforce'?"),
        ("ttl_days = 90", 'ttl_days = "ninety"', 8, "api_keys.ttl_days", "a number above zero"),
        ("ttl_days = 90", "ttl_days = 0", 8, "api_keys.ttl_days", "a number above zero"),
        ("ttl_days = 90", "ttl_days = true", 8, "api_keys.ttl_days", "a number above zero"),
        ('name = "per-key"\n', "", 14, "rate_limit.rules[0]", "the key 'name' is missing"),
        ('["/v1/*"]\nheader', '["v1"]\nheader', 6, "api_keys.require", 'a path such as "/v1/items"'),
        ('["/v1/*"]\nheader', '["/v1*"]\nheader', 6, "api_keys.require", 'a path such as "/v1/items"'),
        ('["refund"]\n[rate', '["re fund"]\n[rate', 11, "api_keys.scopes.POST /v1/refunds", "without blanks"),
        ('"POST /v1/refunds" = ', '"/v1/refunds" = ', 11, "api_keys.scopes./v1/refunds", "every method"),
        ('"10.0.0.0/8"', '"ten"', 3, "service.trusted_proxies", "an address or network"),
        ("memory://", "memcached://cache", 13, "rate_limit.backend", "valkey://HOST:6379/0"),
        ("memory://", 'memory://"\nlease = 0.6\nx="', 14, "rate_limit.lease", "up to 0.5"),
        ("memory://", 'memory://"\ndeadline = 0\nx="', 14, "rate_limit.deadline", "above 0 and up to 10"),
        ("memory://", 'memory://"\nlocal_share = 2\nx="', 14, "rate_limit.local_share", "up to 1"),
        ('"shop.billing:refund"', '"shop.billing.refund"', 29, "audit.functions", "a function such as"),
        ('preset = "api"', 'preset = "apis"', 35, "headers.preset", "did you mean 'api'?"),
        ('preset = "api"', 'presets = "api"', 35, "headers.presets", "did you mean 'preset'?"),
        ('limit = "100/minute"', "limit = []", 17, "rate_limit.rules[0].limit", "the list is empty"),
        ('paths = ["/v1/*"]', "paths = []", 16, "rate_limit.rules[0].paths", "the list is empty"),
        ('name = "all"', 'name = "per-key"', 21, "rate_limit.rules[1].name", "'per-key' must be another name"),
        ('"SAMEORIGIN"', "5", 36, "headers.X-Frame-Options", "5 must be text"),
        ('path = "/metrics"', 'path = "/metrics/*"', 38, "metrics.path", 'a path such as "/metrics"'),
        (
            "[headers]\n",
            '[[redaction.rules]]\naction = "mask"\nlocation = "spans"\n[x]\n',
            36,
            "redaction.rules[0].location",
            "did you mean 'span'?",
        ),
        *(
            ('timer = "billing.charge"', f'timer = "{name}"', 41, "instrument[0].timer", "the name of a metric")
            for name in ("9x", "_x", ".x", "a b", "a" * 256, "mobius.guard.requests", "Mobius.API_key.store.duration")
        ),
        *(
            ('"SAMEORIGIN"', value, 36, "headers.X-Frame-Options", "one line of ASCII")
            for value in (
                r'"a\nb"',
                r'"a\r\nSet-Cookie: x=1"',
                r'"a\u0000"',
                r'"caf\u2026"',
                '"é"',
                '" a"',
                r'"a\u007f"',
            )
        ),
        (
            'name = "all"',
            'name = "api_key.failures"',
            21,
            "rate_limit.rules[1].name",
            "the limiter of [api_keys] failures",
        ),
        ("[service]\n", "service = 1\n[x]\n", 1, "service", "must be a table"),
        ('name = "shop"', 'name = "shop', 2, "", "not valid TOML"),
    ],
)
def test_an_error_names_key_line_rule_and_way_out(old, new, line, key, said):
    """One clear sentence, whatever is wrong."""
    assert old in WHOLE
    with pytest.raises(PolicyError) as caught:
        parse_policy(WHOLE.replace(old, new, 1), file="mobius.toml")
    assert (caught.value.line, caught.value.key) == (line, key)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"mobius.toml:{line}: ")


PLACES = {
    "require": "[api_keys]\nrequire = [{0}]",
    "public": '[api_keys]\nrequire = ["/*"]\npublic = [{0}]',
    "paths": '[[rate_limit.rules]]\nname = "a"\nlimit = "1/second"\npaths = [{0}]',
    "metrics": "[metrics]\npath = {0}",
}
ROUTES = {
    "scopes": '[api_keys]\nrequire = ["/*"]\n[api_keys.scopes]\n{0} = ["a"]',
    "routes": "[audit]\nroutes = [{0}]",
}


@pytest.mark.parametrize("place", [*PLACES, *ROUTES])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/items/{id}", 'did you mean "/v1/items/*"?'),
        ("/v1/{id}/parts", 'did you mean "/v1/*"?'),
        ("/v1/{id:int}.json", 'did you mean "/v1/*"?'),
        ("/{path:path}", 'did you mean "/*"?'),
        ("/v1/items/<id>", 'did you mean "/v1/items/*"?'),
        ("/v1/items/<int:id>", 'did you mean "/v1/items/*"?'),
        ("/v1/v<int:version>", 'did you mean "/v1/*"?'),
        ("/v1/:id", 'did you mean "/v1/*"?'),
        ("/caf%C3%A9", 'did you mean "/café"? Paths are judged decoded'),
        ("/my%20files", 'did you mean "/my files"?'),
        ("/%761", 'did you mean "/v1"?'),
        ("/%FF", "must be a"),
        ("/a%2Ab", "must be a"),
        ("/v1/\u200bitems", "U+200B, which nobody sees"),
        ("/v1/items\u00ad", "U+00AD, which nobody sees"),
        ("/v1/\u3000items", "U+3000, which nobody sees"),
        ("/v1/items ", "must be a"),
        ("/v1/ items", "must be a"),
        ("/v1/items?x=1", "must be a"),
    ],
)
def test_a_path_that_no_request_has_is_refused(place, path, said):
    """It would look as if it guarded; the error says what to write."""
    if place in ROUTES:
        text = ROUTES[place].format(json.dumps(f"GET {path}", ensure_ascii=False))
    else:
        text = PLACES[place].format(json.dumps(path, ensure_ascii=False))
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("place", ROUTES)
@pytest.mark.parametrize(
    ("route", "said"),
    [("GETT /a", 'did you mean "GET /a"?'), ("get /a", 'did you mean "GET /a"?'), ("ANY /a", 'did you mean "* /a"?'),
     ("ALL /a", 'did you mean "* /a"?'), ("WEBSOCKET /a", 'did you mean "GET /a"?'), ("XYZZY /a", "is every method"),
     ("GET  /a", "is every method"), ("GETT /a/{id}", 'did you mean "/a/*"?')],
)  # fmt: skip
def test_a_method_that_no_request_has_is_refused(place, route, said):
    """A typo would leave the route open."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(ROUTES[place].format(json.dumps(route, ensure_ascii=False)))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/", "/v1/items:batch", "/café", "/my files", "/100%", "/a(b)", "/v1.2/~me/@x", "/a,b;c=d", "/\U0001f511"],
)
def test_a_path_that_a_request_may_have_is_none_of_those(path):
    """Whatever a path may hold once it is decoded, in the loader and in the schema."""
    assert parse_policy(PLACES["require"].format(json.dumps(path, ensure_ascii=False))).api_keys.require == (path,)
    pattern = json_schema()["properties"]["api_keys"]["properties"]["require"]["anyOf"][1]["pattern"]
    assert re.search(pattern, path)
    assert not re.search(pattern, "/v1/{id}")
    route = f"PROPFIND {path}"
    assert parse_policy(ROUTES["routes"].format(json.dumps(route, ensure_ascii=False))).audit.routes == (route,)


def test_environment_fills_texts_and_is_never_shown():
    """A password comes from the environment and stays out of every error."""
    environ = {"DB": "shop.db", "PW": "hunter2secret"}
    text = '[api_keys]\nstore = "sqlite:///${DB}"\nheader = "${HEADER:-X-Key}"'
    policy = parse_policy(text, environ=environ)
    assert (policy.api_keys.store, policy.api_keys.header) == ("sqlite:///shop.db", "X-Key")
    with pytest.raises(PolicyError, match="NOPE is not set") as missing:
        parse_policy('[service]\nname = "${NOPE}"', environ=environ)
    assert missing.value.line == 2
    with pytest.raises(PolicyError) as wrong:
        parse_policy('[api_keys]\nstore = "POSTGRESQL://app:${PW}@db/x"', environ=environ)
    assert "hunter2" not in str(wrong.value)
    with pytest.raises(PolicyError) as literal:
        parse_policy('[api_keys]\nstore = "POSTGRESQL://app:hunter2secret@db/x"')
    assert "hunter2" not in str(literal.value)
    assert "hunter2" not in repr(parse_policy('[api_keys]\nstore = "postgresql://app:${PW}@db/x"', environ=environ))


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    """A missing, binary or huge file gives one sentence; no file at all is no error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOBIUS_OTEL_POLICY", raising=False)
    assert load_policy() is None
    monkeypatch.setenv("MOBIUS_OTEL_POLICY", "gone.toml")
    with pytest.raises(PolicyError, match=r"gone\.toml: the policy file cannot be read: No such file"):
        load_policy()
    for content, said in (
        (b"\xff\xfe", "must be UTF-8"),
        (b"#" * (2 << 20), "larger than 1 MiB"),
        (b"a=" + b"[" * 5000, "not valid TOML"),
    ):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(PolicyError, match=said):
            load_policy("bad.toml")


def test_the_schema_says_what_the_loader_says():
    """The schema knows every key, and a known key only."""
    schema = json_schema()
    assert set(schema["properties"]) == {
        "service", "api_keys", "rate_limit", "audit", "redaction", "headers", "metrics", "instrument",
    }  # fmt: skip
    assert schema["additionalProperties"] is False
    keys = schema["properties"]["api_keys"]["properties"]
    assert (keys["ttl_days"]["default"], keys["ttl_days"]["exclusiveMinimum"]) == (90, 0)
    assert keys["cache_seconds"]["minimum"] == keys["grace_hours"]["minimum"] == 0
    assert schema["properties"]["rate_limit"]["properties"]["rules"]["items"]["required"] == ["name", "limit"]


def test_a_byte_order_mark_is_no_part_of_a_policy(tmp_path):
    """As some editors write it."""
    (tmp_path / "mobius.toml").write_bytes(b'\xef\xbb\xbf[service]\nname = "shop"\n')
    policy = load_policy(tmp_path / "mobius.toml")
    assert policy is not None
    assert policy.service.name == "shop"


def test_a_header_is_left_out_by_an_empty_text_and_may_hold_blanks():
    """What a server sends as it is."""
    headers = parse_policy("[headers]\nX-A = ''\nX-B = 'max-age=1; b c\t\"d\"'").headers.override
    assert dict(headers) == {"X-A": "", "X-B": 'max-age=1; b c\t"d"'}


def test_a_header_from_the_environment_is_checked_and_not_shown():
    """Whatever a deployment puts in."""
    with pytest.raises(PolicyError, match=r"mobius\.toml:2: .*one line of ASCII") as caught:
        parse_policy('[headers]\nX-A = "${V}"', file="mobius.toml", environ={"V": "s3cret\n"})
    assert "s3cret" not in str(caught.value)
