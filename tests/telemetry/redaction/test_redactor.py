"""The redactor: any value in, plain data without secrets out, never an exception."""

import collections
import copy
import dataclasses
import enum
import json
import os
import random
import threading
import time
import types

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobius_otel import conventions
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.redaction import Match, RedactionPolicy, Redactor
from mobius_otel.telemetry.redaction.tally import tally
from tests.telemetry.redaction.secrets_kit import BY_VALUE, CANARY

REDACTOR = Redactor()
SAID = f"password={CANARY}"


def test_a_nested_record_loses_its_secrets_and_nothing_else():
    """By name, by value, in lists, in JSON inside of text, in header pairs, command lines and changes."""
    record = {
        "user": "ann", "password": CANARY, "tokens": {"input": 3, "output": 5},
        "api_key": {"id": "k_1", "value": CANARY},
        "changes": [{"field": "pin", "before": "1234", "after": "9999"}, {"field": "total", "before": 1, "after": 2}],
        "headers": [["authorization", f"Bearer {CANARY}"], ["host", "x"]],
        "command": ["run", "--token", CANARY, "--verbose"],
        "payload": json.dumps({"client_secret": CANARY, "b": 1.5}),
        "card": {"number": 4111111111111111, "brand": "visa"}, "raw": SAID.encode(), "time": 1700000000123456789,
        "credentials": {"username": "ann", "key": [CANARY]}, "n": None, "ok": True,
    }  # fmt: skip
    before = copy.deepcopy(record)
    result = REDACTOR.redact(record)
    assert result.value == {
        "user": "ann", "password": "[redacted:password]", "tokens": {"input": 3, "output": 5},
        "api_key": {"id": "k_1", "value": "[redacted:api_key]"},
        "changes": [
            {"field": "pin", "before": "[redacted:pin]", "after": "[redacted:pin]"},
            {"field": "total", "before": 1, "after": 2},
        ],
        "headers": [["authorization", "Bearer [redacted:authorization]"], ["host", "x"]],
        "command": ["run", "--token", "[redacted:token]", "--verbose"],
        "payload": '{"client_secret": "[redacted:secret]", "b": 1.5}',
        "card": {"number": "[redacted:card]", "brand": "visa"}, "raw": b"password=[redacted:password]",
        "time": 1700000000123456789, "credentials": {"username": "ann", "key": ["[redacted:credential]"]},
        "n": None, "ok": True,
    }  # fmt: skip
    assert record == before
    assert Match("pin", "changes[0].after") in result.matches
    assert Match("authorization", "headers[0][1]") in result.matches
    assert CANARY not in repr(result)
    assert REDACTOR.redact(result.value).matches == ()


def test_a_clean_value_is_the_same_object():
    """Nothing is copied when nothing was found."""
    record = {"a": 1, "b": ["x", {"c": None}], "t": (1, 2), "time": "2026-01-01T00:00:00Z"}
    assert REDACTOR.redact(record).value is record
    assert REDACTOR.attribute("http.route", record) is record


def test_one_attribute_is_judged_by_its_name():
    """For whoever has a name and a value, and no mapping."""
    assert REDACTOR.attribute("db.password", CANARY) == "[redacted:password]"
    assert REDACTOR.attribute("pin", 1234) == "[redacted:pin]"
    assert REDACTOR.attribute("tokens", 1234) == 1234
    assert REDACTOR.attribute("http.route", "/a?token=x") == "/a?token=x"


def test_a_key_of_a_mapping_can_be_a_secret():
    """Keys are texts like others, and two that become equal both stay."""
    value = REDACTOR.redact({"a@example.com": 1, "b@example.com": 2, 4111111111111111: 3}).value
    assert list(value.values()) == [1, 2, 3]
    assert "example" not in repr(value)
    assert "4111" not in repr(value)


