"""When keys were last used: noted once a minute for each key, and never through its record.

What is noted is written by a thread of its own, some seconds later and for many keys at once, so that no
verification waits for a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.stores import KeyStore

__all__ = ["NOTED_EVERY", "LastUsed"]

_log = logging.getLogger("mobius_otel")
#: Seconds between two notes of one key.
NOTED_EVERY: Final = 60.0
_WRITTEN_AFTER: Final = 2.0
_MOST: Final = 100_000


class LastUsed:
    """Collects uses and writes them down.

    Args:
        store: Where they are written.
    """

    __slots__ = ("__weakref__", "_closing", "_lock", "_pending", "_scheduled", "_store", "_thread")

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pending: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._scheduled: asyncio.Task[None] | None = None

    def note(self, key_id: str, now: float) -> None:
        """Note that a key was used at `now`, in seconds since the epoch; never raises."""
        if not self._store.blocking:
            self._write({key_id: now})
            return
        with self._lock:
            if len(self._pending) < _MOST:
                self._pending[key_id] = max(now, self._pending.get(key_id, now))

    def __contains__(self, key_id: str) -> bool:
        """Return whether a use waits to be written."""
        return key_id in self._pending

    def is_pending(self, key_id: str, now: float) -> bool:
        """Return whether a use within the last minute waits to be written."""
        noted = self._pending.get(key_id)
        return noted is not None and abs(now - noted) < NOTED_EVERY

    def write_soon(self) -> None:
        """See to it that what is pending is written some seconds from now, in a thread."""
        if self._thread is None and self._pending:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=_write_later, args=(weakref.ref(self), self._closing), daemon=True,
                        name="mobius-otel-last-used",
                    )  # fmt: skip
                    with contextlib.suppress(RuntimeError):  # the interpreter is ending: close() writes
                        self._thread.start()

    def write_soon_on_loop(self, run: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        """See to it that what is pending is written some seconds from now, by a task of the running loop.

        Args:
            run: Calls something that uses the store.
        """
        if self._pending and (self._scheduled is None or self._scheduled.done()):
            self._scheduled = asyncio.ensure_future(self._write_by(run))

    async def _write_by(self, run: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        try:
            await asyncio.sleep(_WRITTEN_AFTER)
        finally:
            await run(self.flush)

    def flush(self, late: Mapping[str, float] | None = None) -> None:
        """Write down what is pending; never raises.

        Args:
            late: Further uses, by id.
        """
        with self._lock:
            pending, self._pending = self._pending, {}
        for key_id, at in (late or {}).items():
            pending[key_id] = max(at, pending.get(key_id, at))
        if pending:
            self._write(pending)

    def close(self, late: Mapping[str, float] | None = None) -> None:
        """Write down what is pending and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            closing, self._closing = self._closing, threading.Event()
        closing.set()
        if thread is not None and thread is not threading.current_thread() and thread.ident is not None:
            thread.join(_WRITTEN_AFTER)
        self.flush(late)

    def _write(self, used: Mapping[str, float]) -> None:
        try:
            self._store.touch(used)
        except Exception as error:  # it is no reason to refuse a good key
            _log.debug("mobius_otel: the last use of %d keys was not written: %s", len(used), type(error).__qualname__)

    def _after_fork_in_child(self) -> None:
        self._begin()  # the parent writes its own


def _write_later(reference: weakref.ref[LastUsed], closing: threading.Event) -> None:
    """Write now and then, for as long as the object lives, and end when there has been nothing for a while."""
    while not closing.wait(_WRITTEN_AFTER):
        last_used = reference()
        if last_used is None:
            return
        last_used.flush()
        del last_used
