"""Keeping an event loop from waiting for a disk or a collector."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.ledger import Ledger

__all__ = ["Aside", "aside"]

R = TypeVar("R")


async def aside(function: Callable[..., R], *args: Any, ledger: Ledger | None = None) -> R:
    """Call a function that emits: at once where that takes microseconds, else in a thread.

    A commit of ``durability="process"`` takes less than the way to a thread. One that waits for the disk or for a
    collector would stop every other task; in threads it shares a commit with them.

    Args:
        function: Called with `args`, in the context of the caller.
        *args: Its arguments.
        ledger: The ledger that it writes to; default: the configured one.
    """
    ledger = ledger or defaults.slot().ledger
    if ledger is None or ledger.durability == "process":
        return function(*args)
    return await asyncio.to_thread(function, *args)


class Aside:
    """A block that emits, for ``async with``.

    Args:
        block: The block, for ``with``.
        ledger: The ledger that it writes to; default: the configured one.
    """

    __slots__ = ("_block", "_ledger")

    def __init__(self, block: AbstractContextManager[Any], ledger: Ledger | None = None) -> None:
        self._block = block
        self._ledger = ledger

    async def __aenter__(self) -> Any:
        return await aside(self._block.__enter__, ledger=self._ledger)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await aside(self._block.__exit__, kind, error, traceback, ledger=self._ledger)
