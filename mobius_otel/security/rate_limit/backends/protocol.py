"""What a limiter asks of the place where hits are counted."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.facts import Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["AsyncCounts", "Backend", "Counts", "LimiterSpec", "Uncounted", "require"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSpec:
    """What a backend is told about the limiter that it shall count for.

    Args:
        limits: Its limits; all must allow, and none is charged when one denies.
        name: Its name.
        algorithm: ``sliding_window_log`` or ``gcra``.
        clock: Seconds as a float; None: the backend's own clock. A server's backend counts by the server's.
        max_keys: How many keys may be remembered at once; None: as many as are live.
        lease: The part of a limit that all processes together may have drawn from a server and not yet spent; 0:
            every decision asks the server.
    """

    limits: tuple[RateLimit, ...]
    name: str = "default"
    algorithm: str = "sliding_window_log"
    clock: Clock | None = None
    max_keys: int | None = None
    lease: float = 0.0

    @property
    def needs(self) -> frozenset[str]:
        """What a backend must be capable of to count for this limiter."""
        asked = {
            self.algorithm: True, "several_limits": len(self.limits) > 1, "max_keys": self.max_keys is not None,
            "lease": self.lease > 0,
        }  # fmt: skip
        return frozenset(name for name, wanted in asked.items() if wanted)


class Counts(Protocol):
    """The counts of one limiter. Every method is safe to be called by several threads at once.

    A backend that talks to a server raises whatever went wrong; the limiter's ``on_backend_error`` then decides.
    It may have a method ``answers() -> bool``, which says without asking whether all its servers can be asked: then
    the limiter says that its backend is back when that is true, and not at the first answer of some server.
    """

    #: Who decides: ``local``, this process's memory (it never waits for anybody and never fails), or ``remote``.
    source: str

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit of the key allows it.

        Args:
            key: Who asks.
            cost: Units, zero or more; a cost above a limit has to wait ``NEVER`` ticks.
        """
        ...

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        ...

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that were charged.

        Args:
            key: Whose they were.
            cost: Units, one or more.
            at: The sixth of the facts of that charge.

        Returns:
            Whether anything was given back; what has left its window already is free anyway.
        """
        ...

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used; its own limits stay."""
        ...

    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own, from its next decision on; None: those of the limiter again.

        What the key has used stays counted. Own limits are configuration: they belong to this process, are not
        forgotten when the key is idle, and are not written to a server.
        """
        ...

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones, from its next decision on; what is counted stays counted."""
        ...

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        ...

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        ...


@runtime_checkable
class AsyncCounts(Counts, Protocol):
    """Counts with twins for asyncio; remote ones without them are called in a worker thread there."""

    async def take_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`Counts.take` does."""
        ...

    async def peek_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`Counts.peek` does."""
        ...

    async def refund_async(self, key: Hashable, cost: int, at: int) -> bool:
        """Do what :meth:`Counts.refund` does."""
        ...

    async def reset_async(self, key: Hashable) -> None:
        """Do what :meth:`Counts.reset` does."""
        ...


class Backend(Protocol):
    """A place where hits are counted, for any number of limiters."""

    #: What it can do, as ``LimiterSpec.needs`` asks for it: the algorithms' names, ``several_limits``, ``max_keys``,
    #: ``lease``.
    capabilities: frozenset[str]

    def counts(self, spec: LimiterSpec) -> Counts:
        """Return the counts of a new limiter.

        Raises:
            ConfigurationError: The backend cannot be used.
        """
        ...


class Uncounted(Exception):
    """Nobody counted: the backend is gone, and what ``on_backend_error`` says was decided.

    Args:
        facts: That decision.
        error: The class of what went wrong.
    """

    def __init__(self, facts: Facts, error: str) -> None:
        self.facts = facts
        self.error = error
        super().__init__(error)


def require(backend: Backend, spec: LimiterSpec) -> None:
    """Refuse a backend that lacks what a limiter needs.

    Raises:
        ConfigurationError: It names what is lacking, and what the backend can do.
    """
    lacking = sorted(spec.needs - backend.capabilities)
    if lacking:
        raise ConfigurationError(
            "backend", type(backend).__qualname__, f"one that is capable of {', '.join(lacking)}",
            f"This one is capable of {', '.join(sorted(backend.capabilities)) or 'nothing'}.",
        )  # fmt: skip
