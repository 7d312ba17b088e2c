"""The limiter in memory against brute force, with everything that can be asked of it, in any order."""

import math
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mobius_otel.clock import FrozenClock
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.algorithms import EXACT
from mobius_otel.telemetry import defaults

SECOND = 1_000_000
KEYS = ["a", "b"]


class WindowModel:
    """Every unit of every key is kept, in whole microseconds."""

    def __init__(self, limits):
        self.limits = limits
        self.hits = []

    def used(self, now, limit):
        return sum(cost for at, cost in self.hits if now - at < round(limit.per * SECOND))

    def room(self, now, cost):
        return all(self.used(now, limit) + cost <= limit.limit for limit in self.limits)

    def charge(self, now, cost):
        self.hits.append((now, cost))

    def refund(self, now, at, cost):
        if (at, cost) in self.hits:
            self.hits.remove((at, cost))

    def wait(self, now, cost):
        if any(cost > limit.limit for limit in self.limits):
            return math.inf
        ends = {at + round(limit.per * SECOND) for at, _ in self.hits for limit in self.limits}
        return next(at - now for at in sorted({now, *(end for end in ends if end > now)}) if self.room(at, cost))

    def left(self, now):
        return min(limit.limit - self.used(now, limit) for limit in self.limits)


class BucketModel:
    """A bucket for each limit that leaks at the steady rate, in exact fractions."""

    def __init__(self, limits):
        self.limits = limits
        self.levels = [Fraction(0) for _ in limits]
        self.at = 0

    def _leak(self, now):
        for index, limit in enumerate(self.limits):
            gone = Fraction((now - self.at) * limit.limit, round(limit.per * SECOND))
            self.levels[index] = max(Fraction(0), self.levels[index] - gone)
        self.at = now

    def room(self, now, cost):
        self._leak(now)
        return all(level + cost <= limit.limit for level, limit in zip(self.levels, self.limits, strict=True))

    def charge(self, now, cost):
        self._leak(now)
        self.levels = [level + cost for level in self.levels]

    def refund(self, now, at, cost):
        self._leak(now)
        self.levels = [max(Fraction(0), level - cost) for level in self.levels]

    def wait(self, now, cost):
        if any(cost > limit.limit for limit in self.limits):
            return math.inf
        self._leak(now)
        return max(
            math.ceil(max(Fraction(0), level + cost - limit.limit) * round(limit.per * SECOND) / limit.limit)
            for level, limit in zip(self.levels, self.limits, strict=True)
        )

    def left(self, now):
        self._leak(now)
        return min(limit.limit - math.ceil(level) for level, limit in zip(self.levels, self.limits, strict=True))


limits = st.lists(
    st.builds(RateLimit, st.integers(1, 9), st.sampled_from([0.000003, 0.25, 1.0, 1.5])),
    min_size=1, max_size=3, unique_by=lambda limit: limit.per,
)  # fmt: skip
costs = st.integers(0, 10)
keys = st.sampled_from(KEYS)


