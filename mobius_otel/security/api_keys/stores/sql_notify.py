"""PostgreSQL's LISTEN and NOTIFY: a revoked key is out everywhere at once. This module needs SQLAlchemy."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, Final

import sqlalchemy as sa

from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.stores.protocol import ChangeChannel
from mobius_otel.security.api_keys.stores.sql_database import Database
from mobius_otel.security.api_keys.stores.watchdog import shut_down

__all__ = ["CHANNEL", "PostgresChannel", "channel_for"]

#: The name of the channel.
CHANNEL: Final = "mobius_api_keys"

Listener = Callable[[Collection[str] | None], None]
_log = logging.getLogger("mobius_otel")
_MOST_IDS = 100  # a payload has less than 8000 bytes
_LOOK_SECONDS = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_NOTIFY = sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("payload")))
_abandoned: list[object] = []


def channel_for(database: Database) -> ChangeChannel | None:
    """Return the channel that a database offers; None: it has none."""
    engine = database.engine
    if engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg" and not database.is_async:
        return PostgresChannel(database)
    return None


class PostgresChannel:
    """Tells every process that listens at the same database which keys have changed.

    Its thread and the connection it holds begin with the first listener. What is said while the connection is
    lost is not heard; after it every listener is told that anything may have changed.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Listener] = []
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Any = None

    def publish(self, key_ids: Collection[str]) -> None:
        """Tell everybody that these keys have changed.

        Raises:
            StoreFailure: It did not work; others know when their cache's time is over.
        """
        ids = sorted(key_ids)
        payloads = [{"payload": ",".join(ids[at : at + _MOST_IDS])} for at in range(0, len(ids), _MOST_IDS)]

        def notify(connection: sa.Connection) -> None:
            for payload in payloads:
                connection.execute(_NOTIFY, payload)

        self._database.use(notify)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the ids of changed keys, and with None where any may have changed.

        Returns:
            A function that ends it.
        """
        with self._lock:
            self._listeners.append(listener)
            self._start()

        def end() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)
                if not self._listeners:
                    self._stop()

        return end

    def close(self) -> None:
        """Stop listening; it begins again with the next listener."""
        with self._lock:
            self._listeners.clear()
            self._stop()

    def _start(self) -> None:
        if self._thread is None and self._listeners:
            self._stopping = threading.Event()
            arguments = (self._stopping,)
            self._thread = threading.Thread(
                target=self._run, args=arguments, name="mobius-otel-key-channel", daemon=True
            )
            self._thread.start()

    def _stop(self) -> None:
        self._thread = None
        self._stopping.set()
        if (connection := self._connection) is not None:
            shut_down(connection.fileno)

    def _run(self, stopping: threading.Event) -> None:
        pause = _SHORTEST_PAUSE
        while not stopping.is_set():
            try:
                connection = self._listening()
            except Exception as error:
                _log.debug("mobius_otel: changes of keys cannot be listened for: %s", type(error).__qualname__)
            else:
                pause = _SHORTEST_PAUSE
                self._hear(connection, stopping)
            stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

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

    def _hear(self, connection: Any, stopping: threading.Event) -> None:
        self._connection = connection
        self._tell(None)  # whatever was said while nobody listened
        try:
            while not stopping.is_set():
                for told in connection.notifies(timeout=_LOOK_SECONDS):
                    self._tell(told.payload.split(","))
        except Exception as error:
            if not stopping.is_set():
                _log.debug("mobius_otel: the channel of changed keys was lost: %s", type(error).__qualname__)
        finally:
            self._connection = None
            with contextlib.suppress(Exception):
                connection.close()

    def _tell(self, key_ids: Collection[str] | None) -> None:
        for listener in list(self._listeners):
            try:
                listener(key_ids)
            except Exception as error:
                _log.warning("mobius_otel: a listener for changed keys failed: %s", type(error).__qualname__)

    def _after_fork_in_child(self) -> None:
        _abandoned.append(self._connection)  # closing it here would end the parent's
        self._begin()
        self._start()

    def __repr__(self) -> str:
        return f"PostgresChannel({len(self._listeners)} listeners)"
