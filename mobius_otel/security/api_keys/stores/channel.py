"""What channels have in common: a thread that listens, finds its server again, and begins anew after a fork."""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar, Final

from mobius_otel.forks import on_fork

__all__ = ["CHANNEL", "ListeningChannel", "payloads"]

#: The name under which changes are told.
CHANNEL: Final = "mobius_api_keys"

Listener = Callable[[Collection[str] | None], None]
_log = logging.getLogger("mobius_otel")
_MOST_IDS = 100  # PostgreSQL takes less than 8000 bytes at once
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


def payloads(key_ids: Collection[str]) -> list[str]:
    """Return what is sent to tell of keys.

    Example:
        >>> payloads({"key_2", "key_1"})
        ['key_1,key_2']
    """
    ids = sorted(key_ids)
    return [",".join(ids[at : at + _MOST_IDS]) for at in range(0, len(ids), _MOST_IDS)]


class ListeningChannel(ABC):
    """Tells every process that listens at the same server which keys have changed.

    Its thread and the connection it holds begin with the first listener. What is said while the connection is
    lost is not heard; after it every listener is told that anything may have changed.
    """

    # What was open when the process forked is never closed in the child: that would end the parent's.
    _abandoned: ClassVar[list[object]] = []

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a listener that is collected ends, whatever this thread is at
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Any = None

    @abstractmethod
    def publish(self, key_ids: Collection[str]) -> None:
        """Tell everybody that these keys have changed.

        Raises:
            StoreFailure: It did not work; others know when their cache's time is over.
        """

    @abstractmethod
    def _listening(self) -> Any:
        """Return a connection that listens."""

    @abstractmethod
    def _heard(self, connection: Any) -> Iterator[str]:
        """Return what is heard until nothing has been for a while."""

    @abstractmethod
    def _interrupt(self, connection: Any) -> None:
        """End the wait of another thread, where it would take long."""

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
            self._thread = threading.Thread(
                target=self._run, args=(self._stopping,), name="mobius-otel-key-channel", daemon=True
            )
            self._thread.start()

    def _stop(self) -> None:
        self._thread = None
        self._stopping.set()
        if (connection := self._connection) is not None:
            self._interrupt(connection)

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

    def _hear(self, connection: Any, stopping: threading.Event) -> None:
        self._connection = connection
        self._tell(None)  # whatever was said while nobody listened
        try:
            while not stopping.is_set():
                for payload in self._heard(connection):
                    self._tell(payload.split(","))
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
        self._abandoned.append(self._connection)
        self._begin()
        self._start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._listeners)} listeners)"
