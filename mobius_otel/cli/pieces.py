"""Reading a text of any length piece by piece, in constant memory: lines, and keys in PEM form as one piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["LONGEST_LINE", "Piece", "pieces"]

#: The longest line that is looked at, in bytes; what lies beyond is blanked.
LONGEST_LINE = 1 << 20
_LONGEST_BLOCK = 16 << 10
_MOST_LINES = 400

_BEGIN = re.compile(rb"-----BEGIN (?![A-Z0-9 ]{0,40}(?:CERTIFICATE|PUBLIC))[A-Z0-9 ]{0,40}-----")
_END = b"-----END"
#: A line that can only be part of a key: in base64, alone or behind the beginning of a line of a log; a header.
_KEY_LINE = re.compile(
    rb"\s*[A-Za-z0-9+/]{1,128}={0,2}\s*|.*[A-Za-z0-9+/]{40,}={0,2}\s*"
    rb"|(?:Proc-Type|DEK-Info|Version|Comment): .*\s*|\s*"
)
_SPACE = re.compile(rb"\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a text.

    Args:
        line: The number of its first line, from 1.
        raw: Its bytes, with the end of the line.
        blank: The kind that the whole piece is blanked as, unread; empty: it is to be read.
    """

    line: int
    raw: bytes
    blank: str = ""


def pieces(stream: BinaryIO) -> Iterator[Piece]:
    """Yield a stream piece by piece.

    A key in PEM form is one piece from its first line to its last. One whose end does not come within 400 lines
    or 16 KiB is blanked: every line behind its first that can be part of a key.

    Args:
        stream: Open for reading bytes.
    """
    block: list[Piece] = []
    size = 0
    cut_off = False  # a key that went on for too long
    for piece in _lines(stream):
        if cut_off:
            if _END not in piece.raw and _KEY_LINE.fullmatch(piece.raw):
                yield _blanked(piece)
                continue
            cut_off = False
            if _END in piece.raw:
                yield _blanked(piece)
                continue
        if block:
            block.append(piece)
            size += len(piece.raw)
            if _END in piece.raw:
                yield Piece(block[0].line, b"".join(part.raw for part in block))
                block = []
            elif len(block) > _MOST_LINES or size > _LONGEST_BLOCK:
                yield from _without_end(block)
                block, cut_off = [], True
        elif not piece.blank and _opens(piece.raw):
            block, size = [piece], len(piece.raw)
        else:
            yield piece
    yield from _without_end(block)


def _opens(raw: bytes) -> bool:
    """Return whether a key begins in a line and goes on behind it; no JSON text goes on behind its line."""
    end = max((found.end() for found in _BEGIN.finditer(raw)), default=-1)
    return end >= 0 and raw.find(_END, end) < 0 and not raw.lstrip().startswith((b"{", b"[{"))


def _without_end(block: list[Piece]) -> Iterator[Piece]:
    """Yield the lines of a key whose end is missing: the first as it is to be read, of the others no part of a key."""
    yield from block[:1]
    for piece in block[1:]:
        if _SPACE.fullmatch(piece.raw) or not _KEY_LINE.fullmatch(piece.raw):
            yield piece
        else:
            yield _blanked(piece)


def _blanked(piece: Piece) -> Piece:
    return Piece(piece.line, piece.raw, "private_key")


def _lines(stream: BinaryIO) -> Iterator[Piece]:
    """Yield the lines; one that is too long comes as its beginning and, blanked, a last part for all the rest."""
    number = 0
    while raw := stream.readline(LONGEST_LINE):
        number += 1
        if raw.endswith(b"\n") or len(raw) < LONGEST_LINE:
            yield Piece(number, raw)
            continue
        rest = stream.readline(LONGEST_LINE)
        if not rest:
            yield Piece(number, raw)
            continue
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
        # Where it was cut, half a secret may stand: all of it is blanked.
        yield Piece(number, b"\n" if rest else b"", "length")