@pytest.fixture
def counted():
    """The matches that were counted, by kind and location."""
    backend = InMemoryMetricsBackend()
    defaults.install(defaults.Defaults(emitter=MetricEmitter("test", backend=backend)))
    tally._waiting.clear()

    def count(kind, location):
        return backend.value(
            conventions.REDACTION_MATCHES.name,
            **{conventions.REDACTION_KIND: kind, conventions.REDACTION_LOCATION: location},
        )

    return count


def test_matches_are_counted_by_kind_and_location(counted):
    """Only where there are some."""
    REDACTOR.redact({"password": "x1", "b": [{"password": "y2"}], "c": "plain"}, location="audit")
    REDACTOR.redact({"c": "plain"}, location="audit")
    assert counted("password", "audit") == 2


def test_matches_in_log_lines_are_counted_later(counted):
    """A handler holds its lock while a line is redacted, so the count waits for the next one elsewhere."""
    REDACTOR.text(SAID, "logging")
    REDACTOR.text("token=abc", "span")
    assert (counted("password", "logging"), counted("token", "span")) == (1, 1)


def test_a_forked_child_counts_nothing_twice(counted):
    """What waits in the parent is the parent's."""
    REDACTOR.text(SAID, "logging")
    if (child := os.fork()) == 0:
        os._exit(len(tally._waiting))
    assert os.waitpid(child, 0)[1] == 0
    tally.flush()
    assert counted("password", "logging") == 1


class Raises:
    def __str__(self):
        raise RuntimeError(CANARY)


class NoText:
    def __str__(self):
        return 5  # noqa: PLE0307 - that is what is hostile about it


class Liar:
    @property
    def __class__(self):
        raise RuntimeError(CANARY)

    def __str__(self):
        return SAID


class EvilStr(str):  # noqa: SLOT000
    def __str__(self):
        raise RuntimeError(CANARY)

    __hash__ = __eq__ = strip = lower = __str__


class Endless(collections.abc.Mapping):
    def __iter__(self):
        number = 0
        while True:
            number += 1
            yield f"k{number}"

    def __getitem__(self, key):
        return SAID

    def __len__(self):
        raise RuntimeError


class EvilDict(dict):
    def keys(self):
        raise RuntimeError

    items = __iter__ = __getitem__ = keys


class EvilList(list):
    def __iter__(self):
        while True:
            yield SAID

    def __len__(self):
        return 10**9


class Huge(collections.abc.Sequence):
    def __getitem__(self, index):
        return SAID

    def __len__(self):
        return 10**12


class Words(enum.StrEnum):
    A = SAID


class Things(enum.Enum):
    A = SAID


@dataclasses.dataclass
class Login:
    password: str = CANARY
    user: str = "ann"


@dataclasses.dataclass
class BrokenField:
    x: int = 1

    def __getattribute__(self, name):
        if name == "x":
            raise RuntimeError
        return object.__getattribute__(self, name)


Pair = collections.namedtuple("Pair", "user password")  # noqa: PYI024


def _cycle():
    one, two = [], {}
    one.append(one)
    two["a"] = [two, two, one]
    return two


def _wide():
    value = [SAID]
    for _ in range(20):
        value = [value] * 50
    return value


def _deep():
    value = SAID
    for _ in range(5000):
        value = [value]
    return value


