"""What behind a name that tells is a count, a place or the rest of a path, and no secret.

``password: 8 bytes`` as kubectl says, ``string password = 2;`` of Protocol Buffers, ``session: 17m32s``,
``src/{password => credential}/hash.py`` of git, ``password: String!`` of GraphQL.
"""

from __future__ import annotations

import re

__all__ = ["is_counted", "is_length_of_time"]

_BY_CHANCE = frozenset({"token", "session", "signature", "cookie", "credential"})
_LONG_ENOUGH = frozenset({"pin", "cvv", "otp"})  # a code has digits alone
_UNIT = re.compile(
    r"[ \t](?:bytes?|characters?|chars?|digits?|letters?|versions?|attempts?|days?|items?|keys?|entries|found|bits?"
    r"|zeichen|tekens|caract[e\u00e8]res|caracteres|caratteri|znak\u00f3w|\u0441\u0438\u043c\u0432\u043e\u043b\u043e\u0432)(?!\w)"
)
_FIELD_OF_PROTOBUF = re.compile(r"(?<![\w.])(?:string|bytes|bool|map<[\w, .]{1,60}>|[A-Z][A-Za-z]{2,40})[ \t]\Z")
_BEHIND_FIELD = re.compile(r"[ \t]{0,4}(?:;|\[[a-z(])")
_TIME = re.compile(r"(?:[0-9]{1,6}(?:\.[0-9]{1,6})?(?:[mun\u00b5]?s|min|m|h|d)){1,4}")
_SHARE = re.compile(r"[01]?\.[0-9]{1,6}")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3}){1,3}")
_RENAMED = re.compile(r"[\w.\-/]{0,128}\}[\w.\-/]{0,256} {1,60}(?:\([0-9]{1,3}%\)|\|)", re.ASCII)
_GRAPHQL = frozenset({"String!", "ID!", "Int!", "Float!", "Boolean!"})


def is_length_of_time(value: str) -> bool:
    """Return whether a word says how long something took: ``302ms``, ``17m32s``."""
    return value[0].isdigit() and _TIME.fullmatch(value) is not None


def is_counted(text: str, start: int, span: tuple[int, int], separator: str, kind: str) -> bool:
    """Return whether a bare value is a count, the number of a field, a type or the rest of a path.

    Args:
        text: The text.
        start: Where the name before it begins.
        span: Where it begins and ends.
        separator: What stands between the two.
        kind: What the name tells.
    """
    at, end = span
    value = text[at:end]
    if separator == "=>":
        return _RENAMED.match(text, at) is not None and "{" in text[max(0, start - 64) : start]
    if separator == ":" and value in _GRAPHQL:
        return True
    if value[:1].isdigit() or value[:1] == ".":
        if kind in _BY_CHANCE and (_TIME.fullmatch(value) or _SHARE.fullmatch(value) or _THOUSANDS.fullmatch(value)):
            return True
        if not value.isdigit():
            return False
        if kind not in _LONG_ENOUGH and (unit := _UNIT.match(text, end)):
            return len(value) <= (6 if "byte" in unit.group() else 3)
        if len(value) <= 2 and kind not in _LONG_ENOUGH:
            return True  # PASSWORD = 0; of an enumeration, salt=16
        numbered = separator == "=" and len(value) <= 3 and _BEHIND_FIELD.match(text, end)
        return bool(numbered and _FIELD_OF_PROTOBUF.search(text, max(0, start - 80), start))
    return False
