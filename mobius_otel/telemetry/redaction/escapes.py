"""Secrets behind percent signs: in an address, in a form, in an address inside of an address.

``?next=https%3A%2F%2Fapp%2Fcb%3Ftoken%3D…`` is read as whoever receives it reads it. Where nothing is found, nothing is
changed; else the secret alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote_to_bytes

from mobius_otel.telemetry.redaction.hits import MARKER

__all__ = ["MOST_TIMES", "escaped_runs", "read", "replace_escaped", "without_colours"]

#: How often a text may be escaped: what is in an address in an address is so three times.
MOST_TIMES = 3
_ESCAPE = re.compile(r"%(?!40)[0-9A-Fa-f]{2}")  # an at sign is looked for as it is written, too
# A value, as far as it goes: what ends one in an address, in a form, in a text, in a command.
_RUN = re.compile(r"[^\s\"'<>&?=/;,|\\\[\](){}`]{6,}+")
_MARKER = re.compile(f"({MARKER})")
_BARE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# The pattern of a statement: LIKE '%…%'
_LIKE = re.compile(r"(?:like|similar to|concat\()\s{1,4}[a-z]?'\Z|concat\('\Z", re.IGNORECASE)
_QUOTES = frozenset("\"'")
_RESERVED = frozenset(":#@!$'*+")  # RFC 3986, 2.2: those that a run may hold


#: A sequence that a terminal takes for a colour (ECMA-48, 8.3.117) or for "delete to the end of the line" (8.3.41).
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,32}+[mK]")


def without_colours(text: str) -> str:
    """Return a text as a terminal shows it."""
    return _COLOUR.sub("", text)


def escaped_runs(text: str) -> list[re.Match[str]]:
    """Return the runs of characters without a blank or the like in which something is escaped."""
    if "%" not in text or not _ESCAPE.search(text):
        return []
    return [
        run
        for run in _RUN.finditer(text)
        if "%" in run.group() and _ESCAPE.search(run.group()) and not _is_pattern(text, run)
    ]


def _is_pattern(text: str, run: re.Match[str]) -> bool:
    """Return whether percent signs stand for anything: ``LIKE '%bea@shop.example%'``."""
    start = run.start()
    if text[start] != "%" or text[start - 1 : start] not in _QUOTES:
        return False
    return _BARE.search(run.group()) is not None or _LIKE.search(text[max(0, start - 20) : start]) is not None


def read(run: str) -> str:
    """Return what a run says: in a form, a plus sign is a blank."""
    plain = run if "%20" in run else run.replace("+", " ")
    return unquote_to_bytes(plain.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape")


def replace_escaped(
    text: str, suspects: Callable[[list[str]], Mapping[int, int]], scan: Callable[[str, int], str]
) -> str:
    """Return `text` without what `scan` finds in its escaped runs.

    Args:
        text: The text.
        suspects: Says what each of many texts may hold, by its index.
        scan: Takes the secrets out of a text that may hold so much.
    """
    runs = escaped_runs(text)
    said = [read(run.group()) for run in runs]
    parts: list[str] = []
    written: dict[tuple[str, str], str] = {}
    done = 0
    for index, sorts in sorted(suspects(said).items()) if said else ():
        clean = scan(said[index], sorts)
        if clean != said[index]:
            both = clean, runs[index].group()
            if both not in written:
                written[both] = _written(clean, said[index], runs[index].group())
            parts += (text[done : runs[index].start()], written[both])
            done = runs[index].end()
    return "".join((*parts, text[done:])) if parts else text


def _written(clean: str, said: str, run: str) -> str:
    """Return what is said as it was written but for the markers in it."""
    pieces = _MARKER.split(clean)
    places = _places(said, run)
    if places is None:
        return _escaped(pieces, run)
    parts, at = [run[: places[len(pieces[0])]]], len(pieces[0])
    for number in range(2, len(pieces), 2):  # what stands behind each marker
        piece = pieces[number]
        at = said.find(piece, at) if number < len(pieces) - 1 else len(said) - len(piece)
        if not said.startswith(piece, at) or at < 0:
            return _escaped(pieces, run)
        parts += (pieces[number - 1], run[places[at] : places[at + len(piece)]])
        at += len(piece)
    return "".join(parts) if said.startswith(pieces[0]) and len(pieces) > 1 else _escaped(pieces, run)


def _places(said: str, run: str) -> list[int] | None:
    """Return where each character that is said is written, and where all of it ends; None where that is not clear."""
    places, at = [], 0
    for character in said:
        places.append(at)
        escaped = run.startswith("%", at) and (character != "%" or run.startswith("%25", at))
        at += 3 * len(character.encode("utf-8", "surrogateescape")) if escaped else 1
    return [*places, at] if at == len(run) else None


def _escaped(pieces: list[str], run: str) -> str:
    """Return what is said, and markers, escaped: what stood there unescaped stays so."""
    is_form = "+" in run and "%20" not in run
    unescaped = "".join(sorted(_RESERVED.intersection(run) - ({"+"} if is_form else set())))
    pieces[::2] = [quote(piece, unescaped, errors="surrogateescape") for piece in pieces[::2]]
    return "".join(pieces).replace("%20", "+") if is_form else "".join(pieces)
