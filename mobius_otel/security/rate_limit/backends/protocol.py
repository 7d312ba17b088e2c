"""What a limiter asks of the place where hits are counted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from mobius_otel.clock import Clock
from mobius_otel.security.rate_limit.algorithms import Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["Backend", "Counts"]


class Counts(Protocol):
    """The counts of one limiter."""

    #: Where a decision came from, as ``Decision.source`` says it: ``local`` or ``remote``.
    source: str

    def take(self, key: Hashable, cost: int, *, charge: bool) -> Facts:
        """Decide whether `cost` units of `key` may pass, and charge them if they may and `charge` says so.

        Args:
            key: Who asks.
            cost: Units, zero or more; a cost above a limit has to wait ``NEVER`` ticks.
            charge: Whether to charge what may pass.
        """

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used."""

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""

    def __len__(self) -> int:
        """Return how many keys are remembered."""


class Backend(Protocol):
    """A place where hits are counted, for any number of limiters."""

    def counts(self, limits: Sequence[RateLimit], *, name: str, algorithm: str, clock: Clock | None) -> Counts:
        """Return the counts of a new limiter.

        Args:
            limits: Its limits.
            name: Its name.
            algorithm: One of the algorithms' names.
            clock: Seconds as a float; None: the backend's own clock.

        Raises:
            ConfigurationError: The backend does not know the algorithm or cannot be used.
        """
