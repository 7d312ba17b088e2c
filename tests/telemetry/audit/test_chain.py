"""The canonical form: RFC 8785 where JSON has a word for it."""

import datetime as dt
import enum
import json
import math
import random
import struct
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel.telemetry.audit import chain
from mobius_otel.telemetry.audit.chain import _write as slowly
from mobius_otel.telemetry.audit.chain import canonical, new_record_id, parse, plain

# RFC 8785, appendix B: the bits of a double and how ECMAScript writes it.
VECTORS = {
    "0000000000000000": "0", "8000000000000000": "0", "0000000000000001": "5e-324", "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308", "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992", "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000", "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23", "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000", "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001", "41b3de4355555553": "333333333.3333332", "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333", "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333", "43143ff3c1cb0959": "1424953923781206.2",
}  # fmt: skip


@pytest.mark.parametrize("bits", VECTORS)
def test_numbers_are_written_as_the_rfc_does(bits):
    """Its own vectors, alone and inside a structure."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical([value]).decode() == f"[{VECTORS[bits]}]"
    assert canonical({"a": value, "b": 1}).decode() == f'{{"a":{VECTORS[bits]},"b":1}}'


def test_keys_are_sorted_by_utf_16():
    """The example of RFC 8785, section 3.2.3."""
    value = {"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew", "1": "One", "\U0001f600": "Smiley",
             "\u0080": "Control", "\u00f6": "Latin"}  # fmt: skip
    assert list(json.loads(canonical(value))) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_texts_are_escaped_as_the_rfc_does():
    """Only what has to be, in the short form where there is one."""
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/\u007f"
    assert canonical(text).decode() == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\u007f"'


def test_integers_beyond_a_double_are_texts():
    """2**53 is exact, one more is not."""
    assert canonical([2**53, 2**53 + 1, -(2**53) - 1]) == b'[9007199254740992,"9007199254740993","-9007199254740993"]'


def random_value(chance, depth=0):
    kind = chance.randrange(9 if depth < 4 else 7)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.randrange(-(2**60), 2**60) >> chance.randrange(60)
    if kind in (2, 3):
        (number,) = struct.unpack(">d", chance.randbytes(8))
        return number if chance.random() < 0.5 else round(chance.uniform(-1000, 1000), chance.randrange(4))
    if kind < 7:
        letters = [
            "a",
            "1",
            ":",
            ",",
            "[",
            "e",
            ".0",
            "5e3",
            "1234567890123456",
            "\n",
            '"',
            "\\",
            "é",
            "\U0001f600",
            "\ud800",
        ]
        return "".join(chance.choices(letters, k=chance.randrange(8)))
    if kind == 7:
        return [random_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {str(random_value(chance, 4)): random_value(chance, depth + 1) for _ in range(chance.randrange(4))}


def test_ten_thousand_random_values_have_one_form():
    """It is JSON, it reads back as the same value, and its own form is itself, in whatever order keys come."""
    chance = random.Random(5)
    for _ in range(10_000):
        value = random_value(chance)
        form = canonical(value)
        assert form == slowly(plain(value)).encode(), value
        read = parse(form)
        assert canonical(read) == form
        assert same(read, plain(value)), value
        if isinstance(value, dict):
            assert canonical(dict(reversed(value.items()))) == form


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.floats(1e-5, 1e17)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(json_values)
def test_the_extra_changes_no_byte(value):
    """Whatever orjson cannot write, or writes in another way, is written without it."""
    pytest.importorskip("orjson")
    with_it = canonical(value)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chain, "_quick", lambda: None)
        assert canonical(value) == with_it


class Colour(enum.Enum):
    RED = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Text("x"), dt.date(2026, 1, 2), uuid.UUID(int=7), (1, 2), {1: 2}, {"a": {3.5: 1}}, float("nan"),
     Decimal("1.5"), b"x", {1, 2}, [float("inf")], 2**63, -0.0, 1e16, 123456789012345.67],
    ids=repr,
)  # fmt: skip
def test_what_is_not_jsons_has_one_form_too(value):
    """A redactor of one's own may leave it in a record."""
    with_it = canonical({"x": [value]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chain, "_quick", lambda: None)
        assert canonical({"x": [value]}) == with_it == slowly(plain({"x": [value]})).encode()


def same(read, value):
    if isinstance(value, dict):
        return read.keys() == value.keys() and all(same(read[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(read) == len(value) and all(map(same, read, value))
    if isinstance(value, float):
        return math.isclose(read, value, rel_tol=0, abs_tol=0)
    if isinstance(read, int) and not isinstance(read, bool):
        return float(read) == float(value)
    return read == value


def test_record_ids_are_uuid_7_and_rise():
    """Version and variant bits are set, a hundred thousand are different, and later milliseconds sort later."""
    ids = [new_record_id() for _ in range(100_000)]
    assert len(set(ids)) == len(ids)
    first = uuid.UUID(ids[0])
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    stamps = [one[:13] for one in ids]
    assert stamps == sorted(stamps)
