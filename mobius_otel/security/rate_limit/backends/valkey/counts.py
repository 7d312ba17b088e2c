"""The counts of one limiter, on a server."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Hashable
from typing import Any

from mobius_otel import conventions
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.backends.protocol import LimiterSpec
from mobius_otel.security.rate_limit.backends.valkey.calls import Form, Heirs, forget, form
from mobius_otel.security.rate_limit.backends.valkey.keys import Namer
from mobius_otel.security.rate_limit.backends.valkey.link import Call, ServerGone
from mobius_otel.security.rate_limit.backends.valkey.routes import Route
from mobius_otel.security.rate_limit.facts import Facts, ticks
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.metrics import Timer

__all__ = ["ValkeyCounts"]

_NAME = "valkey"
_AT_ONCE = 16


class ValkeyCounts:
    """Counts on a server: every decision is one call of one script, whatever the number of limits.

    Args:
        spec: The limiter.
        route: Which server a subject is counted by.
    """

    source = "remote"

    def __init__(self, spec: LimiterSpec, route: Route) -> None:
        self._algorithm = spec.algorithm
        self._route = route
        self._names = Namer(spec.name, spec.algorithm)
        self._form = form(spec.algorithm, spec.limits)
        self._own: dict[Hashable, Form] = {}
        # Windows of earlier limits, and until when (by the monotonic clock) something may be left of them.
        self._heirs: tuple[Heirs, float] = ((), 0.0)
        self._own_heirs: dict[Hashable, tuple[Heirs, float]] = {}
        self._peak = 0.0
        self._durations: deque[float] = deque()
        on_fork(self)
        self._good = {conventions.RATE_LIMIT_POLICY: spec.name, conventions.RATE_LIMIT_BACKEND: _NAME}

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit of the key allows it."""
        asked, stem, call = self._deciding(key, cost, charge=True)
        return self._saw(asked.facts(self._ask(stem, call), cost))

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        asked, stem, call = self._deciding(key, cost, charge=False)
        return asked.facts(self._ask(stem, call), cost)

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that were charged; return whether any were still in use."""
        stem = self._names.stem(key)
        return bool(self._ask(stem, self._own.get(key, self._form).refund(stem, cost, at)))

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used."""
        stem = self._names.stem(key)
        self._ask(stem, forget(stem, self._all_windows(key)))

    async def take_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`take` does without blocking the loop."""
        asked, stem, call = self._deciding(key, cost, charge=True)
        return self._saw(asked.facts(await self._ask_async(stem, call), cost))

    async def peek_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`peek` does without blocking the loop."""
        asked, stem, call = self._deciding(key, cost, charge=False)
        return asked.facts(await self._ask_async(stem, call), cost)

    async def refund_async(self, key: Hashable, cost: int, at: int) -> bool:
        """Do what :meth:`refund` does without blocking the loop."""
        stem = self._names.stem(key)
        return bool(await self._ask_async(stem, self._own.get(key, self._form).refund(stem, cost, at)))

    async def reset_async(self, key: Hashable) -> None:
        """Do what :meth:`reset` does without blocking the loop."""
        stem = self._names.stem(key)
        await self._ask_async(stem, forget(stem, self._all_windows(key)))

    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own; None: those of the limiter again."""
        before = self._own.pop(key, self._form)
        if limits is not None:
            self._own[key] = form(self._algorithm, limits)
        now = time.monotonic()
        self._own_heirs = {other: heirs for other, heirs in self._own_heirs.items() if heirs[1] > now}
        self._own_heirs[key] = _left(before, self._own.get(key, self._form), now)

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones."""
        before, self._form = self._form, form(self._algorithm, limits)
        self._heirs = _left(before, self._form, time.monotonic())

    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        self.record()  # asked when metrics are collected, before histograms are read
        peak, self._peak = self._peak, 0.0
        return peak

    def answers(self) -> bool:
        """Return whether every server that was used can be asked."""
        return self._route.answers()

    def __len__(self) -> int:
        return 0  # the server remembers them, for as long as they are live

    def _deciding(self, key: Hashable, cost: int, *, charge: bool) -> tuple[Form, bytes, Call]:
        asked, stem = self._own.get(key, self._form) if self._own else self._form, self._names.stem(key)
        return asked, stem, asked.take(stem, cost, charge=charge, heirs=self._heirs_of(key))

    def _heirs_of(self, key: Hashable) -> Heirs:
        heirs, until = self._own_heirs.get(key, self._heirs) if self._own_heirs else self._heirs
        return heirs if heirs and time.monotonic() < until else ()

    def _all_windows(self, key: Hashable) -> Heirs:
        return (*self._own.get(key, self._form).windows, *self._heirs_of(key))

    def _saw(self, facts: Facts) -> Facts:
        share = facts[2] / facts[1].limit
        if share > self._peak:  # noqa: PLR1730 - half the price of max()
            self._peak = share
        return facts

    def _ask(self, stem: bytes, call: Call) -> Any:
        began = time.monotonic()
        try:
            answer = self._route.ask(stem, call, began)
        except ServerGone as error:
            self._failed(began, error)
            raise
        self._took(began)
        return answer

    async def _ask_async(self, stem: bytes, call: Call) -> Any:
        began = time.monotonic()
        try:
            answer = await self._route.ask_async(stem, call, began)
        except ServerGone as error:
            self._failed(began, error)
            raise
        self._took(began)
        return answer

    def _failed(self, began: float, error: ServerGone) -> None:
        if error.asked:
            attributes = {**self._good, conventions.ERROR_TYPE: error.kind}
            self._timed().record(time.monotonic() - began, attributes)

    def _took(self, began: float) -> None:
        """Keep what a call took; several are recorded at once, which costs a third each."""
        durations = self._durations
        durations.append(time.monotonic() - began)
        if len(durations) >= _AT_ONCE:
            self.record()

    def record(self) -> None:
        """Record what calls took since the last time: before a collection, and every so often."""
        durations, timer = self._durations, self._timed()
        with contextlib.suppress(IndexError):  # another thread records too
            while durations:
                timer.record(durations.popleft(), self._good)

    def _timed(self) -> Timer:
        return defaults.timer(conventions.RATE_LIMIT_BACKEND_DURATION)

    def _after_fork_in_child(self) -> None:
        self._durations.clear()  # the parent records its own

    def __repr__(self) -> str:
        return f"ValkeyCounts({self._algorithm}, {self._route!r})"


def _left(before: Form, after: Form, now: float) -> tuple[Heirs, float]:
    """Return the windows that `after` does not have itself, the longest first, and until when they matter."""
    heirs = sorted({int(window) for window in before.windows} - {int(window) for window in after.windows}, reverse=True)
    longest = max(ticks(limit) for limit in before.limits) / 1e6
    return tuple(b"%d" % window for window in heirs), now + longest
