# ruff: noqa: E501, RUF001
"""A user's regular expression: refused when a hostile line could hold it up, taken when it could not."""

import random
import re
import string
import time

import pytest

from mobius_otel import compat
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction import RedactionPolicy, Redactor
from mobius_otel.telemetry.redaction.patterns import checked_pattern

#: Patterns that are known to take the square of a text's length, or worse, in an engine that goes back.
HOSTILE = [
    r"(a+)+", r"(a+)+$", r"(a*)*b", r"x(a|a)*$", r"(a|aa)+$", r"x(a|a?)+$", r"(.*a){10}", r"(.*a){12}x", r"x([a-zA-Z]+)*$",
    r"x(\w+\s?)*$", r"(\d+)*x", r"(x+x+)+y", r"x*x*x*y", r"\d+\d+$", r"^\d+\d+$", r"\s+$", r"^(a+)+$", r"(?:a+){2,}b",
    r"^(([a-z])+.)+[A-Z]([a-z])+$", r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}[a-z]{2,3}$",
    r"^([a-zA-Z0-9_.\-])+@(([a-zA-Z0-9\-])+.)+([a-zA-Z0-9]{2,4})+$", r"\w+@\w+\.com", r"[\w.-]+@[\w.-]+\.\w+",
    r"(?:[^<]+|<(?!script))*</script>", r"<[^>]+>", r"<.*?>", r"\((.*)\)", r"/\*.*?\*/", r"a.*b", r"x.*y.*z",
    r"key=[^&]+&", r"^\s*(.+?)\s*$", r"\s*,\s*", r"(?:\s|,)*;", r"^(?:(?:\d+,?)+)$", r"(\d+\.?\d*)+e", r"[a-z]+\d*[a-z]+!",
    r"(?:a?){20}a{20}", r"(a?a?)*b", r"(?:\w|\d)+!", r"(?i)A+a+!", r"(?i)x(?:k|\u212a)*!", r"(?=\d+x)\d", r"a(?=\w*!)",
    r"a(?!\w*!)b", r"((ab)*)*c", r"(a(b)*)*c", r"(?:(?:a|b)*)*c", r"-.{0,500}\d+x", r".{0,300}a.{0,300}b.{0,300}c",
    r"x.{0,200}y.{0,200}z", r"\d++x", r"a[^b]*+b", r"\s*+;", r"(a)\1", r"(\w+)\s\1", r"(?a:\w+)!", r"password=(.*)$",
    r"\b[\w.]+@", r"\n?(?:a.*b|c)d.*e", r"(?:\d{1,2}){3,}x", r"(?:a|ab)(?:c|bcd)(?:d*)+x", r"\w{1,9}\d{1,9}\w{1,9}\d{1,9}\w{1,9}!",
    r"eyJ[\w-]+\.[\w-]+\.[\w-]+", r"'(?:[^'\\]|\\.)*'", r"(?:tag: \w+, )*end", r"x\d+\d+",
]  # fmt: skip

