"""The canonical form of a record, and the hash that chains one record to the next.

The form is that of RFC 8785 (JSON Canonicalization Scheme): keys sorted by UTF-16 code units, no spaces,
numbers as ECMAScript writes them. Integers that a double cannot hold, and what JSON has no word for
(NaN, the infinities), are texts.
"""

from __future__ import annotations

import functools
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Any, Final

from mobius_otel.telemetry.safety import of_handler

__all__ = ["Plainer", "Record", "canonical", "digest", "new_record_id", "parse", "plain", "plain_text"]

_DEEPEST: Final = 24
_MOST_NODES: Final = 20_000
_SMALL: Final = 1e-4  # below it, Python writes an exponent
_TEXTS: Final = {str}
_CUT: Final = "[cut: too large]"
_EXACT: Final = 2**53
_BEYOND_BMP: Final = "\uffff"
_WITHIN_BMP: Final = bytes(range(0xF0))  # in UTF-8
# What is circular is too deep as well.
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, check_circular=False, separators=(",", ":")
).encode
# Ids have to be unique, not secret, and asking the system each time costs as much as all the rest of an id.
_random = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def plain_text(text: str) -> str:
    r"""Return `text` as UTF-8 can hold it: a lone surrogate becomes its escape.

    Example:
        >>> plain_text("caf\u00e9"), plain_text("\ud800")
        ('café', '\\ud800')
    """
    if text.isascii():
        return str(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return str(text)


def plain(value: Any) -> Any:
    """Return a copy of `value` in JSON's shapes; never raises.

    Keys become texts, sets sorted lists, and what JSON does not know its text. What lies deeper than 24
    levels or behind 20,000 values is cut, so that a hostile value cannot fill the ledger or the stack.

    Args:
        value: Anything.

    Example:
        >>> plain({1: (2.5, {"b", "a"}), "at": 2**60, "raw": b"x"})
        {'1': [2.5, ['a', 'b']], 'at': '1152921504606846976', 'raw': 'x'}
    """
    return Plainer().visit(value, 0)


class Plainer:
    """Makes one value plain; see :func:`plain`."""

    __slots__ = ("_left", "alike")

    def __init__(self) -> None:
        self._left = _MOST_NODES
        #: Whether every writer of JSON writes the numbers of what was made plain as RFC 8785 has it.
        self.alike = True

    def visit(self, value: Any, depth: int) -> Any:
        """Return a plain copy of what lies so deep; never raises."""
        self._left -= 1
        kind = type(value)
        if kind is str:
            return plain_text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_EXACT <= value <= _EXACT else _integer_text(value)
        if kind is float:
            if not math.isfinite(value):
                return str(value)
            self.alike = self.alike and _is_alike(value)
            return value
        if depth >= _DEEPEST or self._left <= 0:
            return _CUT
        return self._visit_other(value, depth + 1)

    def _visit_other(self, value: Any, depth: int) -> Any:
        kind = type(value)
        try:
            # The types that nearly every value has, before those that take a long look.
            if kind is dict or (kind is not list and isinstance(value, Mapping)):
                return self._visit_mapping(value, depth)
            if kind is list or isinstance(value, list | tuple):
                return self._visit_items(value, depth)
            if isinstance(value, AbstractSet):
                return sorted(self._visit_items(value, depth), key=str)
            if isinstance(value, bytes | bytearray | memoryview):
                return bytes(value).decode("utf-8", "replace")
            for base in (str, int, float):  # subclasses, an enumeration's member among them
                if isinstance(value, base):
                    return self.visit(base(value), depth)
            return plain_text(str(value))
        except Exception as error:
            if of_handler(error):
                raise
            return f"[{type(value).__name__}]"

    def _visit_mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            if self._left <= 0:
                found[_CUT] = True
                break
            if type(key) is str and key.isascii():
                name = key
            else:
                name = plain_text(key) if isinstance(key, str) else str(self.visit(key, depth))
            if type(item) is str and item.isascii():  # what most values are
                self._left -= 1
                found[name] = item
            else:
                found[name] = self.visit(item, depth)
        return found

    def _visit_items(self, value: Any, depth: int) -> list[Any]:
        found = []
        for item in value:
            if self._left <= 0:
                found.append(_CUT)
                break
            found.append(self.visit(item, depth))
        return found


def _integer_text(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write out thousands of digits
        return f"{hex(value)[:64]}… ({value.bit_length()} bits)"


class Record(dict[str, Any]):
    """A record of which it is known that every writer of JSON writes its numbers as RFC 8785 has it."""

    __slots__ = ()


def canonical(value: Any, *, alike: bool = False) -> bytes:
    """Return the canonical form of `value` as UTF-8.

    Args:
        value: JSON's shapes; anything else is made plain first.
        alike: Whether it is known that there is nothing in it that Python writes otherwise (1.0, 1e-07).

    Example:
        >>> canonical({"b": 1.0, "a": [1e-7, 2**60, True]})
        b'{"a":[1e-7,"1152921504606846976",true],"b":1}'
    """
    try:
        if alike or _written_alike((value,)):
            if (quick := _quick()) is not None:
                form: bytes = quick(value)
                if form.isascii() or not form.translate(None, _WITHIN_BMP):
                    return form
            else:
                text = _encode(value)
                if text.isascii() or max(text) <= _BEYOND_BMP:
                    return text.encode()
    except (TypeError, ValueError, RecursionError):  # not JSON's shapes after all
        pass
    return _write(plain(value)).encode()


@functools.cache
def _quick() -> Callable[[Any], Any] | None:
    """Return what writes the same in a fraction of the time, where the extra ``fast`` is installed."""
    try:
        import orjson
    except ImportError:
        return None
    return functools.partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)


def _written_alike(values: Iterable[Any]) -> bool:
    """Return whether Python and orjson write all these as RFC 8785 has it; 1.0, 1e-07, 1e+16 and 2**60 they do not."""
    for value in values:
        kind = type(value)
        if kind is str or value is None or kind is bool:
            continue
        if kind is int:
            alike = -_EXACT <= value <= _EXACT
        elif kind is float:
            alike = _is_alike(value)
        elif kind is dict:
            alike = {*map(type, value)} <= _TEXTS and _written_alike(value.values())
        else:
            alike = kind is list and _written_alike(value)
        if not alike:
            return False
    return True


def _is_alike(value: float) -> bool:
    return not value.is_integer() and _SMALL <= abs(value) < _EXACT  # which no NaN is


def _write(value: Any) -> str:
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_encode(key)}:{_write(item)}" for key, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return _encode(value)


