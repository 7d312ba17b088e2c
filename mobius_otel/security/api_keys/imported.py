"""Keys that were made elsewhere: how they are recognised, and how what is left of them is compared.

A key that another system made is kept as that system kept it until it is first used, and then as ours are:
under a digest with the pepper. That is right for secrets that nobody can guess; one that could be guessed is
kept under scrypt for good, which takes tens of milliseconds on purpose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.forks import importing
from mobius_otel.telemetry.redaction.patterns import check_whole_pattern

__all__ = [
    "ENOUGH_BITS",
    "LONGEST_FOREIGN",
    "Foreign",
    "ForeignForms",
    "ImportKind",
    "check_library",
    "derive_slowly",
    "digest_of_text",
    "entropy_bits",
    "is_slow_hash",
    "is_weak",
    "marked",
    "matches_slowly",
]  # fmt: skip

ImportKind = Literal["plain", "sha256", "sha512", "bcrypt", "argon2"]
#: What a secret must have to be kept under a fast digest: NIST SP 800-63B, section 3.1.2 (look-up secrets).
ENOUGH_BITS: Final = 112.0
LONGEST_FOREIGN: Final = 512
_SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1}
_SLOW = re.compile(r"\$scrypt\$|\$argon2(?:id|i|d)\$|\$2[abxy]\$")


class Foreign:
    """A secret of a foreign form.

    Attributes:
        raw: All of it.
        hashed: The part of it that its maker hashed.
        found_by: The part of it that names the key; None: there is none.
    """

    __slots__ = ("found_by", "hashed", "raw")

    def __init__(self, raw: bytes, hashed: bytes, found_by: bytes | None) -> None:
        self.raw = raw
        self.hashed = hashed
        self.found_by = found_by

    def lookups(self, digests: Callable[[bytes], list[bytes]]) -> list[tuple[str, bytes]]:
        """Return what this secret may be found by in a store, with how it is kept then.

        Args:
            digests: Returns the digests of bytes under every live pepper.
        """
        found = [("", digest) for digest in digests(self.raw)]
        for kind in ("sha256", "sha512"):
            found += [(kind, digest) for digest in digests(marked(kind, hashlib.new(kind, self.hashed).digest()))]
        if self.found_by is not None:
            found += [("slow", digest) for digest in digests(marked("slow", self.found_by))]
        return found


def marked(kind: str, value: bytes) -> bytes:
    """Return `value` as it is digested, so that one kind is never taken for another."""
    return b"\0" + kind.encode("ascii") + b"\0" + value


class ForeignForms:
    r"""What keys that were made elsewhere look like.

    Args:
        patterns: Regular expressions that a whole secret matches. A group ``id`` names the part that a key is found
            by, which slow hashes need; a group ``secret`` the part that was hashed, where it is not all.

    Raises:
        ConfigurationError: One of them is no regular expression, matches the empty text, or could take long over a
            hostile one.

    Example:
        >>> forms = ForeignForms([r"(?P<id>[A-Za-z0-9]{8})\.[A-Za-z0-9]{32}"])
        >>> forms.recognise(b"AbCd1234." + b"x" * 32).found_by
        b'AbCd1234'
    """

    __slots__ = ("_patterns", "slow")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        if isinstance(patterns, str | bytes):
            raise ConfigurationError("imported", patterns, "a list of regular expressions")
        self._patterns = tuple(_compiled(pattern) for pattern in patterns)
        #: Whether any of them can have a slow hash.
        self.slow = any("id" in pattern.groupindex for pattern in self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def recognise(self, raw: bytes) -> Foreign | None:
        """Return the parts of a secret that has one of the forms."""
        for pattern in self._patterns:
            found = pattern.fullmatch(raw)
            if found is not None:
                parts = found.groupdict()
                return Foreign(raw, parts.get("secret") or raw, parts.get("id"))
        return None

    def __repr__(self) -> str:
        return f"ForeignForms({len(self._patterns)})"


def _compiled(pattern: str) -> re.Pattern[bytes]:
    rule = 'a regular expression for a whole ASCII secret, for example "sk-[A-Za-z0-9]{40}"'
    try:
        compiled = re.compile(pattern.encode("ascii"))
        check_whole_pattern("imported", pattern, compiled.flags)  # it is tried on whatever a client sends
    except (re.error, UnicodeEncodeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigurationError("imported", pattern, rule, str(error)) from None
    if compiled.fullmatch(b"") is not None:
        raise ConfigurationError("imported", pattern, rule, "It matches the empty text.")
    return compiled


def entropy_bits(secret: str) -> float:
    """Return an estimate of how many bits it takes to guess a secret, if its maker chose each character by chance.

    What goes on with a run (``aaaa``, ``1234``) or repeats what stood there before adds nothing, and a letter of what
    may be a word two bits.

    Example:
        >>> entropy_bits("password"), entropy_bits("9f86d081884c7d659a2feaa0c55ad015")
        (16.0, 128.0)
    """
    news = [place for place in range(len(secret)) if not _follows(secret, place)]
    if not news:
        return 0.0
    hexadecimal = _HEXADECIMAL.fullmatch(secret) is not None
    classes = sum(size for size, has in _CLASSES if any(map(has, secret)))
    each = math.log2(16 if hexadecimal else classes)
    words = [found.span() for found in _WORD.finditer(secret) if len(_VOWEL.findall(found[0])) * 4 >= len(found[0])]
    in_words = sum(any(start <= place < end for start, end in words) for place in news)
    return round((len(news) - in_words) * each + in_words * min(each, 2.0), 1)


def _follows(secret: str, place: int) -> bool:
    """Return whether a character says nothing new: it goes on with a run, or repeats what stood there before."""
    if place > 1:
        step = ord(secret[place]) - ord(secret[place - 1])
        if step in {-1, 0, 1} and step == ord(secret[place - 1]) - ord(secret[place - 2]):
            return True
    return place > 3 and secret[place - 3 : place + 1] in secret[:place]


_HEXADECIMAL: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_WORD: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[a-z]{2,}|[A-Z]{2,}|[A-Z][a-z]+)(?![A-Za-z0-9])|[a-z]{5,}|[A-Z]{5,}|[A-Z][a-z]{4,}"
)
_VOWEL: Final = re.compile(r"[aeiouyAEIOUY]")
_CLASSES: Final[tuple[tuple[int, Callable[[str], bool]], ...]] = (
    (10, str.isdigit), (26, str.islower), (26, str.isupper), (2, "-_".__contains__),
    (30, lambda c: not c.isalnum() and c not in "-_"),
)  # fmt: skip


def is_weak(foreign: Foreign | None) -> bool:
    """Return whether a secret could be guessed, so that no fast digest of it may be kept."""
    return foreign is not None and entropy_bits(foreign.hashed.decode("ascii")) < ENOUGH_BITS


def digest_of_text(kind: str, text: str) -> bytes:
    """Return the bytes of a digest that is written as hexadecimal or base64, also behind ``sha512$$``.

    Raises:
        ConfigurationError: It is none of that length.
    """
    size = hashlib.new(kind).digest_size
    last = text.rpartition("$")[2] if isinstance(text, str) else ""
    if len(last) == 2 * size:
        try:
            return bytes.fromhex(last)
        except ValueError:
            pass
    try:
        found = base64.b64decode(last.replace("-", "+").replace("_", "/") + "=" * (-len(last) % 4), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != size:
        raise ConfigurationError("secret", "…", f"a {kind} digest, as hexadecimal or base64")
    return found


def is_slow_hash(kind: str, text: str) -> bool:
    """Return whether a text is the hash of a kind that carries its own parameters."""
    start = {"bcrypt": "$2", "argon2": "$argon2"}[kind]
    return isinstance(text, str) and text.startswith(start) and _SLOW.match(text) is not None


def check_library(kind: str) -> None:
    """Look whether what compares a kind of hash is installed.

    Raises:
        MissingExtra: It is not.
    """
    _library("bcrypt" if kind == "bcrypt" else "argon2")


def _library(name: str) -> Any:
    try:
        with importing:
            return importlib.import_module(name)
    except ImportError:
        raise MissingExtra(f"a key that was hashed with {name}", "imports", name) from None


def derive_slowly(secret: bytes) -> str:
    """Return the scrypt hash of a secret, as a text that carries its parameters."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(secret, salt=salt, dklen=32, **_SCRYPT)
    return f"$scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def matches_slowly(verifier: str | None, secret: bytes) -> bool:
    """Return whether a slow hash is that of a secret; without one it takes the same time and says no.

    Args:
        verifier: The hash, as a store keeps it.
        secret: What was presented.

    Raises:
        MissingExtra: The library that made it is not installed.
    """
    if verifier is None or verifier.startswith("$scrypt$"):
        _, _, salt, expected = (verifier or _DUMMY).split("$")
        digest = hashlib.scrypt(secret, salt=base64.b64decode(salt), dklen=32, **_SCRYPT)
        return hmac.compare_digest(digest, base64.b64decode(expected)) and verifier is not None
    if verifier.startswith("$2"):
        # Before its version 5 the library cut silently after 72 bytes, so that is what such hashes are of.
        return bool(_library("bcrypt").checkpw(secret[:72], verifier.encode("ascii")))
    argon2 = _library("argon2")
    try:
        return bool(argon2.PasswordHasher().verify(verifier, secret))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


_DUMMY: Final = f"$scrypt${base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(32)).decode()}"