HOSTILE = {
    "str raises": Raises(), "str is no text": NoText(), "class raises": Liar(), "text subclass": EvilStr(SAID),
    "endless mapping": Endless(), "lying dictionary": EvilDict(password=CANARY), "lying list": EvilList([SAID]),
    "huge sequence": Huge(), "enumeration": Things.A, "text enumeration": Words.A, "dataclass": Login(),
    "broken field": BrokenField(), "named tuple": Pair("ann", CANARY), "cycle": _cycle(), "wide": _wide(),
    "deep": _deep(), "long": SAID.ljust(10_000_000, "a"), "ten megabytes": f"{SAID} " * 400_000,
    "surrogates": f"\ud800{SAID}\udfff", "nan": float("nan"), "huge number": 10**100_000, "negative": -(10**30),
    "bytes": b"\xff\xfe" + SAID.encode(), "bytearray": bytearray(SAID.encode()), "view": memoryview(SAID.encode()),
    "bad bytes": b"\xff" * 100_000, "set": {SAID}, "frozenset": frozenset({SAID}), "deque": collections.deque([SAID]),
    "proxy": types.MappingProxyType({"password": CANARY}), "ordered": collections.OrderedDict(password=CANARY),
    "exception": ValueError(SAID), "odd keys": {(SAID,): 1, b"token=" + CANARY.encode(): 2, None: 3, 1.5: 4},
    "generator": (item for item in [SAID]), "function": test_a_clean_value_is_the_same_object, "class": Raises,
    "user dict": collections.UserDict(password=CANARY), "user text": collections.UserString(SAID),
    "namespace": types.SimpleNamespace(password=CANARY), "json twice": json.dumps(json.dumps({"token": CANARY})),
    "json names twice": f'{{"a":"{SAID}","a":"x"}}', "json deep": "[" * 5000 + f'"{SAID}"' + "]" * 5000,
    "json number": "[" + "1" * 5000 + f',"{SAID}"]', "json command": f'["--token","{CANARY}"]', "range": range(10**12),
    "time": time.gmtime(0),
}  # fmt: skip
WRAPS = {
    "bare": lambda v: v,
    "named": lambda v: {"a": v},
    "twice": lambda v: [v, {"x": v}],
    "told": lambda v: {"password": v},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_blanked_and_never_raises(name, wrap):
    """No secret passes, the result is plain, and a second pass finds nothing more."""
    before = time.perf_counter()
    result = REDACTOR.redact(WRAPS[wrap](HOSTILE[name]))
    assert time.perf_counter() - before < 2
    assert CANARY not in repr(result)
    json.dumps(result.value, default=lambda raw: raw.decode("latin-1") if type(raw) is bytes else 1 / 0)
    again = REDACTOR.redact(result.value)
    assert again.matches == ()
    assert repr(again.value) == repr(result.value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Raises(), "unreadable"),
        (_cycle(), "cycle"),
        (_deep(), "depth"),
        (range(5000), "items"),
        ("a" * 50_000, "length"),
    ],
)
def test_what_is_beyond_a_limit_is_counted_by_its_kind(value, kind):
    """Who reads the record learns why something is missing."""
    assert kind in {match.kind for match in REDACTOR.redact(value).matches}


def test_a_text_beyond_the_limit_keeps_its_beginning_without_a_half_secret():
    """The cut is made between words, so that no half of a secret is left that nobody recognises."""
    redactor = Redactor(RedactionPolicy(max_length=64))
    token = BY_VALUE["github"][0]
    clean = redactor.text(f"some words before it {token} and more words behind it")
    assert clean == "some words before it[redacted:length]"
    assert redactor.text(clean) == clean


def test_the_limits_hold_for_one_record_together():
    """A thousand texts of the greatest length do not take a thousand times as long."""
    record = {f"k{number}": f"{chr(0x4E00 + number)} " + "word " * 6000 for number in range(200)}
    before = time.perf_counter()
    kinds = {match.kind for match in REDACTOR.redact(record).matches}
    assert time.perf_counter() - before < 5
    assert kinds == {"length"}


def test_the_memory_of_clean_texts_is_bounded_and_holds_no_secret():
    """Short clean texts are remembered, never one that held something."""
    redactor = Redactor()
    redactor.redact({"field": "password", "after": CANARY})
    assert CANARY not in redactor._memory.clean
    for number in range(40_000):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        redactor.redact({f"k{number}": f"text {letters}", "again": f"{letters} {number}"})
        if number < 3_000:
            redactor.redact({"note": f"{letters}: token={CANARY}", "field": "password", "after": CANARY})
    redactor.redact({"password": CANARY, "x": SAID})
    memory = redactor._memory
    known = (memory.clean, memory.names, memory._templates, memory._seen, memory.beside, memory.masked, memory._namers)
    assert all(0 < len(each) <= 32768 for each in known)
    assert not any(CANARY in repr(each) for each in known)


