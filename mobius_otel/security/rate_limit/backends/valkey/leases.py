"""Leases: a process draws units in advance and spends them by itself.

A decision that a process can take without its server costs as much as one in memory. What is drawn is charged when
it is drawn, so that no window ever holds more than its limit; it is spent up to a lease's age later. So in a window
of true time at most the units that were lent and not yet spent when it began may come on top: ``lease`` times the
limit, for all processes together, whatever their number (the server keeps the account). What a process draws and
does not spend is given back with its next call, and is lost to the others until then, or until it leaves the window.

How much is drawn follows from what was spent of the last lease: nothing at first, twice as much after one that was
used up in time. Near the limit nothing is lent, so that units do not lie with one process while another is refused.
A refusal is remembered until the time that the server named, for ten seconds at most: then a reset, a refund or
another limit that somebody else has ordered is found out.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Hashable, Iterator

from mobius_otel.security.rate_limit.backends.protocol import LimiterSpec
from mobius_otel.security.rate_limit.backends.valkey.calls import Draw, Drawn, Form, LogForm, ScriptCall
from mobius_otel.security.rate_limit.backends.valkey.counts import ValkeyCounts
from mobius_otel.security.rate_limit.backends.valkey.routes import Route
from mobius_otel.security.rate_limit.facts import NEVER, TICKS_PER_SECOND, Facts
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["LeasedCounts"]

_LONGEST_AGE = 1.0
_LONGEST_DENIAL = 10 * TICKS_PER_SECOND
_TURN_SECONDS = 10.0  # a key that was not asked for one to two of them is forgotten
_CLOSING_SECONDS = 1.0


_alive: weakref.WeakSet[LeasedCounts] = weakref.WeakSet()


class _Lease:
    """What one process knows of one key."""

    __slots__ = ("at", "denied", "denied_cost", "denied_since", "drawing", "facts", "granted", "left", "since", "turn")

    def __init__(self) -> None:
        self.granted = self.left = self.turn = self.at = 0
        self.since = -_LONGEST_AGE  # when it was drawn, by the monotonic clock
        self.facts: Facts | None = None
        self.drawing = False
        self.denied: Facts | None = None
        self.denied_since = 0.0
        self.denied_cost = 0


class LeasedCounts(ValkeyCounts):
    """Counts on a server of which a process draws units in advance.

    Args:
        spec: The limiter; its ``lease`` is above zero and its algorithm the sliding window log.
        route: Which server a subject is counted by.
    """

    def __init__(self, spec: LimiterSpec, route: Route) -> None:
        super().__init__(spec, route)
        self._part = spec.lease
        self._known_terms: dict[Form, tuple[LogForm, float, list[int]]] = {}
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._young: dict[Hashable, _Lease] = {}
        self._old: dict[Hashable, _Lease] = {}
        self._turn_at = time.monotonic() + _TURN_SECONDS

    def take(self, key: Hashable, cost: int) -> Facts:
        """Charge `cost` units to `key` if every limit of the key allows it."""
        now = time.monotonic()
        known, lease, call = self._begun(key, cost, now)
        if known is not None:
            return known
        if call is None:
            return self._refused(lease, super().take(key, cost), cost, now)
        with self._drawing(lease):
            answer = self._ask(self._names.stem(key), call)
            return self._drew(lease, self._terms(key)[0].drawn(answer), cost, now)

    async def take_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`take` does without blocking the loop."""
        now = time.monotonic()
        known, lease, call = self._begun(key, cost, now)
        if known is not None:
            return known
        if call is None:
            return self._refused(lease, await super().take_async(key, cost), cost, now)
        with self._drawing(lease):
            answer = await self._ask_async(self._names.stem(key), call)
            return self._drew(lease, self._terms(key)[0].drawn(answer), cost, now)

    def peek(self, key: Hashable, cost: int) -> Facts:
        """Return what :meth:`take` would decide now, charging nothing."""
        known = self._peeked(key, cost)
        return super().peek(key, cost) if known is None else known

    async def peek_async(self, key: Hashable, cost: int) -> Facts:
        """Do what :meth:`peek` does without blocking the loop."""
        known = self._peeked(key, cost)
        return await super().peek_async(key, cost) if known is None else known

    def refund(self, key: Hashable, cost: int, at: int) -> bool:
        """Give back `cost` units: to the lease that they were spent from, where it is still good."""
        return self._returned(key, cost, at) or super().refund(key, cost, at)

    async def refund_async(self, key: Hashable, cost: int, at: int) -> bool:
        """Do what :meth:`refund` does without blocking the loop."""
        return self._returned(key, cost, at) or await super().refund_async(key, cost, at)

    def reset(self, key: Hashable) -> None:
        """Forget what `key` has used, and what was drawn for it."""
        self._forget(key)
        super().reset(key)

    async def reset_async(self, key: Hashable) -> None:
        """Do what :meth:`reset` does without blocking the loop."""
        self._forget(key)
        await super().reset_async(key)

    def override(self, key: Hashable, limits: tuple[RateLimit, ...] | None) -> None:
        """Give `key` limits of its own; None: those of the limiter again."""
        self._forget(key)
        self._known_terms = {}
        super().override(key, limits)

    def change(self, limits: tuple[RateLimit, ...]) -> None:
        """Give every key without own limits other ones."""
        with self._lock:
            self._young, self._old = {}, {}
        self._known_terms = {}
        super().change(limits)

    def give_back(self) -> None:
        """Give back what was drawn and not spent, for a second at most: at the end of a process."""
        end = time.monotonic() + _CLOSING_SECONDS
        with self._lock:
            leases = [pair for pair in (*self._young.items(), *self._old.items()) if pair[1].left]
            self._young, self._old = {}, {}
        for key, lease in leases:
            if time.monotonic() < end:
                super().refund(key, lease.left, lease.at)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _terms(self, key: Hashable) -> tuple[LogForm, float, list[int]]:
        """Return how to ask about a key, the seconds that a lease may be spent, and what may be lent of each limit."""
        found = self._own.get(key, self._form) if self._own else self._form
        terms = self._known_terms.get(found)
        if terms is None:
            assert isinstance(found, LogForm)
            age = min(_LONGEST_AGE, self._part * min(limit.per for limit in found.limits))
            terms = self._known_terms[found] = (found, age, found.budgets(self._part))
        return terms

    def _begun(self, key: Hashable, cost: int, now: float) -> tuple[Facts | None, _Lease, ScriptCall | None]:
        """Decide without the server; else return the call that draws, or None where it is to be asked plainly."""
        form, age, budgets = self._terms(key)
        with self._lock:
            lease = self._lease(key, now)
            known = _decided(lease, cost, now, age)
            if known is not None:
                if known[0]:
                    lease.left -= cost
                return known, lease, None
            if lease.drawing or not cost or self._heirs_of(key):
                return None, lease, None
            if min(budgets) < 2:
                return None, lease, None
            lease.drawing = True
            draw = Draw(cost, _wanted(lease, now, age), max(1, round(age * TICKS_PER_SECOND)), lease.left, lease.at,
                        lease.granted, lease.turn)  # fmt: skip
            lease.granted = lease.left = 0
        return None, lease, form.draw(self._names.stem(key), draw, budgets)

    def _lease(self, key: Hashable, now: float) -> _Lease:
        if now >= self._turn_at:
            self._old = self._young if now < self._turn_at + _TURN_SECONDS else {}
            self._young, self._turn_at = {}, now + _TURN_SECONDS
        lease = self._young.get(key)
        if lease is None:
            lease = self._young[key] = self._old.pop(key) if key in self._old else _Lease()
        return lease

    @contextlib.contextmanager
    def _drawing(self, lease: _Lease) -> Iterator[None]:
        try:
            yield
        finally:
            lease.drawing = False

    def _drew(self, lease: _Lease, drawn: Drawn, cost: int, asked: float) -> Facts:
        allowed, limit, used, reset, wait, at, source = drawn.facts
        facts = (allowed, limit, used - drawn.granted, reset, wait, at, source)  # what is lent to us is free to us
        with self._lock:
            if allowed:
                lease.granted = lease.left = drawn.granted
                lease.turn, lease.at, lease.since, lease.facts = drawn.turn, at, asked, facts
        return self._saw(self._refused(lease, facts, cost, asked))

    def _refused(self, lease: _Lease, facts: Facts, cost: int, asked: float) -> Facts:
        """Remember a refusal; its time counts from when the question was sent, so that it never lasts too long."""
        with self._lock:
            lease.denied = None if facts[0] else facts
            lease.denied_since, lease.denied_cost = asked, cost
        return facts

    def _peeked(self, key: Hashable, cost: int) -> Facts | None:
        now = time.monotonic()
        with self._lock:
            lease = self._young.get(key) or self._old.get(key)
            return None if lease is None else _decided(lease, cost, now, self._terms(key)[1], charged=0)

    def _returned(self, key: Hashable, cost: int, at: int) -> bool:
        now = time.monotonic()
        with self._lock:
            lease = self._young.get(key) or self._old.get(key)
            if lease is None:
                return False
            lease.denied = None
            good = lease.at == at and lease.left + cost <= lease.granted
            if not good or now >= lease.since + self._terms(key)[1]:
                return False
            lease.left += cost
        return True

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._begin()


