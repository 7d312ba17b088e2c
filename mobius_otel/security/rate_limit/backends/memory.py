"""Hits in the memory of this process."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.algorithms import FEW, GcraPlan, Plan, WindowPlan, few_left
from mobius_otel.security.rate_limit.backends.alone import alone
from mobius_otel.security.rate_limit.backends.protocol import LimiterSpec
from mobius_otel.security.rate_limit.facts import NANOSECONDS_PER_TICK, TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["GcraCounts", "MemoryBackend", "MemoryCounts", "WindowCounts"]

_log = logging.getLogger("mobius_otel")
#: What all keys share that come when there are ``max_keys`` others.
_EVERYBODY_ELSE: Final = object()


class MemoryBackend:
    """Counts in memory: exact for one process; a forked child begins with nothing."""

    __slots__ = ()

    capabilities = frozenset({"sliding_window_log", "gcra", "several_limits", "max_keys"})

    def counts(self, spec: LimiterSpec) -> MemoryCounts:
        """Return the counts of a new limiter."""
        return _KINDS[spec.algorithm](spec.limits, spec.clock, spec.max_keys, name=spec.name)

    def __repr__(self) -> str:
        return "MemoryBackend()"


@dataclass(slots=True)
class _Generation:
    """Keys that were last asked for before `retired`, in nanoseconds, and the plan that their states are of."""

    plan: Plan
    states: dict[Hashable, Any]
    retired: int


@dataclass(slots=True)
class _Own:
    """A key with limits of its own."""

    plan: Plan
    state: Any


class MemoryCounts:
    """The counts of one limiter.

    Keys live in generations. Every longest window the young one is retired, and one that was retired a longest
    window ago is forgotten: a key that is asked for moves to the young one, so what is forgotten was idle for a
    whole window and has nothing in use. No timer, no scan, and no key with something in use is ever forgotten.

    Args:
        limits: The limits.
        clock: Seconds as a float; None: the monotonic clock.
        max_keys: How many keys may have a count of their own; None: as many as are live.
        name: The limiter's name, for the log.

    Example:
        >>> counts = WindowCounts([RateLimit(1, per=60.0)])
        >>> counts.take("a", 1)[0], counts.take("a", 1)[0], len(counts)
        (True, False, 1)
    """

    __slots__ = (
        "__weakref__", "_last", "_max_keys", "_name", "_offset", "_older", "_own", "_past", "_said_full", "changed",
        "clock", "held", "plan", "turn", "young",
    )  # fmt: skip

    source = "local"
    #: How this kind of counts decides.
    make_plan: type[Plan]

    def __init__(
        self,
        limits: Sequence[RateLimit],
        clock: Clock | None = None,
        max_keys: int | None = None,
        *,
        name: str = "default",
    ) -> None:
        self.clock = clock
        self._max_keys = max_keys
        self._name = name
        self._own: dict[Hashable, _Own] = {}
        self.plan = self.make_plan(limits)
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        #: Empty while no thread reads or writes anything else; see :func:`alone`.
        self.held: dict[int, list[None]] = {}
        #: Another object after each change of a state.
        self.changed: object = self.held
        self.plan = self.make_plan(self.plan.limits)
        #: The states of the keys that were asked for since the last turn.
        self.young: dict[Hashable, Any] = {}
        self._older: list[_Generation] = []
        #: The plans before this one that older states may be of, and when each ceased to hold.
        self._past: list[tuple[Plan, int]] = []
        self._own = {key: self._owned(own.plan.limits) for key, own in self._own.items()}
        self._said_full = False
        self._last: int | None = None
        self._offset = 0
        #: When the young generation is retired, in nanoseconds.
        self.turn = self.time() + self.plan.longest

    # --- deciding -------------------------------------------------------------------------------------------

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit of the key allows it."""
        return self._told(*self._decide(key, cost, charge=True))

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        return self._told(*self._decide(key, cost, charge=False))

    @alone
    def _decide(self, key: Hashable, cost: int, *, charge: bool) -> tuple[Facts, bool]:
        """Decide about any key, wherever it is; return also whether all places are taken and nobody was told of it."""
        now = self.time()
        if now >= self.turn:
            self._turn_over(now)
        own = self._own.get(key)
        if own is not None:
            return own.plan.decide(own.state, now, cost, charge=charge), False
        state = self._found(key) if charge else self.plan.opened(self._kept(key))
        if state is not None:
            return self.plan.decide(state, now, cost, charge=charge), False
        full = self._max_keys is not None and self._held() >= self._max_keys
        if not full:
            state = self.plan.new()
            facts = self.plan.decide(state, now, cost, charge=charge)
            if facts[0] and charge and cost:  # who only looks, or is refused, leaves no trace
                self.young[key] = state
            return facts, False
        state = self._found(_EVERYBODY_ELSE)
        if state is None:
            state = self.young[_EVERYBODY_ELSE] = self.plan.new()
        said, self._said_full = self._said_full, True
        return self.plan.decide(state, now, cost, charge=charge), not said

    def _told(self, facts: Facts, full: bool) -> Facts:
        if full:
            _log.warning(
                "mobius_otel: limit %r remembers max_keys=%d keys; further ones share one count until some are idle",
                self._name, self._max_keys,
            )  # fmt: skip
        return facts

    def usual(self, key: Hashable, now: int, cost: int) -> Any:
        """Return the state of a key that is not young, which it is from here on; for who is alone.

        None where that is not all there is to it: own limits, several of them, all places taken, a cost that never
        passes.
        """
        if now >= self.turn:
            self._turn_over(now)
        if self.plan.several or key in self._own or cost > self.plan.most[0]:
            return None
        state = self._kept(key)
        if state is None and (self._max_keys is None or self._held() < self._max_keys):
            state = self.young[key] = self.plan.first(now)  # it has room for this cost
        return state

    @alone
    def now(self) -> int:
        """Return the time that is decided by, in nanoseconds."""
        return self.time()

    # --- changing what is counted -----------------------------------------------------------------------------

    @alone
    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units that were charged; return whether any were still in use."""
        now = self.time()
        own = self._own.get(key)
        if own is not None:
            return own.plan.refund(own.state, now, cost, at)
        state = self._found(key)
        if state is None:
            state = self._found(_EVERYBODY_ELSE)
        return state is not None and self.plan.refund(state, now, cost, at)

    @alone
    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used; its own limits stay."""
        self.young.pop(key, None)
        for generation in self._older:
            generation.states.pop(key, None)
        if key in self._own:
            self._own[key] = self._owned(self._own[key].plan.limits)

    @alone
    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own; None: those of the limiter again. What it has used stays counted."""
        now = self.time()
        before = self._own.pop(key, None)
        plan, state = (before.plan, before.state) if before else (self.plan, self._found(key))
        if limits is None:
            if before is not None:
                self.young[key] = self.plan.carry(state, plan, now)
            return
        own = self._own[key] = self._owned(limits)
        if state is not None:
            own.state = own.plan.carry(state, plan, now)
        self.young.pop(key, None)

    @alone
    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones; what is counted stays counted."""
        now = self.time()
        self._retire(now)  # each key goes on under the new plan when it is asked for
        if self._older:
            self._past.append((self.plan, now))
        self.plan = self.make_plan(limits)
        self.turn = now + self.plan.longest

    @alone
    def saturation(self) -> float:
        """Return the highest used share of a limit that a decision saw since the last call, 0 to 1."""
        return max(plan.saturation() for plan in (self.plan, *(own.plan for own in self._own.values())))

    @alone
    def __len__(self) -> int:
        now = self.time()
        if now >= self.turn:
            self._turn_over(now)
        return self._held()

    # --- generations ----------------------------------------------------------------------------------------

    def _owned(self, limits: tuple[RateLimit, ...]) -> _Own:
        plan = self.make_plan(limits)
        return _Own(plan, plan.new())

    def _held(self) -> int:
        return len(self.young) + sum(len(generation.states) for generation in self._older)

    def _found(self, key: Hashable) -> Any:
        """Return the state of a key without own limits, to be changed in place; None: it has none."""
        kept = self._kept(key)
        state = self.plan.opened(kept)
        if state is not kept:
            self.young[key] = state
        return state

    def _kept(self, key: Hashable) -> Any:
        """Return the state of a key without own limits, which is then in the young generation; None: it has none."""
        state = self.young.get(key)
        if state is None:
            for generation in self._older:
                state = generation.states.pop(key, None)
                if state is not None:
                    if generation.plan is not self.plan:
                        state = self._brought_up(state, generation.plan)
                    self.young[key] = state
                    break
        return state

    def _brought_up(self, state: Any, plan: Plan) -> Any:
        """Return a state of an earlier plan as it is under this one, by way of all that lie between."""
        plans = [past for past, _ in self._past]
        successors = [*plans[1:], self.plan]
        for index in range(plans.index(plan), len(plans)):
            state = successors[index].carry(plans[index].opened(state), plans[index], self._past[index][1])
        return state

    def _turn_over(self, now: int) -> None:
        """Retire the young generation and forget what has been retired for a longest window."""
        self._retire(now)
        self._said_full = False
        self.turn = now + self.plan.longest

    def _retire(self, now: int) -> None:
        if self.young:
            self._older.insert(0, _Generation(self.plan, self.young, min(now, self.turn)))
            self.young = {}
        longest = self.plan.longest
        self._older = [each for each in self._older if each.states and now < each.retired + longest]
        needed = [each.plan for each in self._older]
        while self._past and self._past[0][0] not in needed:
            del self._past[0]

    def time(self) -> int:
        """Return the time in nanoseconds; it never goes back.

        A given clock that steps back by less than the longest window stands still until it has caught up. After a
        greater step (somebody set the wall clock) time goes on from where it was, since nobody shall be locked
        out for as long as the step.
        """
        if self.clock is None:
            return monotonic_ns()
        seconds = self.clock()
        try:
            read = round(seconds * TICKS_PER_SECOND) * NANOSECONDS_PER_TICK
        except (TypeError, ValueError, OverflowError):
            raise ConfigurationError("clock", seconds, "a callable that returns seconds, a finite number") from None
        now = read + self._offset
        if self._last is not None and now < self._last:
            if self._last - now > self.plan.longest:
                self._offset = self._last - read
            now = self._last
        self._last = now
        return now

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} keys)"


