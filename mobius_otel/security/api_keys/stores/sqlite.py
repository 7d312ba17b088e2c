"""Keys in a SQLite file, for one process or several of one host."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from mobius_otel.security.api_keys.record import ApiKey, KeyState
from mobius_otel.security.api_keys.stores.protocol import CHANGING, Census
from mobius_otel.sqlite import SqliteFile

__all__ = ["SqliteKeyStore"]

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
)

_COLUMNS = tuple(f.name for f in fields(ApiKey) if f.name != "state")
_SELECT = f"SELECT digest, {', '.join(_COLUMNS)} FROM api_keys"
_INSERT = f"INSERT INTO api_keys (digest, {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
_FOREVER = "9e999"
_DEAD_SINCE = (
    f"min(coalesce(expires_at, {_FOREVER}), coalesce(retire_at, {_FOREVER}), coalesce(revoked_at, {_FOREVER}))"
)
# The same decisions as ApiKey.state_at; the tests hold the two together.
_STATE = """CASE
    WHEN revoked_at IS NOT NULL THEN 'revoked'
    WHEN expires_at IS NOT NULL AND expires_at <= :now
        THEN CASE WHEN retire_at < expires_at THEN 'retired' ELSE 'expired' END
    WHEN retire_at IS NOT NULL AND retire_at <= :now THEN 'retired'
    WHEN retire_at IS NOT NULL THEN 'retiring'
    ELSE 'active' END"""
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
        self._file = SqliteFile(path, _MIGRATIONS, what="key store")

    def find(self, digest: bytes) -> tuple[ApiKey, bytes] | None:
        """Return the record whose secret has this digest, and the digest as it is stored."""
        with self._file.reading() as connection:
            # Who deleted or replaced the file may have revoked keys in the new one; the old one still opens.
            self._file.check_still_there()
            row = connection.execute(f"{_SELECT} WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else (_record(row), row[0])

    def get(self, key_id: str) -> ApiKey | None:
        """Return the record with this id."""
        with self._file.reading() as connection:
            return _get(connection, key_id)

    def list(self, owner: str | None = None) -> Sequence[ApiKey]:
        """Return the records, of one owner or all, oldest first."""
        where = "" if owner is None else " WHERE owner = :owner"
        with self._file.reading() as connection:
            rows = connection.execute(f"{_SELECT}{where} ORDER BY created_at, id", {"owner": owner}).fetchall()
        return [_record(row) for row in rows]

    @contextmanager
    def changing(self) -> Iterator[_Change]:
        """Begin a change; it is kept when the block ends without an error."""
        with self._file.writing() as connection:
            yield _Change(connection)

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; never back in time.

        Raises:
            sqlite3.Error: Another process is writing: this is not worth waiting for.
        """
        with self._file.reading() as connection:
            (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute(f"PRAGMA busy_timeout={_PATIENCE_FOR_TOUCH_MS}")
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany(
                        "UPDATE api_keys SET last_used_at = ?1"
                        " WHERE id = ?2 AND (last_used_at IS NULL OR last_used_at < ?1)",
                        [(at, key_id) for key_id, at in used.items()],
                    )
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
            finally:
                connection.execute(f"PRAGMA busy_timeout={patience}")

    def count_dead(self, dead_by: float) -> int:
        """Return how many records a purge would remove."""
        with self._file.reading() as connection:
            (count,) = connection.execute(
                f"SELECT count(*) FROM api_keys WHERE {_DEAD_SINCE} <= ?", (dead_by,)
            ).fetchone()
        return int(count)

    def census(self, now: float, within: Sequence[float]) -> Census:
        """Count the keys by their state at `now`, and the active ones that expire within so many seconds."""
        sums = "".join(f", sum(coalesce(expires_at, {_FOREVER}) <= :now + :w{i})" for i in range(len(within)))
        values = {"now": now, **{f"w{i}": seconds for i, seconds in enumerate(within)}}
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {_STATE} AS state, count(*){sums} FROM api_keys GROUP BY 1", values
            ).fetchall()
        counted = {KeyState(row[0]): row for row in rows}
        states = {state: counted[state][1] if state in counted else 0 for state in KeyState}
        active = counted.get(KeyState.ACTIVE)
        return Census(states, {seconds: active[2 + i] if active else 0 for i, seconds in enumerate(within)})

    def close(self) -> None:
        """Close the file; the next use opens it again."""
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

    def add(self, record: ApiKey, digest: bytes) -> None:
        values = [_stored(name, getattr(record, name)) for name in _COLUMNS]
        self._connection.execute(_INSERT, [digest, *values])

    def change(self, key_id: str, **values: Any) -> None:
        assert values.keys() <= CHANGING
        sets = ", ".join(f"{name} = :{name}" for name in values)
        self._connection.execute(f"UPDATE api_keys SET {sets} WHERE id = :id", {**values, "id": key_id})

    def purge(self, dead_by: float) -> int:
        return self._connection.execute(f"DELETE FROM api_keys WHERE {_DEAD_SINCE} <= ?", (dead_by,)).rowcount


def _get(connection: sqlite3.Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(f"{_SELECT} WHERE id = ?", (key_id,)).fetchone()
    return None if row is None else _record(row)


def _stored(name: str, value: Any) -> Any:
    if name == "scopes":
        return json.dumps(sorted(value))
    return json.dumps(dict(value), sort_keys=True) if name == "metadata" else value


def _record(row: Sequence[Any]) -> ApiKey:
    values = dict(zip(_COLUMNS, row[1:], strict=True))
    values["scopes"] = frozenset(json.loads(values["scopes"]))
    values["metadata"] = {} if values["metadata"] == "{}" else json.loads(values["metadata"])
    return ApiKey(**values)
