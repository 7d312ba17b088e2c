"""What detectors share: the list of finds, the marker in the place of a secret, and what a text is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = [
    "BETWEEN_DIGITS",
    "CLASSES",
    "LONG",
    "MARKER",
    "SHAPE",
    "WORDS",
    "ZEROS",
    "Detector",
    "Hits",
    "marker",
    "replace_spans",
]


class Hits(list[str]):
    """The kinds of what was found in a text, in order, and what decides about each find.

    Args:
        show: Returns what stands in the place of a secret, given its kind and itself; None: it stays. Without
            it everything is masked.
    """

    __slots__ = ("passed", "show")

    def __init__(self, show: Callable[[str, str], str | None] | None = None) -> None:
        super().__init__()
        self.show = show
        #: Whether something stayed that another name or place would not have let through.
        self.passed = False


#: A marker, as a part of a regular expression: also one with the end of the secret, or its pseudonym.
MARKER = r"\[redacted:[a-z0-9_]{1,40}(?::(?:[0-9A-Z]{4}|[a-z0-9_]{1,16}\.[a-z2-7]{16}))?\]"


#: What a text is made of, found out by quick operations on its bytes; most texts then need no pattern at all.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CLASSES = bytes.maketrans(_LETTERS + b"0123456789", b"a" * 52 + b"0" * 10)
WORDS = bytes.maketrans(_LETTERS + b"0123456789_-", b"a" * 64)
LONG = b"a" * 16
BETWEEN_DIGITS = b" -./()\xa0"
# Digits as 0, everything that is no letter and no digit as a hyphen.
SHAPE = bytes(48 if chr(n).isdigit() and n < 128 else (97 if n in _LETTERS else 45) for n in range(256))
# The same, with 1 for every digit but 0.
ZEROS = bytes(49 if 49 <= n <= 57 else shown for n, shown in enumerate(SHAPE))
Detector = Callable[[str, Hits], str]


def marker(kind: str) -> str:
    """Return what stands in the place of a secret of this kind."""
    return f"[redacted:{kind}]"


def replace_spans(text: str, spans: Iterator[tuple[int, int, str]], hits: Hits) -> str:
    """Put a marker in the place of each span; the spans come in order."""
    parts: list[str] = []
    done = 0
    for start, end, kind in spans:
        if end <= done or end <= start:
            continue
        if hits.show is None:
            shown: str | None = marker(kind)
        else:
            shown = hits.show(kind, text[max(start, done) : end])
        if shown is None:
            hits.passed = True
            continue
        parts += (text[done : max(start, done)], shown)
        hits.append(kind)
        done = end
    return "".join((*parts, text[done:])) if parts else text
