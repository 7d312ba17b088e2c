r"""Secrets in what is drawn with the lines of a box: tables, and the values that a traceback hangs below its names.

``│ user │ password │`` of rich, polars and ``console.table``, ``│ password │ '…' │``, and loguru's
``connect(user, password)`` with ``└ '…'`` below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.siblings import rows
from mobius_otel.telemetry.redaction.under import under_spans

__all__ = ["drawn_spans", "may_be_drawn"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
_DRAWN = re.compile("[\u2502\u2503\u2551\u2514][^\n]*+")
_UPRIGHT = "\u2502\u2503\u2506\u2507\u250a\u250b\u254e\u254f\u2551"
#: The same as psql draws it, character by character.
_AS_PSQL = {n: "|" if chr(n) in _UPRIGHT else "-" for n in range(0x2500, 0x2580)}
# What hangs below a name: a literal, or a number.
_HANGING = re.compile(r"\u2514 (?:[bBrRuU]{0,2}(['\"])((?:(?!\1)[^\n\\]|\\.){1,1024}+)|([0-9]{3,12})(?=\n|\Z))")
_NAME = re.compile(r"[A-Za-z_]\w{0,64}+", re.ASCII)
_DEEPEST, _LONGEST_LINE = 16, 1024


def may_be_drawn(text: str) -> list[int]:
    """Return the places of lines that something is drawn in."""
    return [found.start() for found in _DRAWN.finditer(text)]


def drawn_spans(text: str, of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets in what is drawn, in order.

    Args:
        text: The text.
        of: What a name tells.
    """
    plain = text.translate(_AS_PSQL).replace("(index)", " index ")  # as Node heads its rows
    spans = [*_hanging(text, of), *under_spans(plain, of)]
    spans += ((start, end, kind) for start, end, kind in rows(plain, of) if kind not in (SCAN, TRUST))
    found = []
    for start, end, kind in sorted(spans):
        if text[start] in "'\"" and text[end - 1] == text[start] and end - start > 2:
            start, end = start + 1, end - 1  # noqa: PLW2901 - without its quotes
        if not keeps(kind, text[start:end]):
            found.append((start, end, kind))
    return found


def _hanging(text: str, of: _Of) -> _Spans:
    """Find the values that lines lead down to from the names in the line above."""
    for value in _HANGING.finditer(text):
        line = text.rfind("\n", max(0, value.start() - _LONGEST_LINE), value.start()) + 1
        column = value.start() - line
        for _ in range(_DEEPEST):
            end = line - 1
            if end <= 0:
                break
            line = text.rfind("\n", max(0, end - _LONGEST_LINE), end) + 1
            at = line + column
            if at >= end:
                break
            if text[at] == "\u2502":
                continue
            name = _NAME.match(text, at) if not text[at - 1 : at].isalnum() else None
            kind = of(name.group()) if name else SCAN
            if kind not in (SCAN, TRUST):
                yield *value.span(2 if value.group(1) else 3), kind
            break
