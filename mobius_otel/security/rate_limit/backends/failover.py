"""What decides while a remote backend is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal

from mobius_otel.security.rate_limit.backends.protocol import AsyncCounts, Counts, Uncounted
from mobius_otel.security.rate_limit.facts import TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["Failover", "OnBackendError"]

OnBackendError = Literal["local", "open", "closed"]
_RETRY_WHEN_CLOSED = 1 * TICKS_PER_SECOND


class Failover:
    """Asks remote counts, and answers as ``on_backend_error`` says when they fail.

    Args:
        remote: The counts that may fail.
        local: Who counts meanwhile, where that is ``local``; else None.
        limits: The limiter's limits.
        on_error: ``local``, ``open`` or ``closed``.
        changed: Called with whether the backend is gone and the class of the error, when that changes.
    """

    source = "remote"

    def __init__(
        self,
        remote: Counts,
        local: Counts | None,
        limits: tuple[RateLimit, ...],
        on_error: OnBackendError,
        changed: Callable[[bool, str | None], None],
    ) -> None:
        self._remote = remote
        self._local = local
        self._limits = limits
        self._on_error = on_error
        self._changed = changed
        self._gone = False

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit allows it."""
        try:
            facts = self._remote.take(key, cost)
        except Exception as error:
            return self._instead(error, lambda local: local.take(key, cost))
        return self._back(facts)

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        try:
            return self._remote.peek(key, cost)
        except Exception as error:
            return self._instead(error, lambda local: local.peek(key, cost))

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that the backend charged; false where it is gone."""
        try:
            return self._remote.refund(key, cost, at)
        except Exception as error:
            self._lost(error)
            return False

    def refund_local(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that the fallback charged."""
        return self._local is not None and self._local.refund(key, cost, at)

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used, here and there; what went wrong there is raised."""
        if self._local is not None:
            self._local.reset(key)
        self._remote.reset(key)

    async def take_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`take` does without blocking the loop."""
        try:
            facts = await self._asked("take", key, cost)
        except Exception as error:
            return self._instead(error, lambda local: local.take(key, cost))
        return self._back(facts)

    async def peek_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`peek` does without blocking the loop."""
        try:
            return await self._asked("peek", key, cost)
        except Exception as error:
            return self._instead(error, lambda local: local.peek(key, cost))

    async def refund_async(self, key: Hashable, cost: int, at: int) -> bool:
        """Do what :meth:`refund` does without blocking the loop."""
        try:
            return bool(await self._asked("refund", key, cost, at))
        except Exception as error:
            self._lost(error)
            return False

    async def reset_async(self, key: Hashable) -> None:
        """Do what :meth:`reset` does without blocking the loop."""
        if self._local is not None:
            self._local.reset(key)
        await self._asked("reset", key)

    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own, or none any more."""
        for counts in self._all():
            counts.override(key, limits)

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones."""
        self._limits = limits
        for counts in self._all():
            counts.change(limits)

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        return max(counts.saturation() for counts in self._all())

    def __len__(self) -> int:
        return len(self._remote)

    def _all(self) -> list[Counts]:
        return [self._remote] if self._local is None else [self._remote, self._local]

    def _asked(self, method: str, *args: object) -> Awaitable[Facts]:
        if isinstance(self._remote, AsyncCounts):
            found: Awaitable[Facts] = getattr(self._remote, f"{method}_async")(*args)
            return found
        return asyncio.to_thread(getattr(self._remote, method), *args)

    def _back(self, facts: Facts) -> Facts:
        if self._gone:
            self._gone = False
            self._changed(False, None)
        return facts

    def _lost(self, error: Exception) -> None:
        if not self._gone:
            self._gone = True
            self._changed(True, type(error).__qualname__)

    def _instead(self, error: Exception, count: Callable[[Counts], Facts]) -> Facts:
        self._lost(error)
        if self._local is not None:
            return (*count(self._local)[:6], "fallback")
        limit = self._limits[0]
        allowed = self._on_error == "open"
        used, wait = (0, 0) if allowed else (limit.limit, _RETRY_WHEN_CLOSED)
        raise Uncounted((allowed, limit, used, 0, wait, 0, "fallback"), type(error).__qualname__)

    def __repr__(self) -> str:
        return f"Failover({self._remote!r}, {self._on_error})"
