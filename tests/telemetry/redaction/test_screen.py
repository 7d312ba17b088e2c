"""The screen and the look pass over what is clean; they are held to what a scan of each text alone would find."""

import copy
import json
import random
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel import Redactor
from mobius_otel.telemetry.redaction import RedactionPolicy, vendors
from mobius_otel.telemetry.redaction import gate as gates
from mobius_otel.telemetry.redaction.hits import Hits
from mobius_otel.telemetry.redaction.memory import Memory
from mobius_otel.telemetry.redaction.names import SCAN
from mobius_otel.telemetry.redaction.screen import holds_for_all, is_id, templates
from mobius_otel.telemetry.redaction.sorts import ANYTHING
from mobius_otel.telemetry.redaction.walk import Walk
from tests.telemetry.redaction.secrets_kit import BY_VALUE, CANARY, JWT, PEM

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SCANNER = Redactor()._memory.scanner
_SECRETS = [secret for secrets in BY_VALUE.values() for secret in secrets]
_PIECES = [
    "my ", "pass", "word", "pin ", "token", "code ", "is ", "1234", "4111", "-", "--", " ", ".", "/", "12", "0", "DE89",
    "\n", "\t", "\u00a0", "_", "api key ", "bearer ", "Basic ", "abcdefgh", "otp", "x", "+", "@", "=", "415-555", "ä",
    "0123456789abcdef", "ghp_", "AKIA", "sk-", "SG.", "Q~", "-us12", "eyJhbGciOiJIUzI1NiJ9", "_live_", "ssn ", "key",
    "T3stT3stT3stT3st", "AA", "030 ", "901820", "078-05-1120", ":", '"', "'", "{", "}", "[", "]", ">", "<", "\\", "\\n",
    "://", "%40", "::", "fd12:", ":1", "10.", "203.0.113.9", "//", "user", "card", " number", "-u ", "insert into t (",
    ") values (", "-----BEGIN ", "PRIVATE KEY-----", "hvs.", "hooks.slack.com/services/", "SK", "İ", "K", "\u2003", "?",
    "\0", "cookie", "W/", ",", "('", "', '", "')", " -> ", "| ", "<pin>", "</", ")=(", 'form-data; name="pin"\r\n\r\n',
    "a,pin\n", "b,7531\n", "| dbPass |", "tokens:\n  ", "[secrets]\n", "where token <> ", " in ('", "LIKE '%",
    " changed from ", " to ",
    "echo x1y2z3 | sudo -S ",
    "AUTH ", "AUTH\r\n$1\r\n", "vault login ", "net user a ", "userPassword:: ", "-U ", "-p'$",
    "ENV ", "config set ", "requirepass ", "mysql -p", "docker login -p ", " is your ", "machine a login b ", *_SECRETS,
    JWT, PEM,
]  # fmt: skip
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=8).map("".join)


def walked(value, policy=None):
    """Return what the walk alone makes of a value: no look, no memory of what was clean."""
    walk = Walk(Memory(policy or RedactionPolicy.default()))
    clean = walk.value(copy.deepcopy(value), "", SCAN, 0)
    return clean, sorted(map(tuple, walk.matches))


def redacted(value, redactor=None):
    result = (redactor or Redactor()).redact(value)
    return result.value, sorted((match.kind, match.path) for match in result.matches)


@given(st.lists(_TEXTS, min_size=1, max_size=4))
@settings(max_examples=800, deadline=None)
def test_what_a_scan_would_find_is_suspected_beside_any_neighbours(texts):
    """No text hides another one's secret, and what is suspected is enough to find all of it."""
    suspects = SCANNER.suspects(texts)
    for index, text in enumerate(texts):
        alone, narrowly = SCANNER.scan(text, Hits()), SCANNER.scan(text, Hits(), None, suspects.get(index, 0))
        if narrowly != alone:  # the order of two finds may differ where they share characters, but not that all is out
            assert narrowly != text
            assert SCANNER.scan(narrowly, Hits()) == narrowly or SCANNER.scan(alone, Hits()) != alone


@given(_TEXTS, st.randoms(use_true_random=False))
@settings(max_examples=800, deadline=None)
def test_a_text_that_is_remembered_for_all_digits_is_clean_with_all_digits(text, rng):
    """What was learned from "order 17" holds for "order 4711", and never for a card."""
    (form,) = templates([text])
    if SCANNER.suspects([text]) or not holds_for_all(form):
        return
    for _ in range(5):
        other = re.sub("[0-9]", lambda _: str(rng.randrange(10)), text)
        assert SCANNER.scan(other, Hits()) == other


