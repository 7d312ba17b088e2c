"""From what another system knows of a key to what is stored of it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys import secret as secrets
from mobius_otel.security.api_keys.digests import Peppers
from mobius_otel.security.api_keys.imported import (
    ENOUGH_BITS,
    LONGEST_FOREIGN,
    ImportKind,
    check_library,
    derive_slowly,
    digest_of_text,
    is_slow_hash,
    is_weak,
    marked,
)
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores import StoredKey
from mobius_otel.security.api_keys.verification import Recognition

__all__ = ["Importer"]


@dataclass(frozen=True, slots=True)
class Importer:
    """Prepares keys that were made elsewhere.

    Args:
        recognition: What a secret looks like.
        peppers: What digests are made with.
    """

    recognition: Recognition
    peppers: Peppers

    def prepare(self, record: ApiKey, secret: str | bytes, kind: ImportKind, found_by: str | None) -> StoredKey:
        """Return what is stored; see ``ApiKeyManager.import_key``. It may take tens of milliseconds.

        Raises:
            ConfigurationError: The key could never be found, or could be guessed.
            MissingExtra: The library that compares such hashes is not installed.
        """
        if kind not in get_args(ImportKind):
            raise ConfigurationError("kind", kind, f"one of {', '.join(get_args(ImportKind))}")
        if kind == "plain":
            return self._plain(record, secret)
        if not self.recognition.forms:
            raise _no_form()
        text = secret if isinstance(secret, str) else ""
        if kind in {"sha256", "sha512"}:
            return self._stored(record, marked(kind, digest_of_text(kind, text)))
        return self._slow(record, kind, text, found_by)

    def _plain(self, record: ApiKey, secret: str | bytes) -> StoredKey:
        raw = secrets.ascii_of(secret, LONGEST_FOREIGN)
        if raw is None:
            raise ConfigurationError("secret", "…", f"1 to {LONGEST_FOREIGN} ASCII characters")
        if secrets.has_shape(raw) is not None and self.recognition.is_genuine(raw):
            if secrets.environment_of(raw) != self.recognition.environment:
                raise ConfigurationError("secret", "…", f"one of the environment {self.recognition.environment!r}")
            return self._stored(record, raw)
        foreign = self.recognition.forms.recognise(raw)
        if foreign is None:
            raise _no_form()
        if not is_weak(foreign):
            return self._stored(record, raw)
        if foreign.found_by is None:
            raise ConfigurationError(
                "secret", "…", f"one with {ENOUGH_BITS:.0f} bits of entropy or more, to be kept under a fast digest",
                "A form with a group (?P<id>...) lets it be kept under a slow one.",
            )  # fmt: skip
        return self._stored(record, marked("slow", foreign.found_by), derive_slowly(foreign.hashed))

    def _slow(self, record: ApiKey, kind: str, text: str, found_by: str | None) -> StoredKey:
        if not is_slow_hash(kind, text.removeprefix("argon2") if text.startswith("argon2$") else text):
            raise ConfigurationError("secret", "…", f"a hash as {kind} writes it")
        if not self.recognition.forms.slow or not found_by or not isinstance(found_by, str):
            raise ConfigurationError(
                "found_by", found_by, "the part of the secret that the form's group (?P<id>...) matches",
                "A slow hash cannot be looked for.",
            )  # fmt: skip
        check_library(kind)
        verifier = text.removeprefix("argon2") if text.startswith("argon2$") else text  # as Django writes it
        return self._stored(record, marked("slow", found_by.encode("ascii", "replace")), verifier)

    def _stored(self, record: ApiKey, found_by: bytes, verifier: str | None = None) -> StoredKey:
        return StoredKey(record, self.peppers.digest(found_by), self.peppers.labels[0], verifier)


def _no_form() -> ConfigurationError:
    return ConfigurationError(
        "imported", "…", "a list of regular expressions of which one matches the whole secret",
        'Else the key would never open. For example: imported=["sk-[A-Za-z0-9]{40}"], or [api_keys] imported',
    )  # fmt: skip
