"""Keys in a SQLite file, for one process or several of one host."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores.protocol import CHANGING, Census, Selection, StoredKey
from mobius_otel.security.api_keys.stores.rows import (
    COLUMNS,
    DEAD,
    census_columns,
    census_of,
    conditions_of,
    is_storable,
    key_of,
    row_of,
    selection_values,
    storable,
    stored_of,
)
from mobius_otel.security.api_keys.stores.threads import StoreThreads
from mobius_otel.sqlite import SqliteFile

__all__ = ["SqliteKeyStore"]

R = TypeVar("R")

_MIGRATIONS = (
    """
    CREATE TABLE api_keys (
        id TEXT PRIMARY KEY NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        environment TEXT NOT NULL,
        prefix TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        retire_at REAL,
        revoked_at REAL,
        last_used_at REAL,
        lineage_id TEXT NOT NULL,
        generation INTEGER NOT NULL,
        rotated_from TEXT,
        rotated_to TEXT,
        overlap_until REAL,
        request_id TEXT,
        tenant TEXT,
        issued_by TEXT,
        metadata TEXT NOT NULL
    );
    CREATE INDEX api_keys_owner ON api_keys (owner)
    """,
    """
    ALTER TABLE api_keys ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE api_keys ADD COLUMN "limit" TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE api_keys ADD COLUMN grace_on_first_use REAL;
    ALTER TABLE api_keys ADD COLUMN unused_since REAL;
    ALTER TABLE api_keys ADD COLUMN pepper TEXT NOT NULL DEFAULT '';
    ALTER TABLE api_keys ADD COLUMN verifier TEXT;
    CREATE INDEX api_keys_lineage ON api_keys (lineage_id);
    CREATE INDEX api_keys_expiry ON api_keys (expires_at);
    CREATE INDEX api_keys_age ON api_keys (created_at, id);
    CREATE TABLE api_key_jobs (name TEXT PRIMARY KEY NOT NULL, period INTEGER NOT NULL, holder TEXT NOT NULL)
    """,
)

_COLUMNS = ", ".join(f'"{name}"' for name in COLUMNS)
_SELECT = f"SELECT {_COLUMNS} FROM api_keys"
_INSERT = f"INSERT INTO api_keys ({_COLUMNS}) VALUES ({', '.join('?' * len(COLUMNS))})"
_PATIENCE_FOR_TOUCH_MS = 20


class SqliteKeyStore:
    """Keeps keys in a SQLite file that only its owner may read.

    Args:
        path: Where the file is; it is made when it is missing.

    Raises:
        ConfigurationError: The file cannot be used.
    """

    blocking = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = SqliteFile(path, _MIGRATIONS, what="key store", table="api_keys")
        self._threads = StoreThreads(1)  # there is one connection

    def find(self, digests: Sequence[bytes]) -> StoredKey | None:
        """Return the key that is found by one of these digests."""
        where = f"digest IN ({', '.join('?' * len(digests))})"
        # Who deleted or replaced the file may have revoked keys in the new one; the old one still opens.
        row = self._file.first(f"{_SELECT} WHERE {where}", digests)
        return None if row is None else stored_of(row)

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        with self._file.lock, self._file.reading() as connection:
            return _get(connection, key_id)

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        """Return the records that are meant, oldest first."""
        with self._file.lock, self._file.reading() as connection:
            return _list(connection, selection)

    @contextmanager
    def changing(self) -> Iterator[_Change]:
        """Begin a change; it is kept when the block ends without an error."""
        with self._file.lock, self._file.writing() as connection:
            yield _Change(connection)

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time.

        Raises:
            sqlite3.Error: Another process is writing: this is not worth waiting for.
        """
        with self._file.lock, self._file.reading() as connection:
            (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute(f"PRAGMA busy_timeout={_PATIENCE_FOR_TOUCH_MS}")
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(
                        "UPDATE api_keys SET last_used_at = :at"
                        " WHERE id = :id AND (last_used_at IS NULL OR last_used_at < :at)",
                        [{"at": at, "id": key_id} for key_id, at in used.items() if is_storable(key_id)],
                    )
            finally:
                connection.execute(f"PRAGMA busy_timeout={patience}")

    def count_dead(self, dead_by: float) -> int:
        """Return how many records have a deadline at or before `dead_by`."""
        with self._file.lock, self._file.reading() as connection:
            (count,) = connection.execute(
                f"SELECT count(*) FROM api_keys WHERE {DEAD}", {"dead_by": dead_by}
            ).fetchone()
        return int(count)

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys at `now`, and the active ones that expire within so many seconds."""
        columns, values = census_columns(now, within)
        with self._file.lock, self._file.reading() as connection:
            rows = connection.execute(f"SELECT {columns} FROM api_keys GROUP BY 1", values).fetchall()
        return census_of(rows, within)

    def peppers(self) -> Mapping[str, int]:
        """Return how many keys there are by the name of their pepper."""
        with self._file.lock, self._file.reading() as connection:
            return dict(connection.execute("SELECT pepper, count(*) FROM api_keys GROUP BY 1").fetchall())

    def claim(self, job: str, period: int, holder: str) -> bool:
        """Take one period of a job; True for one of those who ask."""
        with self._file.lock, self._file.writing() as connection:
            taken = connection.execute(
                "INSERT INTO api_key_jobs (name, period, holder) VALUES (:job, :period, :holder)"
                " ON CONFLICT (name) DO UPDATE SET period = :period, holder = :holder"
                " WHERE period < :period OR period > :period + 1",
                {"job": job, "period": period, "holder": holder},
            )
            return taken.rowcount == 1

    def version(self) -> tuple[int, int] | None:
        """Return something that changes when anybody has written to the file; None: not known right now."""
        return self._file.version()

    async def run(self, work: Callable[[], R]) -> R:
        """Do what uses this store in a thread, so that the event loop goes on."""
        return await self._threads.run(work)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._threads.close()
        self._file.close()

    def __repr__(self) -> str:
        return f"SqliteKeyStore({self._file!r})"


class _Change:
    """A change that is being made, inside SQLite's write transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key_id: str) -> ApiKey | None:
        return _get(self._connection, key_id)

    def list(self, selection: Selection) -> Sequence[ApiKey]:
        return _list(self._connection, selection)

    def add(self, stored: StoredKey) -> None:
        self._connection.execute(_INSERT, row_of(stored))

    def change(self, key_id: str, values: Mapping[str, Any], expect: Mapping[str, Any] | None = None) -> bool:
        assert values.keys() <= CHANGING
        if not is_storable(key_id):
            return False
        sets = ", ".join(f'"{name}" = ?' for name in values)
        conditions = "".join(f' AND "{name}" IS ?' for name in expect or {})
        written = self._connection.execute(
            f"UPDATE api_keys SET {sets} WHERE id = ?{conditions}",
            [*values.values(), key_id, *(storable(name, value) for name, value in (expect or {}).items())],
        )
        return written.rowcount == 1

    def purge(self, dead_by: float, most: int) -> int:
        return self._connection.execute(
            f"DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys WHERE {DEAD} LIMIT :most)",
            {"dead_by": dead_by, "most": most},
        ).rowcount


def _get(connection: sqlite3.Connection, key_id: str) -> ApiKey | None:
    if not is_storable(key_id):
        return None
    row = connection.execute(f"{_SELECT} WHERE id = ?", (key_id,)).fetchone()
    return None if row is None else key_of(row)


def _list(connection: sqlite3.Connection, selection: Selection) -> Sequence[ApiKey]:
    if not is_storable(selection.owner, selection.tenant, selection.lineage):
        return []
    conditions = conditions_of(selection)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    values = {**selection_values(selection), "most": -1 if selection.most is None else selection.most}
    rows = connection.execute(f"{_SELECT}{where} ORDER BY created_at, id LIMIT :most", values).fetchall()
    return [key_of(row) for row in rows]
