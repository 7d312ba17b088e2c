"""Waiting for one's turn: fair, cancellable, and without asking in between."""

import asyncio
import os
import threading
import time

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimiter


def until(condition, seconds=10.0):
    """Give the other threads time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def counting(limiter):
    """Count how often the counts are asked to charge."""
    asked = []
    take = limiter._counts.take
    limiter._counts = _Counted(limiter._counts, lambda *args: (asked.append(args), take(*args))[1])
    return asked


class _Counted:
    def __init__(self, counts, take):
        self.take = take
        self._counts = counts

    def __getattr__(self, name):
        return getattr(self._counts, name)


def test_it_sleeps_until_the_units_are_free_and_asks_once_more():
    """By the real clock: two tries for one wait."""
    limiter = RateLimiter("1/1 second")
    asked = counting(limiter)
    start = time.monotonic()
    assert limiter.wait("k").allowed
    assert limiter.wait("k").allowed
    assert 0.9 < time.monotonic() - start < 5
    assert len(asked) <= 4  # a sleep may end a moment early


def test_those_who_wait_are_served_in_the_order_in_which_they_came(clock):
    """Five threads, one unit a minute; the frozen clock wakes them."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k")
    asked = counting(limiter)
    served = []

    def work(number):
        assert limiter.wait("k").allowed
        served.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        until(lambda number=number: len(limiter._lines) == number + 1)
    for number in range(5):
        clock.advance(60)
        until(lambda number=number: len(served) == number + 1)
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4]
    assert len(asked) < 20
    assert len(limiter._lines) == 0


def test_who_cannot_pass_in_time_is_refused_at_once(told):
    """And so is a cost above the limit, whatever the time; each of them is one denial."""
    limiter = RateLimiter("2/hour", name="slow")
    limiter.acquire("k", 2)
    start = time.monotonic()
    assert not limiter.wait("k", timeout=0.5).allowed
    assert not limiter.wait("k", timeout=0).allowed
    assert limiter.wait("k", 3).retry_after == float("inf")
    assert time.monotonic() - start < 5
    assert told.metrics.value("mobius.rate_limit.requests", {"mobius.rate_limit.result": "denied"}) == 3


def test_the_timeout_holds_behind_others(clock):
    """The second in the line gives up at its own time and lets the others be."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k")
    results = {}
    first = threading.Thread(target=lambda: results.update(first=limiter.wait("k")))
    first.start()
    until(lambda: len(limiter._lines) == 1)
    second = threading.Thread(target=lambda: results.update(second=limiter.wait("k", timeout=30)))
    second.start()
    until(lambda: len(limiter._lines) == 2)
    clock.advance(30)
    second.join(10)
    assert not results["second"].allowed
    clock.advance(30)
    first.join(10)
    assert results["first"].allowed


@pytest.mark.parametrize("wake", ["refund", "reset", "override", "change"])
def test_what_is_given_back_wakes_the_first(clock, wake):
    """Without the clock's help."""
    limiter = RateLimiter("1/minute", clock=clock)
    charged = limiter.acquire("k")
    done = []
    waiting = threading.Thread(target=lambda: done.append(limiter.wait("k")))
    waiting.start()
    until(lambda: len(limiter._lines) == 1)
    {
        "refund": lambda: limiter.refund(charged),
        "reset": lambda: limiter.reset("k"),
        "override": lambda: limiter.override("k", "5/minute"),
        "change": lambda: limiter.change("5/minute"),
    }[wake]()
    waiting.join(10)
    assert done[0].allowed


def test_tasks_wait_too_in_order_and_leave_when_cancelled(clock):
    """The cancelled one frees its place in the line at once."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k")

    async def scene():
        served = []

        async def work(number):
            assert (await limiter.wait_async("k")).allowed
            served.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert len(limiter._lines) == 4
        tasks[0].cancel(), tasks[2].cancel()
        await asyncio.sleep(0.01)
        assert len(limiter._lines) == 2
        for number in range(2):
            clock.advance(60)
            while len(served) == number:
                await asyncio.sleep(0.001)
        await asyncio.gather(*tasks, return_exceptions=True)
        return served

    assert asyncio.run(scene()) == [1, 3]
    assert len(limiter._lines) == 0


def test_a_task_waits_by_the_real_clock_without_blocking_the_loop():
    """Others run meanwhile."""
    limiter = RateLimiter("1/1 second")
    limiter.acquire("k")

    async def scene():
        waiting = asyncio.create_task(limiter.wait_async("k", timeout=10))
        ticks = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, (await waiting).allowed

    ticks, allowed = asyncio.run(scene())
    assert ticks > 10
    assert allowed


def test_a_thread_that_is_interrupted_leaves_the_line():
    """The next one is not held up by it."""
    limiter = RateLimiter("1/hour")
    limiter.acquire("k")
    sleep = "mobius_otel.security.rate_limit.waiting.ThreadWaiter.sleep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sleep, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            limiter.wait("k")
    assert len(limiter._lines) == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_a_timeout_that_is_none_is_refused(timeout):
    """By name."""
    with pytest.raises(ConfigurationError, match="timeout"):
        RateLimiter("1/minute").wait("k", timeout=timeout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_no_line(clock):
    """Nobody of the parent's waits there, and no lock is held."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k")
    waiting = threading.Thread(target=limiter.wait, args=("k",))
    waiting.start()
    until(lambda: len(limiter._lines) == 1)
    with limiter._lines._lock:
        child = os.fork()
        if child == 0:
            passed = len(limiter._lines) == 0 and limiter.wait("k").allowed
            os._exit(0 if passed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    clock.advance(60)
    waiting.join(10)


def test_a_clock_that_moves_keeps_no_limiter_alive():
    """It watches, and forgets who is gone."""
    clock = FrozenClock()
    limiter = RateLimiter("1/minute", clock=clock)
    del limiter
    clock.advance(1)
    RateLimiter("1/minute", clock=clock)
    assert len(clock._watching) <= 2
