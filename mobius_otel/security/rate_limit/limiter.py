"""The rate limiter: limits, a backend that counts, and what is said about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable
from typing import Literal, Never, ParamSpec, TypeVar

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.backends import Backend, Counts, LimiterSpec, MemoryBackend, MemoryCounts
from mobius_otel.security.rate_limit.backends.failover import Failover, OnBackendError, shared_out
from mobius_otel.security.rate_limit.backends.opening import open_backend
from mobius_otel.security.rate_limit.backends.protocol import Uncounted, require
from mobius_otel.security.rate_limit.checks import (
    Limits,
    checked_clock,
    checked_cost,
    checked_limits,
    checked_max_keys,
    checked_name,
    checked_timeout,
    one_of,
    part,
)  # fmt: skip
from mobius_otel.security.rate_limit.decision import Decision
from mobius_otel.security.rate_limit.decorator import limited
from mobius_otel.security.rate_limit.facts import ALGORITHMS, Facts
from mobius_otel.security.rate_limit.fast import FastPaths
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.security.rate_limit.reporting import Reporter
from mobius_otel.security.rate_limit.waiting import Answer, Ask, Lines, wait, wait_async
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.safety import guarded

__all__ = ["Decision", "RateLimiter"]

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["enforce", "shadow"]


class RateLimiter(FastPaths):
    """Says who may go on and who came too fast.

    With the default algorithm never more than ``limit`` units of a key pass in any window of ``per`` seconds, and
    nothing is refused that would have stayed within it, to the clock's microsecond (for a key with more than 1,000
    hits alive within a ten-thousandth of the window, on the strict side). A denied try charges nothing.

    Args:
        limits: ``"100/minute"``, a :class:`RateLimit`, or several of them: all must allow, and none is
            charged when one denies.
        name: What telemetry calls it: at most 64 letters, digits and ``_.-``.
        algorithm: ``"sliding_window_log"``, or ``"gcra"``: a steady rate with a burst of ``limit``, one number for
            each key.
        backend: Where hits are counted: ``"memory://"``; ``"valkey://host:6379/0"`` and the other URLs of
            :mod:`~mobius_otel.security.rate_limit.backends.valkey.urls`, for a fleet; a client of the package
            ``valkey`` or ``redis``; or an object with what
            :class:`~mobius_otel.security.rate_limit.backends.Backend` asks for.
        on_backend_error: Who decides while the backend fails: ``"local"`` counts in this process, ``"open"``
            lets everybody in, ``"closed"`` nobody.
        local_share: Which part of each limit this process allows by itself while the backend fails, above 0 and up
            to 1. With four processes 0.25 keeps the fleet within the limit.
        deadline: Seconds that a decision waits for a server; default: 0.05.
        lease: The part of a limit, up to 0.5, that the processes of a fleet may have drawn from the server and not
            yet spent, to ask it less often; 0: every decision asks the server.
        mode: ``"enforce"``, or ``"shadow"``: counted and shown, never enforced.
        clock: Seconds as a float, used as it is; default: the monotonic clock.
        audit: Whether denials become audit records (one a window, with a count and the most denied clients).
        max_keys: How many keys may have a count of their own, in memory; those that come when it is reached share
            one count until others are idle. None: as many as are live.

    Raises:
        ConfigurationError: A value breaks its rule, or the backend is not capable of what is asked for.

    Example:
        >>> limiter = RateLimiter("2/minute", name="api")
        >>> [limiter.allow("client-42") for _ in range(3)]
        [True, True, False]
        >>> decision = limiter.acquire("client-43")
        >>> bool(decision), decision.limit, decision.remaining
        (True, 2, 1)
    """

    def __init__(
        self,
        limits: Limits,
        *,
        name: str = "default",
        algorithm: str = "sliding_window_log",
        backend: str | Backend | object = "memory://",
        on_backend_error: OnBackendError = "local",
        local_share: float = 1.0,
        deadline: float | None = None,
        lease: float = 0.0,
        mode: Mode = "enforce",
        clock: Clock | None = None,
        audit: bool = True,
        max_keys: int | None = None,
    ) -> None:
        one_of("algorithm", algorithm, ALGORITHMS)
        one_of("on_backend_error", on_backend_error, ("local", "open", "closed"))
        one_of("mode", mode, ("enforce", "shadow"))
        part("local_share", local_share, least=1e-9, most=1.0)
        part("lease", lease, least=0.0, most=0.5)
        self.name = checked_name(name)
        self._shadow = mode == "shadow"
        self._clock = checked_clock(clock)
        self._own: dict[Hashable, tuple[RateLimit, ...]] = {}
        self._limits = checked_limits(limits)
        spec = LimiterSpec(
            limits=self._limits,
            name=name,
            algorithm=algorithm,
            clock=clock,
            max_keys=checked_max_keys(max_keys),
            lease=lease,
        )
        self._counts, self._remote = self._counting(
            open_backend(backend, deadline), spec, on_backend_error, local_share
        )
        memory = self._counts if isinstance(self._counts, MemoryCounts) else None
        self._reporter = Reporter(
            name,
            self._limits,
            audit=audit,
            quiet=self._remote is None and not self._shadow,
            saturation=self._counts.saturation,
            tracked=self._counts.__len__,
            now=memory.now if memory is not None else time.monotonic_ns,
            clock=clock if memory is not None else None,
            gone=self._remote.look if self._remote is not None else None,
        )
        self._choose_paths(self._counts, _acquire)
        defaults.on_install(self)
        self._lines = Lines(clock)
        on_fork(self)

    # --- deciding -------------------------------------------------------------------------------------------

    def peek(self, key: Hashable, cost: int = 1) -> Decision:
        """Return what :meth:`acquire` would decide now; nothing is charged and nothing is said about it.

        Args and Raises: as :meth:`acquire`.
        """
        facts, _ = self._ask("peek", key, checked_cost(cost))
        return self._decision(facts, key, 0)

    async def acquire_async(self, key: Hashable, cost: int = 1) -> Decision:
        """Decide as :meth:`acquire` does; in memory nothing is ever awaited, and a server never blocks the loop.

        Args and Raises: as :meth:`acquire`.
        """
        if self._remote is None:
            return self.acquire(key, cost)
        start_ns, cost = time.time_ns(), checked_cost(cost)
        return self._told(await self._ask_async("take", key, cost), key, cost, start_ns)

    async def peek_async(self, key: Hashable, cost: int = 1) -> Decision:
        """Return what :meth:`peek` does; see :meth:`acquire_async`."""
        if self._remote is None:
            return self.peek(key, cost)
        facts, _ = await self._ask_async("peek", key, checked_cost(cost))
        return self._decision(facts, key, 0)

    def wait(self, key: Hashable, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Wait until `cost` units of `key` pass, and charge them.

        Those who wait for one key in one process are served in the order in which they came. Nothing is asked in
        between: the first in the line sleeps until the units are free. Whoever does not wait may come before.

        Args:
            key: As for :meth:`acquire`.
            cost: As for :meth:`acquire`.
            timeout: Seconds to wait at most; None: as long as it takes. Who cannot pass in time is refused at once.

        Returns:
            The decision: allowed, or denied because of the timeout or since the cost is above a limit.

        Raises:
            ConfigurationError: The cost or the timeout breaks its rule.

        Example:
            >>> limiter = RateLimiter("1/50 seconds")
            >>> limiter.wait("client-42").allowed, limiter.wait("client-42", timeout=0.01).allowed
            (True, False)
        """
        start_ns, cost = time.time_ns(), checked_cost(cost)
        answer = wait(self._lines, key, checked_timeout(timeout), lambda step: self._ask(step, key, cost))
        return self._told(answer, key, cost, start_ns)

    async def wait_async(self, key: Hashable, cost: int = 1, *, timeout: float | None = None) -> Decision:  # noqa: ASYNC109
        """Wait as :meth:`wait` does, without blocking the loop; cancelling the task leaves the line.

        Args, Returns and Raises: as :meth:`wait`.
        """
        start_ns, cost = time.time_ns(), checked_cost(cost)
        timeout = checked_timeout(timeout)
        answer = await wait_async(self._lines, key, timeout, lambda step: self._ask_async(step, key, cost))
        return self._told(answer, key, cost, start_ns)

    def limit(
        self, *given: Never, key: Hashable | Callable[..., Hashable] = None, cost: int = 1
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Limit the calls of a function, which may be a coroutine function or a generator of either kind.

        A call is charged when it begins to run: a coroutine when it is awaited, a generator at its first step.

        Args:
            given: Nothing: ``@limiter.limit`` without parentheses cannot be told from a key that is a function.
            key: What a call is counted by: a function of the call's arguments, or one value for all calls;
                default: the function's name.
            cost: Units of a call.

        Returns:
            A decorator; the function then raises ``RateLimitExceeded`` instead of being called too fast.

        Raises:
            ConfigurationError: The cost breaks its rule, or something was given without a name.

        Example:
            >>> @RateLimiter("1/minute").limit(key=lambda customer: customer)
            ... def export(customer: str) -> str:
            ...     return f"export of {customer}"
            >>> export("alice"), export("bob")
            ('export of alice', 'export of bob')
            >>> export("alice")
            Traceback (most recent call last):
            ...
            mobius_otel.security.rate_limit.decision.RateLimitExceeded: limit 'default' is used up; try again in 60 s
        """
        if given:
            raise ConfigurationError(
                "limit", given[0], "given its key by name", "Write @limiter.limit() or @limiter.limit(key=...)."
            )
        cost = checked_cost(cost)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            return limited(self, function, key, cost)

        return decorate

    # --- changing what is counted -----------------------------------------------------------------------------

    def refund(self, decision: Decision) -> bool:
        """Give back what a decision has charged, for work that was not done after all.

        Args:
            decision: A decision of this limiter; a second refund of it does nothing.

        Returns:
            Whether anything was given back: what has left its window meanwhile is free anyway.

        Raises:
            ConfigurationError: The decision is another limiter's.

        Example:
            >>> limiter = RateLimiter("1/minute")
            >>> limiter.refund(limiter.acquire("client-42")), limiter.allow("client-42")
            (True, True)
        """
        cost = self._refunded(decision)
        if not cost:
            return False
        key, at = decision._key, decision._facts[5]
        if self._remote is not None and decision.source == "fallback":
            given_back = self._remote.refund_local(key, cost, at)
        else:
            given_back = self._counts.refund(key, cost, at)
        self._lines.wake(key)
        return given_back

    async def refund_async(self, decision: Decision) -> bool:
        """Give back what a decision has charged; see :meth:`refund` and :meth:`acquire_async`."""
        if self._remote is None or decision.source == "fallback":
            return self.refund(decision)
        cost = self._refunded(decision)
        if not cost:
            return False
        given_back = await self._remote.refund_async(decision._key, cost, decision._facts[5])
        self._lines.wake(decision._key)
        return given_back

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used; its own limits stay.

        Args:
            key: As for :meth:`acquire`.
        """
        self._counts.reset(key)
        self._lines.wake(key)

    def override(self, key: Hashable, limits: Limits | None) -> None:
        """Give one key limits of its own, for this process; what it has used stays counted.

        Args:
            key: As for :meth:`acquire`.
            limits: As for the limiter; None: the limiter's own again.

        Raises:
            ConfigurationError: A limit breaks its rule.

        Example:
            >>> limiter = RateLimiter("1/minute")
            >>> limiter.override("big-customer", "1000/minute")
            >>> limiter.acquire("big-customer").limit, limiter.acquire("client-42").limit
            (1000, 1)
        """
        own = None if limits is None else checked_limits(limits)
        self._counts.override(key, own)
        if own is None:
            self._own.pop(key, None)
        else:
            self._own[key] = own
        self._lines.wake(key)

    def change(self, limits: Limits) -> None:
        """Give every key without own limits other ones; what is counted stays counted.

        A limit whose window was there before goes on from what that one counted, another one from the longest.

        Args:
            limits: As for the limiter.

        Raises:
            ConfigurationError: A limit breaks its rule.

        Example:
            >>> limiter = RateLimiter("2/minute")
            >>> limiter.change("3/minute") if limiter.allow("client-42", 2) else None
            >>> limiter.acquire("client-42").remaining
            0
        """
        changed = checked_limits(limits)
        self._counts.change(changed)
        self._limits = changed
        self._lines.wake()

    # --- looking at it ----------------------------------------------------------------------------------------

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """The limits of every key without own ones."""
        return self._limits

    def limits_of(self, key: Hashable) -> tuple[RateLimit, ...]:
        """Return the limits that hold for `key`."""
        return self._own.get(key, self._limits) if self._own else self._limits

    def top(self, number: int = 10) -> list[tuple[str, int]]:
        """Return who was denied most in the current window and the one before.

        Args:
            number: How many to return at most.

        Returns:
            Pairs of a pseudonym and how often it was denied, at least: a sketch of 64 keys counts them, which
            of N denials counts each key N/65 too low at most.
        """
        return self._reporter.trail.top(number)

    @property
    def tracked_keys(self) -> int:
        """How many keys are remembered."""
        return len(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __bool__(self) -> bool:  # an empty limiter is a limiter
        return True

    def flush(self) -> None:
        """Record the denials that are being counted for the next audit record."""
        self._reporter.trail.flush(everything=True)

    # --- how it works -----------------------------------------------------------------------------------------

    def _counting(
        self, backend: Backend, spec: LimiterSpec, on_error: OnBackendError, share: float
    ) -> tuple[Counts, Failover | None]:
        """Return what counts, and the same once more where it is a server that may fail."""
        require(backend, spec)
        counts = backend.counts(spec)
        if counts.source == "local":
            return counts, None
        shared = dataclasses.replace(spec, limits=shared_out(spec.limits, share))
        local = MemoryBackend().counts(shared) if on_error == "local" else None
        remote = Failover(counts, local, spec.limits, on_error, self._changed, share=share)
        return remote, remote

    def _changed(self, degraded: bool, error: str | None) -> None:
        with guarded("rate_limit"):
            self._reporter.change(degraded=degraded, error=error)

    def _ask(self, step: Ask, key: Hashable, cost: int) -> Answer:
        try:
            return (self._counts.take if step == "take" else self._counts.peek)(key, cost), None
        except Uncounted as answer:
            return answer.facts, answer.error

    async def _ask_async(self, step: Ask, key: Hashable, cost: int) -> Answer:
        if self._remote is None:
            return self._ask(step, key, cost)
        try:
            return await (self._remote.take_async if step == "take" else self._remote.peek_async)(key, cost), None
        except Uncounted as answer:
            return answer.facts, answer.error

    def _told(self, answer: Answer, key: Hashable, cost: int, start_ns: int) -> Decision:
        facts, error = answer
        decision = self._decision(facts, key, cost)
        result = "error" if error else "allowed" if facts[0] else "shadow_denied" if self._shadow else "denied"
        self._reporter.decided(result, decision, key, start_ns, error)
        return decision

    def _decision(self, facts: Facts, key: Hashable, cost: int) -> Decision:
        return Decision(facts, facts[0] or self._shadow, key, cost, self)

    def _refunded(self, decision: Decision) -> int:
        """Return how many units of a decision are to be given back, once."""
        if decision._limiter is not self:
            raise ConfigurationError("decision", decision.policy, f"a decision of the limiter {self.name!r}")
        cost = decision._cost if decision._facts[0] else 0
        decision._cost = 0
        return cost

    def _defaults_changed(self) -> None:
        self._reporter.bind()
        self._choose_paths(self._counts, _acquire)

    def _after_fork_in_child(self) -> None:
        self._lines.begin()

    def __repr__(self) -> str:
        limits = ", ".join(f"{limit.limit}/{limit.per:g} s" for limit in self._limits)
        return f"RateLimiter({self.name!r}, {limits}, {len(self)} keys)"


def _acquire(limiter: RateLimiter, key: Hashable, cost: int) -> Decision:
    """Decide, and tell of it, whatever the case may be."""
    start_ns, cost = time.time_ns(), checked_cost(cost)
    return limiter._told(limiter._ask("take", key, cost), key, cost, start_ns)
