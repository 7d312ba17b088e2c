r"""Secrets whose name stands apart from them in a text: what was rejected, bound to a statement, drawn, listed.

``rawHeaders: [ 'Host', 'x', 'X-Api-Key', '…' ]`` of Node, ``[Password, …]`` of .NET; the rest in modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from mobius_otel.telemetry.redaction.bound import BINDING_WORDS, bound_spans, may_be_bound
from mobius_otel.telemetry.redaction.drawn import drawn_spans, may_be_drawn
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.pair_values import behind_scheme
from mobius_otel.telemetry.redaction.rejected import REJECTING_WORDS, rejected_spans

__all__ = ["may_be_apart", "spans_apart"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
_BINDING_WORDS = BINDING_WORDS | {b"into", b"where"}
_LISTED = re.compile(
    r"(?<![\w\]])\[([A-Za-z_][\w.\-]{1,64}+), (?!U?(?:Int|Float|Single)[0-9]{2}\])([^\s\[\](),\"'<>]{4,512}+)\]",
    re.ASCII,
)
_LISTING_WORDS = frozenset({b"password", b"passwd", b"pwd", b"secret", b"token", b"cookie", b"pin"})
_RAW_HEADERS = re.compile(r"rawHeaders\\?[\"']?: ?\[")
_NAME_AND_VALUE = re.compile(
    r"\s{0,32}+\\?(['\"])([\w\-]{1,64}+)\\?\1,\s{0,32}+\\?(['\"])((?:(?!\3)[^\\\n]){0,4096}+)\\?\3,?", re.ASCII
)


def may_be_apart(text: str, words: Collection[bytes], of: _Of) -> list[int]:
    """Return the places of what :func:`spans_apart` may find, in texts that stand in lines of their own.

    Args:
        text: The texts.
        words: The telling words that stand in them, in lower case.
        of: What a name tells.
    """
    places = [start for start, _, _ in _apart(text, words, of)]
    if not _BINDING_WORDS.isdisjoint(words):
        places += may_be_bound(text, words)  # whatever statement stands before them
    return places if text.isascii() else places + may_be_drawn(text)


def spans_apart(text: str, words: Collection[bytes], of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets of a text that are named apart from them, in order.

    Args:
        text: The text.
        words: The telling words that stand in it, in lower case.
        of: What a name tells.
    """
    found = [*_apart(text, words, of)]
    if not _BINDING_WORDS.isdisjoint(words):
        found += bound_spans(text, words, of)
    if not text.isascii() and may_be_drawn(text):
        found += drawn_spans(text, of)
    return sorted(found)


def _apart(text: str, words: Collection[bytes], of: _Of) -> _Spans:
    if "var." in text or not REJECTING_WORDS.isdisjoint(words):
        yield from rejected_spans(text, words, of)
    if b"rawheaders" in words:
        yield from _raw_headers(text, of)
    if "[" in text and not _LISTING_WORDS.isdisjoint(words):
        yield from _listed(text, of)


def _raw_headers(text: str, of: _Of) -> _Spans:
    """Find the values of headers as Node prints them: names and values in turn."""
    for begin in _RAW_HEADERS.finditer(text):
        at = begin.end()
        while pair := _NAME_AND_VALUE.match(text, at):
            at = pair.end()
            kind, value = of(pair.group(2)), pair.group(4)
            if kind not in (SCAN, TRUST) and not keeps(kind, value):
                yield pair.start(4) + behind_scheme(kind, value), pair.end(4), kind


def _listed(text: str, of: _Of) -> _Spans:
    for pair in _LISTED.finditer(text):
        kind, value = of(pair.group(1)), pair.group(2)
        if kind not in (SCAN, TRUST) and not keeps(kind, value) and any(map(str.isdigit, value)):
            yield *pair.span(2), kind
