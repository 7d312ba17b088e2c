"""From a URL to the backend it names."""

from __future__ import annotations

import re

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.backends.memory import MemoryBackend
from mobius_otel.security.rate_limit.backends.protocol import Backend

__all__ = ["open_backend"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.ASCII)


def open_backend(backend: str | Backend) -> Backend:
    """Open the backend that a URL names; an object is given back as it is.

    Args:
        backend: ``"memory://"``, or an object with what
            :class:`~mobius_otel.security.rate_limit.backends.Backend` asks for.

    Raises:
        ConfigurationError: Nothing of this version has this URL.

    Example:
        >>> open_backend("memory://")
        MemoryBackend()
    """
    if not isinstance(backend, str):
        if not callable(getattr(backend, "counts", None)) or not hasattr(backend, "capabilities"):
            raise ConfigurationError(
                "backend", type(backend).__qualname__,
                'a URL or an object with a method "counts" and an attribute "capabilities"',
            )  # fmt: skip
        return backend
    if backend == "memory://":
        return MemoryBackend()
    scheme = _SCHEME.match(backend)  # the rest of the URL may hold a password
    raise ConfigurationError(
        "backend", f"{scheme[1]}://…" if scheme else "…", '"memory://" in this version', "One count for each process."
    )
