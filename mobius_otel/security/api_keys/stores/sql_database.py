"""A database that is used with patience, but not with too much of it.

Each use is bounded in time and failures have few names. A connection that was lost is replaced; what only
reads is then asked again. This module needs SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.stores.failures import (
    DatabaseTimeout,
    DatabaseUnreachable,
    StoreFailure,
)
from mobius_otel.security.api_keys.stores.sql_engine import create, has_lost, settings_of, shown_url, translated
from mobius_otel.security.api_keys.stores.watchdog import WATCHDOG

__all__ = ["Database", "Work"]

R = TypeVar("R")
#: Does something with a connection.
Work = Callable[[sa.Connection], R]

_log = logging.getLogger("mobius_otel")
_SLOW_FAILURE = 0.5
_REST = 1.0
# What was open when the process forked is never closed in the child: that would end the parent's connections.
_abandoned: list[object] = []


class _Door(Protocol):
    """How work gets to a connection: in this thread, or on an event loop."""

    def open(self, *, autocommit: bool) -> Any:
        """Take a connection."""
        ...

    def do(self, connection: Any, work: Work[R], patience: float | None = None) -> R:
        """Do something with it, in so many seconds at most (default: the timeout)."""
        ...

    def close(self, connection: Any) -> None:
        """Give it back."""
        ...

    def waits_here(self) -> bool:
        """Whether this thread is the one that does the work for others."""
        ...

    def dispose(self) -> None:
        """Close what is idle."""
        ...

    def forget(self) -> None:
        """Leave, in a forked child, what belongs to the parent."""
        ...


class Database:
    """An engine of SQLAlchemy, synchronous or not.

    Args:
        database: A URL, or an engine of your own.
        timeout: Seconds that one use may wait for a connection, and then for the answer; with a URL its own
            ``timeout`` wins.

    Attributes:
        engine: The synchronous engine, also of an asynchronous one.
        threads: How many may use it at once.
        is_ours: Whether it was made from a URL, and is always in autocommit mode.
        dialect: The dialect's name.

    Raises:
        ConfigurationError: The URL is none.
        MissingExtra: The driver is not installed.
    """

    def __init__(self, database: str | sa.Engine | AsyncEngine, timeout: float = 5.0) -> None:
        self.is_ours = isinstance(database, str)
        self.threads = 10
        engine: sa.Engine | AsyncEngine
        if isinstance(database, str):
            settings = settings_of(database)
            engine, timeout, self.threads = create(settings), settings.timeout, settings.pool_size
        else:
            engine = database
        self.timeout = timeout
        self._door: _Door
        if isinstance(engine, AsyncEngine):
            self.engine = engine.sync_engine
            self._door = _LoopDoor(engine, timeout, own=self.is_ours)
        elif isinstance(engine, sa.Engine):
            self.engine = engine
            self._door = _ThreadDoor(engine, timeout)
            if self.is_ours:
                weakref.finalize(self, engine.dispose).atexit = False  # where nobody closed it
        else:
            raise ConfigurationError("store", type(database).__qualname__, "a URL, an Engine or an AsyncEngine")
        self.dialect = self.engine.dialect.name
        self.is_async = isinstance(engine, AsyncEngine)
        self._rest_until = 0.0
        self._is_down = False
        self._pid = os.getpid()
        on_fork(self)

    def waits_here(self) -> bool:
        """Return whether this thread runs the event loop that does the work, so that nobody may wait in it."""
        return self._door.waits_here()

    def use(self, work: Work[R], *, again: bool = True, is_quick: bool = False) -> R:
        """Do something outside of a transaction: every statement is one by itself.

        Args:
            work: What to do.
            again: Whether to do it once more with another connection where the first one was lost.
            is_quick: As for :meth:`bounded`.

        Raises:
            StoreFailure: It did not work.
        """
        return self.bounded(lambda: self._once(work), again=again, is_quick=is_quick)

    def _once(self, work: Work[R]) -> R:
        connection = self._door.open(autocommit=True)
        try:
            return self._door.do(connection, work)
        finally:
            self._door.close(connection)

    @contextlib.contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[Callable[[Work[Any]], Any]]:
        """Begin a transaction; it is committed when the block ends without an error.

        Args:
            patience: Seconds that each piece of work may take; default: the timeout.

        Yields:
            A function that does some work in it, and raises StoreFailure where that does not work.
        """
        connection = self.bounded(self._begun, again=True)

        def do(work: Work[R]) -> R:
            return self.bounded(lambda: self._door.do(connection, work, patience), again=False)

        try:
            yield do
            do(_commit)
        except BaseException:
            with contextlib.suppress(StoreFailure):
                do(_rollback)
            raise
        finally:
            with contextlib.suppress(Exception):
                self._door.close(connection)

    def _begun(self) -> Any:
        """Return a connection in a transaction; it has been tried, so that what follows does not meet a dead one."""
        connection = self._door.open(autocommit=self.dialect == "sqlite")
        begin = "BEGIN IMMEDIATE" if self.dialect == "sqlite" else "SELECT 1"
        try:
            self._door.do(connection, lambda connection: connection.exec_driver_sql(begin))
        except BaseException:
            with contextlib.suppress(Exception):
                self._door.close(connection)
            raise
        return connection

    def bounded(self, work: Callable[[], R], *, again: bool, is_quick: bool = False) -> R:
        """Do something that may fail, and say what went wrong in the words of this package.

        After a failure that took long nobody else waits for a second; then one tries for all.

        Args:
            work: What to do.
            again: Whether to do it once more where a connection was lost.
            is_quick: Whether it waits for nobody's lock and reads little, so that the server hangs where it takes long;
                from what counts a million rows or wants a row that another session holds nothing follows for others.

        Raises:
            StoreFailure: It did not work.
            ConfigurationError: As `work` raises it.
        """
        self.be_of_this_process()
        begin = time.monotonic()
        if self._rest_until:
            if begin < self._rest_until:
                raise DatabaseUnreachable("it did not answer a moment ago")
            self._rest_until = begin + self.timeout  # the others wait for what becomes of this one
        try:
            result = work()
        except (StoreFailure, ConfigurationError) as error:
            if not isinstance(error, DatabaseTimeout):
                self._rest_until = 0.0
                raise
            failure: StoreFailure = error
        except Exception as error:
            if again and has_lost(error) and time.monotonic() - begin < self.timeout:
                self._rest_until = 0.0
                return self.bounded(work, again=False, is_quick=is_quick)
            failure = translated(error, self.engine.url)
        else:
            if self._is_down or self._rest_until:
                self._answers()
            return result
        if isinstance(failure, DatabaseUnreachable) or (is_quick and isinstance(failure, DatabaseTimeout)):
            self._does_not_answer(failure, time.monotonic() - begin)
        else:
            self._rest_until = 0.0
        raise failure  # outside of the handler: what the driver said stays behind

    def _answers(self) -> None:
        self._rest_until = 0.0
        if self._is_down:
            self._is_down = False
            _log.warning("mobius_otel: the key store at %s answers again", shown_url(self.engine.url))

    def _does_not_answer(self, failure: StoreFailure, seconds: float) -> None:
        self._rest_until = time.monotonic() + _REST if seconds >= _SLOW_FAILURE else 0.0
        if not self._is_down:
            self._is_down = True
            where = shown_url(self.engine.url)
            _log.warning("mobius_otel: the key store at %s does not answer: %s: %s", where, _name(failure), failure)

    def close(self) -> None:
        """Close what is idle; the next use connects again."""
        if self.is_ours:
            with contextlib.suppress(Exception):
                self._door.dispose()

    def be_of_this_process(self) -> None:
        """Leave to the parent, in a forked child, what belongs to it.

        Asked before every use: a thread that another object started when the process forked may come before
        this object's own turn, and two processes that read from one connection take each other's answers.
        """
        if self._pid != os.getpid():
            self._rest_until = 0.0
            _abandoned.append(self.engine.pool)
            self._door.forget()
            self._pid = os.getpid()

    def _after_fork_in_child(self) -> None:
        self.be_of_this_process()

    def __repr__(self) -> str:
        return f"Database({shown_url(self.engine.url)})"


def _commit(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("COMMIT")
    else:
        connection.commit()


def _rollback(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("ROLLBACK")
    else:
        connection.rollback()


def _name(failure: StoreFailure) -> str:
    return type(failure).__name__


class _ThreadDoor:
    """Connections of a synchronous engine, used in the thread that asks."""

    def __init__(self, engine: sa.Engine, timeout: float) -> None:
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._transaction = (
            engine.execution_options(isolation_level="READ COMMITTED") if engine.dialect.name != "sqlite" else engine
        )
        self._engine = engine
        self._timeout = timeout

    def open(self, *, autocommit: bool) -> sa.Connection:
        return (self._autocommit if autocommit else self._transaction).connect()

    def do(self, connection: sa.Connection, work: Work[R], patience: float | None = None) -> R:
        fileno = getattr(connection.connection.driver_connection, "fileno", None)
        if fileno is None:
            return work(connection)
        ticket = WATCHDOG.watch(fileno, patience or self._timeout)
        try:
            result = work(connection)
        except BaseException:
            if not WATCHDOG.leave(ticket):
                raise DatabaseTimeout("it took longer than it may") from None
            raise
        if not WATCHDOG.leave(ticket):
            connection.invalidate()  # its socket is shut
        return result

    def close(self, connection: sa.Connection) -> None:
        connection.close()

    def waits_here(self) -> bool:
        return False

    def dispose(self) -> None:
        self._engine.dispose()

    def forget(self) -> None:
        self._engine.dispose(close=False)


class _LoopDoor:
    """Connections of an asynchronous engine, used on the event loop that they belong to.

    Whoever asks is in another thread and waits there: the manager's own locks may then be held meanwhile.
    """

    def __init__(self, engine: AsyncEngine, timeout: float, *, own: bool) -> None:
        self._engine = engine
        self._timeout = timeout
        self._own = own
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        if not own:
            with contextlib.suppress(RuntimeError):
                self._loop = asyncio.get_running_loop()

    def open(self, *, autocommit: bool) -> AsyncConnection:
        level = "AUTOCOMMIT" if autocommit else "READ COMMITTED"
        return self._wait(self._connected(level))

    async def _connected(self, level: str) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            return await connection.execution_options(isolation_level=level)
        except BaseException:
            await connection.close()
            raise

    def do(self, connection: AsyncConnection, work: Work[R], patience: float | None = None) -> R:
        return self._wait(connection.run_sync(work), patience)

    def close(self, connection: AsyncConnection) -> None:
        self._wait(connection.close())

    def waits_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def dispose(self) -> None:
        self._wait(self._engine.dispose())
        with self._lock:
            if self._own and self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._loop = None
        self._engine.sync_engine.dispose(close=False)

    def _wait(self, coroutine: Coroutine[Any, Any, R], patience: float | None = None) -> R:
        timeout = patience or self._timeout
        loop = self._running()
        if self.waits_here():
            coroutine.close()
            raise ConfigurationError(
                "store", "an asynchronous engine", "used from its event loop by the …_async methods alone"
            )
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, timeout), loop)
        try:
            return future.result(timeout + 1.0)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise DatabaseTimeout("it took longer than it may") from None

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the engine: the one in which the store was made, else one of its own."""
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="mobius-otel-key-store", daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