class WindowCounts(MemoryCounts):
    """Counts by sliding window logs."""

    __slots__ = ()

    make_plan = WindowPlan
    plan: WindowPlan

    def usual(self, key: Hashable, now: int, cost: int) -> Any:
        """As :meth:`MemoryCounts.usual`; from bytes what has left the window is gone, and there is room for more."""
        state = super().usual(key, now, cost)
        if now >= self.plan.fresh:
            self.plan.renew(now, self.turn)
        if state.__class__ is bytes:
            state = few_left(state, now, self.plan.windows[0])
            if cost != 1 or len(state) >= FEW:
                state = self.plan.opened(state)
            self.young[key] = state
        return state

    def one_more(self, key: Hashable, few: bytes, now: int) -> bytes:
        """Charge one unit to a key that :meth:`usual` returned as bytes, if it has room; return what it then has.

        That is `few` itself where it was denied.
        """
        if len(few) < self.plan.room:
            few = self.young[key] = few + now.to_bytes(8)
        self.plan.saw(0, len(few) // 8)
        return few


class GcraCounts(MemoryCounts):
    """Counts by theoretical arrival times."""

    __slots__ = ()

    make_plan = GcraPlan
    plan: GcraPlan


_KINDS: Final[dict[str, type[MemoryCounts]]] = {"sliding_window_log": WindowCounts, "gcra": GcraCounts}
