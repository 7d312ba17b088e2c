"""The secret of an API key: how it is made and recognised.

``<prefix>_<environment>_<43 base62><6 base62>``: 256 bits from the system's random source, then the CRC-32
of all before. The checksum keeps mistyped keys from costing a look-up; it is no proof of anything. With
``mac`` a keyed tag stands in its place, so that nobody without the pepper can make a key that is looked up.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Callable
from typing import Final

from mobius_otel.errors import ConfigurationError, InvalidApiKey

__all__ = [
    "CHECK_DIGITS", "LONGEST", "PATTERN", "ascii_of", "base62", "checked_part", "checksum", "environment_of",
    "generate", "has_checksum", "has_shape", "has_shape_as_text", "new_id", "parse", "pattern_of",
]  # fmt: skip

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PART = r"[a-z][a-z0-9]{0,15}"
#: What a secret looks like, as a regular expression for scanners.
PATTERN = rf"{_PART}_{_PART}_[0-9A-Za-z]{{49}}"
#: The length of the longest secret.
LONGEST: Final = 16 + 1 + 16 + 1 + 43 + 6
#: How many digits the checksum has.
CHECK_DIGITS: Final = 6

#: Matches a secret, from the first character to the last, as bytes and as text.
has_shape: Final = re.compile(PATTERN.encode("ascii")).fullmatch
has_shape_as_text: Final = re.compile(PATTERN, re.ASCII).fullmatch
_PART_SHAPE = re.compile(_PART, re.ASCII)
_BODY = 43
_ID_DIGITS = 22
_PAIRS: Final = tuple(bytes((a, b)) for a in _ALPHABET for b in _ALPHABET)  # two digits at a time: a third of the work
_VALUES: Final = {pair: value for value, pair in enumerate(_PAIRS)}


def base62(number: int, digits: int) -> bytes:
    """Return `number` in base 62, most significant digit first, padded with zeros to `digits`.

    Example:
        >>> base62(61, 3)
        b'00z'
    """
    out = bytearray(digits)
    for place in range(digits - 1, -1, -1):
        number, digit = divmod(number, 62)
        out[place] = _ALPHABET[digit]
    return bytes(out)


def checksum(front: bytes) -> bytes:
    """Return the six digits that follow `front`: its CRC-32 in base 62.

    Example:
        >>> checksum(b"mob_live_") == base62(zlib.crc32(b"mob_live_"), 6)
        True
    """
    number = zlib.crc32(front)
    return _PAIRS[number // 14_776_336] + _PAIRS[number // 3_844 % 3_844] + _PAIRS[number % 3_844]


def has_checksum(raw: bytes) -> bool:
    """Return whether the last six digits of a secret of the right shape are the checksum of all before."""
    value = _VALUES
    return zlib.crc32(raw[:-6]) == value[raw[-6:-4]] * 14_776_336 + value[raw[-4:-2]] * 3_844 + value[raw[-2:]]


def generate(prefix: str, environment: str, tag: Callable[[bytes], bytes] = checksum) -> str:
    """Return a new secret.

    Args:
        prefix: The first part.
        environment: The second part.
        tag: Makes the last six digits from all before.

    Example:
        >>> parse(generate("mob", "live"))[:9]
        b'mob_live_'
    """
    front = f"{prefix}_{environment}_".encode("ascii")
    body = front + base62(int.from_bytes(secrets.token_bytes(32), "big"), _BODY)
    return (body + tag(body)).decode("ascii")


def ascii_of(presented: object, longest: int = LONGEST) -> bytes | None:
    """Return the bytes of what a client sent, or None where it is no text, no ASCII or too long.

    Args:
        presented: Whatever a client sent.
        longest: How many characters it may have.
    """
    if isinstance(presented, str):
        return presented.encode("ascii") if len(presented) <= longest and presented.isascii() else None
    return bytes(presented) if isinstance(presented, bytes | bytearray) and len(presented) <= longest else None


def parse(presented: object) -> bytes:
    """Return the bytes of a secret with the right shape and checksum.

    Args:
        presented: Whatever a client sent.

    Raises:
        InvalidApiKey: For everything else, with the reason ``malformed``.
    """
    raw = ascii_of(presented)
    if raw is None or has_shape(raw) is None or not has_checksum(raw):
        raise InvalidApiKey("malformed")
    return raw


def environment_of(secret: bytes) -> str:
    """Return the environment that a secret of the right shape names."""
    return secret.split(b"_", 2)[1].decode("ascii")


def pattern_of(prefix: str) -> str:
    """Return the regular expression for the secrets of one prefix, for scanners.

    Example:
        >>> pattern_of("acme")
        'acme_[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{49}'
    """
    return rf"{prefix}_{_PART}_[0-9A-Za-z]{{49}}"


def new_id() -> str:
    """Return a new public id; it says nothing about the secret."""
    return "key_" + base62(int.from_bytes(secrets.token_bytes(16), "big"), _ID_DIGITS).decode("ascii")


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