_LINES = st.lists(st.sampled_from(_PIECES), max_size=4).flatmap(
    lambda pieces: st.sampled_from(["{}", '"{}",', "  {}: ", "({}", "{}]", "value: {}", "- name: {}"]).map(
        lambda around: around.format("".join(pieces)).replace("\n", " ")
    )
)


@given(st.lists(_LINES, min_size=2, max_size=6))
@settings(max_examples=1500, deadline=None)
def test_lines_that_say_nothing_say_nothing_together(lines):
    """A stack of frames that were seen before is clean: no line makes a secret of what stands in another one."""
    quiet = [line for line in lines if all(map(holds_for_all, templates([line]))) and SCANNER.says_nothing(line)]
    text = "\n".join(quiet)
    if text.lstrip()[:1] not in set('{["'):
        assert SCANNER.scan(text, Hits()) == text


@pytest.mark.parametrize(
    "text",
    ["Name: DB_PASS\nValue: h0nter2x", "insert into t (a, pin)\nvalues ('x', '1234')", "kind: Secret\ndata:\n  a: b",
     "copy t (a, pin) from stdin;\nx\t1234", '"mysql",\n"-ph0nter2x"', '<pin a="b">\n1234\n</pin>', "password:\nx",
     'Content-Disposition: form-data; name="pin"\n\n1234', "set pin\nto '1234'", "[saml]\nresponse = a1b2c3d4e5",
     "a,pin\nb,h0nter2x", "[api]\nkey = a1b2c3d4e5", "-----BEGIN PRIVATE KEY-----\nabc"],
)  # fmt: skip
def test_what_a_line_says_about_another_is_never_forgotten(text):
    """Lines that were clean beside others are not taken for clean where they tell something."""
    redactor = Redactor()
    expected = Redactor().text(text)
    for _ in range(3):
        for line in text.split("\n"):
            redactor.text(f"Traceback\n{line}\nend")
            redactor.text(f"Traceback\n{line}\n7")
    assert redactor.text(text) == expected


def test_a_trace_of_known_frames_is_looked_at_once():
    """The lines of a stack are remembered, in whatever order they come, but never what stands in one of them alone."""
    redactor = Redactor()
    frames = [f'  File "/srv/{name}.py", line 12, in call\n    return self.next(order)' for name in "abcd"]
    for first, second in ((0, 1), (2, 3), (0, 2), (1, 3)):
        redactor.text(f"Traceback:\n{frames[first]}\n{frames[second]}")
    known = redactor._memory.unknown([f"Traceback:\n{frames[3]}\n{frames[0]}".replace("12", "99")])
    assert known == {}
    assert len(redactor.text("\n".join(frames * 2000))) <= redactor.policy.max_length
    assert redactor.text(f"Traceback:\n{frames[3]}\npassword=h0nter2x").endswith("=[redacted:password]")


@given(st.from_regex(r"(W/)?\"?[0-9a-f]{1,10}(-?[0-9a-f]{2,8}){1,6}\"?", fullmatch=True))
@settings(max_examples=800, deadline=None)
def test_what_passes_for_an_id_holds_nothing(text):
    """A trace id, a UUID and an entity tag are never a card or an account."""
    if is_id(text, *templates([text])):
        assert SCANNER.scan(text, Hits()) == text


@pytest.mark.parametrize("text", ["4111111111111111", '"4111111111111111"', "be68539007547034", "a4111111111111111"])
def test_a_card_or_an_account_never_passes_for_an_id(text):
    """Digits alone, in quotes, behind a letter of hexadecimal numbers."""
    redactor = Redactor()
    for number in range(50):
        redactor.redact({"id": f"{random.Random(number).getrandbits(64):016x}", "n": "5555555555555551"})
    assert redactor.redact({"id": text}).matches


