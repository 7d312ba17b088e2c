"""From a URL to an engine of SQLAlchemy that fails in bounded time, and from its errors to ours.

This module needs SQLAlchemy; nothing imports it before a store in a database is opened.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine

from mobius_otel.errors import ConfigurationError, MissingExtra, shown
from mobius_otel.security.api_keys.stores.failures import (
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    DatabaseUnreachable,
    StoreFailure,
)

__all__ = ["Settings", "create", "described", "has_lost", "settings_of", "shown_url", "translated"]

_RULE = 'a URL such as "postgresql+psycopg://user:${PASSWORD}@host/database"'
_DEFAULT_DRIVER = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SECRET_NAME = re.compile(r"pass|secret|token|key", re.IGNORECASE)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BUSY = {"40001", "40P01", "55P03", "57014"}
_UNREACHABLE_CLASSES = ("08", "53", "57P", "58")
_READ_ONLY = {"25006"}


class Settings:
    """What a URL says about us; the rest of it is the driver's.

    Attributes:
        url: The URL for SQLAlchemy.
        timeout: Seconds that one call may wait: for a connection, and then for the answer.
        pool_size: How many connections this process holds at most.
        prepare: Whether statements may be prepared at the server; behind some poolers they may not.
    """

    __slots__ = ("pool_size", "prepare", "timeout", "url")

    def __init__(self, url: sa.URL, timeout: float, pool_size: int, *, prepare: bool) -> None:
        self.url = url
        self.timeout = timeout
        self.pool_size = pool_size
        self.prepare = prepare

    def __repr__(self) -> str:
        return f"Settings({shown_url(self.url)})"


def settings_of(url: str) -> Settings:
    """Read a URL.

    Its query may hold, beside what the driver knows: ``timeout`` (0.1 to 60 seconds), ``pool_size`` (1 to 100)
    and ``prepare`` (``on`` or ``off``).

    Raises:
        ConfigurationError: It is none, or one of these has another value.

    Example:
        >>> settings = settings_of("postgresql://alice:hunter2@db/keys?timeout=2")
        >>> settings, settings.timeout
        (Settings(postgresql+psycopg://db/keys), 2.0)
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in _DEFAULT_DRIVER:
            parsed = parsed.set(drivername=_DEFAULT_DRIVER[parsed.drivername])
    except Exception:  # whatever it was, its text may hold the password
        raise ConfigurationError("store", "…", _RULE) from None
    timeout = _number(parsed, "timeout", 5.0, 0.1, 60.0)
    pool_size = int(_number(parsed, "pool_size", 5.0, 1.0, 100.0))
    prepare = parsed.query.get("prepare", "on")
    if prepare not in {"on", "off"}:
        raise ConfigurationError("store", f"prepare={shown(prepare)}", "on or off")
    return Settings(
        parsed.difference_update_query(["timeout", "pool_size", "prepare"]), timeout, pool_size, prepare=prepare == "on"
    )


def _number(url: sa.URL, name: str, default: float, least: float, most: float) -> float:
    given = url.query.get(name, default)
    try:
        value = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = -1.0
    if not least <= value <= most:
        raise ConfigurationError("store", f"{name}={shown(given)}", f"a number from {least:g} to {most:g}")
    return value


def create(settings: Settings) -> sa.Engine | AsyncEngine:
    """Create the engine; nothing is connected yet.

    Raises:
        MissingExtra: The driver psycopg is not installed.
        ConfigurationError: There is no such dialect, or another driver is not installed.
    """
    url = settings.url
    try:
        dialect = url.get_dialect()
        arguments = _connect_arguments(settings) if dialect.name == "postgresql" else {}
        is_async = getattr(dialect, "is_async", False)
        options: dict[str, Any] = {
            "connect_args": arguments,
            # Alone each statement is a transaction: a look-up is one round trip, not three.
            "isolation_level": "AUTOCOMMIT",
            "skip_autocommit_rollback": True,
            "hide_parameters": True,
            "pool_size": settings.pool_size,
            "max_overflow": 0,
            "pool_timeout": settings.timeout,
            "pool_use_lifo": True,
        }
        if is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            return create_async_engine(url, **options)
        return sa.create_engine(url, **options)
    except ImportError as error:
        missing = error.name or "the driver"
        if missing in {"psycopg", "greenlet"}:
            raise MissingExtra("store", "sql", missing) from None
        raise ConfigurationError(
            "store", f"{url.drivername}:…", f"of a driver that is installed, but the module {missing} is missing"
        ) from None
    except Exception:
        raise ConfigurationError(
            "store", f"{url.drivername}:…", _RULE, "SQLAlchemy knows no such dialect, or not these options for it."
        ) from None


def _connect_arguments(settings: Settings) -> dict[str, Any]:
    """Return what libpq shall do, but for what the URL says itself: give up in time, and notice a peer that is gone."""
    if not settings.url.drivername.startswith("postgresql+psycopg"):
        return {}
    wished: dict[str, Any] = {
        "connect_timeout": max(2, round(settings.timeout)),
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(settings.timeout * 1000),
        "application_name": "mobius_otel",
    }
    wished = {name: value for name, value in wished.items() if name not in settings.url.query}
    if not settings.prepare and not settings.url.drivername.endswith("psycopg2"):
        wished["prepare_threshold"] = None
    return wished


def shown_url(url: sa.URL) -> str:
    """Return a URL as it may be shown: where the database is, and nothing of who asks."""
    host = f"{url.host or ''}{f':{url.port}' if url.port else ''}"
    return f"{url.drivername}://{host}/{url.database or ''}"


def has_lost(error: BaseException) -> bool:
    """Return whether an error says that the connection was lost, so that another one may do."""
    if isinstance(error, exc.DBAPIError):
        return bool(error.connection_invalidated)
    connection = getattr(error, "mobius_connection", None)
    return connection is not None and bool(connection.closed or connection.broken)


def translated(error: BaseException, url: sa.URL) -> StoreFailure:
    """Return what an error of SQLAlchemy or of the driver means, without anything that is nobody's business."""
    kind: type[StoreFailure] = DatabaseRefused
    state = _sqlstate(error)
    text = str(getattr(error, "orig", error))
    if isinstance(error, exc.TimeoutError):
        return DatabaseBusy("no connection of the pool became free in time")
    if isinstance(error, TimeoutError):
        return DatabaseTimeout("it took longer than it may")
    if state in _BUSY or "database is locked" in text:
        kind = DatabaseBusy
    elif state in _READ_ONLY or "readonly database" in text:
        kind = DatabaseReadOnly
    elif has_lost(error) or (state.startswith(_UNREACHABLE_CLASSES) if state else _is_operational(error)):
        kind = DatabaseUnreachable
    # Only where there was no connection: what a server says about a statement may quote from a row.
    told = f": {described(text, url)}" if kind is DatabaseUnreachable else ""
    name = type(getattr(error, "orig", error)).__name__
    return kind(f"{name}{f' {state}' if state else ''}{told}")


def described(text: str, url: sa.URL) -> str:
    """Return the first line of what a driver said, without what the URL keeps secret."""
    line = text.strip().partition("\n")[0][:300]
    secrets = [url.password] if url.password else []
    secrets += [str(value) for name, value in url.query.items() if _SECRET_NAME.search(name)]
    for secret in secrets:
        for form in (secret, quote(secret, safe=""), quote_plus(secret)):
            line = line.replace(form, "[redacted]")
    return line


def _sqlstate(error: BaseException) -> str | None:
    original = getattr(error, "orig", error)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state if isinstance(state, str) else None


def _is_operational(error: BaseException) -> bool:
    """Return whether the driver blames the connection rather than the statement (PEP 249)."""
    names = {kind.__name__ for kind in type(getattr(error, "orig", error)).__mro__}
    return bool(names & {"OperationalError", "InterfaceError", "ConnectionError", "OSError"})
