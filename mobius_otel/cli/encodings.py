"""Files in UTF-16, as PowerShell's ``>`` writes them: read as UTF-8, written as they were."""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO

__all__ = ["utf16_of"]

_CHUNK = 1 << 16


class _Transcoded(io.RawIOBase):
    """The bytes of a stream in another encoding.

    Args:
        stream: Where the text comes from.
        encoding: The text's.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(encoding)("surrogatepass").decode
        self._left, self._ended = b"", False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with UTF-8."""
        while not self._left and not self._ended:
            raw = self._stream.read(_CHUNK)
            self._ended = not raw
            try:
                text = self._decode(raw, self._ended)
            except UnicodeDecodeError:
                text = "\ufffd"  # half a character at the end
            self._left = text.encode("utf-8", "surrogatepass")
        some, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(some)] = some
        return len(some)


def utf16_of(stream: BinaryIO) -> tuple[BinaryIO, str]:
    """Return a stream as UTF-8, and how it was encoded where that was UTF-16; else itself and nothing.

    Args:
        stream: Open for reading bytes; it can be peeked into, or it is taken for UTF-8.
    """
    begin = stream.peek(4)[:4] if isinstance(stream, io.BufferedReader) else b""
    if begin.startswith(codecs.BOM_UTF16_LE) or (
        len(begin) == 4 and begin[1] == begin[3] == 0 < min(begin[0], begin[2])
    ):
        encoding = "utf-16-le"
    elif begin.startswith(codecs.BOM_UTF16_BE) or (
        len(begin) == 4 and begin[0] == begin[2] == 0 < min(begin[1], begin[3])
    ):
        encoding = "utf-16-be"
    else:
        return stream, ""
    return io.BufferedReader(_Transcoded(stream, encoding)), encoding