class Machine(RuleBasedStateMachine):
    """Charges, looks, gives back, forgets, changes; the clock moves in whole and in broken microseconds."""

    algorithm = "sliding_window_log"
    model = WindowModel

    @initialize(limits=limits, start=st.sampled_from([0, 7, 1_700_000_000 * SECOND]), broken=st.booleans())
    def begin(self, limits, start, broken):
        self.now, self.broken = start, broken
        self.clock = FrozenClock(start / SECOND)
        self.limiter = RateLimiter(limits, algorithm=self.algorithm, clock=self.clock, audit=False)
        self.limits = limits
        self.own = {}
        self.models = {key: self.model(limits) for key in KEYS}
        self.charged = []

    @rule(forward=st.sampled_from([0, 1, 2, 3, 999, 100_000, 250_000, 499_999, 500_000, 1_000_000, 4_000_000]))
    def forward(self, forward):
        self.now += forward
        # What the clock says beside the whole microsecond is rounded away.
        self.clock.set((self.now + (0.3 if self.broken and self.now < 2**40 else 0)) / SECOND)

    def _expected(self, key, cost):
        model = self.models[key]
        wait = model.wait(self.now, cost)
        passes = model.room(self.now, cost)
        if passes and cost:
            model.charge(self.now, cost)
        return passes, wait

    @rule(key=keys, cost=costs)
    def acquire(self, key, cost):
        passes, wait = self._expected(key, cost)
        decision = self.limiter.acquire(key, cost)
        assert decision.allowed == passes
        assert decision.retry_after == (0 if passes else math.inf if wait == math.inf else wait / SECOND)
        if passes:
            assert decision.remaining == self.models[key].left(self.now)
            if cost:
                self.charged.append((key, cost, self.now, decision))

    @rule(key=keys)
    def acquire_one(self, key):
        """What is usual, and has a way of its own."""
        self.acquire(key, 1)

    @rule(key=keys, cost=st.integers(1, 3))
    def allow(self, key, cost):
        assert self.limiter.allow(key, cost) == self._expected(key, cost)[0]

    @rule(key=keys)
    def allow_slowly(self, key):
        """The way that is taken inside a span."""
        before = defaults.install(defaults.Defaults(spans="always"))
        try:
            assert self.limiter.allow(key) == self._expected(key, 1)[0]
        finally:
            defaults.install(before)

    @rule(key=keys, cost=costs)
    def peek(self, key, cost):
        assert self.limiter.peek(key, cost).allowed == self.models[key].room(self.now, cost)

    @precondition(lambda self: self.charged)
    @rule(data=st.data())
    def refund(self, data):
        key, cost, at, decision = self.charged.pop(data.draw(st.integers(0, len(self.charged) - 1)))
        self.models[key].refund(self.now, at, cost)
        self.limiter.refund(decision)
        assert not self.limiter.refund(decision)

    @rule(key=keys)
    def reset(self, key):
        self.limiter.reset(key)
        self.models[key] = self.model(self.own.get(key, self.limits))
        self.charged = [each for each in self.charged if each[0] != key]

    @rule(key=keys, factor=st.sampled_from([1, 2, 3]))
    def own_limits(self, key, factor):
        """Other numbers in the same windows: what is counted stays counted."""
        limits = [RateLimit(limit.limit * factor, limit.per) for limit in self.limits]
        self.own[key] = limits
        self.limiter.override(key, limits)
        self._relimit(key, limits)

    @rule(key=keys)
    def no_own_limits(self, key):
        self.limiter.override(key, None)
        self._relimit(key, self.limits)
        self.own.pop(key, None)

    @rule(factor=st.sampled_from([1, 2, 3]))
    def change(self, factor):
        self.limits = [RateLimit(max(1, limit.limit * factor % 11), limit.per) for limit in self.limits]
        self.limiter.change(self.limits)
        for key in KEYS:
            if key not in self.own:
                self._relimit(key, self.limits)

    def _relimit(self, key, limits):
        model = self.models[key]
        if isinstance(model, BucketModel):
            model._leak(self.now)
        model.limits = limits

    @invariant()
    def remembers_no_more_than_there_is(self):
        if hasattr(self, "limiter"):
            assert len(self.limiter) <= len(KEYS)


class GcraMachine(Machine):
    algorithm = "gcra"
    model = BucketModel


quick = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestWindow = Machine.TestCase
TestWindow.settings = quick
TestGcra = GcraMachine.TestCase
TestGcra.settings = quick


@pytest.mark.parametrize("most", [3_000, 50_000])
def test_beyond_a_thousand_hits_it_errs_within_a_ten_thousandth_on_the_strict_side(most):
    """Never one too many; and what is refused would be refused if the window were a ten-thousandth longer."""
    import random

    chance = random.Random(most)
    clock = FrozenClock(0.0)
    limiter = RateLimiter(RateLimit(most, 1.0), clock=clock, audit=False)
    window, quantum = SECOND, SECOND // 10_000
    hits, head, late, now, refused = [], 0, 0, 0, 0
    for step in range(6 * most):
        now += chance.choice([0, 0, 1, 2]) * (3_000 // (most // 1000)) // 4 + (step % (2 * most) == 0) * 700_000
        clock.set(now / SECOND)
        while head < len(hits) and now - hits[head] >= window:
            head += 1
        while late < len(hits) and now - hits[late] >= window + quantum:
            late += 1
        if limiter.allow("k"):
            hits.append(now)
            assert len(hits) - head <= most
        else:
            refused += 1
            assert len(hits) - late >= most
    assert refused
    assert len(hits) > 2 * most > EXACT


def test_up_to_a_thousand_hits_it_is_exact_to_the_microsecond():
    """Also where each hit leaves one microsecond after the other."""
    clock = FrozenClock(0.0)
    limiter = RateLimiter(RateLimit(1000, 1.0), clock=clock, audit=False)
    for at in range(1000):
        clock.set(at / SECOND)
        assert limiter.allow("k")
    for at in range(1000):
        clock.set((SECOND + at - 1) / SECOND)
        assert limiter.peek("k", at + 1).retry_after == pytest.approx(1e-6, abs=1e-9)
        clock.set((SECOND + at) / SECOND)
        assert limiter.peek("k", at + 1).allowed
