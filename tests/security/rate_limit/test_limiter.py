"""The limiter decides exactly."""

import asyncio
import gc
import math
import os
import random
import sys
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel import RateLimitExceeded
from mobius_otel.clock import FrozenClock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimit, RateLimiter


class Model:
    """The window by brute force: every unit is kept, in whole microseconds."""

    def __init__(self, limits):
        self.limits = [(limit.limit, round(limit.per * 1_000_000)) for limit in limits]
        self.hits = []

    def used(self, now, window):
        return sum(cost for at, cost in self.hits if now - at < window)

    def acquire(self, now, cost):
        if any(self.used(now, window) + cost > limit for limit, window in self.limits):
            return False
        self.hits.append((now, cost))
        return True

    def wait(self, now, cost):
        """Microseconds until `cost` would pass, or infinity."""
        if any(cost > limit for limit, _ in self.limits):
            return math.inf
        for at in sorted(
            {now, *(at + window for at, _ in self.hits for _, window in self.limits if at + window > now)}
        ):
            if all(self.used(at, window) + cost <= limit for limit, window in self.limits):
                return at - now
        raise AssertionError


_limits = st.lists(
    st.builds(RateLimit, st.integers(1, 12), st.sampled_from([0.000003, 0.25, 1.0, 1.5, 60.0])), min_size=1, max_size=3
)
_steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 2, 3, 100_000, 250_000, 499_999, 500_000, 1_000_000, 59_000_000]),
              st.integers(0, 14)),
    max_size=60,
)  # fmt: skip


@given(limits=_limits, steps=_steps, start=st.sampled_from([0, 7, 1_700_000_000_000_000]))
@settings(max_examples=300, deadline=None)
def test_the_decision_is_that_of_a_brute_force_model(limits, steps, start):
    """Allowed or not, what is left, how long to wait: for any costs, times and limits."""
    clock = FrozenClock(start / 1e6)
    limiter, model = RateLimiter(limits, clock=clock), Model(limits)
    now = start
    for forward, cost in steps:
        now += forward
        clock.set(now / 1e6)
        peeked = limiter.peek("k", cost)
        decision = limiter.acquire("k", cost)
        assert peeked.allowed == decision.allowed
        wait = model.wait(now, cost)
        assert decision.allowed == model.acquire(now, cost)
        left = [limit - model.used(now, window) for limit, window in model.limits]
        if decision.allowed:
            assert decision.remaining == min(left)
            assert decision.retry_after == 0
        else:
            assert (round(decision.retry_after * 1e6) if math.isfinite(wait) else decision.retry_after) == wait


def test_ten_thousand_random_tries_agree_with_the_model():
    """A long run, so that entries are dropped from the log many times over."""
    chance = random.Random(7)
    limits = [RateLimit(500, 10.0), RateLimit(90, 1.0)]
    clock = FrozenClock(0.0)
    limiter, model = RateLimiter(limits, clock=clock), Model(limits)
    now = 0
    for _ in range(10_000):
        now += chance.choice([0, 1, 999, 5000, 40_000])
        clock.set(now / 1e6)
        cost = chance.choice([1, 1, 1, 0, 3, 90, 91])
        assert limiter.allow("k", cost) == model.acquire(now, cost)
        model.hits = [hit for hit in model.hits if now - hit[0] < 10_000_000]


def test_running_totals_survive_the_end_of_their_32_bits():
    """Two thousand million units after each other."""
    clock = FrozenClock(0.0)
    limiter = RateLimiter(RateLimit(999_999_999, 1.0), clock=clock)
    for _ in range(30):
        assert limiter.allow("k", 999_999_998)
        assert limiter.allow("k", 1)
        assert not limiter.allow("k", 1)
        clock.advance(1.0)


def test_a_hit_is_out_at_exactly_the_end_of_its_window(clock):
    """One microsecond before it is still in."""
    limiter = RateLimiter("1/minute", clock=clock)
    assert limiter.allow("k")
    clock.advance(59.999999)
    assert not limiter.allow("k")
    assert limiter.peek("k").retry_after == pytest.approx(0.000001)
    clock.advance(0.000001)
    assert limiter.allow("k")


def test_a_denied_try_charges_nothing(clock):
    """Twenty of ten, then ten of ten."""
    limiter = RateLimiter("10/minute", clock=clock)
    assert not limiter.allow("k", 20)
    assert limiter.allow("k", 8)
    assert not limiter.allow("k", 5)
    assert limiter.allow("k", 2)