def test_a_text_that_only_its_digits_made_clean_teaches_nothing():
    """An impossible social security number is clean, and the next one is found all the same."""
    redactor = Redactor()
    for clean, secret in (
        ("000-12-3456", "536-90-4399"), ("4111111111111112", "4111111111111111"),
        ("4111\xa01111\xa01111\xa01112", "4111\xa01111\xa01111\xa01111"), ("from 10.0.0.300", "from 10.0.0.200"),
        ("NL86 VBJL 0169 7331 13", "NL86 VBJL 0169 7331 12"), ("901820/901820", "033040/568164"),
        ("to ann%20example.org", "to ann%40example.org"),
    ):  # fmt: skip
        for text in (clean, clean, clean.replace("3", "4")):
            assert redactor.redact({"note": text}).value == {"note": text}
        assert redactor.redact({"note": secret}).matches


def test_names_of_a_user_that_differ_in_a_digit_are_told_apart():
    """Where a policy trusts badge1 and hides badge2, what was clean with one is not clean with the other."""
    redactor = Redactor(RedactionPolicy(names=("badge2",)))
    assert redactor.text("badge1=xyzw") == "badge1=xyzw"
    assert redactor.text("badge2=xyzw") == "badge2=[redacted:name]"


_LEAVES = st.one_of(
    _TEXTS, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.binary(max_size=8),
    st.sampled_from([4111111111111111, CANARY, f"token={CANARY}", f'{{"password": "{CANARY}"}}', "--password", "/srv"]),
)  # fmt: skip
_NAMES = st.sampled_from(
    ["a", "id", "key", "number", "card", "password", "field", "before", "after", "name", "tokens", "headers", "auth",
     "path", "pwd", "secret", "http.route", "user_agent", "authorization", "X-Api-Key", "new\nline", "my PIN is 1234",
     "Name", "Value", "lhs", "session", "pin", "stringValue", "intValue", "loc", "input", "labels", "contraseña"]
)  # fmt: skip
_KEYS = st.integers(0, 9) | st.sampled_from([4111111111111111, b"password", b"x", b"token=abc123", (1, 2), ("pin", 1)])
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(_NAMES, inner, max_size=5),
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.tuples(st.sampled_from(["password", "x-request-id", "authorization", "--token"]), _TEXTS),
        st.tuples(st.sampled_from([b"x-api-key", b"host"]), st.binary(max_size=8) | st.just(CANARY.encode())),
    ),
    max_leaves=12,
)


@given(st.dictionaries(_NAMES | _KEYS, _VALUES, max_size=6))
@settings(max_examples=600, deadline=None)
def test_a_look_leads_to_what_the_walk_finds(value):
    """Whichever way a value goes, the same is taken out of it, and what was remembered changes nothing."""
    redactor = Redactor()
    expected = walked(value)
    before = copy.deepcopy(value)
    for _ in range(2):
        found = redacted(value, redactor)
        if found != expected:  # two secrets that share characters: the one or the other, and nothing is left of either
            assert found[1]
            assert expected[1]
            assert walked(found[0])[1] == []
    assert value == before, "the input is never changed"


def test_one_container_in_two_places_is_changed_in_both():
    """What is shared in a record is no less secret where it is seen the second time."""
    shared = {"note": f"token={CANARY}"}
    value, matches = redacted({"a": shared, "b": [shared]})
    assert CANARY not in json.dumps(value)
    assert [path for _, path in matches] == ["a.note", "b[0].note"]


def test_what_does_not_change_is_shared_with_the_input():
    """A record with one secret costs one copy on the way to it."""
    value = {"clean": {"a": [1, 2]}, "deep": {"list": ["x", {"password": CANARY}]}}
    clean = Redactor().redact(value).value
    assert clean == {"clean": {"a": [1, 2]}, "deep": {"list": ["x", {"password": "[redacted:password]"}]}}
    assert clean["clean"] is value["clean"]


