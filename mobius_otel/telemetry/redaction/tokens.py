"""Tokens and keys that tell themselves by their form: PEM, our own keys, JSON web tokens, those of vendors.

Every quantifier is bounded or possessive and every search moves on behind what it looked at, so that time grows with
the length alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from mobius_otel.telemetry.redaction.hits import Detector, Hits, each, replace_spans
from mobius_otel.telemetry.redaction.sorts import INNER, OWN, TOKEN
from mobius_otel.telemetry.redaction.vendors import ANYWHERE, BEGINNINGS, DOTTED, JOINED, PLACES

__all__ = [
    "OWN_BEGIN", "VENDOR_KINDS", "TokenScreen", "jwt", "may_be_jwt", "may_be_own", "own_keys", "pem", "pem_begins",
    "vendor_tokens", "wide_patterns",
]  # fmt: skip

# --- keys in PEM form ---------------------------------------------------------------------------------------

_PEM_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40}+)-----")
_IN_NAMES = frozenset("_.[]%$")
_LONGEST_NAME = 40  # a line of a key is longer
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s:,\-]++|(?<=[\n ])[>|](?= )|\\{1,4}+[nrt])*+")


def _whole_words(text: str, start: int, end: int) -> int:
    """Move `end` back before a word that it has cut in two: the name of something that follows the key."""
    if text[end : end + 1] not in _IN_NAMES and text[end - 1 : end] != "=":
        return end
    whole = end
    while end > start and not text[end - 1].isspace():
        end -= 1
    if whole - end > _LONGEST_NAME:
        return whole
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _pem_spans(text: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    while found := _PEM_BEGIN.search(text, at):
        label = found.group(1)
        at = found.end()
        close = f"-----END {label}-----"
        end = text.find(close, at)
        if _is_public(label):
            at = end + len(close) if end >= 0 else at
            continue
        if end >= 0 and end - at < 20_000:
            at = end + len(close)
        else:  # cut off: as far as the characters of a key go
            body = _PEM_BODY.match(text, at)
            at = _whole_words(text, at, body.end()) if body else at
        yield found.start(), at, "private_key"


def pem_begins(text: str) -> list[int]:
    """Return where keys in PEM form begin that are no public ones."""
    return [found.start() for found in _PEM_BEGIN.finditer(text) if not _is_public(found.group(1))]


def _is_public(label: str) -> bool:
    return "CERTIFICATE" in label or "PUBLIC" in label


def pem(text: str, hits: Hits) -> str:
    """Find private keys in PEM form, also when their end is missing."""
    return replace_spans(text, _pem_spans(text), hits) if "-----BEGIN" in text else text


# --- our own keys -------------------------------------------------------------------------------------------

_OWN_BODY = re.compile(r"_[0-9A-Za-z]{43,56}(?![0-9A-Za-z])")
_LONG_PART = re.compile(r"[0-9A-Za-z_\-]{20,}+")
_OWN_HEAD = re.compile(r"[a-z0-9]{1,64}_[a-z0-9]{1,64}\Z")


def _own_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for body in _OWN_BODY.finditer(text):
        start = max(0, body.start() - 129)
        head = _OWN_HEAD.search(text[start : body.start()])
        if head:
            yield *_whole_token(text, start + head.start(), body.end()), "mobius_key"


def _whole_token(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the bounds of the long token of somebody else that a find may be the middle of: none of it may stay."""
    before = _LONG_PART.match(text[max(0, start - 1024) : start][::-1])
    after = _LONG_PART.match(text, end)
    return start - before.end() if before else start, after.end() if after else end


def own_keys(text: str, hits: Hits) -> str:
    """Find keys of :class:`ApiKeyManager`: any prefix and environment; also a mistyped one is worth hiding."""
    return replace_spans(text, _own_spans(text), hits) if text.count("_") > 1 else text


# --- JSON web tokens ----------------------------------------------------------------------------------------

_JWT = re.compile(r"(eyJ[A-Za-z0-9_\-]*+)(\.[A-Za-z0-9_\-]*+){0,4}+")