def test_all_limits_allow_or_none_is_charged(clock):
    """What the hour denies is not taken from the second."""
    limiter = RateLimiter(["2/second", "3/hour"], name="api", clock=clock)
    assert limiter.acquire("k").limit == 2
    assert limiter.acquire("k").remaining == 0
    clock.advance(1)
    tightest = limiter.acquire("k")
    assert (tightest.limit, tightest.window, tightest.remaining) == (3, 3600.0, 0)
    denied = limiter.acquire("k")
    assert (bool(denied), denied.limit, denied.policy, denied.retry_after) == (False, 3, "api", 3599.0)
    clock.advance(3599)
    assert limiter.peek("k", 2).allowed


def test_a_cost_above_the_limit_never_passes(clock):
    """It is refused at once, with an infinite wait, and leaves no trace."""
    limiter = RateLimiter("10/minute", clock=clock)
    decision = limiter.acquire("k", 11)
    assert not decision
    assert decision.retry_after == math.inf
    assert (decision.remaining, len(limiter)) == (10, 0)


def test_a_cost_of_zero_is_allowed_and_counted(told, clock):
    """It takes nothing, but it is a decision."""
    limiter = RateLimiter("1/minute", name="zero", clock=clock)
    limiter.acquire("k")
    assert limiter.acquire("k", 0).allowed
    assert told.metrics.value("mobius.rate_limit.requests", {"mobius.rate_limit.policy": "zero"}) == 2


def test_peek_charges_nothing_and_says_nothing(told, clock):
    """It answers for a cost of one."""
    limiter = RateLimiter("1/minute", clock=clock)
    assert [limiter.peek("k").allowed for _ in range(5)] == [True] * 5
    assert len(limiter) == 0
    limiter.acquire("k")
    assert not limiter.peek("k").allowed
    assert told.metrics.value("mobius.rate_limit.requests") == 1


def test_the_decision_tells_what_is_left_and_when_all_is_free(clock):
    """In seconds, as floats."""
    limiter = RateLimiter("10/minute", name="api", clock=clock)
    limiter.acquire("k", 4)
    clock.advance(30)
    decision = limiter.acquire("k")
    assert (decision.limit, decision.window, decision.remaining, decision.reset_after) == (10, 60.0, 5, 60.0)
    assert (decision.policy, decision.source, decision.retry_after) == ("api", "local", 0.0)
    assert "allowed" in repr(decision)
    assert limiter.acquire("k", 8).retry_after == 30.0


def test_reset_forgets_a_key(clock):
    """And no other one."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("a"), limiter.acquire("b")
    limiter.reset("a")
    assert (limiter.allow("a"), limiter.allow("b")) == (True, False)


def test_eight_threads_let_exactly_the_limit_pass():
    """Contention neither lets one more in nor keeps one out."""
    limiter = RateLimiter("1000/hour")
    allowed = []
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work():
            allowed.append(sum(limiter.allow("k") for _ in range(400)))

        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(switch)
    assert sum(allowed) == 1000


def test_idle_keys_vanish_and_memory_stays_flat():
    """A hundred thousand distinct keys, a few thousand of them in each window."""
    clock = FrozenClock(0.0)
    limiter = RateLimiter("5/second", clock=clock, audit=False)
    counts = limiter._counts
    tracemalloc.start()
    try:
        for number in range(100_000):
            if number % 2000 == 0:
                clock.advance(1.0)
            counts.take(number, 1)
            if number == 20_001:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 3 * before  # two generations at most, and some room
    finally:
        tracemalloc.stop()
    assert len(limiter) <= 3 * 2000
    clock.advance(10.0)
    limiter.allow("last")
    assert len(limiter) == 1


def test_an_exhausted_key_is_never_forgotten(clock):
    """However many other keys come within its window."""
    limiter = RateLimiter("1/minute", clock=clock, audit=False)
    limiter.acquire("victim")
    for number in range(59):
        clock.advance(1.0)
        for other in range(200):
            limiter.acquire((number, other))
        assert not limiter.peek("victim").allowed


def test_a_clock_that_goes_back_gives_no_fresh_quota_and_locks_nobody_out():
    """An hour back: time goes on from where it was."""
    clock = FrozenClock(10_000.0)
    limiter = RateLimiter("2/minute", clock=clock)
    assert limiter.allow("k", 2)
    clock.advance(-3600)
    assert not limiter.allow("k")
    clock.advance(59.9)
    assert not limiter.allow("k")
    clock.advance(0.2)
    assert limiter.allow("k", 2)


def test_a_clock_that_trembles_lets_nobody_more_in():
    """Small steps back make no time of their own."""
    clock = FrozenClock(0.0)
    limiter = RateLimiter("5/minute", clock=clock)
    allowed = 0
    for _ in range(500):
        clock.advance(1.0)
        allowed += limiter.allow("k")
        clock.advance(-1.0)
        allowed += limiter.allow("k")
    assert allowed == 5


def test_the_wall_clock_is_nothing_to_the_default(monkeypatch):
    """An hour forward and two back change nothing."""
    import time

    real = time.time
    limiter = RateLimiter("1/minute")
    assert limiter.allow("k")
    for shift in (3600.0, -7200.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        assert not limiter.allow("k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew():
    """Alone, even if a thread of the parent was at it."""
    limiter = RateLimiter("1/hour")
    limiter.acquire("k")
    limiter._counts.held[0] = []
    child = os.fork()
    if child == 0:
        os._exit(0 if limiter.allow("k") and not limiter.allow("k") else 1)
    limiter._counts.held.clear()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not limiter.allow("k")


def test_shadow_mode_counts_and_lets_everybody_pass(told, clock):
    """What would have been denied is counted as such."""
    limiter = RateLimiter("1/minute", name="watched", mode="shadow", clock=clock)
    assert [limiter.acquire("k").shadow_denied for _ in range(3)] == [False, True, True]
    assert limiter.acquire("k").allowed
    assert limiter.acquire("k").retry_after == 0
    policy = {"mobius.rate_limit.policy": "watched"}
    assert (
        told.metrics.value("mobius.rate_limit.requests", {**policy, "mobius.rate_limit.result": "shadow_denied"}) == 4
    )
    assert told.events() == []


def test_the_decorator_limits_functions_and_coroutines(clock):
    """The key is made of the call's arguments; the exception has the decision."""
    limiter = RateLimiter("1/minute", name="export", clock=clock)

    @limiter.limit(key=lambda customer, **_: customer)
    def export(customer, *, loud=False):
        """Export."""
        return customer.upper() if loud else customer

    @limiter.limit(key=lambda customer: customer)
    async def export_async(customer):
        return customer

    assert export("alice", loud=True) == "ALICE"
    assert export.__doc__ == "Export."
    assert asyncio.run(export_async("bob")) == "bob"
    with pytest.raises(RateLimitExceeded) as caught:
        asyncio.run(export_async("alice"))
    assert caught.value.decision.retry_after == 60.0
    with pytest.raises(RateLimitExceeded):
        export("bob")


