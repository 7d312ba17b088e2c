"""Threads in which a store is asked on behalf of an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mobius_otel.forks import on_fork

__all__ = ["StoreThreads"]

R = TypeVar("R")


class StoreThreads:
    """A few threads of a store's own: where it hangs, nobody else of the process is out of threads.

    No more than can work at once, since each one that waits for the interpreter takes it from the event loop.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], R]) -> R:
        """Do `work` in one of the threads, in the caller's context."""
        context = contextvars.copy_context()
        result: R = await asyncio.get_running_loop().run_in_executor(self._started(), context.run, work)
        return result

    def _started(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._count, "mobius-otel-key-store")
            return self._executor

    def close(self) -> None:
        """End them when they are done; the next use begins anew."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"StoreThreads({self._count})"
