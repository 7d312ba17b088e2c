"""What decides while a remote backend is gone."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal

from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.backends.protocol import AsyncCounts, Counts, Uncounted
from mobius_otel.security.rate_limit.facts import TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["Failover", "OnBackendError", "shared_out"]

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
        share: Which part of a limit this process allows by itself, above 0 and up to 1.
    """

    source = "remote"

    def __init__(
        self,
        remote: Counts,
        local: Counts | None,
        limits: tuple[RateLimit, ...],
        on_error: OnBackendError,
        changed: Callable[[bool, str | None], None],
        *,
        share: float = 1.0,
    ) -> None:
        self._remote = remote
        self._local = local
        self._limits = limits
        self._on_error = on_error
        self._changed = changed
        self._share = share
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._gone = False
        self._lock = threading.Lock()

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit allows it."""
        try:
            facts = self._remote.take(key, cost)
        except ConfigurationError:
            raise
        except Exception as error:
            return self._instead(error, lambda local: local.take(key, cost))
        return self._back(facts)

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        try:
            return self._remote.peek(key, cost)
        except ConfigurationError:
            raise
        except Exception as error:
            return self._instead(error, lambda local: local.peek(key, cost))

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that the backend charged; false where it is gone."""
        try:
            return self._remote.refund(key, cost, at)
        except ConfigurationError:
            raise
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
        except ConfigurationError:
            raise
        except Exception as error:
            return self._instead(error, lambda local: local.take(key, cost))
        return self._back(facts)

    async def peek_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`peek` does without blocking the loop."""
        try:
            return await self._asked("peek", key, cost)
        except ConfigurationError:
            raise
        except Exception as error:
            return self._instead(error, lambda local: local.peek(key, cost))

    async def refund_async(self, key: Hashable, cost: int, at: int) -> bool:
        """Do what :meth:`refund` does without blocking the loop."""
        try:
            return bool(await self._asked("refund", key, cost, at))
        except ConfigurationError:
            raise
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
        self._remote.override(key, limits)
        if self._local is not None:
            self._local.override(key, limits and shared_out(limits, self._share))

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones."""
        self._limits = limits
        self._remote.change(limits)
        if self._local is not None:
            self._local.change(shared_out(limits, self._share))

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        return max(counts.saturation() for counts in (self._remote, self._local) if counts is not None)

    def look(self) -> bool:
        """Return whether the backend is gone; a backend that knows that it is back needs no decision to tell."""
        if self._gone and self._answers() is True:
            self._found()
        return self._gone

    def __len__(self) -> int:
        return len(self._remote)

    def _asked(self, method: str, *args: object) -> Awaitable[Facts]:
        if isinstance(self._remote, AsyncCounts):
            found: Awaitable[Facts] = getattr(self._remote, f"{method}_async")(*args)
            return found
        return asyncio.to_thread(getattr(self._remote, method), *args)

    def _answers(self) -> bool | None:
        """Return whether the backend, by its own account, can be asked about every key; None: it keeps none."""
        answers: Callable[[], bool] | None = getattr(self._remote, "answers", None)
        return None if answers is None else answers()

    def _back(self, facts: Facts) -> Facts:
        if self._gone and self._answers() is not False:  # one node of a cluster that answers is not all of them
            self._found()
        return facts

    def _found(self) -> None:
        with self._lock:
            was, self._gone = self._gone, False
        if was:
            self._changed(False, None)

    def _lost(self, error: Exception) -> None:
        if self._gone or getattr(error, "passing", False):
            return
        with self._lock:
            was, self._gone = self._gone, True
        if not was:
            self._changed(True, _kind(error))

    def _instead(self, error: Exception, count: Callable[[Counts], Facts]) -> Facts:
        self._lost(error)
        if self._local is not None:
            return (*count(self._local)[:6], "fallback")
        limit = self._limits[0]
        allowed = self._on_error == "open"
        used, wait = (0, 0) if allowed else (limit.limit, _RETRY_WHEN_CLOSED)
        raise Uncounted((allowed, limit, used, 0, wait, 0, "fallback"), _kind(error))

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"Failover({self._remote!r}, {self._on_error})"


def shared_out(limits: tuple[RateLimit, ...], share: float) -> tuple[RateLimit, ...]:
    """Return `share` of each limit, rounded down, and at least one unit of it.

    Example:
        >>> shared_out((RateLimit(10, per=60.0),), 0.25)
        (RateLimit(limit=2, per=60.0),)
    """
    return tuple(RateLimit(max(1, math.floor(limit.limit * share)), limit.per) for limit in limits)


def _kind(error: Exception) -> str:
    """Return the class of an error, or what stands for it where a backend has classified it."""
    return str(getattr(error, "kind", type(error).__qualname__))