def _number(value: float) -> str:
    """Write a double as ECMAScript does (Number::toString): shortest digits, exponents below 1e-6 and from 1e21."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    same = not exponent and not mantissa.endswith(".0")
    return mantissa if same else _spelled(mantissa, int(exponent or 0))


def _spelled(mantissa: str, exponent: int) -> str:
    sign, mantissa = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    whole, _, part = mantissa.partition(".")
    digits = (whole + ("" if part == "0" else part)).lstrip("0")
    point = len(whole) + exponent  # where the decimal point stands, counted from the first digit
    digits = digits.rstrip("0") or "0"
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    return f"{sign}{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{'+' if power > 0 else '-'}{abs(power)}"


def parse(payload: bytes, *, once: bool = False) -> Any:
    """Return the value of a canonical form; :func:`canonical` of it is `payload` again.

    Args:
        payload: The canonical form.
        once: Whether it may be another form, in which no key may stand twice: readers differ in which one counts.

    Raises:
        ValueError: It is no JSON.

    Example:
        >>> parse(b'{"a":100000000000000000000,"b":1}')
        {'a': 1e+20, 'b': 1}
    """
    return json.loads(payload, parse_int=_integer_or_double, object_pairs_hook=_each_once if once else None)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _integer_or_double(text: str) -> int | float:
    """Whole numbers that a double cannot count were doubles: integers of that size are texts."""
    if len(text) < 16:
        return int(text)
    value = float(text)
    return value if abs(value) > _EXACT else int(text)


def digest(payload: bytes) -> bytes:
    """Return the SHA-256 of a canonical form."""
    return sha256(payload).digest()


def new_record_id(now: int = 0) -> str:
    """Return a UUIDv7 (RFC 9562): ids of later milliseconds sort after earlier ones.

    Args:
        now: Nanoseconds since the epoch; 0: the time that it is.
    """
    milliseconds, rest = divmod(now or time.time_ns(), 1_000_000)
    first = ((milliseconds & (2**48 - 1)) << 16 | 0x7000 | rest * 4096 // 1_000_000).to_bytes(8).hex()
    second = (1 << 63 | _random.getrandbits(62)).to_bytes(8).hex()  # bytes: half the time of a format
    return f"{first[:8]}-{first[8:12]}-{first[12:]}-{second[:4]}-{second[4:]}"