@pytest.mark.parametrize("part", ["tuning", "held_out"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_corpus_says_the_same_both_ways(part, whole, monkeypatch):
    """Over realistic texts, a redactor that has seen the others misses nothing that one alone would find."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    from redaction_corpus import generate

    redactor = Redactor()
    for record in generate(part, 150, 7, whole=whole):
        assert redacted(record.value, redactor)[0] == walked(record.value)[0]


@given(st.lists(_TEXTS | st.text(max_size=12), min_size=1, max_size=4))
@settings(max_examples=800, deadline=None)
def test_with_re2_and_without_it_the_same_is_suspected(texts):
    """The gate passes over a question only where it has no answer."""
    pytest.importorskip("re2")
    screen = Redactor()._memory.scanner.suspects.__self__
    assert screen._gate is not None
    gated = screen.suspects(texts)
    screen._gate = None
    assert gated == screen.suspects(texts)


def test_a_login_with_a_blank_beyond_ascii_is_suspected():
    """What ends an address is a blank of ASCII, for the screen as for the detector."""
    assert Redactor().text("//ann:user\x85s3cret@host") == "//ann:[redacted:url_credential]@host"


def test_a_gate_without_memory_lets_everything_through(monkeypatch):
    """RE2 that finds nothing, not even what stands in every text, has not looked."""
    monkeypatch.setattr(gates, "linear_set", lambda patterns: lambda raw: None)
    assert gates.gate.__wrapped__(frozenset())(b"\nclean") == (ANYTHING, None)


def _shapes():
    """Return a pattern for every shape of token that is looked for, by kind."""
    for kind, prefixes, rest in (*vendors.BEGINNINGS, *vendors.DOTTED):
        for prefix in prefixes.split():
            yield f"{kind}: {prefix}", re.escape(prefix) + rest
    for kind, inside, shape in vendors.ANYWHERE:
        yield f"{kind}: {inside[0]}", shape


_SHAPES = {name: re.sub(r"\(\?[!<].*?\)", "", shape).replace("}+", "}") for name, shape in _shapes()}


@pytest.mark.parametrize("name", _SHAPES)
def test_every_shape_of_token_is_suspected_however_it_is_cut_up(name):
    """A token whose hyphens, slashes and full stops leave no long word in it is none the less one."""

    @given(st.sampled_from(["", "x ", "a.", "b/", "c+", "=", "_"]), st.from_regex(_SHAPES[name], fullmatch=True))
    @settings(max_examples=20, deadline=None)
    def is_suspected(before, token):
        text = f"{before}{token}"
        if SCANNER.scan(text, Hits()) != text:
            assert SCANNER.suspects(["other text", text]).keys() == {1}

    is_suspected()


@pytest.mark.parametrize(
    "secret",
    ["xoxb-" + "1234567890", "whsec_" + "abcdefghi/klmnopqrst/abc", "ya29." + "abcdefghij.abcdefghi.abcd",
     "glc_" + "abcdefghij+/abcdefghijkl/abcdefghijk==", "hooks.slack.com/services/" + "T1234567/B1234567/abcdefgh12",
     "ops_" + "eyJ" + "a1B2c3D4/+" * 12, "1//" + "0abcdefgh-ijklmnop_abcdefgh-ijklmnop"],
)  # fmt: skip
def test_a_token_in_short_parts_is_found(secret):
    """No part of it is longer than a word of a sentence."""
    assert secret not in Redactor().text(f"use {secret} now")


def test_what_is_found_is_told_in_the_order_of_the_record():
    """In every process, however it orders the words of a text."""
    record = {
        "a": "use ghp_" + "a1" * 18,
        "b": "see glpat-" + "b2" * 10,
        "c": "or hvs." + "c3" * 20,
        "d": "npm_" + "d4" * 18,
    }
    assert [match.path for match in Redactor().redact(record).matches] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "7z x a.7z -phunter2", "app sq0atp-WLILJos_CbfhBlb-BMrNabcd", "ya29.abcde-fghij_klmno-pqrst_uvwxy",
        "$2b$12$abcdef/hijkl.nopqrstuvABCDEF/HIJKL.NOPQRSTUVWXYZabcde", "sk-or-v1-abcde_fghij-klmno_pqrst-uvwxy",
        "hub pat-na1-8c8d2a17-1f5d-4c6e-9b3a-2f4e6d8c0b1a", "Basic YTpi+jE/x+g=",
        "g 1//0abcde-fghij_klmno-pqrst_uvwxy-abcde", "o A3-C4ZJMN-PQTZTL-HGL84-G64M7-KVZRN-4ZVP6",
        "o sha256~abcdefgh-abcdefgh-abcdefgh-abcdefgh-abcdefg", "f fo1_abcdefgh-abcdefgh-abcdefgh-abcdefgh-abcdefg",
        "e k8s-aws-v1." + "abcdefgh-" * 12,
    ],
)  # fmt: skip
def test_a_digit_of_a_rule_is_not_just_any_digit(text):
    """What was clean with another digit in its place answers for nothing."""
    clean = Redactor().text(text)
    assert clean != text
    for other in "0123456789":
        redactor = Redactor()
        for _ in range(3):
            redactor.text(re.sub("[0-9]", other, text))
        assert redactor.text(text) == clean
