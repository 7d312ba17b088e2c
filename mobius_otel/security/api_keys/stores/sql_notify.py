"""PostgreSQL's LISTEN and NOTIFY: a revoked key is out everywhere at once. This module needs SQLAlchemy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from mobius_otel.security.api_keys.stores.channel import CHANNEL, ListeningChannel, payloads
from mobius_otel.security.api_keys.stores.protocol import ChangeChannel
from mobius_otel.security.api_keys.stores.sql_database import Database
from mobius_otel.security.api_keys.stores.watchdog import shut_down

__all__ = ["PostgresChannel", "channel_for"]

_LOOK_SECONDS = 5.0
_NOTIFY = sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("payload")))


def channel_for(database: Database) -> ChangeChannel | None:
    """Return the channel that a database offers; None: it has none."""
    engine = database.engine
    if engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg" and not database.is_async:
        return PostgresChannel(database)
    return None


class PostgresChannel(ListeningChannel):
    """Tells by the database itself, on a connection beside the pool.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__()

    def publish(self, key_ids: Collection[str]) -> None:
        """Tell everybody that these keys have changed.

        Raises:
            StoreFailure: It did not work; others know when their cache's time is over.
        """

        def notify(connection: sa.Connection) -> None:
            for payload in payloads(key_ids):
                connection.execute(_NOTIFY, {"payload": payload})

        self._database.use(notify)

    def _listening(self) -> Any:
        self._database.be_of_this_process()
        pooled = self._database.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _heard(self, connection: Any) -> Iterator[str]:
        for told in connection.notifies(timeout=_LOOK_SECONDS):
            yield told.payload

    def _interrupt(self, connection: Any) -> None:
        shut_down(connection.fileno)