def _is_header(part: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        header = json.loads(raw)
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(header, dict) and ("alg" in header or "typ" in header)


def _jwt_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _JWT.finditer(text):
        head = found.group(1)
        if found.end() > found.end(1) and len(head) < 4096 and _is_header(head):
            full_stop = text[found.end() - 1] == "." and found.group().count(".") > 2
            yield found.start(), found.end() - full_stop, "jwt"


def jwt(text: str, hits: Hits) -> str:
    """Find JSON web tokens: a header that decodes to JSON with an algorithm, and at least one part more."""
    return replace_spans(text, _jwt_spans(text), hits) if "eyJ" in text else text


# --- tokens of vendors, by their published shapes -----------------------------------------------------------

_DIGIT = re.compile(r"[0-9]")


def _known_tokens(off: frozenset[str]) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """Return one pattern for all tokens with a known beginning, and the kind of each of its groups."""
    branches: dict[str, list[tuple[str, str, str]]] = {}
    for kind, prefixes, rest in (*BEGINNINGS, *DOTTED):
        if kind not in off:
            for prefix in prefixes.split():
                branches.setdefault(prefix[0], []).append((kind, prefix[1:], rest))
    kinds = tuple(kind for lines in branches.values() for kind, _, _ in lines)
    # The group stands behind the letters: the engine passes over a branch whose first letter differs.
    parts = [
        f"{letter}(?<![0-9A-Za-z]{letter})(?:{'|'.join(f'{re.escape(after)}({rest})' for _, after, rest in lines)})"
        for letter, lines in branches.items()
    ]
    return (re.compile("|".join(parts)) if parts else None), kinds


def vendor_tokens(off: frozenset[str] = frozenset()) -> tuple[Detector, Detector]:
    """Return the detectors for the tokens of vendors, by the shapes they publish: by a beginning, by what is inside.

    Args:
        off: Kinds that are not looked for.
    """
    known, kinds = _known_tokens(off)
    inner = tuple(
        (kind, inside, re.compile(f"(?<![0-9A-Za-z]){shape}")) for kind, inside, shape in ANYWHERE if kind not in off
    )

    def spans(text: str, known: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
        for found in known.finditer(text):
            yield found.start(), _without_full_stop(text, found.end()), kinds[(found.lastindex or 1) - 1]

    def inner_spans(text: str, kind: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
        for found in pattern.finditer(text):
            # A name such as my_test_something_long_written has no digit; a key of that length always has one.
            if kind != "api_key" or _DIGIT.search(found.group()):
                yield found.start(), _without_full_stop(text, found.end()), kind

    def by_beginning(text: str, hits: Hits) -> str:
        return replace_spans(text, spans(text, known), hits) if known else text

    def by_inside(text: str, hits: Hits) -> str:
        for kind, inside, pattern in inner:
            for part in inside:
                if part in text:
                    text = replace_spans(text, inner_spans(text, kind, pattern), hits)
                    break
        return text

    return by_beginning, by_inside


_JWT_BEGIN = re.compile(r"eyJ[A-Za-z0-9_\-]*+\.?+")
#: What every key of our own holds.
OWN_BEGIN = re.compile(r"_[0-9A-Za-z]{43}")
_DOT = re.compile(r"\.(?:[0-9a-f]{64}|[0-9A-Za-z_\-]{6}\.[0-9A-Za-z_\-]{27})")
_FEW_HEX = "[0-9a-f]{4}"  # of the 32 behind two letters
_WIDE_DOT = r"\.[0-9a-f]{12}|\.[0-9A-Za-z_\-]{6}\.[0-9A-Za-z_\-]{4}"
_NO_WORD = re.compile(r"[^0-9A-Za-z]++")


def wide_patterns(off: frozenset[str] = frozenset()) -> list[tuple[int, bytes, str]]:
    """Return patterns that RE2 can run, too, of which one matches wherever a :class:`TokenScreen` has a place.

    They ask for the beginning of each shape, and for what stands inside: counted characters cost RE2 a state each.

    Args:
        off: Kinds that are not looked for.

    Returns:
        The sort, the word to be searched for or nothing, the pattern.
    """
    begins = [(prefix, _opening(prefix)) for kind, some, _ in BEGINNINGS if kind not in off for prefix in some.split()]
    openings = {opening for _, opening in begins if opening}
    glued = [
        f"[^0-9A-Za-z]{re.escape(prefix)}{_FEW_HEX if len(prefix) < 3 else ''}"
        for prefix, opening in begins
        if not opening
    ]
    inner = [part for kind, parts, _ in ANYWHERE if kind not in off for part in parts]
    return [
        (OWN, b"", OWN_BEGIN.pattern),
        (TOKEN, b"", "|".join((*glued, _WIDE_DOT))),
        *((TOKEN, _word(opening), f"[^0-9A-Za-z]{re.escape(opening)}") for opening in sorted(openings)),
        *((INNER, part.strip("_").encode() if part[0] == "_" else b"", re.escape(part)) for part in inner),
    ]


def _opening(prefix: str) -> str:
    """Return the first word of what a token begins with, and what ends it; empty where the token goes on with it."""
    end = _NO_WORD.search(prefix)
    return prefix[: end.end()] if end else ""


def _word(opening: str) -> bytes:
    return _NO_WORD.sub("", opening).lower().encode()


class TokenScreen:
    """Suspects what may be a token of a vendor, a JSON web token or a key of our own.

    A token of a vendor begins with what its vendor chose, and no letter or digit stands before it. Where a hyphen, a
    full stop or the like ends the first word of that (``ghp_``, ``sk-ant-``), the text holds this word alone: it is
    looked up among all words of the text, whatever their number is. Where the token itself goes on with it (``AKIA``),
    and where a token begins with anything, it is searched for.

    Args:
        off: Kinds that are not looked for.
    """

    __slots__ = ("_glued", "_inner", "_joins", "_known", "_openings", "words")

    def __init__(self, off: frozenset[str] = frozenset()) -> None:
        self._known, _ = _known_tokens(off)
        self._openings: dict[bytes, set[str]] = {}
        glued: dict[str, list[tuple[str, str]]] = {}
        for kind, prefixes, rest in BEGINNINGS:
            for prefix in () if kind in off else prefixes.split():
                if opening := _opening(prefix):
                    self._openings.setdefault(_word(opening), set()).add(opening)
                else:
                    glued.setdefault(prefix[0], []).append((prefix, re.escape(prefix[1:]) + rest))
        # A pattern for each first letter, and what all of them begin with: that is found much quicker than a pattern.
        self._glued = [
            (
                os.path.commonprefix([prefix for prefix, _ in shapes]),  # noqa: RUF071 - of any texts
                re.compile(f"{letter}(?<![0-9A-Za-z]{letter})(?:{'|'.join(rest for _, rest in shapes)})"),
            )
            for letter, shapes in glued.items()
        ]
        inner = [part for kind, parts, _ in ANYWHERE if kind not in off for part in parts if "_" not in part]
        #: What stands inside, and a character of it that stands in few texts.
        self._inner = tuple((min(part, key=lambda sign: (sign.isalnum(), sign != "J")), part) for part in inner)
        self._joins = frozenset() if "api_key" in off else frozenset(place.encode() for place in PLACES)
        #: The words, in lower case, of which a text holds one that is to be searched for them.
        self.words: frozenset[bytes] = frozenset((*self._openings, *self._joins))

    def vendors(self, text: str, words: AbstractSet[bytes]) -> list[int]:
        """Return the places of what may be a token with a beginning of its vendor's.

        Args:
            text: Texts in lines of their own.
            words: What stands in them, :attr:`words` among it.
        """
        places: list[int] = []
        for word in words:
            for opening in self._openings.get(word, ()):
                if self._known and opening in text:
                    places += [at for at in each(text, opening) if self._known.match(text, at)]
        for begin, pattern in self._glued:
            if begin[-1] in text and begin in text and pattern.search(text):
                places += [found.start() for found in pattern.finditer(text)]
        if _DOT.search(text):
            places += [found.start() for found in _DOT.finditer(text)]
        return places

    def inner(self, text: str, words: AbstractSet[bytes]) -> list[int]:
        """Return the places of what may be a token by what stands inside of it; see :meth:`vendors`."""
        places: list[int] = []
        if words and not self._joins.isdisjoint(words):
            places += [found.start() for found in JOINED.finditer(text)]
        for mark, part in self._inner:
            if mark in text and part in text:
                places += each(text, part)
        return places


def may_be_jwt(text: str) -> list[int]:
    """Return the places of what may be a JSON web token."""
    return [found.start() for found in _JWT_BEGIN.finditer(text) if found.group()[-1] == "."]


def may_be_own(text: str) -> list[int]:
    """Return the places of what may be a key of our own."""
    return [found.start() for found in OWN_BEGIN.finditer(text)]


def _without_full_stop(text: str, end: int) -> int:
    return end - 1 if text[end - 1] == "." else end  # the end of a sentence


VENDOR_KINDS = frozenset(kind for kind, _, _ in (*BEGINNINGS, *DOTTED, *ANYWHERE))
