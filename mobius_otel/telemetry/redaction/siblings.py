"""Secrets in a text whose name stands beside them under a name of its own.

``- name: DB_PASSWORD`` with ``value: …`` in the next line, ``<add key="DbPassword" value="…"/>``,
``{'Name': 'DB_PASSWORD', 'Value': '…'}``, ``('password', '…')``, ``Key (token)=(…)``, a part of a form, an element with
attributes. What a pair tells alone is found in :mod:`mobius_otel.telemetry.redaction.pairs`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.hits import each
from mobius_otel.telemetry.redaction.names import HARMLESS_INSIDE, SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.pair_values import behind_scheme
from mobius_otel.telemetry.redaction.printed import may_be_printed, printed_spans

__all__ = ["VALUE_NAMES", "NamesBefore", "may_be_sibling", "rows", "sibling_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
#: Names of what the sibling named before it is about, in lower case.
VALUE_NAMES = frozenset({
    "value", "content", "val", "parametervalue", "newvalue", "oldvalue", "new_value", "old_value", "stringvalue",
    "rejectedvalue", "attemptedvalue", "rawvalue", "invalidvalue",
})  # fmt: skip
_FARTHEST = 160
_BLOCK_MARKS = frozenset({"|", "|-", ">", ">-", "|+", ">+"})
_NAMER = re.compile(
    r"(?<![A-Za-z0-9_.])(?:name|key|field|column|property|propertyname|fieldname|attribute|param|parameter|parameterkey|header|variable|option)"
    r"\\{0,8}+[\"']?\s{0,4}+[:=]\s{0,4}+\\{0,8}+[\"']?((?:[\w.\-]{0,64}/){0,8}[A-Za-z_][\w.\-]{1,64}+)",
    re.IGNORECASE | re.ASCII,
)
# What may stand between the name and the value: no end of a thing, no empty line.
_BETWEEN = re.compile(r"(?![^\n]*\n[ \t]*\n)[^{}<>]{0,80}+", re.DOTALL)
# ('password', '…'): a literal that is a name and one beside it, in brackets of their own.
_TUPLE = re.compile(
    r"[(\[][ \t\n]{0,32}+(?:[bBuU]?\\?([\"'])([A-Za-z_][\w.\-]{1,64}+)\\?\1|:([a-z_]{2,64}+))[ \t]{0,4}+,[ \t\n]{0,32}+"
    r"[bBuU]?\\?([\"'])((?:(?!\4)[^\\\n]){1,4096}+)\\?\4[ \t\n,]{0,32}+[)\]]",
    re.ASCII,
)
_BESIDE_QUOTES = re.compile(r",(?<=[\"'\w],)[ \t\n]{0,32}+[bBuU]?\\?[\"']")
_IS_NAME = re.compile(r"[a-z_]{0,24}", re.IGNORECASE | re.ASCII)
# "password -> …", and "| password | … |" of a table.
_ARROW = re.compile(
    r"(?<![\w.\-])([A-Za-z_][\w.\-]{1,64}+)[\"']?[ \t]{1,4}+->[ \t]{1,4}+[\"']?([^\s\"',;|]{3,1024}+)", re.ASCII
)
_ROW = re.compile(
    r"\|[ \t]{0,64}+([A-Za-z_][\w.\-]{1,64}+)[ \t]{0,64}+\|[ \t]{0,64}+([^\s|]{3,1024}+)(?=[ \t]{0,256}+\|)", re.ASCII
)
# Key (email, token)=(ann, …): how PostgreSQL says what stands in its way.
_KEY = re.compile(r"\(([\w\", ]{1,200}+)\)=\(([^()]{1,1000}+)\)", re.ASCII)
_LINE = r"(?:\r\n|\n|\\r\\n|\\n)"
_PART = re.compile(
    rf"form-data;[ \t]{{0,4}}+name=\\?\"([\w.\-\[\]]{{1,100}}+)\\?\"[^\r\n\\]{{0,200}}+"
    rf"(?:{_LINE}[\w\-]{{1,40}}+:[^\r\n\\]{{0,200}}+){{0,4}}{_LINE}{{2}}((?:[^\r\n\\]|\\(?![rn])){{1,4096}}+)",
    re.ASCII,
)
_ELEMENT = re.compile(
    r"<(?:[\w.\-]{1,32}:)?([A-Za-z_][\w.\-]{0,64}+)\s[^<>]{0,200}+(?<!/)>([^<>]{1,4096}+)(?=<)", re.ASCII
)


# A manifest of Kubernetes of the kind Secret, and the lines of what is in it.
_MANIFEST = re.compile(r"(?:^|\n)[ \t\-]{0,64}+[\"']?kind[\"']?:[ \t]{1,8}+[\"']?Secret[\"']?[ \t\r]{0,8}+(?=\n|$)")
_MANIFEST_DATA = re.compile(r"(?:^|\n)([ \t]{0,64}+)(?:data|stringData):[ \t\r]{0,8}+(?=\n)")
_MANIFEST_LINE = re.compile(r"\n([ \t]{1,80}+)(?:[\"']?([\w.\-]{1,253}+)[\"']?:[ \t]{0,8}+)?+([^\r\n]{0,4096}+)\r?")


class NamesBefore:
    """The names of siblings in one text, found once, however often it is asked.

    Args:
        text: The text.
        of: What a name tells.
    """

    __slots__ = ("_ends", "_found", "_of", "_text")

    def __init__(self, text: str, of: _Of) -> None:
        self._text, self._of = text, of
        self._found: list[str] | None = None
        self._ends: list[int] = []

    def told(self, start: int) -> str:
        """Return the kind that the sibling before a value's name tells, or SCAN.

        Args:
            start: Where the value's own name begins.
        """
        if self._found is None:
            found = list(_NAMER.finditer(self._text))
            self._found, self._ends = [one.group(1) for one in found], [one.end() for one in found]
        at = bisect_right(self._ends, start) - 1
        if at < 0 or start - self._ends[at] > _FARTHEST or not _BETWEEN.fullmatch(self._text, self._ends[at], start):
            return SCAN
        kind = self._of(self._found[at])
        return SCAN if kind == TRUST else kind


def sibling_spans(text: str, of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets of a text that a name beside them tells, in order.

    Args:
        text: The text.
        of: What a name tells.
    """
    spans = _beside(text, of)
    if ")=(" in text:
        spans += _keys(text, of)
    if "form-data" in text:
        spans += ((*found.span(2), of(found.group(1))) for found in _PART.finditer(text))
    if "Secret" in text:
        spans += _manifest(text, of)
    spans += printed_spans(text, of)
    if not spans:
        return []
    return sorted(
        (start + behind_scheme(kind, text[start:end]), end, kind)
        for start, end, kind in spans
        if kind not in (SCAN, TRUST) and start < end and not keeps(kind, text[start:end])
    )


