"""Secrets that the head of what they stand in tells: a column of a table, a section of a file, a key of YAML.

``user,password⏎ann,…``, the tables that psql, mysql and Markdown draw, ``[passwords]⏎ann = …``, ``tokens:⏎  ci: …``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.names import HARMLESS_INSIDE, SCAN, TRUST, keeps, says_count

__all__ = ["may_be_under", "under_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
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
# What stands below a key stands farther in: the end of its line is found quickly, and the line read then.
_KEY_END = re.compile(r":[ \t\r]{0,8}+(?=\n[ \t])")
_KEY = re.compile(r"([ \t]{0,32}+)[\"']?([A-Za-z_][\w.\-]{1,64}+)[\"']?")
_LONGEST_KEY = 100
_ITEM = re.compile(
    rf"\n([ \t]{{1,32}}+)[\"']?([\w.\-/]{{1,64}}+)[\"']?:[ \t]{{1,8}}+[\"']?+"
    rf"([^\s\"'\[\]{{}}|>&*!]{{6,1024}}+)[\"']?+{_END}"
)
#: "secretName: app-token-7x2k9" below "secret:" of a volume.
_NAMES = HARMLESS_INSIDE | {"secretName", "claimName", "secret_name"}
_MASS = frozenset({"password", "secret", "token", "api_key", "credential"})
_CODES, _SIGNS = frozenset({"pin", "cvv", "otp"}), frozenset("!@#$%^&*?+~")


def may_be_under(text: str, of: _Of) -> bool:
    """Return whether a head in a text of several lines may tell what stands below it; see :func:`under_spans`."""
    lines = text if text[:1] == "\n" else "\n" + text
    return (
        any(kind not in (SCAN, TRUST) for _, cells in _heads(lines, of) for _, kind in cells)
        or any(True for _ in _told_sections(lines, of))
        or any(True for _ in _told_keys(lines, of))
    )


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


def _heads(text: str, of: _Of) -> Iterator[tuple[re.Match[str], list[tuple[str, str]]]]:
    """Find lines of names with what is between them, the names, and what each of them tells."""
    if "|" in text or "," in text or ";" in text or "\t" in text:
        for head in _HEAD.finditer(text):
            cells = [cell.strip(' "') for cell in head.group().strip().strip("|").split(head.group("by"))]
            yield head, [(cell, of(cell)) for cell in cells]


def _tables(text: str, of: _Of) -> _Spans:
    done = 0
    for head, cells in _heads(text, of):
        if head.start() < done or all(kind in (SCAN, TRUST) for _, kind in cells):
            continue  # a row of the table before it
        by, at = head.group("by"), head.end()
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
            if not row or len(values) != len(cells):
                break
            for (name, kind), value in zip(cells, values, strict=True):
                bare = value.strip(' "\r')
                if kind not in (SCAN, TRUST) and _is_secret(kind, bare, by) and not says_count(name, bare):
                    begin = start + value.find(bare)
                    yield begin, begin + len(bare), kind
                start += len(value) + 1
            at = done = end
            if at >= len(text):
                break


def _is_secret(kind: str, value: str, by: str) -> bool:
    """Return whether a cell holds a secret: no word, no number of few digits, nothing that stands for a value."""
    if kind in _CODES and (kind != "otp" or value.isdigit()):
        return value.isdigit() and 3 <= len(value) <= 8
    if len(value) <= 3 or value.isalpha() or (" " in value and kind not in _MASS):
        return False
    # A list of names has commas, too.
    sure = by != "," or any(map(str.isdigit, value)) or (kind == "password" and not _SIGNS.isdisjoint(value))
    return sure and not keeps(kind, value)


def _told_sections(text: str, of: _Of) -> Iterator[tuple[re.Match[str], str, str]]:
    """Find sections of a file, their names, and what these tell."""
    if "\n[" in text:
        for section in _SECTION.finditer(text):
            name = section.group(1).rpartition(".")[2]
            yield section, name, of(name)


def _sections(text: str, of: _Of) -> _Spans:
    """Find what stands in a section of a file whose name tells: ``[passwords]``, ``[api]`` with ``key = …``."""
    for section, name, whole in _told_sections(text, of):
        at = section.end()
        while entry := _ENTRY.match(text, at):
            at = entry.end()
            key = entry.group(1)
            kind = whole if whole in _MASS and key not in HARMLESS_INSIDE else of(f"{name} {key}")
            if kind in _MASS and not keeps(kind, entry.group(2)) and _mixed(entry.group(2)):
                yield *entry.span(2), kind


def _told_keys(text: str, of: _Of) -> Iterator[tuple[re.Match[str], int, str]]:
    """Find keys of YAML that tell, where their line ends, and how far in they stand."""
    for end in _KEY_END.finditer(text):
        begin = text.rfind("\n", max(0, end.start() - _LONGEST_KEY), end.start())
        key = _KEY.fullmatch(text, begin + 1, end.start()) if begin >= 0 else None
        if key and (kind := of(key.group(2))) in _MASS:
            yield end, len(key.group(1)), kind


def _keys(text: str, of: _Of) -> _Spans:
    """Find what stands under a key of YAML that tells: ``tokens:`` and, deeper, ``ci: …``."""
    for key, depth, kind in _told_keys(text, of):
        at = key.end()
        while (item := _ITEM.match(text, at)) and len(item.group(1)) > depth:
            at = item.end()
            if item.group(2) not in _NAMES and not keeps(kind, item.group(3)) and _mixed(item.group(3)):
                yield *item.span(3), kind


def _mixed(value: str) -> bool:
    """Return whether a value is neither a word nor a number nor a path."""
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and value[0] not in "./~$%"
