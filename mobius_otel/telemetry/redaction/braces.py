"""Containers that are printed behind a telling name, read by the names in them, as they are where they come as a value.

``{'AccessKey': {'UserName': 'ann', 'SecretAccessKey': '…'}}`` of Python, ``{Creds:{User:ann Password:…}}`` of Go.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mobius_otel.telemetry.redaction.names import HARMLESS_INSIDE, SCAN, SCHEMA_NAMES, SCHEMA_TYPES

__all__ = ["is_empty_field", "span_in_braces"]

# One entry as Python, JavaScript and JSON print it; its value is a literal, nothing that holds others.
_ENTRY = re.compile(
    r"[ \t\n]{0,64}+\\{0,8}+([\"']?)([A-Za-z_][\w.\-]{0,64}+)\\{0,8}+\1[ \t]{0,4}+[:=][ \t]{0,4}+"
    r"(?:[bBuU]?+(\\{0,8}+[\"'])((?:(?!\3)[^\\\n{}]){0,4096}+)\3"
    r"|([Tt]rue|[Ff]alse|[Nn]one|null|datetime\.\w{1,20}\([^()\"']{0,80}(?:\(\))?\))"
    r"|([^\s,\"'{}\[\]()\\]{1,1024}+))[ \t\n]{0,64}+([,}])",
    re.ASCII,
)
# One field as Go prints it: the values of others begin with a blank, if they have one.
_FIELD = re.compile(r"([A-Z]\w{0,64}+):([^\s{}()\"']{0,1024}+)([ }])", re.ASCII)
_MOST, _FARTHEST = 64, 512

_Entry = tuple[str, int, int]


def span_in_braces(text: str, at: int, of: Callable[[str], str]) -> tuple[int, int] | None:
    """Return where the one value stands that the name before a brace tells, equal bounds where others tell it all.

    Args:
        text: The text.
        at: Where the brace is.
        of: What a name tells.

    Returns:
        None where that is not to be said: all that stands in the braces is a secret then.
    """
    entries = _entries(text, at + 1) or _fields(text, at + 1)
    if not entries:
        return None
    told = False
    harmless = HARMLESS_INSIDE
    if any(name == "type" and text[start:end] in SCHEMA_TYPES for name, start, end in entries):
        harmless |= SCHEMA_NAMES  # {"password": {"type": "string", "minLength": 12}}
    # "PWD={a:b}" of a connection may be no container at all.
    sure = text[at + 1 : at + 66].lstrip()[:1] in {"'", '"', "\\"} or len(entries) > 2
    for number, (name, start, end) in enumerate(entries):
        if of(name) != SCAN:
            told = True
        elif start < end and name.lower() not in harmless:
            rest = entries[number + 1 :]
            one = not told and sure and all(of(name) != SCAN or name.lower() in harmless for name, _, _ in rest)
            return (start, end) if one else None
    return (at, at) if told or sure else None


def is_empty_field(text: str, name_start: int, at: int) -> bool:
    """Return whether a field in a struct of Go is empty: ``{Password: User:ann Port:80}``.

    Args:
        text: The text.
        name_start: Where its name begins.
        at: Where the next name begins.
    """
    begin = text.rfind("{", max(0, name_start - _FARTHEST), name_start)
    fields = _fields(text, begin + 1) if begin >= 0 else []
    return len(fields) > 2 and any(end == at - 1 and start == end for _, start, end in fields)


def _entries(text: str, at: int) -> list[_Entry]:
    """Return the names of all entries before the brace that closes, and where their values are; no place for none."""
    entries: list[_Entry] = []
    while len(entries) < _MOST and (entry := _ENTRY.match(text, at)):
        at = entry.end()
        start, end = next((entry.span(group) for group in (4, 6) if entry.group(group) is not None), (at, at))
        entries.append((entry.group(2), start, end))
        if entry.group(7) == "}":
            return entries
    return []


def _fields(text: str, at: int) -> list[_Entry]:
    fields: list[_Entry] = []
    while len(fields) < _MOST and (field := _FIELD.match(text, at)):
        at = field.end()
        fields.append((field.group(1), *field.span(2)))
        if field.group(3) == "}":
            return fields
    return []
