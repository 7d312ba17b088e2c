"""The scripts that decide on the server, and how they are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

__all__ = ["Script", "command", "script"]


def command(*words: bytes) -> bytes:
    r"""Return a command as it goes over the wire (RESP2, an array of bulk strings).

    Example:
        >>> command(b"PING")
        b'*1\r\n$4\r\nPING\r\n'
    """
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Script:
    """One script of the server.

    Args:
        text: Lua.

    Attributes:
        digest: By which the server knows it: SHA-1, in hexadecimal digits.
    """

    __slots__ = ("_text", "digest")

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self.digest = hashlib.sha1(self._text, usedforsecurity=False).hexdigest().encode()

    def known(self, keys: Sequence[bytes], args: Sequence[bytes]) -> bytes:
        """Return the call of a script that the server has seen already."""
        return command(b"EVALSHA", self.digest, b"%d" % len(keys), *keys, *args)

    def whole(self, keys: Sequence[bytes], args: Sequence[bytes]) -> bytes:
        """Return the call that brings the script with it; the server keeps it."""
        return command(b"EVAL", self._text, b"%d" % len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"Script({self.digest.decode()})"


@cache
def script(*names: str) -> Script:
    """Return the script that the files of these names make, in this order."""
    folder = files("mobius_otel.security.rate_limit.backends.valkey")
    return Script("\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names))