def may_be_sibling(text: str, of: _Of) -> list[int]:
    """Return the places of what :func:`sibling_spans` may find, in texts that stand in lines of their own."""
    # What these take ends with its line, or before the next thing of its kind begins: no text hides another's.
    places = [start for start, _, kind in _beside(text, of) if kind not in (SCAN, TRUST)]
    if ")" in text and ")=(" in text:
        places += each(text, ")=(")
    if "form-data" in text:
        places += each(text, "form-data")
    if "Secret" in text:
        places += [found.start() + 1 for found in _MANIFEST.finditer(text)]
    return places + may_be_printed(text, of)


def _beside(text: str, of: _Of) -> list[tuple[int, int, str]]:
    """Return what stands beside a name, whatever that name tells: in a tuple, an element, a row, behind an arrow."""
    found: list[tuple[int, int, str]] = []
    # One character is found at once, some take their time.
    if ("'" in text or '"' in text) and _BESIDE_QUOTES.search(text):
        found += _tuples(text, of)
    if "<" in text and "</" in text:
        found += ((*element.span(2), of(element.group(1))) for element in _ELEMENT.finditer(text))
    if ">" in text and " -> " in text:
        found += _rows(text, of, _ARROW)
    if "|" in text and "| " in text:
        found += _rows(text, of, _ROW)
    return found


def rows(text: str, of: _Of) -> _Spans:
    """Find what stands in the cell behind a name: ``| password | … |``."""
    return _rows(text, of, _ROW)


def _tuples(text: str, of: _Of) -> _Spans:
    for found in _TUPLE.finditer(text):
        if not _IS_NAME.fullmatch(found.group(5)):  # ("password", "email") is a list of names
            yield *found.span(5), of(found.group(2) or found.group(3))


def _rows(text: str, of: _Of, pattern: re.Pattern[str]) -> _Spans:
    for found in pattern.finditer(text):
        if not _IS_NAME.fullmatch(found.group(2).rstrip(":.!?)")):
            yield *found.span(2), of(found.group(1))


def _keys(text: str, of: _Of) -> _Spans:
    for found in _KEY.finditer(text):
        at = found.start(2)
        for name, value in zip(found.group(1).split(","), found.group(2).split(", "), strict=False):
            yield at, at + len(value), of(name.strip(' "'))
            at += len(value) + 2


def _manifest(text: str, of: _Of) -> _Spans:
    """Find what is in a manifest of Kubernetes of the kind Secret: all but what :data:`HARMLESS_INSIDE` names."""
    if not _MANIFEST.search(text):
        return
    for data in _MANIFEST_DATA.finditer(text):
        depth, at = len(data.group(1)), data.end()
        while (line := _MANIFEST_LINE.match(text, at)) and len(line.group(1)) > depth:
            at = line.end()
            if line.group(2) not in HARMLESS_INSIDE and line.group(3) not in _BLOCK_MARKS:
                yield *line.span(3), of("secret")
