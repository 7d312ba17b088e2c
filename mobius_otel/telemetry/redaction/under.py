"""Secrets that the head of what they stand in tells: a column of a table, a section of a file, a key of YAML.

``user,password⏎ann,…``, the tables that psql, mysql and Markdown draw, ``[passwords]⏎ann = …``, ``tokens:⏎  ci: …``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.names import HARMLESS_INSIDE, SCAN, TRUST, keeps

__all__ = ["HEAD_WORDS", "may_be_under", "under_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
#: What a text holds one of, in lower case and as a whole word, where a head in it may tell something.
HEAD_WORDS = frozenset({
    b"password", b"passwords", b"passwd", b"pwd", b"secret", b"secrets", b"token", b"tokens", b"credentials", b"key",
    b"keys", b"apikey", b"ssn", b"pin", b"cvv", b"iban", b"otp", b"cookie", b"hash",
})  # fmt: skip
#: A line of two names or more, and what stands between them.
_CELL, _PAD = r"\"?[A-Za-z_][\w.\-]{0,40}+\"?", r"[ ]{0,64}+"
_END = r"[ \t\r]{0,8}+(?=\n|\Z)"
_HEAD = re.compile(
    rf"\n[ \t]{{0,8}}+(?P<bar>\|?){_PAD}{_CELL}{_PAD}(?P<by>[|,;\t])(?:{_PAD}{_CELL}{_PAD}(?P=by)){{0,60}}"
    rf"{_PAD}{_CELL}{_PAD}\|?[ \t\r]{{0,8}}+(?=\n)"
)
_RULE = re.compile(r"\n[ \t]{0,8}+[|+\-][|+:= \-]{2,4096}+(?=\r?\n|\Z)")
_MOST_ROWS = 10_000
_SECTION = re.compile(r"\n\[([\w.\-]{2,64}+)\][ \t\r]{0,8}+(?=\n)")
_ENTRY = re.compile(
    rf"\n[ \t]{{0,8}}+([\w.\-]{{1,64}}+)[ \t]{{0,8}}+=[ \t]{{0,8}}+[\"']?+([^\s\"'\[\]{{}}#;]{{5,1024}}+)[\"']?+{_END}"
)
_KEY = re.compile(r"\n([ \t]{0,32}+)[\"']?([A-Za-z_][\w.\-]{1,64}+)[\"']?:[ \t\r]{0,8}+(?=\n[ \t])")
_ITEM = re.compile(
    rf"\n([ \t]{{1,32}}+)[\"']?([\w.\-/]{{1,64}}+)[\"']?:[ \t]{{1,8}}+[\"']?+"
    rf"([^\s\"'\[\]{{}}|>&*!]{{6,1024}}+)[\"']?+{_END}"
)
_MASS = frozenset({"password", "secret", "token", "api_key", "credential"})


def may_be_under(low: str) -> list[int]:
    """Return the places of heads below which :func:`under_spans` may find something.

    Args:
        low: Texts in lines of their own, in lower case.
    """
    places: list[int] = []
    if "|" in low or "," in low or ";" in low or "\t" in low:
        places += [head.start() + 1 for head in _HEAD.finditer(low)]
    if "\n[" in low:
        places += [head.start() + 1 for head in _SECTION.finditer(low)]
    if "\n " in low or "\n\t" in low:  # what stands below a key stands farther in
        places += [head.start() + 1 for head in _KEY.finditer(low)]
    return places


def under_spans(text: str, of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets that a head above them tells, in order.

    Args:
        text: The text.
        of: What a name tells.
    """
    lines = text if text[:1] == "\n" else "\n" + text
    shift = len(text) - len(lines)
    found = [*_tables(lines, of), *_sections(lines, of), *_keys(lines, of)]
    return sorted((start + shift, end + shift, kind) for start, end, kind in found)


def _tables(text: str, of: _Of) -> _Spans:
    done = 0
    for head in _HEAD.finditer(text):
        if head.start() < done:
            continue  # a row of the table before it
        by, cells = head.group("by"), head.group().strip().strip("|").split(head.group("by"))
        kinds = [of(cell.strip(' "')) for cell in cells]
        if all(kind in (SCAN, TRUST) for kind in kinds):
            continue
        at = head.end()
        for _ in range(_MOST_ROWS):
            if rule := _RULE.match(text, at):
                at = rule.end()
                continue
            end = text.find("\n", at + 1)
            end = len(text) if end < 0 else end
            row = text[at + 1 : end]
            start = at + 1
            if head.group("bar"):
                bar = row.find("|")
                start += bar + 1
                row = row[bar + 1 :].rstrip(" \t\r|")
            values = row.split(by)
            if not row or len(values) != len(kinds):
                break
            for kind, value in zip(kinds, values, strict=True):
                bare = value.strip(' "\r')
                secret = len(bare) > 3 and not bare.isalpha() and (by != "," or any(map(str.isdigit, bare)))
                if secret and kind not in (SCAN, TRUST) and not keeps(kind, bare):
                    begin = start + value.find(bare)
                    yield begin, begin + len(bare), kind
                start += len(value) + 1
            at = done = end
            if at >= len(text):
                break


def _sections(text: str, of: _Of) -> _Spans:
    """Find what stands in a section of a file whose name tells: ``[passwords]``, ``[api]`` with ``key = …``."""
    for section in _SECTION.finditer(text):
        name = section.group(1).rpartition(".")[2]
        whole, at = of(name), section.end()
        while entry := _ENTRY.match(text, at):
            at = entry.end()
            key = entry.group(1)
            kind = whole if whole in _MASS and key not in HARMLESS_INSIDE else of(f"{name} {key}")
            if kind in _MASS and not keeps(kind, entry.group(2)) and _mixed(entry.group(2)):
                yield *entry.span(2), kind


def _keys(text: str, of: _Of) -> _Spans:
    """Find what stands under a key of YAML that tells: ``tokens:`` and, deeper, ``ci: …``."""
    for key in _KEY.finditer(text):
        kind = of(key.group(2))
        if kind not in _MASS:
            continue
        depth, at = len(key.group(1)), key.end()
        while (item := _ITEM.match(text, at)) and len(item.group(1)) > depth:
            at = item.end()
            if item.group(2) not in HARMLESS_INSIDE and not keeps(kind, item.group(3)) and _mixed(item.group(3)):
                yield *item.span(3), kind


def _mixed(value: str) -> bool:
    """Return whether a value is neither a word nor a number nor a path."""
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and value[0] not in "./~$%"