#: Patterns that people write, each with a text that it finds.
INNOCENT = [
    (r"B-[0-9]{6}", "B-123456"), (r"EMP-\d+", "EMP-77"), (r"\bEMP\d{1,8}\b", "EMP77"), (r"\d{4}", "1234"),
    (r"[A-Z]{2}\d{4}(?:-\d{2}){2}", "AB1234-12-12"), (r"(?i)kunde:\s*\w+", "KUNDE: meier"), (r"x\d+y\d+", "x1y2"),
    (r"(?<=id=)\w{1,20}", "id=x"), (r"(?:ab|cd)\d{3}", "cd123"), (r"(?:emp|usr)-(\d{3,8})", "usr-1234"),
    (r"\d{3}-\d{2}-\d{4}", "536-90-4399"), (r"\b\d{5}(?:-\d{4})?\b", "12345-6789"), (r"(?:\d{1,3}\.){3}\d{1,3}", "10.0.0.1"),
    (r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b", "10.0.0.1"), (r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", "00:1b:44:11:3a:b7"),
    (r"(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}", "1:2:3:4:5:6:7:8"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "123e4567-e89b-12d3-a456-426614174000"),
    (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "123e4567-e89b-12d3-a456-426614174000"),
    (r"\b[0-9a-f]{40}\b", "a" * 40), (r"[A-Fa-f0-9]{64}", "b" * 64), (r"\+\d{1,3} ?\d{4,14}", "+49 15112345678"),
    (r"\(?\d{3}\)?[ .-]?\d{3}[ .-]?\d{4}", "(555) 123-4567"), (r"\b[A-Z]{5}\d{4}[A-Z]\b", "ABCDE1234F"),
    (r"\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b", "RSSMRA85T10A562S"), (r"\b\d{8}[A-HJ-NP-TV-Z]\b", "12345678Z"),
    (r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", "123.456.789-09"), (r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b", "SW1A 1AA"),
    (r"DE\d{20}", "DE" + "1" * 20), (r"\bDE\d{2}(?: ?\d{4}){4} ?\d{2}\b", "DE89 3704 0044 0532 0130 00"),
    (r"(?:\d{4}[ -]?){3}\d{4}", "4111-1111-1111-1111"), (r"AKIA[0-9A-Z]{16}", "AKIA" + "A" * 16),
    (r"ghp_[0-9A-Za-z]{36}", "ghp_" + "a" * 36), (r"sk_live_[0-9a-zA-Z]{24,}", "sk_live_" + "a" * 24),
    (r"xox[baprs]-[0-9A-Za-z-]{10,48}", "xoxb-" + "1" * 12), (r"eyJ[\w-]{1,500}\.[\w-]+", "eyJa.b.c"),
    (r"(?i)bearer\s+[a-z0-9._~+/-]+=*", "Bearer abc.def="), (r"(?i)authorization:\s*basic\s+[a-z0-9+/=]+", "Authorization: Basic QQ=="),
    (r"(?i)\bpassword\s*[:=]\s*\S+", "password = x"), (r"password=[^&\s]+", "password=x"), (r"token=[^;]*", "token=a"),
    (r"-----BEGIN [A-Z ]+-----", "-----BEGIN RSA PRIVATE KEY-----"), (r"\"ssn\":\s*\"[^\"]*\"", '"ssn": "1"'),
    (r'"[^"]*"', '"a b"'), (r"https?://\S+", "https://x/y"),
    (r"postgres(?:ql)?://[^\s@/]+@\S+", "postgres://a:b@c"), (r"(?:^|\s)#\d+", " #12"), (r"[\w.+-]{1,64}@[\w-]{1,63}\.com", "a@b.com"),
    (r"[\w.+-]{1,64}@[\w.-]{1,255}\.[a-z]{2,10}", "a.b@c.co.uk"), (r"\b\d{1,2}/\d{1,2}/\d{4}\b", "1/12/1990"),
    (r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", "1990-12-31"), (r"\b(?:Mr|Mrs|Ms)\.? [A-Z][a-z]+", "Mrs. Smith"),
    (r"(?:order|invoice) no\.? ?\d+", "invoice no. 7"), (r"session_id=(?P<id>[0-9a-f]{32})", "session_id=" + "a" * 32),
    (r"\$2[aby]\$\d{2}\$[./A-Za-z0-9]{53}", "$2b$12$" + "a" * 53), (r"\[(?:\w+,)*end", "[a,b,end"),
    (r"id:(?:\d+,)+;", "id:1,22,;"), (r"\bMRN[ :#-]{0,3}\d{6,10}\b", "MRN: 1234567"), (r"(?s)<secret>.{0,200}?</secret>", "<secret>a</secret>"),
    (r"x-[a-z]*+!", "x-abc!"), (r"(?>ab|a)c", "abc"), (r"kd_(?:[a-z]{3}|\d{4})_[A-Z]+", "kd_1234_AB"), (r"\d+", "123"), (r"\w+", "word"),
    (r"[А-Яа-я]{2}\d{6}", "АБ123456"), (r"^user \S+ ", "user ann "), (r"(?m)^pin \d{4}$", "pin 1234"), (r"\bv\d+\.\d+\.\d+\b", "v1.2.3"),
    (r"acct[_-]?(?:no|num|number)?[:=]\s?\d{6,17}", "acct_no=123456"), (r"(?i)passport\W{1,3}[A-Z]\d{8}", "Passport: C12345678"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_re2(monkeypatch):
    """The check decides alone, whether or not RE2 is installed here."""
    monkeypatch.setattr(compat, "linear_pattern", lambda pattern: None)
    monkeypatch.setattr(compat, "has_linear_patterns", lambda: False)


@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_hostile_pattern_is_refused_with_its_place_and_the_way_out(pattern):
    """Nobody learns by an outage that a pattern goes back over what it took."""
    with pytest.raises(ConfigurationError, match=r"redaction\.patterns\.mine") as refused:
        RedactionPolicy(patterns=(("mine", pattern),))
    assert "without" in str(refused.value)
    assert "Bound it" in refused.value.hint
    assert "pip install 'mobius_otel[re2]'" in refused.value.hint


@pytest.mark.parametrize(("pattern", "text"), INNOCENT)
def test_an_innocent_pattern_is_taken_and_finds(pattern, text):
    """The check refuses nothing without reason."""
    policy = RedactionPolicy(patterns=(("mine", pattern),))
    assert "[redacted:mine]" in Redactor(policy).text(
        f"see:{text}" if pattern[0] != "^" and "m)^" not in pattern else text
    )


def _seconds(compiled, text):
    best = 1e9
    for _ in range(3):
        before = time.process_time()
        for _found in compiled.finditer(text, 0, len(text)):
            pass
        best = min(best, time.process_time() - before)
    return best


def _attacks(pattern, chance, number=8):
    """Texts that a pattern almost finds, over and over: pieces of it, and of what it takes."""
    letters = [c for c in pattern if c in string.printable and c not in "\\()[]{}|?*+^$"] or ["a"]
    letters += [*"aA1 .-:@=,_x\n\"'", "é"]
    yield from sorted(chance.sample(sorted(set(letters)), min(10, len(set(letters)))))
    plain = re.sub(r"\\[a-zA-Z]|[\\()\[\]{}|?*+^$]", "", pattern) or "a"
    for _ in range(number):
        start = chance.randrange(len(plain))
        piece = plain[start : start + chance.randrange(1, 12)]
        yield piece + "".join(chance.choices(letters, k=chance.randrange(0, 4)))
        yield "".join(chance.choices(letters, k=chance.randrange(2, 6)))


def assert_linear(pattern, attacks):
    """Twice the text takes about twice the time; a square would take four times."""
    compiled = checked_pattern("mine", pattern)
    for attack in attacks:
        short, long = ((attack * (length // len(attack) + 1))[:length] + "\0" for length in (5_000, 10_000))
        if _seconds(compiled, long) < 0.01:  # too short to be measured, and no danger
            continue
        ratios = [_seconds(compiled, long) / _seconds(compiled, short) for _ in range(3)]
        assert min(ratios) < 3, (pattern, attack, ratios)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in INNOCENT])
def test_what_is_taken_stays_linear(pattern):
    """Over its own pieces, its texts and single characters, with an end that it cannot find."""
    chance = random.Random(pattern)
    text = dict(INNOCENT)[pattern]
    assert_linear(pattern, [*_attacks(pattern, chance), text, text[:-1], text[1:], text[: len(text) // 2] or "a"])


_ATOMS = ["a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", r"\s", "1", "-", ":", r"\W", "(?:a|b)", "(?:ab|c)", "(?:a-|b)", r"\b", "(?:,a+)",
          "(?:a?)", "(?=a)", "(?!ab)", "(?<=-)", "(?:1|[a-c]+)", "(?:a+-)", r"(?:\d{1,3}\.)"]  # fmt: skip
_TIMES = ["", "", "", "", "+", "*", "?", "{2}", "{1,3}", "{0,40}", "+?", "*?", "++", "{2,}", "{1,300}"]


def made_up_pattern(chance):
    """A pattern by chance."""
    return "".join(chance.choice(_ATOMS) + chance.choice(_TIMES) for _ in range(chance.randrange(2, 7)))


def test_whatever_the_check_takes_is_linear():
    """Of patterns made up by chance, those that are taken keep the promise."""
    chance = random.Random(11)
    taken = 0
    while taken < 60:
        pattern = made_up_pattern(chance)
        try:
            checked_pattern("mine", pattern)
        except ConfigurationError:
            continue
        taken += 1
        assert_linear(pattern, _attacks(pattern, chance, 4))
