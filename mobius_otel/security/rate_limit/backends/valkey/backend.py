"""Hits on a Valkey or Redis server: one count for a whole fleet."""

from __future__ import annotations

import contextlib
import weakref
from types import TracebackType
from typing import Self

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.backends.protocol import LimiterSpec
from mobius_otel.security.rate_limit.backends.valkey.counts import ValkeyCounts
from mobius_otel.security.rate_limit.backends.valkey.dialing import Dialer
from mobius_otel.security.rate_limit.backends.valkey.leases import LeasedCounts
from mobius_otel.security.rate_limit.backends.valkey.link import ServerGone
from mobius_otel.security.rate_limit.backends.valkey.routes import open_route

__all__ = ["DEADLINE", "ValkeyBackend"]

#: Seconds that a call may take, unless said otherwise.
DEADLINE = 0.05


class ValkeyBackend:
    """Counts on a server, for any number of limiters; limiters of one name share their counts. A context manager.

    The server is asked when it is needed, not here. It has to be Valkey 7.2, Redis 6.2 or later, and a user needs
    ``~mobius:rl:* +eval +evalsha +time +getrange +strlen +set +get +append +setrange +pexpire +copy +del`` (and
    ``+cluster|slots`` for a cluster).

    Args:
        target: A URL as in :mod:`~mobius_otel.security.rate_limit.backends.valkey.urls`, or a client of the
            package ``valkey`` or ``redis``: its settings are used; its connections, timeouts and retries are not.
        deadline: Seconds that a call may take, above 0 and up to 10; after it the limiter decides without.

    Raises:
        ConfigurationError: The URL or the deadline breaks its rule.
        MissingExtra: The package ``valkey`` is not installed.

    Example:
        >>> ValkeyBackend("valkey://:hunter2@cache.example/0")
        ValkeyBackend(valkey://cache.example:6379, deadline=0.05 s)
    """

    capabilities = frozenset({"sliding_window_log", "gcra", "several_limits", "lease"})

    def __init__(self, target: str | object, *, deadline: float = DEADLINE) -> None:
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= 10:
            raise ConfigurationError("deadline", deadline, "a number of seconds above 0 and up to 10")
        self._deadline = float(deadline)
        self._dialer = Dialer(target, self._deadline)
        self._route = open_route(self._dialer, self._deadline)
        self._leased: weakref.WeakSet[LeasedCounts] = weakref.WeakSet()

    def counts(self, spec: LimiterSpec) -> ValkeyCounts:
        """Return the counts of a new limiter."""
        if spec.clock is not None:
            raise ConfigurationError(
                "clock", spec.clock, "left out: a fleet counts by its server's clock", 'In tests: backend="memory://".'
            )
        if not spec.lease:
            return ValkeyCounts(spec, self._route)
        if spec.algorithm != "sliding_window_log":
            raise ConfigurationError(
                "lease", spec.lease, 'left out for this algorithm: "sliding_window_log" has leases'
            )
        leased = LeasedCounts(spec, self._route)
        self._leased.add(leased)
        return leased

    @property
    def shown(self) -> str:
        """The server or servers, for a person: without user and password."""
        return self._dialer.target.shown

    def check(self) -> str | None:
        """Ask every server whether it can count, and wait for the answer a second or so; a write is part of it.

        Returns:
            None where all is well, else the class of what went wrong.
        """
        try:
            self._route.check()
        except Exception as error:
            return type(error).__name__
        return None

    def close(self) -> None:
        """Give back what was drawn and not spent, and close the connections."""
        for leased in list(self._leased):
            with contextlib.suppress(ServerGone):
                leased.give_back()
        for link in self._route.links():
            link.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop, and those of threads."""
        for link in self._route.links():
            await link.close_async()
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ValkeyBackend({self.shown}, deadline={self._deadline:g} s)"