def test_a_full_memory_forgets_a_half():
    """What a service says again and again is mostly known still, and the longest texts do not make it grow."""
    memory = Redactor()._memory
    for number in range(30_000):
        memory.remember_masked(f"token={number}", "token=[redacted:token]", ["token"])
    for number in range(32_768):
        memory.remember_scanned(f"text {number}")
    assert (len(memory.clean), len(memory.masked)) == (32_768, 30_000)
    memory.remember_scanned("one more")
    assert (len(memory.clean), len(memory.masked)) == (16_385, 15_000)
    for number in range(20_000):
        memory.remember_scanned(f"{number} " + "x" * 1000)
        memory.remember_masked(f"{number} token=", f"{number} " + "y" * 1000, ["token"])
    kept = [*memory.clean, *(text for text, _ in memory.masked.values())]
    assert 1_000_000 < sum(map(len, kept)) <= 4_000_000


def test_a_text_with_a_secret_that_comes_again_is_masked_and_counted_again():
    """What became of it is remembered, and nothing of the text: by name, place and number all is as the first time."""
    redactor = Redactor()
    record = {"a": f"token={CANARY} 1", "b": [f"token={CANARY} 1", "card 4111 1111 1111 1111, pin=4711"]}
    first = redactor.redact(record)
    assert len(first.matches) == 4
    assert redactor._memory.masked
    for value in (record, {"a": record["a"], "b": record["b"]}):
        again = redactor.redact(value)
        assert again.value == first.value
        assert sorted(again.matches) == sorted(first.matches)
    assert redactor.text(record["a"]) == first.value["a"]
    assert redactor.attribute("note", record["a"]) == first.value["a"]
    assert redactor.attribute("token", record["a"]) == "[redacted:token]", "a name tells more than the text"


def test_a_number_that_was_a_card_is_none_under_the_name_of_an_id():
    """What is remembered of a text is not what a name tells."""
    redactor = Redactor()
    for _ in range(2):
        assert redactor.redact({"number": "4000000000000000006"}).matches
        assert not redactor.redact({"order_id": "4000000000000000006"}).matches


def test_a_document_is_judged_where_it_stands():
    """One that stands too deep to be read is a text there, and a document elsewhere."""
    policy = RedactionPolicy(max_depth=3)
    inner = json.dumps({"session": {"a": 1}, "note": f"token={CANARY}", "pin": "4711"})
    deep = {"a": {"b": {"c": inner}}}
    redactor = Redactor(policy)
    expected = [Redactor(policy).redact(value).value for value in (deep, {"c": inner})]
    for _ in range(2):
        assert [redactor.redact(value).value for value in (deep, {"c": inner})] == expected


def test_a_key_that_names_a_setting_stays_whole():
    """Sections of .NET, of an environment; also where the value is no secret."""
    value = {
        "Jwt:Key": CANARY,
        "Jwt:Audience": "x",
        "ApiKeys:Stripe": CANARY,
        "password=": CANARY,
        "API key (new)": CANARY,
    }
    clean = {
        "Jwt:Key": "[redacted:private_key]", "Jwt:Audience": "x", "ApiKeys:Stripe": "[redacted:api_key]",
        "password=": "[redacted:password]", "API key (new)": "[redacted:api_key]",
    }  # fmt: skip
    for _ in range(2):
        assert Redactor().redact(value).value == Redactor().redact({"a": value}).value["a"] == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("7,http://x.org:8080,ann@x.org,active", "7,http://x.org:8080,[redacted:email],active"),
        ("url=http://x:8080;email=ann@x.org", "url=http://x:8080;email=[redacted:email]"),
    ],
)
def test_behind_a_port_no_login_ends(text, clean):
    assert Redactor().text(text) == clean


