"""Keys in a database that SQLAlchemy reaches: PostgreSQL first of all, for a fleet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mobius_otel.errors import MissingExtra
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores.failures import StoreFailure
from mobius_otel.security.api_keys.stores.protocol import (
    CHANGING,
    Census,
    ChangeChannel,
    Selection,
    StoredKey,
)
from mobius_otel.security.api_keys.stores.rows import (
    COLUMNS,
    census_of,
    is_storable,
    key_of,
    row_of,
    selection_values,
    storable,
    stored_of,
)
from mobius_otel.security.api_keys.stores.threads import StoreThreads

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

    from mobius_otel.security.api_keys.stores.sql_statements import Statements

__all__ = ["SqlKeyStore"]

R = TypeVar("R")
_BATCH = 500


class SqlKeyStore:
    """Keeps keys in a database, for as many processes as there are.

    Args:
        database: A URL such as ``"postgresql+psycopg://keys@db/keys"``, or an ``Engine`` or ``AsyncEngine`` of
            SQLAlchemy. A URL is the faster way: its look-ups go past SQLAlchemy's own layers. Make the store
            inside of the event loop that an ``AsyncEngine`` of yours is used in.
        timeout: Seconds that one call waits for a connection, and then for the answer; with a URL its own
            ``timeout`` wins.

    Attributes:
        channel: Tells other processes of changes: PostgreSQL with psycopg; elsewhere None.

    Raises:
        MissingExtra: SQLAlchemy or psycopg is not installed.
        ConfigurationError: The URL is none, or the tables are of a newer version. A server that does not answer
            is no error here: it is asked again when it is needed.

    Example:
        >>> store = SqlKeyStore("postgresql://keys:a-password@localhost:1/keys")  # nobody is there yet
        >>> store
        SqlKeyStore(postgresql+psycopg://localhost:1/keys)
        >>> store.close()
    """

    blocking = True

    def __init__(self, database: str | sa.Engine | AsyncEngine, *, timeout: float = 5.0) -> None:
        try:
            from mobius_otel.security.api_keys.stores.sql_database import Database
            from mobius_otel.security.api_keys.stores.sql_lookup import lookup_for
            from mobius_otel.security.api_keys.stores.sql_notify import channel_for
            from mobius_otel.security.api_keys.stores.sql_statements import Statements
        except ImportError as error:
            raise MissingExtra("store", "sql", error.name or "sqlalchemy") from None
        self._database = Database(database, timeout)
        self._threads = StoreThreads(self._database.threads)
        self._statements: Statements = Statements(self._database.dialect)
        self._lookup = lookup_for(self._database, self._statements)
        self.channel: ChangeChannel | None = channel_for(self._database)
        self._is_ready = False
        if not self._database.waits_here():
            with contextlib.suppress(StoreFailure):  # it was logged, and it is tried again at the first use
                self._prepare()

    @staticmethod
    def check(url: str) -> None:
        """Check a URL without connecting.

        Raises:
            MissingExtra: SQLAlchemy or psycopg is not installed.
            ConfigurationError: The URL is none, or names a dialect or a driver that is not there.
        """
        try:
            from mobius_otel.security.api_keys.stores.sql_engine import create, settings_of
        except ImportError as error:
            raise MissingExtra("store", "sql", error.name or "sqlalchemy") from None
        create(settings_of(url))

    def _prepare(self) -> None:
        """Look at the tables' version, and bring them forward where they are behind."""
        from mobius_otel.security.api_keys.stores import sql_schema

        newest = len(sql_schema.MIGRATIONS)
        if self._database.use(sql_schema.version_of) != newest:
            with self._database.transaction(patience=600.0) as do:
                do(sql_schema.migrate)
        self._is_ready = True

    def _transaction(self) -> contextlib.AbstractContextManager[Callable[[Callable[[sa.Connection], Any]], Any]]:
        if not self._is_ready:
            self._prepare()
        return self._database.transaction()

    def _use(self, work: Callable[[sa.Connection], R], *, again: bool = True) -> R:
        if not self._is_ready:
            self._prepare()
        return self._database.use(work, again=again)

    def find(self, digests: Sequence[bytes]) -> StoredKey | None:
        """Return the key that is found by one of these digests."""
        if not self._is_ready:
            self._prepare()
        row = self._lookup(digests)
        return None if row is None else stored_of(row)

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        if not is_storable(key_id):
            return None
        row = self._use(lambda connection: connection.execute(self._statements.get, {"key_id": key_id}).fetchone())
        return None if row is None else key_of(row)

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        """Return the records that are meant, oldest first."""
        return self._use(lambda connection: _list(connection, self._statements, selection))

    @contextlib.contextmanager
    def changing(self) -> Iterator[_Change]:
        """Begin a change; it is kept when the block ends without an error."""
        with self._transaction() as do:
            yield _Change(do, self._statements)

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time."""
        # Everybody in the same order: two that wait for each other's rows would wait for ever.
        values = [{"key_id": key_id, "at": used[key_id]} for key_id in sorted(used) if is_storable(key_id)]
        for begin in range(0, len(values), _BATCH):
            write = partial(_write, statement=self._statements.touch, values=values[begin : begin + _BATCH])
            if len(values) == 1:
                self._use(write)
            else:
                with self._transaction() as do:
                    do(write)

    def count_dead(self, dead_by: float) -> int:
        """Return how many records have a deadline at or before `dead_by`."""
        values = {"dead_by": dead_by}
        return int(self._use(lambda connection: connection.execute(self._statements.count_dead, values).scalar()) or 0)

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys at `now`, and the active ones that expire within so many seconds."""
        statement, values = self._statements.census(now, within)
        return census_of(self._use(lambda connection: connection.execute(statement, values).fetchall()), within)

    def peppers(self) -> Mapping[str, int]:
        """Return how many keys there are by the name of their pepper."""
        rows = self._use(lambda connection: connection.execute(self._statements.peppers).fetchall())
        return {name: int(count) for name, count in rows}

    def claim(self, job: str, period: int, holder: str) -> bool:
        """Take one period of a job; True for one of those who ask."""
        values = {"job": job, "period": period, "holder": holder}
        return self._use(lambda connection: _claimed(connection, self._statements, values), again=False)

    async def run(self, work: Callable[[], R]) -> R:
        """Do what uses this store in a thread, so that the event loop goes on."""
        return await self._threads.run(work)

    def close(self) -> None:
        """Close what is open; the next use connects again. An engine of your own is left to you."""
        if self.channel is not None:
            close = getattr(self.channel, "close", None)
            if close is not None:
                close()
        self._threads.close()
        self._database.close()

    def __repr__(self) -> str:
        return f"SqlKeyStore{repr(self._database).removeprefix('Database')}"


class _Change:
    """A change that is being made, inside a transaction."""

    __slots__ = ("_do", "_statements")

    def __init__(self, do: Callable[[Callable[[sa.Connection], Any]], Any], statements: Statements) -> None:
        self._do = do
        self._statements = statements

    def get(self, key_id: str) -> ApiKey | None:
        if not is_storable(key_id):
            return None
        statement = self._statements.get_and_hold
        row = self._do(lambda connection: connection.execute(statement, {"key_id": key_id}).fetchone())
        return None if row is None else key_of(row)

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        found: Sequence[ApiKey] = self._do(lambda connection: _list(connection, self._statements, selection))
        return found

    def add(self, stored: StoredKey) -> None:
        values = dict(zip(COLUMNS, row_of(stored), strict=True))
        self._do(partial(_write, statement=self._statements.add, values=values))

    def change(self, key_id: str, values: Mapping[str, Any], expect: Mapping[str, Any] | None = None) -> bool:
        assert values.keys() <= CHANGING
        if not is_storable(key_id):
            return False
        wanted = {name: storable(name, value) for name, value in (expect or {}).items()}
        statement = self._statements.change(key_id, values, wanted)
        return bool(self._do(lambda connection: connection.execute(statement).rowcount) == 1)

    def purge(self, dead_by: float, most: int) -> int:
        return int(self._do(lambda connection: _purged(connection, self._statements, dead_by, most)))


def _write(connection: sa.Connection, statement: sa.Executable, values: Any) -> None:
    connection.execute(statement, values)


def _list(connection: sa.Connection, statements: Statements, selection: Selection) -> Sequence[ApiKey]:
    if not is_storable(selection.owner, selection.tenant, selection.lineage):
        return []
    rows = connection.execute(statements.list(selection), selection_values(selection)).fetchall()
    return [key_of(row) for row in rows]


def _purged(connection: sa.Connection, statements: Statements, dead_by: float, most: int) -> int:
    rows = connection.execute(statements.dead(most), {"dead_by": dead_by}).fetchall()
    ids = [row[0] for row in rows]
    for begin in range(0, len(ids), _BATCH):
        connection.execute(statements.remove, {"key_ids": ids[begin : begin + _BATCH]})
    return len(ids)


def _claimed(connection: sa.Connection, statements: Statements, values: Mapping[str, Any]) -> bool:
    from sqlalchemy.exc import IntegrityError

    if connection.execute(statements.claim, values).rowcount == 1:
        return True
    if connection.execute(statements.job, values).fetchone() is not None:
        return False
    try:
        connection.execute(statements.first_claim, values)
    except IntegrityError:  # somebody was faster
        return False
    return True
