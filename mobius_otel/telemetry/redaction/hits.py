"""What detectors share: the list of finds, the marker in the place of a secret, and what a text is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import AnyStr, Final

__all__ = [
    "MARKER",
    "SHAPE",
    "WORDS",
    "Detector",
    "Hits",
    "each",
    "echoes",
    "is_alnum",
    "marker",
    "replace_spans",
]


class Hits(list[str]):
    """The kinds of what was found in a text, in order, and what decides about each find."""

    #: Returns what stands in the place of a secret, given its kind and itself; None: it stays. Without it everything
    #: is masked.
    show: Callable[[str, str], str | None] | None = None
    #: Whether something stayed that another name or place would not have let through.
    passed = False
    #: The first few secrets that a name told, and their kinds: the same text may say one again, where nothing tells it.
    told: list[tuple[str, str]] | None = None


#: Kinds of what is known by the name before it alone.
_TOLD_BY_NAME: Final = frozenset({
    "password", "secret", "token", "api_key", "private_key", "credential", "session", "authorization",
    "url_credential", "name",
})  # fmt: skip
_MOST_TOLD, _SHORTEST_TOLD = 16, 8

#: A marker, as a part of a regular expression: also one with the end of the secret, or its pseudonym.
MARKER = r"\[redacted:[a-z0-9_]{1,40}(?::(?:[0-9A-Z]{4}|[a-z0-9_]{1,16}\.[a-z2-7]{16}))?\]"


#: What a text is made of, found out by quick operations on its bytes; most texts then need no pattern at all.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Letters in lower case and digits as they are, everything else as a blank.
WORDS = bytes((n | 32 if n in _LETTERS else n) if n in _LETTERS + b"0123456789" else 32 for n in range(256))
# Digits as 0, everything that is no letter and no digit as a hyphen.
SHAPE = bytes(48 if chr(n).isdigit() and n < 128 else (97 if n in _LETTERS else 45) for n in range(256))
Detector = Callable[[str, Hits], str]


def each(text: AnyStr, part: AnyStr) -> list[int]:
    """Return the places of a part in a text or in bytes, also of those that overlap."""
    places = []
    at = text.find(part)
    while at >= 0:
        places.append(at)
        at = text.find(part, at + 1)
    return places


def is_alnum(character: str) -> bool:
    """Return whether a character may go on a number or a name of ASCII: Chinese is written without blanks."""
    return character.isascii() and character.isalnum()


def marker(kind: str) -> str:
    """Return what stands in the place of a secret of this kind."""
    return f"[redacted:{kind}]"


def replace_spans(text: str, spans: Iterable[tuple[int, int, str]], hits: Hits) -> str:
    """Put a marker in the place of each span; the spans come in order."""
    parts: list[str] = []
    done, show = 0, hits.show
    for start, end, kind in spans:
        if end <= done or end <= start:
            continue
        begin = start if start > done else done  # noqa: FURB136 - a call takes longer
        shown = f"[redacted:{kind}]" if show is None else show(kind, text[begin:end])
        if shown is None:
            hits.passed = True
            continue
        parts += (text[done:begin], shown)
        hits.append(kind)
        done = end
        if end - begin >= _SHORTEST_TOLD and kind in _TOLD_BY_NAME:
            if hits.told is None:
                hits.told = []
            if len(hits.told) < _MOST_TOLD:
                hits.told.append((text[begin:end], kind))
    if not parts:
        return text
    parts.append(text[done:])
    return "".join(parts)


def echoes(text: str, hits: Hits) -> str:
    """Return `text` without the secrets that a name in it told once, where they stand in it again.

    A traceback shows ``password = 'hunter22'`` and then ``KeyError: 'hunter22'``; a database repeats the whole row. A
    word alone may be any other word, and a number any other number: they stay.
    """
    for secret, kind in (hits.told or ())[:]:
        if secret in text and not secret.isdigit() and any(map(str.isdigit, secret)):
            spans = [(at, at + len(secret), kind) for at in each(text, secret)]
            text = replace_spans(text, [span for span in spans if _stands_alone(text, *span[:2])], hits)
    return text


def _stands_alone(text: str, start: int, end: int) -> bool:
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())
