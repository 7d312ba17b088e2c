"""What a user adds to the detectors: patterns, and functions that find something in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from mobius_otel.telemetry.redaction.hits import MARKER, Detector, Hits, marker, replace_spans
from mobius_otel.telemetry.redaction.patterns import Pattern, checked_pattern
from mobius_otel.telemetry.safety import STRANGE, of_handler

__all__ = ["Finder", "own_detectors"]

#: Finds one kind of secret: takes a text, returns the places that it stands at, as pairs of start and end.
Finder = Callable[[str], Iterable[tuple[int, int]]]

_MARKER = re.compile(MARKER)
_Span = tuple[int, int, str]


class _Nonsense(Exception):
    """A user's function returned something else than places of the text."""


def own_detectors(
    patterns: Iterable[tuple[str, str]], finders: Iterable[tuple[str, Finder]] = ()
) -> tuple[Detector, ...]:
    """Return a user's patterns and functions as detectors, in their order, the patterns first.

    Args:
        patterns: Pairs of a kind and a regular expression.
        finders: Pairs of a kind and a function; where it raises or returns something else than places of the
            text, the whole text is blanked and counted as ``unreadable``.

    Raises:
        ConfigurationError: A pattern cannot be used.

    Example:
        >>> hits = Hits()
        >>> own_detectors([("badge", "B-[0-9]{6}")])[0]("badge B-123456", hits), hits
        ('badge [redacted:badge]', ['badge'])
    """
    compiled = ((kind, checked_pattern(f"redaction.patterns.{kind}", pattern)) for kind, pattern in patterns)
    return (
        *(_by_pattern(kind, pattern) for kind, pattern in compiled),
        *(_by_finder(kind, finder) for kind, finder in finders),
    )


def _by_pattern(kind: str, pattern: Pattern) -> Detector:
    def spans(text: str) -> Iterator[_Span]:
        for start, end in _outside_markers(text):
            for found in pattern.finditer(text, start, end):
                yield *found.span(), kind

    def detect(text: str, hits: Hits) -> str:
        return replace_spans(text, spans(text), hits)

    return detect


def _by_finder(kind: str, finder: Finder) -> Detector:
    def detect(text: str, hits: Hits) -> str:
        try:
            places = _places(finder(text), len(text))
        except STRANGE as error:  # fail closed: what it would have found is not known
            if of_handler(error):
                raise
            hits.append("unreadable")
            return marker("unreadable")
        if not places:
            return text
        outside = _outside_markers(text) if "[redacted:" in text else [(0, len(text))]
        return replace_spans(text, _cut_out(places, outside, kind), hits)

    return detect


def _places(found: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return what a user's function found, in order; what overlaps is one place."""
    places: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(found):
        if type(start) is not int or type(end) is not int or not 0 <= start <= end <= length:
            raise _Nonsense
        if number > length:  # more places than the text has: an iterator without an end
            raise _Nonsense
        if end > start:
            places.append((start, end))
    places.sort()
    joined: list[tuple[int, int]] = []
    for start, end in places:
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cut_out(places: list[tuple[int, int]], outside: Iterable[tuple[int, int]], kind: str) -> Iterator[_Span]:
    """Yield the places without the parts of them that are markers already; both come in order."""
    at = 0
    for left, right in outside:
        while at < len(places) and places[at][0] < right:
            start, end = max(places[at][0], left), min(places[at][1], right)
            if end > start:
                yield start, end, kind
            if places[at][1] > right:
                break
            at += 1


def _outside_markers(text: str) -> Iterator[tuple[int, int]]:
    """Yield what stands before, between and behind the markers that a text holds already."""
    at = 0
    for found in _MARKER.finditer(text) if "[redacted:" in text else ():
        yield at, found.start()
        at = found.end()
    yield at, len(text)
