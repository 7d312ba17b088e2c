"""The rate limiter: limits, a backend that counts, and what is said about it."""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal, ParamSpec, TypeVar, cast

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.algorithms import ALGORITHMS
from mobius_otel.security.rate_limit.backends import Backend, Counts, LimiterSpec, MemoryBackend
from mobius_otel.security.rate_limit.backends.failover import Failover, OnBackendError
from mobius_otel.security.rate_limit.backends.opening import open_backend
from mobius_otel.security.rate_limit.backends.protocol import Uncounted, require
from mobius_otel.security.rate_limit.decision import Decision, RateLimitExceeded
from mobius_otel.security.rate_limit.facts import Facts
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.security.rate_limit.reporting import Reporter
from mobius_otel.telemetry.safety import guarded

__all__ = ["Decision", "RateLimiter"]

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["enforce", "shadow"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class RateLimiter:
    """Says who may go on and who came too fast.

    In any window of ``per`` seconds never more than ``limit`` units of a key pass, and nothing is refused
    that would have stayed within it, to the clock's microsecond. A denied try charges nothing.

    Args:
        limits: ``"100/minute"``, a :class:`RateLimit`, or several of them: all must allow, and none is
            charged when one denies.
        name: What telemetry calls it: at most 64 letters, digits and ``_.-``.
        algorithm: ``"sliding_window_log"``.
        backend: Where hits are counted: ``"memory://"``, or an object with the method ``counts`` of
            :class:`~mobius_otel.security.rate_limit.backends.Backend`.
        on_backend_error: Who decides while the backend fails: ``"local"`` counts in this process, ``"open"``
            lets everybody in, ``"closed"`` nobody.
        mode: ``"enforce"``, or ``"shadow"``: counted and shown, never enforced.
        clock: Seconds as a float, used as it is; default: the monotonic clock.
        audit: Whether denials become audit records (one for each key and window, with a count).

    Raises:
        ConfigurationError: A value breaks its rule.

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
        limits: str | RateLimit | Iterable[str | RateLimit],
        *,
        name: str = "default",
        algorithm: str = "sliding_window_log",
        backend: str | Backend = "memory://",
        on_backend_error: OnBackendError = "local",
        mode: Mode = "enforce",
        clock: Clock | None = None,
        audit: bool = True,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError("name", name, "1 to 64 letters, digits, '_', '.' or '-'", 'For example: "api"')
        _one_of("algorithm", algorithm, ALGORITHMS)
        _one_of("on_backend_error", on_backend_error, ("local", "open", "closed"))
        _one_of("mode", mode, ("enforce", "shadow"))
        if clock is not None and not callable(clock):
            raise ConfigurationError("clock", clock, "a callable that returns seconds", "For example: time.monotonic")
        self.name = name
        self.limits = _limits(limits)
        self._shadow = mode == "shadow"
        spec = LimiterSpec(limits=self.limits, name=name, algorithm=algorithm, clock=clock)
        self._counts, self._remote = self._counting(open_backend(backend), spec, on_backend_error)
        self._reporter = Reporter(
            name,
            max(limit.per for limit in self.limits),
            audit=audit,
            saturation=self._counts.saturation,
            tracked=self._counts.__len__,
        )

    def acquire(self, key: Hashable, cost: int = 1) -> Decision:
        """Charge `cost` units to `key` if every limit allows it.

        Args:
            key: Who asks: a client's id, an address, or any value that can be a key of a dict.
            cost: Units. 0 charges nothing and is allowed, but counts as a decision; a cost above a limit is
                refused with an infinite ``retry_after``.

        Raises:
            ConfigurationError: The cost is no whole number, or below zero.
        """
        start_ns = time.time_ns()
        if cost.__class__ is not int or cost < 0:
            cost = _checked(cost)
        try:
            return self._told(self._counts.take(key, cost), key, start_ns)
        except Uncounted as answer:
            return self._told_uncounted(answer, key, start_ns)

    def allow(self, key: Hashable, cost: int = 1) -> bool:
        """Charge `cost` units to `key` if every limit allows it, and return whether it did.

        Args and Raises: as :meth:`acquire`.
        """
        return self.acquire(key, cost).allowed

    def peek(self, key: Hashable, cost: int = 1) -> Decision:
        """Return what :meth:`acquire` would decide now; nothing is charged and nothing is said about it.

        Args and Raises: as :meth:`acquire`.
        """
        cost = _checked(cost)
        try:
            return self._decision(self._counts.peek(key, cost))
        except Uncounted as answer:
            return self._decision(answer.facts)

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used.

        Args:
            key: As for :meth:`acquire`.
        """
        self._counts.reset(key)

    async def acquire_async(self, key: Hashable, cost: int = 1) -> Decision:
        """Decide as :meth:`acquire` does; in memory nothing is ever awaited, and a server never blocks the loop.

        Args and Raises: as :meth:`acquire`.
        """
        if self._remote is None:
            return self.acquire(key, cost)
        start_ns = time.time_ns()
        cost = _checked(cost)
        try:
            return self._told(await self._remote.take_async(key, cost), key, start_ns)
        except Uncounted as answer:
            return self._told_uncounted(answer, key, start_ns)

    def limit(
        self, key: Hashable | Callable[..., Hashable] = None, cost: int = 1
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Limit the calls of a function, which may be a coroutine function.

        Args:
            key: What a call is counted by: a function of the call's arguments, or one value for all calls;
                default: the function's name.
            cost: Units of a call.

        Returns:
            A decorator; the function then raises ``RateLimitExceeded`` instead of being called too fast.

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
        cost = _checked(cost)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            fixed = f"{function.__module__}.{function.__qualname__}" if key is None else key

            def demand(*args: P.args, **kwargs: P.kwargs) -> None:
                decision = self.acquire(fixed(*args, **kwargs) if callable(fixed) else fixed, cost)
                if not decision.allowed:
                    raise RateLimitExceeded(decision)

            if inspect.iscoroutinefunction(function):

                @functools.wraps(function)
                async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    demand(*args, **kwargs)
                    return await function(*args, **kwargs)

                return cast(Callable[P, R], limited_async)

            @functools.wraps(function)
            def limited(*args: P.args, **kwargs: P.kwargs) -> R:
                demand(*args, **kwargs)
                return function(*args, **kwargs)

            return limited

        return decorate

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
        self._reporter.flush()

    def _counting(
        self, backend: Backend, spec: LimiterSpec, on_error: OnBackendError
    ) -> tuple[Counts, Failover | None]:
        """Return what counts, and the same once more where it is a server that may fail."""
        require(backend, spec)
        counts = backend.counts(spec)
        if counts.source == "local":
            return counts, None
        local = MemoryBackend().counts(spec) if on_error == "local" else None
        remote = Failover(counts, local, spec.limits, on_error, self._changed)
        return remote, remote

    def _changed(self, degraded: bool, error: str | None) -> None:
        with guarded("rate_limit"):
            self._reporter.change(degraded=degraded, error=error)

    def _told(self, facts: Facts, key: Hashable, start_ns: int) -> Decision:
        decision = self._decision(facts)
        result = "allowed" if facts[0] else "shadow_denied" if self._shadow else "denied"
        self._reporter.decided(result, decision, key, start_ns)
        return decision

    def _told_uncounted(self, answer: Uncounted, key: Hashable, start_ns: int) -> Decision:
        decision = self._decision(answer.facts)
        self._reporter.decided("error", decision, key, start_ns, answer.error)
        return decision

    def _decision(self, facts: Facts) -> Decision:
        return Decision(facts, self.name, shadow=self._shadow)

    def __repr__(self) -> str:
        limits = ", ".join(f"{limit.limit}/{limit.per:g} s" for limit in self.limits)
        return f"RateLimiter({self.name!r}, {limits}, {len(self)} keys)"


def _limits(given: str | RateLimit | Iterable[str | RateLimit]) -> tuple[RateLimit, ...]:
    several = [given] if isinstance(given, str | RateLimit) else given
    if not isinstance(several, Iterable):
        raise ConfigurationError("limits", given, "a limit or a list of limits", 'For example: "100/minute"')
    limits = tuple(limit if isinstance(limit, RateLimit) else RateLimit.parse(limit) for limit in several)
    if not limits:
        raise ConfigurationError("limits", given, "one limit or more", 'For example: ["10/second", "1000/hour"]')
    return limits


def _one_of(setting: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        supported = ", ".join(f'"{choice}"' for choice in choices)
        raise ConfigurationError(setting, value, f"one of {supported}" if len(choices) > 1 else supported)


def _checked(cost: int) -> int:
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise ConfigurationError("cost", cost, "a whole number, zero or more")
    return int(cost)
