"""What is kept of a secret: a digest under a pepper.

A fast digest is right here: the secret has 256 bits, so there is nothing to guess, and a slow one would
only give an attacker a lever. The pepper keys it, so that a stolen store alone cannot even be tested. Several
peppers may be live while one follows another: new digests are made with the first, old ones are still found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import TypeAlias

from mobius_otel.errors import ConfigurationError
from mobius_otel.secret_files import MAKE_ONE, SHORTEST
from mobius_otel.security.api_keys.secret import CHECK_DIGITS, base62

__all__ = ["NO_PEPPER", "Peppers", "PeppersGiven"]

#: The name of no pepper.
NO_PEPPER = "none"
PeppersGiven: TypeAlias = bytes | str | Sequence[bytes | str | None] | None
_LONGEST_BLAKE_KEY = 64
_TAGS = 62**CHECK_DIGITS


class Peppers:
    """Digests secrets with BLAKE2b-256 under peppers, the newest first.

    Args:
        given: A pepper, bytes or text (UTF-8); None: the digest is not keyed; or several, the newest first, of which
            None stands for digests that were made without one. The newest has at least 16 bytes; a former one may be
            shorter, so that it can be replaced.

    Attributes:
        keyed: Whether new digests have a pepper.
        labels: What the peppers are called in a store, the newest first. A label is made from its pepper and
            tells 24 bits about it, too few to find one that nobody can guess.

    Raises:
        ConfigurationError: One of them is empty, of another type, or given twice, or the newest is short.

    Example:
        >>> new, old = Peppers(["a new made-up pepper", "an old made-up pepper"]), Peppers("an old made-up pepper")
        >>> old.digest(b"mob_live_x") == new.digests(b"mob_live_x")[1]
        True
    """

    __slots__ = ("_prototypes", "_taggers", "digest", "keyed", "labels")

    def __init__(self, given: PeppersGiven) -> None:
        several = given if isinstance(given, list | tuple) else [given]
        if several and isinstance(several[0], bytes | str) and 0 < len(_bytes(several[0])) < SHORTEST:
            raise ConfigurationError(
                "pepper", f"{len(_bytes(several[0]))} bytes", f"at least {SHORTEST} bytes that nobody can guess",
                f"{MAKE_ONE}. Keys under this one stay good while MOBIUS_OTEL_KEY_PEPPER_ALSO holds it.",
            )  # fmt: skip
        keys = [_key(pepper) for pepper in several]
        if not keys or len(set(keys)) != len(keys):
            raise ConfigurationError("pepper", f"{len(keys)} peppers", "one or more, each of them once")
        self.keyed = keys[0] != b""
        self._prototypes = [hashlib.blake2b(key=key, digest_size=32) for key in keys]
        self.labels = tuple(_label(key) for key in keys)
        self._taggers = [hashlib.blake2b(key=key, digest_size=16, person=b"mobius tag") for key in keys if key]
        #: Returns the 32 bytes under which a secret is stored.
        self.digest = _digester(self._prototypes[0])

    def digests(self, secret: bytes) -> list[bytes]:
        """Return the digests of a secret under every live pepper, the newest first."""
        found = []
        for prototype in self._prototypes:
            state = prototype.copy()
            state.update(secret)
            found.append(state.digest())
        return found

    def tag(self, front: bytes) -> bytes:
        """Return the six digits that follow the front of a new secret, so that nobody else can make one."""
        return _tag(self._taggers[0], front)

    def has_tag(self, raw: bytes) -> bool:
        """Return whether a secret ends with the tag of one of the live peppers."""
        return any(compare_digest(_tag(tagger, raw[:-CHECK_DIGITS]), raw[-CHECK_DIGITS:]) for tagger in self._taggers)

    def __repr__(self) -> str:
        return f"Peppers({len(self.labels)}, {'keyed' if self.keyed else 'not keyed'})"


def _digester(prototype: hashlib.blake2b) -> Callable[[bytes], bytes]:
    copy = prototype.copy

    def digest(secret: bytes) -> bytes:
        state = copy()
        state.update(secret)
        return state.digest()

    return digest


def _tag(tagger: hashlib.blake2b, front: bytes) -> bytes:
    state = tagger.copy()
    state.update(front)
    return base62(int.from_bytes(state.digest(), "big") % _TAGS, CHECK_DIGITS)


def _label(key: bytes) -> str:
    return hashlib.blake2b(key=key, digest_size=3, person=b"mobius label").hexdigest() if key else NO_PEPPER


def _bytes(pepper: bytes | str) -> bytes:
    return pepper.encode("utf-8", "surrogatepass") if isinstance(pepper, str) else pepper


def _key(pepper: object) -> bytes:
    if pepper is None:
        return b""
    if not isinstance(pepper, bytes | str):
        raise ConfigurationError("pepper", type(pepper).__qualname__, "bytes or text")
    key = _bytes(pepper)
    if not key:
        raise ConfigurationError("pepper", "", "bytes or text that nobody can guess, or None for no pepper", MAKE_ONE)
    return key if len(key) <= _LONGEST_BLAKE_KEY else hashlib.blake2b(key).digest()
