"""From a URL to the store it names."""

from __future__ import annotations

import re

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys.stores.memory import MemoryKeyStore
from mobius_otel.security.api_keys.stores.protocol import KeyStore
from mobius_otel.security.api_keys.stores.sql import SqlKeyStore
from mobius_otel.security.api_keys.stores.sqlite import SqliteKeyStore

__all__ = ["check_store_url", "open_store"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.ASCII | re.IGNORECASE)
_RULE = (
    '"memory://", "sqlite:///FILE" (an absolute one: "sqlite:////var/lib/keys.db"),'
    ' or "postgresql+psycopg://USER:${PASSWORD}@HOST/DATABASE"'
)
_NEEDED = ("find", "get", "list", "changing", "touch", "count_dead", "census", "peppers", "claim", "close")


def open_store(store: str | KeyStore) -> KeyStore:
    """Open the store that a URL names; an object is given back as it is.

    Args:
        store: ``"memory://"``, ``"sqlite:///keys.db"`` (relative), ``"sqlite:////abs/keys.db"``,
            ``"postgresql+psycopg://…"`` and whatever else SQLAlchemy reaches, or an object with the methods of
            :class:`~mobius_otel.security.api_keys.stores.KeyStore`.

    Raises:
        ConfigurationError: Nothing has this URL, or the file cannot be used.
        MissingExtra: SQLAlchemy or psycopg is not installed.

    Example:
        >>> open_store("memory://")
        MemoryKeyStore(0 keys)
    """
    if not isinstance(store, str):
        missing = [name for name in _NEEDED if not callable(getattr(store, name, None))]
        if missing:
            raise ConfigurationError(
                "store", type(store).__qualname__, f"a URL or an object with the methods {', '.join(missing)}"
            )
        return store
    kind, rest = _kind_of(store)
    if kind == "memory":
        return MemoryKeyStore()
    return SqliteKeyStore(rest) if kind == "file" else SqlKeyStore(store)


def check_store_url(url: str) -> None:
    """Check a URL without opening anything.

    Raises:
        ConfigurationError: Nothing has this URL.
        MissingExtra: SQLAlchemy or psycopg is not installed.
    """
    if _kind_of(url)[0] == "database":
        SqlKeyStore.check(url)


def _kind_of(url: str) -> tuple[str, str]:
    """Return what a URL names (``memory``, ``file`` or ``database``), and the path of a file."""
    if url == "memory://":
        return "memory", ""
    path = url.removeprefix("sqlite:///")
    if path != url and path and "?" not in path and "\0" not in path:
        return "file", path
    scheme = _SCHEME.match(url)
    # A file has one way in, which looks after who may read it.
    if scheme and "://" in url and scheme[1].lower().partition("+")[0] not in {"memory", "sqlite", "file"}:
        return "database", ""
    # The rest of a URL may hold a password, so only its scheme is shown.
    raise ConfigurationError("store", f"{scheme[1]}:…" if scheme else "…", _RULE)