def test_a_detector_that_failed_once_is_asked_again():
    """A text that was blanked since a function raised is no text with a secret."""
    fails = [True]

    def find(text):
        if fails[0]:
            raise ValueError
        return []

    redactor = Redactor(RedactionPolicy(detectors=(("badge", find),)))
    assert redactor.redact({"note": "some text"}).value == {"note": "[redacted:unreadable]"}
    fails[0] = False
    assert redactor.redact({"note": "some text"}).value == {"note": "some text"}


def test_threads_share_one_redactor():
    """Eight threads, one redactor, no secret and no exception."""
    redactor = Redactor()
    leaks = []

    def work(seed):
        for number in range(500):
            value = redactor.redact({"n": f"{seed}-{number}", "password": CANARY, "m": f"{SAID} {number}"}).value
            leaks.extend(part for part in value.values() if CANARY in part)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leaks == []


FORMS = [
    SAID, f'{{"token":"{CANARY}"}}', f"https://u:{CANARY}@h/x", f"Authorization: Bearer {CANARY}",
    f"Cookie: a={CANARY}",
    f"GET /?api_key={CANARY}&a=1", {"password": CANARY}, {"apiToken": CANARY}, {"client_secret": {"a": [CANARY]}},
    {"x-api-key": CANARY.encode()}, f"cmd --password {CANARY} x", Login(),
]  # fmt: skip
ATOMS = [
    1,
    None,
    True,
    2.5,
    "hello",
    "x y z",
    b"ab",
    "a@b",
    '"',
    "{",
    "pass",
    "key: value",
    [],
    {},
    (),
    "\n",
    "[redacted:x]",
]


def _nested(chance, depth):
    if depth == 0:
        return chance.choice(FORMS)
    inner, atom = _nested(chance, depth - 1), chance.choice(ATOMS)
    shapes = [
        lambda: [atom, inner, atom],
        lambda: {"a": atom, chance.choice(["data", "x", "body", "user", "items", "auth", "session", "card"]): inner},
        lambda: (inner, atom),
        lambda: {"list": [inner, inner]},
        lambda: collections.OrderedDict(z=inner),
        lambda: f"log line: {inner} end" if isinstance(inner, str) else [inner],
        lambda: inner.encode() if isinstance(inner, str) else (inner,),
        lambda: json.dumps({"w": inner, "z": 1}, default=str),
    ]
    return chance.choice(shapes)()


def test_no_secret_survives_in_ten_thousand_random_nestings():
    """A canary in every form, in every container, in texts in texts."""
    chance = random.Random(7)
    for _ in range(10_000):
        value = _nested(chance, chance.randrange(6))
        result = REDACTOR.redact(value)
        assert CANARY not in repr(result), value
        assert REDACTOR.redact(result.value).matches == (), value


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
@settings(max_examples=300, deadline=None)
def test_anything_that_json_can_write_stays_so(value):
    """Idempotent, serialisable, and the input is never changed."""
    before = repr(value)
    result = REDACTOR.redact(value)
    json.dumps(result.value)
    assert repr(value) == before
    assert repr(REDACTOR.redact(result.value).value) == repr(result.value)


@given(st.text(alphabet=st.sampled_from(list("ab1=:@/\\\"'[]{}(),;&?-_. \n<>%$")), max_size=60))
@example('1:"\n')
@settings(max_examples=1500, deadline=None)
def test_a_text_of_signs_is_redacted_once_and_for_all(text):
    """Quotes, brackets and separators in any order: the second pass changes nothing."""
    clean = REDACTOR.text(f"password{text}token={text}")
    assert REDACTOR.text(clean) == clean


class Field(enum.StrEnum):
    PASSWORD = "password"
    NAME = "name"


@pytest.mark.parametrize("key", [Field.PASSWORD, b"password"], ids=str)
def test_a_name_that_is_no_plain_text_tells_all_the_same(key):
    """Members of an enumeration and bytes are keys too, whether their names were seen before or not."""
    redactor = Redactor()
    for value in ({key: "hunter2", Field.NAME: "x"}, {"password": "hunter3"}, {"deep": [{key: "hunter2"}]}):
        assert "hunter" not in str(redactor.redact(value).value)
