"""The look-up of a key, which is what a database is asked most. This module needs SQLAlchemy.

For an engine of our own with psycopg it goes past SQLAlchemy's layers: a connection of its pool, a cursor that is
kept with the connection, a statement that SQLAlchemy has compiled once. That is half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mobius_otel.security.api_keys.stores.failures import DatabaseTimeout
from mobius_otel.security.api_keys.stores.sql_database import Database
from mobius_otel.security.api_keys.stores.sql_statements import Statements
from mobius_otel.security.api_keys.stores.watchdog import WATCHDOG

__all__ = ["lookup_for"]

Lookup = Callable[[Sequence[bytes]], Sequence[Any] | None]
_CURSOR = "mobius_otel_cursor"


def lookup_for(database: Database, statements: Statements) -> Lookup:
    """Return the way to find a row by its digests that suits a database."""
    if database.is_ours and not database.is_async and database.engine.dialect.driver == "psycopg":
        return _PsycopgLookup(database, statements)
    return _CoreLookup(database, statements)


class _CoreLookup:
    """By SQLAlchemy Core."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    def __call__(self, digests: Sequence[bytes]) -> Sequence[Any] | None:
        one = len(digests) == 1
        statement = self._statements.find if one else self._statements.find_any
        values = {"digest": digests[0]} if one else {"digests": list(digests)}
        return self._database.use(lambda connection: connection.execute(statement, values).fetchone(), is_quick=True)


class _PsycopgLookup:
    """By psycopg, over SQLAlchemy's pool."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        dialect = database.engine.dialect
        self._one = str(statements.find.compile(dialect=dialect)).replace("%(digest)s", "%s")
        several = str(statements.find_any.compile(dialect=dialect))
        self._any = several.replace("IN (__[POSTCOMPILE_digests])", "= ANY(%s)")

    def __call__(self, digests: Sequence[bytes]) -> Sequence[Any] | None:
        statement, values = (self._one, (digests[0],)) if len(digests) == 1 else (self._any, (list(digests),))
        return self._database.bounded(lambda: self._find(statement, values), again=True, is_quick=True)

    def _find(self, statement: str, values: tuple[Any, ...]) -> Sequence[Any] | None:
        pooled = self._database.engine.raw_connection()
        try:
            connection: Any = pooled.driver_connection
            cursor = pooled.info.get(_CURSOR)
            if cursor is None:
                cursor = pooled.info[_CURSOR] = connection.cursor(binary=True)
            ticket = WATCHDOG.watch(connection.fileno, self._database.timeout)
            try:
                row: Sequence[Any] | None = cursor.execute(statement, values).fetchone()
            except BaseException as error:
                in_time = WATCHDOG.leave(ticket)
                pooled.invalidate()
                if connection.closed or connection.broken:
                    error.mobius_connection = connection  # type: ignore[attr-defined]
                    self._database.engine.dispose()  # after a restart of the server the others are dead too
                if not in_time:
                    raise DatabaseTimeout("it took longer than it may") from None
                raise
            if not WATCHDOG.leave(ticket):
                pooled.invalidate()  # its socket is shut
            return row
        finally:
            pooled.close()