def _decided(lease: _Lease, cost: int, now: float, age: float, charged: int | None = None) -> Facts | None:
    """Return what is decided without the server; None: it has to be asked."""
    if lease.denied is not None:
        _, limit, used, reset, wait, _, _ = lease.denied
        gone = int((now - lease.denied_since) * TICKS_PER_SECOND)
        if gone >= min(wait, _LONGEST_DENIAL):
            lease.denied = None
        elif cost >= lease.denied_cost:
            return False, limit, used, max(0, reset - gone), wait if wait == NEVER else wait - gone, 0, "local"
    if not 0 < cost <= lease.left or lease.facts is None or now >= lease.since + age:
        return None
    _, limit, used, reset, _, at, _ = lease.facts
    spent = lease.granted - lease.left + (cost if charged is None else charged)
    gone = int((now - lease.since) * TICKS_PER_SECOND)
    return True, limit, used + spent, max(0, reset - gone), 0, at if charged is None else 0, "local"


def _wanted(lease: _Lease, now: float, age: float) -> int:
    """Return how much to draw: twice what was used up in time, or what was spent of more than that."""
    if now < lease.since + age:
        return 2 * lease.granted + 2
    return lease.granted - lease.left if now < lease.since + 2 * age else 0


@atexit.register
def _give_back() -> None:
    """Give everything back at the end of a process; without its server it is lost until it leaves its window."""
    for counts in list(_alive):
        with contextlib.suppress(Exception):
            counts.give_back()
