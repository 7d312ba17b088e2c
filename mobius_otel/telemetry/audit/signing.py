"""Keys that sign the chain, so that nobody can write it anew without them.

A signature covers a record's hash, and with it all records before it in the stream. HMAC-SHA256 needs nothing but
the standard library, and the key to check it; Ed25519 (extra ``ed25519``) is checked with the public key alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.secret_files import MAKE_ONE, SHORTEST, read_secret, warn_where_exposed

__all__ = ["AuditKey", "Ed25519Key", "HmacKey", "SignScope", "key_from", "key_from_environment", "sign", "verify"]

#: ``record``: every record is signed. ``checkpoint``: the first of a stream, its checkpoints and its end.
SignScope = Literal["record", "checkpoint"]
SCOPES: Final = ("record", "checkpoint")
_VARIABLE: Final = "MOBIUS_OTEL_AUDIT_KEY"


class AuditKey(Protocol):
    """A key that signs, checks signatures, or both."""

    @property
    def name(self) -> str:
        """Algorithm and id, as ``hmac-sha256:1f2e3d4c``; the id tells keys apart and tells nothing of the key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign.

        Raises:
            ConfigurationError: It is a public key.
        """
        ...

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is this key's."""
        ...


class HmacKey:
    """A shared secret: who can check can also forge.

    Args:
        secret: At least 16 bytes.

    Raises:
        ConfigurationError: It is shorter.

    Example:
        >>> key = HmacKey("a made-up secret of the docs")
        >>> key.verify(b"hash", key.sign(b"hash")), key.verify(b"hash2", key.sign(b"hash"))
        (True, False)
    """

    def __init__(self, secret: bytes | str) -> None:
        raw = secret.encode() if isinstance(secret, str) else bytes(secret)
        if len(raw) < SHORTEST:
            raise ConfigurationError("audit key", f"{len(raw)} bytes", f"at least {SHORTEST} bytes of secret", MAKE_ONE)
        self._secret = raw
        self.name = f"hmac-sha256:{hmac.digest(raw, b'mobius_otel audit key id', 'sha256').hex()[:8]}"

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return hmac.digest(self._secret, message, "sha256")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is this key's."""
        return hmac.compare_digest(self.sign(message), signature)

    def __repr__(self) -> str:
        return f"HmacKey({self.name})"


class Ed25519Key:
    """A key pair, or its public half, which checks and cannot forge.

    Args:
        pem: A private or a public key in PEM.

    Raises:
        MissingExtra: The package ``cryptography`` is not installed.
        ConfigurationError: It is no Ed25519 key, or is protected by a password.
    """

    def __init__(self, pem: bytes | str) -> None:
        raw = pem.encode() if isinstance(pem, str) else bytes(pem)
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
            from cryptography.hazmat.primitives.serialization import (
                Encoding,
                PublicFormat,
                load_pem_private_key,
                load_pem_public_key,
            )
        except ImportError:
            raise MissingExtra("an Ed25519 audit key", "ed25519", "cryptography") from None
        private: Any = None
        try:
            if b"PRIVATE KEY" in raw:
                private = load_pem_private_key(raw, None)
                public: Any = private.public_key()
            else:
                public = load_pem_public_key(raw)
        except Exception as error:  # its text may quote the key
            raise _no_key(type(error).__name__) from None
        if not isinstance(public, Ed25519PublicKey) or not isinstance(private, Ed25519PrivateKey | None):
            raise _no_key(type(public).__name__)
        self._private, self._public, self._invalid = private, public, InvalidSignature
        self.name = f"ed25519:{hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:8]}"

    def sign(self, message: bytes) -> bytes:
        """Sign.

        Raises:
            ConfigurationError: It is a public key.
        """
        if self._private is None:
            raise ConfigurationError("audit key", self.name, "a private key, to sign with")
        return bytes(self._private.sign(message))

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is this key's."""
        try:
            self._public.verify(signature, message)
        except self._invalid:
            return False
        return True

    def __repr__(self) -> str:
        return f"Ed25519Key({self.name})"


def _no_key(found: str) -> ConfigurationError:
    return ConfigurationError(
        "audit key", found, "an Ed25519 key in PEM without a password", "openssl genpkey -algorithm ed25519"
    )


def key_from(content: bytes | str) -> AuditKey:
    """Return the key that a text or a file's content is: PEM for Ed25519, anything else the secret of an HMAC.

    Raises:
        ConfigurationError, MissingExtra: As :class:`HmacKey` and :class:`Ed25519Key`.

    Example:
        >>> key_from("a made-up secret of the docs")
        HmacKey(hmac-sha256:b088737a)
    """
    raw = content.encode() if isinstance(content, str) else content
    return Ed25519Key(raw) if raw.lstrip().startswith(b"-----BEGIN") else HmacKey(raw.rstrip(b"\r\n"))


def key_from_environment(environ: Mapping[str, str] | None = None) -> AuditKey | None:
    """Return the key of ``MOBIUS_OTEL_AUDIT_KEY``, or of the file that ``MOBIUS_OTEL_AUDIT_KEY_FILE`` names.

    Raises:
        ConfigurationError: The file cannot be read, or holds no key; or a variable is there and empty, as of a secret
            that did not come: the ledger would go unsigned without a word.
    """
    environ = os.environ if environ is None else environ
    for name in (_VARIABLE, f"{_VARIABLE}_FILE"):
        if environ.get(name, "-").strip() == "":
            raise ConfigurationError(name, "", "a key, or not set at all where nothing is to be signed")
    if text := environ.get(_VARIABLE):
        return key_from(text)
    if not (path := environ.get(f"{_VARIABLE}_FILE")):
        return None
    content = read_secret(f"{_VARIABLE}_FILE", path)
    if b"PUBLIC KEY" not in content:  # who checks signatures alone has the public half, which is no secret
        warn_where_exposed(f"{_VARIABLE}_FILE", path)
    return key_from(content)


def _message(scope: str, digest: bytes) -> bytes:
    return b"mobius_otel audit 1\n" + scope.encode() + b"\n" + digest


def sign(key: AuditKey, scope: SignScope, digest: bytes) -> str:
    """Return the signature of a record's hash as text: algorithm, key, scope, signature."""
    return f"{key.name}:{scope}:{base64.b64encode(key.sign(_message(scope, digest))).decode()}"


def verify(keys: Iterable[AuditKey], signature: str, digest: bytes) -> SignScope | None:
    """Return the scope of a signature that one of the keys made; None where it is none.

    Args:
        keys: The keys that count.
        signature: As :func:`sign` returned it.
        digest: The record's hash.
    """
    algorithm, _, rest = signature.partition(":")
    identity, _, rest = rest.partition(":")
    scope, _, encoded = rest.partition(":")
    if scope not in SCOPES:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    for key in keys:
        if key.name == f"{algorithm}:{identity}" and key.verify(_message(scope, digest), raw):
            return scope  # type: ignore[return-value]
    return None
