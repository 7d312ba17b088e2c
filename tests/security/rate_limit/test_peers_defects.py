"""What other limiters get wrong, reproduced on their installed versions: none of it happens here."""

import asyncio
import math
import random
import sys
import threading

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.security import RateLimit, RateLimiter


@pytest.fixture
def clock():
    return FrozenClock(0.0)


def test_no_window_sees_twice_the_limit(clock):
    """A counter of two windows lets 200 of 100 through: 100 at a window's end, then twenty a second."""
    limiter = RateLimiter("100/minute", clock=clock)
    clock.set(59.9)
    hits = [59.9] * sum(limiter.allow("k") for _ in range(100))
    for step in range(1200):
        clock.set(60.0 + step / 20)
        hits += [60.0 + step / 20] * limiter.allow("k")
    for end in hits:
        assert sum(end - 60 < hit <= end for hit in hits) <= 100


def test_an_empty_window_is_empty(clock):
    """The same counter lets 1 of 100 in after the window has been empty."""
    limiter = RateLimiter("100/minute", clock=clock)
    assert sum(limiter.allow("k") for _ in range(100)) == 100
    clock.set(60.5)
    assert sum(limiter.allow("k") for _ in range(100)) == 100


@pytest.mark.parametrize("algorithm", ["sliding_window_log", "gcra"])
def test_a_denied_cost_is_not_charged(clock, algorithm):
    """Not the first one of a key, and no later one: 8 of 10, then 5 denied, then 2."""
    limiter = RateLimiter("10/minute", algorithm=algorithm, clock=clock)
    assert not limiter.allow("first", 20)
    assert limiter.allow("first", 1)
    assert [limiter.allow("later", cost) for cost in (8, 5, 2)] == [True, False, True]


@pytest.mark.parametrize("algorithm", ["sliding_window_log", "gcra"])
def test_the_stated_wait_is_the_wait(algorithm):
    """One microsecond before it is too early; with it, it passes. For any past."""
    chance = random.Random(11)
    for _ in range(150):
        clock = FrozenClock(0.0)
        limits = [RateLimit(chance.randint(1, 8), chance.choice([1.0, 7.5, 60.0])) for _ in range(chance.randint(1, 3))]
        limiter = RateLimiter(limits, algorithm=algorithm, clock=clock, audit=False)
        now = 0
        for _ in range(40):
            now += chance.randint(0, 3_000_000)
            clock.set(now / 1e6)
            limiter.acquire("k", chance.randint(1, 3))
        cost = chance.randint(1, 4)
        wait = limiter.peek("k", cost).retry_after
        if 0 < wait < math.inf:
            now += round(wait * 1e6)
            clock.set((now - 1) / 1e6)
            assert not limiter.peek("k", cost).allowed
            clock.set(now / 1e6)
            assert limiter.peek("k", cost).allowed


def test_gcra_keeps_its_rate_and_its_burst(clock):
    """Rounded expiries let double traffic pass elsewhere: here a burst of ten, then ten a second and not one more."""
    limiter = RateLimiter("10/second", algorithm="gcra", clock=clock)
    passed = 0
    for step in range(10_000):
        clock.set(step / 1000)
        passed += limiter.allow("k")
    assert passed == 10 + 99


@pytest.mark.parametrize("threads", [2, 8])
def test_contention_is_no_denial(threads):
    """A limiter that only tries its lock denies up to 87 % with room for everybody."""
    limiter = RateLimiter("10000/hour")
    passed = []
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [
            threading.Thread(target=lambda: passed.append(sum(limiter.allow("k") for _ in range(1000))))
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(switch)
    assert sum(passed) == threads * 1000


def test_a_flood_of_other_keys_frees_nobody(clock):
    """A store that keeps the newest 1,024 keys forgets who is exhausted."""
    limiter = RateLimiter("1/minute", clock=clock, audit=False)
    limiter.acquire("victim")
    for number in range(5000):
        limiter.acquire(f"other-{number}")
    assert not limiter.allow("victim")


def test_keys_share_nothing():
    """A name that is no key in truth gives all clients one count."""
    limiter = RateLimiter("1/minute")
    assert [limiter.allow(client) for client in ("1.1.1.1", "2.2.2.2")] == [True, True]


def test_no_thread_and_no_timer_is_started():
    """One that scans all keys takes 40 % of the throughput; two that start one timer crash."""
    before = threading.active_count()
    limiter = RateLimiter("5/second", audit=False)
    for number in range(2000):
        limiter.allow(f"client-{number}")
    assert threading.active_count() == before


def test_an_asynchronous_decision_in_memory_never_awaits_and_never_blocks(clock):
    """Ten thousand of them do not give up the loop once."""
    limiter = RateLimiter("100/minute", clock=clock)

    async def scene():
        return sum([(await limiter.acquire_async("k")).allowed for _ in range(1000)])

    task = scene()
    with pytest.raises(StopIteration) as done:
        task.send(None)
    assert done.value.value == 100
    assert asyncio.run(scene()) == 0


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch, jump):
    """Elsewhere an hour forward is a fresh quota, an hour back a lock-out."""
    import time

    real = time.time
    limiter = RateLimiter("2/minute")
    assert limiter.allow("k")
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert limiter.allow("k")
    assert not limiter.allow("k")


def test_a_machine_that_slept_goes_on_where_it_was(clock):
    """A clock that stood still meanwhile gives nobody more and locks nobody out for longer."""
    limiter = RateLimiter("2/minute", clock=clock)
    clock.set(30.0)
    assert limiter.allow("k", 2)
    clock.set(30.0)  # hours later, by the wall
    assert not limiter.allow("k")
    clock.set(90.0)
    assert limiter.allow("k", 2)


def test_a_cost_is_one_request(told, clock):
    """A counter that adds the cost counts units and says requests."""
    limiter = RateLimiter("10/minute", name="cost", clock=clock)
    limiter.acquire("k", 3), limiter.acquire("k", 0), limiter.acquire("k", 20)
    assert told.metrics.value("mobius.rate_limit.requests", {"mobius.rate_limit.policy": "cost"}) == 3


def test_headers_of_an_allowed_request_ask_nobody_to_retry(clock):
    """And every number of them is a whole one."""
    limiter = RateLimiter("5/90 seconds", clock=clock)
    clock.set(0.25)
    headers = limiter.acquire("k").headers(6, legacy=True)
    assert "Retry-After" not in headers
    assert all(value.isdigit() for value in headers.values())


def test_a_decision_on_a_full_clock_is_not_stuck():
    """A clock that is wrong at first and corrected later, by more than the window: nobody waits for the difference."""
    clock = FrozenClock(4_000_000_000.0)
    limiter = RateLimiter("1/minute", clock=clock)
    assert limiter.allow("k")
    clock.set(1_700_000_000.0)
    assert not limiter.allow("k")
    clock.advance(60.0)
    assert limiter.allow("k")
