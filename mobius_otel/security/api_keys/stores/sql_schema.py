"""The tables of a key store in a database, and how older ones are brought forward.

The names begin with ``mobius_``, because the database is often that of a service with tables of its own. This
module needs SQLAlchemy; nothing imports it before a store in a database is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys.stores.rows import COLUMNS

__all__ = ["JOBS", "KEYS", "LOCK", "MIGRATIONS", "VERSION", "migrate", "version_of"]

#: The number of the advisory lock under which one process migrates: "mobius" in ASCII.
LOCK = 0x6D6F_6269_7573


def _text(length: int) -> sa.String:
    """Return a text that is compared by its bytes: ids differ in their case alone, and everybody sorts alike."""
    return (
        sa.String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")
    )


def _digest() -> sa.types.TypeEngine[bytes]:
    return sa.LargeBinary(64).with_variant(mysql.VARBINARY(64), "mysql", "mariadb")


_TYPES: dict[str, Callable[[], Any]] = {
    "digest": _digest,
    "generation": sa.Integer,
    **dict.fromkeys(
        ("created_at", "expires_at", "retire_at", "revoked_at", "last_used_at", "overlap_until",
         "grace_on_first_use", "unused_since"), sa.Double),
    **dict.fromkeys(("verifier", "scopes", "networks", "limit", "metadata"), sa.Text),
    **dict.fromkeys(("id", "lineage_id", "rotated_from", "rotated_to"), lambda: _text(64)),
}  # fmt: skip
_MAY_BE_NULL = {
    "verifier", "expires_at", "retire_at", "revoked_at", "last_used_at", "rotated_from", "rotated_to", "overlap_until",
    "grace_on_first_use", "unused_since", "request_id", "tenant", "issued_by",
}  # fmt: skip

_metadata = sa.MetaData()
_columns = [
    sa.Column(
        name,
        _TYPES.get(name, lambda: _text(256))(),
        primary_key=name == "id",
        unique=name == "digest" or None,
        nullable=name in _MAY_BE_NULL,
    )
    for name in COLUMNS
]
#: The keys.
KEYS = sa.Table("mobius_api_keys", _metadata, *_columns)
sa.Index("mobius_api_keys_owner", KEYS.c.owner)
sa.Index("mobius_api_keys_lineage", KEYS.c.lineage_id)
sa.Index("mobius_api_keys_expiry", KEYS.c.expires_at)
sa.Index("mobius_api_keys_age", KEYS.c.created_at, KEYS.c.id)
#: The last period of each job that was taken.
JOBS = sa.Table(
    "mobius_api_key_jobs",
    _metadata,
    sa.Column("name", _text(64), primary_key=True),
    sa.Column("period", sa.BigInteger, nullable=False),
    sa.Column("holder", _text(256), nullable=False),
)
#: The version of these tables: one row.
VERSION = sa.Table("mobius_api_key_schema", _metadata, sa.Column("version", sa.Integer, nullable=False))


def _first(connection: sa.Connection) -> None:
    if sa.inspect(connection).has_table(KEYS.name):
        raise ConfigurationError(
            "store",
            KEYS.name,
            f"a name that is free, but the database has such a table without the table {VERSION.name} beside it",
            "Another program made it, or somebody removed the other: nothing was changed.",
        )
    _metadata.create_all(connection)
    if connection.dialect.name == "postgresql":
        # A row's last use is written often and is no part of an index: there is room for it beside the row.
        connection.exec_driver_sql(f"ALTER TABLE {KEYS.name} SET (fillfactor = 90)")
    connection.execute(VERSION.insert().values(version=0))


#: Number n brings tables of version n to version n + 1. What was released is never changed.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first,)


def version_of(connection: sa.Connection) -> int:
    """Return the version of the tables; 0: there are none.

    Raises:
        ConfigurationError: They are of a version that this code does not know.
    """
    if not sa.inspect(connection).has_table(VERSION.name):
        return 0
    version = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            "store",
            VERSION.name,
            f"of version {len(MIGRATIONS)} or older, but it is of version {version}",
            "A newer mobius_otel wrote it: pip install --upgrade mobius_otel",
        )
    return int(version)


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version, inside of a transaction.

    Args:
        connection: In a transaction. On PostgreSQL a lock is taken that ends with it; on SQLite it must be one
            that writes.

    Raises:
        ConfigurationError: The tables are of a newer version, or a table of that name is somebody else's.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(LOCK, sa.BigInteger))))
    version = version_of(connection)  # another process may have been at it: look again under the lock
    for migration in MIGRATIONS[version:]:
        migration(connection)
    if version < len(MIGRATIONS):
        connection.execute(VERSION.update().values(version=len(MIGRATIONS)))
