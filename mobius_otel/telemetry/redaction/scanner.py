"""Takes the secrets out of one text: what a user asked for, what names tell, what values tell."""

from __future__ import annotations

import decimal
import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from mobius_otel.telemetry.redaction.detectors import value_detectors
from mobius_otel.telemetry.redaction.escapes import MOST_TIMES, escaped_runs, replace_escaped, without_colours
from mobius_otel.telemetry.redaction.hits import MARKER, Detector, Hits, echoes, marker, replace_spans
from mobius_otel.telemetry.redaction.names import NameRules
from mobius_otel.telemetry.redaction.own import own_detectors
from mobius_otel.telemetry.redaction.pairs import PairScanner
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.screen import Screen
from mobius_otel.telemetry.redaction.sorts import (
    ANYTHING,
    AT,
    COLOUR,
    DOCUMENT,
    ESCAPED,
    FLAG,
    HEAD,
    PAIR,
    PEM,
    SENTENCE,
    SIBLING,
)
from mobius_otel.telemetry.redaction.tokens import pem

__all__ = ["TextScanner", "cut", "is_lossy"]

#: What may be something only without the secret that was right beside it.
#: Two patterns, for each begins with what is found at once.
_GLUED_BEFORE = re.compile(r"\[redacted:(?:(?<=[\w.+\-]\[redacted:)|(?<=::\[redacted:))")
_GLUED_BEHIND = re.compile(r"\](?=[.:+\-(]{0,2}[^\W_])")
_PASSES = 4
#: Of a text with so many secrets nobody tells what each hid: what is glued to one goes with it.
_MANY = 256
_MARKERS = re.compile(MARKER)
_RUN_BEFORE, _RUN_BEHIND = re.compile(r"[\w.+\-]{1,256}+"), re.compile(r"[.:+\-(]{0,2}+[^\W_][\w.:+\-]{0,256}+")
_FIRST = PEM | DOCUMENT
_TOO_DEEP = "\\" * 129
_SHORTEST = 5  # "pin=1"
_WORD_BREAK = 256

#: Redacts what was parsed out of a text, and says what it found by appending to the list.
Walk = Callable[[Any, Hits], Any]


class TextScanner:
    """Finds the secrets of one policy in texts.

    Args:
        policy: What is looked for.
        rules: What names say under this policy.
    """

    __slots__ = ("_detectors", "_logins", "_own", "_pem", "_wanted", "says_nothing", "suspects")

    def __init__(self, policy: RedactionPolicy, rules: NameRules) -> None:
        self._own = own_detectors(policy.patterns, dict(policy.detectors).items())
        pairs = PairScanner(rules, policy.kinds_off)
        self._pem = "private_key" not in policy.kinds_off
        self._logins = pairs.logins
        self._detectors = (
            (AT, pairs.logins),
            (PAIR, pairs.pairs),
            (SIBLING, pairs.siblings),
            (FLAG, pairs.flags),
            (SENTENCE, pairs.sentences),
            (HEAD, pairs.under),
            *value_detectors(policy.kinds_off),
        )
        #: Which detectors a text of so many suspicions needs.
        self._wanted: dict[int, tuple[Detector, ...]] = {}
        #: Which of many texts may hold a secret; see :meth:`Screen.suspects`.
        screen = Screen(pairs, policy.kinds_off, everything=bool(self._own))
        self.suspects = screen.suspects
        #: Whether a line holds nothing in any text; see :meth:`Screen.says_nothing`.
        self.says_nothing = screen.says_nothing

    def scan(self, text: str, hits: Hits, walk: Walk | None = None, sorts: int = ANYTHING) -> str:
        """Return `text` without its secrets.

        Args:
            text: The text; its length is the caller's business.
            hits: Gets the kind of each find.
            walk: What redacts a JSON document when the text is one; None: it is read as a text.
            sorts: What the text is suspected of.
        """
        if len(text) < _SHORTEST:
            return text
        before = len(hits)
        if sorts & _FIRST or self._own:
            for detect in self._own:
                text = detect(text, hits)
            if self._pem and sorts & PEM:
                text = pem(text, hits)
            if sorts & DOCUMENT and walk is not None and (document := _document(text)) is not None:
                return _redacted_json(text, document, hits, walk)
            if sorts & DOCUMENT and _TOO_DEEP in text:  # a text in a text, and so on: its names are not read any more
                hits.append("depth")
                return marker("depth")
        text = self._detect(text, hits, sorts)
        for _ in range(_PASSES):
            if len(hits) == before or not (_GLUED_BEHIND.search(text) or _GLUED_BEFORE.search(text)):
                break
            if len(hits) - before > _MANY:
                text = _without_glued(text, hits)
                break
            before = len(hits)  # something may have been hidden by a secret right beside it
            text = self._detect(text, hits, ANYTHING)
        if hits.told is not None:
            text = echoes(text, hits)
        return self._shown(text, hits) if sorts & COLOUR and "\x1b[" in text else text

    def _shown(self, text: str, hits: Hits) -> str:
        """Return `text` without the secrets that are cut in two by colours; where there is one, without its colours."""
        plain = without_colours(text)
        before = len(hits)
        clean = self._detect(plain, hits, ANYTHING ^ COLOUR)
        return clean if len(hits) > before else text

    def _unescaped(self, text: str, hits: Hits, times: int) -> str:
        """Return `text` without the secrets in what is escaped in it, and in what is escaped in that."""
        #: The same is often escaped again and again; where all is masked, the same becomes of it.
        known: dict[tuple[str, int], tuple[str, list[str]]] = {}

        def scan(said: str, sorts: int) -> str:
            if (said, sorts) in known:
                clean, kinds = known[said, sorts]
                hits.extend(kinds)
                return clean
            before, clean = len(hits), said
            for detect in self._own:
                clean = detect(clean, hits)
            if self._pem and sorts & PEM:
                clean = pem(clean, hits)
            clean = self._detect(clean, hits, sorts, times)
            if hits.show is None and not self._own:
                known[said, sorts] = clean, hits[before:]
            return clean

        return replace_escaped(text, lambda said: self.suspects(said, times), scan)

    def _detect(self, text: str, hits: Hits, sorts: int, times: int = 0) -> str:
        if sorts & ESCAPED and times >= MOST_TIMES:
            text = replace_spans(text, [(*run.span(), "depth") for run in escaped_runs(text)], hits)
        elif sorts & ESCAPED:
            text = self._logins(text, hits)  # what of "user:pass%21word@host" is escaped is no address by itself
            text = self._unescaped(text, hits, times + 1)
        wanted = self._wanted.get(sorts)
        if wanted is None:
            wanted = tuple(detect for sort, detect in self._detectors if sorts & sort)
            self._wanted[sorts] = wanted
        for detect in wanted:
            text = detect(text, hits)
        return text


