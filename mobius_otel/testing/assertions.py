"""What a capture asserts: exactly one record, and no secret anywhere."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote, quote_plus

from mobius_otel.errors import ConfigurationError

__all__ = ["Nothing", "find_secret", "matches", "only"]

_SHOWN = 25
_NAMED = 5
_SHORTEST = 4


def matches(record: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """Return whether a record has at least these attributes with these values."""
    has = record.get("attributes", {})
    return all(key in has and has[key] == value for key, value in attributes.items())


def only(
    what: str, records: Sequence[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool], label: str
) -> dict[str, Any]:
    """Return the one record that is wanted.

    Args:
        what: What was asked for, as the error names it.
        records: What there is.
        wanted: Whether a record is meant.
        label: The key under which a record holds its name.

    Raises:
        AssertionError: None or several are; the text lists what there was.

    Example:
        >>> only("span 'pay'", [{"name": "pay"}], lambda s: s["name"] == "pay", "name")
        {'name': 'pay'}
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    found = [record for record in records if wanted(record)]
    if len(found) == 1:
        return found[0]
    shown = found or records
    lines = [f"  {record.get(label)!r} {record.get('attributes', {})}" for record in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"  … and {len(shown) - _SHOWN} more")
    count = f"{len(found)} records match {what}; exactly one was expected"
    there = "These match:" if found else f"There are {len(records)}:" if records else "Nothing was captured."
    raise AssertionError("\n".join([f"{count}. {there}", *lines]))


class Nothing(int):
    """The 0 of a metric that did not grow. Its repr, which pytest shows where an assertion fails, says what did.

    Args:
        name: The metric that was asked for.
        attributes: The attributes that were asked for.
        points: Every series that grew.

    Example:
        >>> Nothing("orders.plced", {}, [{"name": "orders.placed", "attributes": {}}])
        0 (no metric 'orders.plced' was recorded; near: 'orders.placed')
        >>> print(Nothing("orders.plced", {}, []) + 1)
        1
    """

    _why: str

    def __new__(cls, name: str, attributes: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Self:
        """Make a 0 that knows why."""
        zero = super().__new__(cls, 0)
        others = [dict(point["attributes"]) for point in points if point["name"] == name]
        names = sorted({point["name"] for point in points})
        near = difflib.get_close_matches(name, names, 3)
        if others:
            zero._why = f"no series of {name!r} has {dict(attributes)}; there are: {_listed(others)}"
        elif near:
            zero._why = f"no metric {name!r} was recorded; near: {_listed(near)}"
        else:
            zero._why = f"no metric {name!r} was recorded; {f'there are: {_listed(names)}' if names else 'none was'}"
        return zero

    def __repr__(self) -> str:
        return f"0 ({self._why})"

    __str__ = int.__repr__


def _listed(things: Sequence[object]) -> str:
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return ", ".join(map(repr, things[:_NAMED])) + more


def find_secret(secret: str | bytes, document: Any) -> list[str]:
    """Return where a secret stands in a document of dicts, lists and scalars.

    It is looked for in keys and values, as it is and as it may have been written: percent-encoded, with JSON's
    escapes, in Base64 (also within a longer text) and in hexadecimal.

    Args:
        secret: The secret, at least 4 characters.
        document: What may hold it.

    Returns:
        The places, as paths; empty where it stands nowhere.

    Raises:
        ConfigurationError: The secret is so short that it would be found by chance, or no text.

    Example:
        >>> find_secret("hunter2", {"spans": [{"url": "/login?p=hunter2"}]})
        ['spans[0].url']
    """
    forms = _forms(secret)
    return [path for path, text in _texts(document, "") if any(form in text for form in forms)]


def _forms(secret: str | bytes) -> frozenset[str]:
    if not isinstance(secret, str | bytes) or len(secret) < _SHORTEST:
        raise ConfigurationError(
            "secret", type(secret).__name__, f"text of at least {_SHORTEST} characters", "A shorter one is anywhere."
        )
    raw = secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass")
    text = raw.decode("utf-8", "replace")
    escaped = (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text))
    forms = {text, quote(raw, safe=""), quote_plus(raw), raw.hex(), *(form[1:-1] for form in escaped)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.update(_base64_cores(raw, encode))
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def _base64_cores(raw: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """Yield what stays the same of `raw` in Base64 whatever stands before and after it."""
    if len(raw) < 8:  # the core of a shorter one is so short that it is found by chance
        return
    for before in range(3):
        whole = encode(b"\0" * before + raw)
        first = (0, 2, 3)[before]
        last = len(whole) if (before + len(raw)) % 3 == 0 else len(whole) - 4 + (before + len(raw)) % 3
        yield whole[first:last].decode("ascii")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{path}.(key)".lstrip("."), str(key)
            yield from _texts(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")
    elif isinstance(value, bytes):
        yield path, value.decode("utf-8", "replace")
        yield path, value.hex()
    elif value is not None:
        yield path, str(value)