@pytest.mark.parametrize("given", [lambda: 1, "client-42"])
def test_the_decorator_without_parentheses_is_refused_where_it_stands(given):
    """Not when the function is called, and not with what is known to nobody."""
    with pytest.raises(
        ConfigurationError, match=r"^limit = .*: it must be .*@limiter\.limit\(\) or @limiter\.limit\(key="
    ):
        RateLimiter("1/minute").limit(given)


def test_without_a_key_each_function_has_its_own_count(clock):
    """Two functions of one limiter."""
    limiter = RateLimiter("1/minute", clock=clock)
    first, second = limiter.limit()(lambda: 1), limiter.limit(key="shared")(lambda: 2)
    assert (first(), second()) == (1, 2)
    with pytest.raises(RateLimitExceeded):
        second()


def test_acquire_async_decides_alike_without_awaiting(clock):
    """A coroutine that ends at its first step."""
    limiter = RateLimiter("1/minute", clock=clock)
    with pytest.raises(StopIteration) as done:
        limiter.acquire_async("k").send(None)
    assert done.value.value.allowed
    assert not limiter.allow("k")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"algorithm": "fixed_window"}, "sliding_window_log"),
        ({"mode": "dry"}, "shadow"),
        ({"on_backend_error": "retry"}, "closed"),
        ({"name": "a b"}, "letters"),
        ({"name": ""}, "letters"),
        ({"clock": 5}, "seconds"),
        ({"backend": 5}, "counts"),
        ({"limits": []}, "one limit"),
        ({"limits": None}, "list of limits"),
        ({"backend": "valkey://admin:hunter2/x@cache:6379/0?password=hunter2"}, "without this option"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_without_credentials(given, named):
    """At construction."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimiter(**{"limits": "1/minute", **given})
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("cost", [-1, 1.0, True, "1", None])
def test_a_cost_that_is_no_whole_number_is_refused(cost):
    """In every way in."""
    limiter = RateLimiter("1/minute")
    for call in (limiter.acquire, limiter.allow, limiter.peek):
        with pytest.raises(ConfigurationError):
            call("k", cost)


def test_the_repr_shows_counts_and_no_keys(clock):
    """A key may be an address."""
    limiter = RateLimiter("1/minute", name="api", clock=clock)
    limiter.acquire("203.0.113.9")
    assert "203.0.113.9" not in repr(limiter) + repr(limiter._counts)
    assert limiter.tracked_keys == len(limiter) == 1
