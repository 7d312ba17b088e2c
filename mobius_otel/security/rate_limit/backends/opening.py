"""From a URL to the backend it names."""

from __future__ import annotations

import re
from typing import cast

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.backends.memory import MemoryBackend
from mobius_otel.security.rate_limit.backends.protocol import Backend
from mobius_otel.security.rate_limit.backends.valkey import ValkeyBackend
from mobius_otel.security.rate_limit.backends.valkey.backend import DEADLINE
from mobius_otel.security.rate_limit.backends.valkey.urls import SCHEMES

__all__ = ["open_backend"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.ASCII)


def open_backend(backend: str | Backend | object, deadline: float | None = None) -> Backend:
    """Open the backend that a URL names; an object is given back as it is.

    Args:
        backend: ``"memory://"``, ``"valkey://…"`` or another URL of a server (see
            :mod:`~mobius_otel.security.rate_limit.backends.valkey.urls`), a client of the package ``valkey`` or
            ``redis``, or an object with what :class:`~mobius_otel.security.rate_limit.backends.Backend` asks for.
        deadline: Seconds that a call of a server may take; None: 0.05.

    Raises:
        ConfigurationError: Nothing has this URL.
        MissingExtra: It is a server's, and the package ``valkey`` is not installed.

    Example:
        >>> open_backend("memory://")
        MemoryBackend()
    """
    if callable(getattr(backend, "counts", None)) and hasattr(backend, "capabilities"):
        if deadline is not None:
            raise ConfigurationError("deadline", deadline, "given to the backend itself, where that is an object")
        return cast(Backend, backend)
    if backend == "memory://":
        return MemoryBackend()
    scheme = _SCHEME.match(backend) if isinstance(backend, str) else None
    if (scheme and scheme[1] in SCHEMES) or hasattr(backend, "connection_pool") or hasattr(backend, "nodes_manager"):
        return ValkeyBackend(backend, deadline=DEADLINE if deadline is None else deadline)
    raise ConfigurationError(  # the rest of a URL may hold a password
        "backend", f"{scheme[1]}://…" if scheme else "…" if isinstance(backend, str) else type(backend).__qualname__,
        f'"memory://", a server\'s URL ({", ".join(SCHEMES[:5])}, …), a client of the package valkey or redis, or an '
        'object with a method "counts" and an attribute "capabilities"',
    )  # fmt: skip
