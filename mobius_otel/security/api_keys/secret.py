"""The secret of an API key: how it is made, recognised and digested.

``<prefix>_<environment>_<43 base62><6 base62>``: 256 bits from the system's random source, then the CRC-32
of all before. The checksum keeps mistyped keys from costing a look-up; it is no proof of anything.

A fast digest is right here: the secret has 256 bits, so there is nothing to guess, and a slow one would
only give an attacker a lever. The pepper keys it, so that a stolen store alone cannot even be tested.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

from mobius_otel.errors import ConfigurationError, InvalidApiKey

__all__ = ["LONGEST", "PATTERN", "Digester", "checked_part", "environment_of", "generate", "new_id", "parse"]

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PART = r"[a-z][a-z0-9]{0,15}"
#: What a secret looks like, as a regular expression for scanners.
PATTERN = rf"{_PART}_{_PART}_[0-9A-Za-z]{{49}}"
#: The length of the longest secret.
LONGEST = 16 + 1 + 16 + 1 + 43 + 6

_SHAPE = re.compile(PATTERN.encode("ascii"))
_PART_SHAPE = re.compile(_PART, re.ASCII)
_BODY, _CHECK = 43, 6
_ID_DIGITS = 22
_LONGEST_BLAKE_KEY = 64


def _base62(number: int, digits: int) -> bytes:
    """Return `number` in base 62, most significant digit first, padded with zeros to `digits`."""
    out = bytearray(digits)
    for place in range(digits - 1, -1, -1):
        number, digit = divmod(number, 62)
        out[place] = _ALPHABET[digit]
    return bytes(out)


def generate(prefix: str, environment: str) -> str:
    """Return a new secret.

    Args:
        prefix: The first part.
        environment: The second part.

    Example:
        >>> parse(generate("mob", "live"))[:9]
        b'mob_live_'
    """
    front = f"{prefix}_{environment}_".encode("ascii")
    body = front + _base62(int.from_bytes(secrets.token_bytes(32), "big"), _BODY)
    return (body + _base62(zlib.crc32(body), _CHECK)).decode("ascii")


def parse(presented: object) -> bytes:
    """Return the bytes of a secret with the right shape and checksum.

    Args:
        presented: Whatever a client sent.

    Raises:
        InvalidApiKey: For everything else, with the reason ``malformed``.
    """
    if isinstance(presented, str):
        if len(presented) > LONGEST or not presented.isascii():
            raise InvalidApiKey("malformed")
        raw = presented.encode("ascii")
    elif isinstance(presented, bytes | bytearray) and len(presented) <= LONGEST:
        raw = bytes(presented)
    else:
        raise InvalidApiKey("malformed")
    if _SHAPE.fullmatch(raw) is None or _base62(zlib.crc32(raw[:-_CHECK]), _CHECK) != raw[-_CHECK:]:
        raise InvalidApiKey("malformed")
    return raw


def environment_of(secret: bytes) -> str:
    """Return the environment that a parsed secret names."""
    return secret.split(b"_", 2)[1].decode("ascii")


def new_id() -> str:
    """Return a new public id; it says nothing about the secret."""
    return "key_" + _base62(int.from_bytes(secrets.token_bytes(16), "big"), _ID_DIGITS).decode("ascii")


def checked_part(setting: str, value: str) -> str:
    """Return `value` if it can be the prefix or the environment of a secret.

    Raises:
        ConfigurationError: It cannot.
    """
    if not isinstance(value, str) or not _PART_SHAPE.fullmatch(value):
        raise ConfigurationError(
            setting, value, "1 to 16 lower-case letters and digits, beginning with a letter", 'For example: "mob"'
        )
    return value


class Digester:
    """Digests secrets with BLAKE2b-256, keyed with the pepper.

    Args:
        pepper: Bytes, or text (UTF-8); None: the digest is not keyed.

    Raises:
        ConfigurationError: The pepper is empty or of another type.

    Example:
        >>> len(Digester("a made-up pepper").digest(b"mob_live_x"))
        32
    """

    __slots__ = ("_prototype", "keyed")

    def __init__(self, pepper: bytes | str | None) -> None:
        if pepper is not None and not isinstance(pepper, bytes | str):
            raise ConfigurationError("pepper", type(pepper).__qualname__, "bytes or text")
        key = pepper.encode("utf-8", "surrogatepass") if isinstance(pepper, str) else pepper
        if key is not None and not key:
            raise ConfigurationError("pepper", "", "some bytes or text that nobody can guess", "None: no pepper.")
        if key is not None and len(key) > _LONGEST_BLAKE_KEY:
            key = hashlib.blake2b(key).digest()
        self.keyed = key is not None
        self._prototype = hashlib.blake2b(key=key or b"", digest_size=32)

    def digest(self, secret: bytes) -> bytes:
        """Return the 32 bytes under which a secret is stored."""
        state = self._prototype.copy()
        state.update(secret)
        return state.digest()

    def __repr__(self) -> str:
        return f"Digester({'keyed' if self.keyed else 'not keyed'})"