def _without_glued(text: str, hits: Hits) -> str:
    """Return `text` without what is glued to its markers."""
    spans = []
    for found in _MARKERS.finditer(text):
        start, end = found.span()
        if before := _RUN_BEFORE.match(text[max(0, start - 256) : start][::-1]):
            spans.append((start - before.end(), start, "unreadable"))
        if behind := _RUN_BEHIND.match(text, end):
            spans.append((end, behind.end(), "unreadable"))
    return replace_spans(text, spans, hits)


class _Twice(ValueError):
    """A JSON object names something twice; the first of the two would be overlooked."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


class _Lossy(ValueError):
    """A number that would not come back as it was."""


def is_lossy(text: str, number: float) -> bool:
    """Return whether a number of JSON is another one when it is written again: of too many digits, too large.

    Args:
        text: How it is written.
        number: What it is read as.
    """
    if not math.isfinite(number):
        return True
    return len(text) > _SURE_DIGITS and decimal.Decimal(text) != decimal.Decimal(repr(number))


def _number(text: str) -> float:
    number = float(text)
    if is_lossy(text, number):
        raise _Lossy
    return number


_SURE_DIGITS = 15  # of a double
_INDENTED = re.compile(r"\s*[\[{]\r?\n([ \t]*)")
_DECODE = json.JSONDecoder(object_pairs_hook=_once, parse_float=_number).decode


def _document(text: str) -> Any:
    """Return what the text encodes when it is a JSON object, list or (encoded twice) text; else None."""
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in {"{}", "[]", '""'}:
        return None
    try:
        return _DECODE(text)
    except (ValueError, RecursionError):
        return None


def _redacted_json(text: str, document: Any, hits: Hits, walk: Walk) -> str:
    before = len(hits)
    clean = walk(document, hits)
    if len(hits) == before:
        return text
    begin, end = text[: -len(text.lstrip())], text[len(text.rstrip()) :]
    lines = _INDENTED.match(text)
    indent = lines.group(1) if lines else ("  " if "\n" in text.strip() else None)
    blanks = '": ' in text or ('":' not in text and ", " in text)
    encoded = _encoder(text.isascii(), blanks, indent).encode(clean)
    if "\\/" in text and text.count("/") == text.count("\\/"):
        encoded = encoded.replace("/", "\\/")
    return f"{begin}{encoded}{end}"


@cache
def _encoder(ascii_only: bool, blanks: bool, indent: str | None) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=ascii_only, separators=None if blanks else (",", ":"), indent=indent)


def cut(text: str, length: int) -> str:
    """Cut a text that is too long, at the end of a word where one is near, and say so with a marker.

    Args:
        text: The text.
        length: How many characters the result may have, the marker among them.
    """
    sign = marker("length")
    end = max(0, length - len(sign))
    for at in range(end, max(0, end - _WORD_BREAK), -1):
        if text[at].isspace():
            end = at
            break
    half = text.rfind("[redacted:", max(0, end - 60), end)
    if half >= 0 and text.find("]", half, end) < 0:
        end = half  # never the half of a marker
    return text[:end] + sign
