"""What can be changed while it runs: refunds, own limits, other limits, bounds; and functions that are limited."""

import asyncio
import inspect
import logging
import threading

import pytest

from mobius_otel import RateLimitExceeded
from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.backends import LimiterSpec, MemoryBackend

ALGORITHMS = ["sliding_window_log", "gcra"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_refund_gives_back_once_and_only_what_is_in_use(clock, algorithm):
    """Not twice, not after the window, not what was denied, not another limiter's."""
    limiter = RateLimiter(["3/minute", "5/hour"], algorithm=algorithm, clock=clock)
    charged = limiter.acquire("k", 3)
    denied = limiter.acquire("k")
    assert not limiter.refund(denied)
    assert limiter.refund(charged)
    assert not limiter.refund(charged)
    assert limiter.peek("k").remaining == 3
    with pytest.raises(ConfigurationError, match="a decision of the limiter"):
        RateLimiter("1/minute", name="other").refund(limiter.acquire("k"))


def test_a_refund_after_the_window_gives_nothing_back(clock):
    """The unit is free anyway."""
    limiter = RateLimiter("1/minute", clock=clock)
    charged = limiter.acquire("k")
    clock.advance(60)
    assert limiter.allow("k")
    assert not limiter.refund(charged)
    assert not limiter.allow("k")


def test_a_refund_finds_its_hit_among_thousands(clock):
    """Also where hits are grouped, and where costs differ."""
    limiter = RateLimiter("5000/minute", clock=clock)
    decisions = []
    for number in range(3000):
        clock.advance(0.001)
        decisions.append(limiter.acquire("k", 1 + number % 2))
    before = limiter.peek("k").remaining
    for decision in decisions[::7]:
        assert limiter.refund(decision)
    assert limiter.peek("k").remaining == before + sum(1 + number % 2 for number in range(0, 3000, 7))


def test_refunds_of_many_threads_are_exact():
    """Half of all charges come back."""
    limiter = RateLimiter("100000/hour")

    def work():
        for number in range(500):
            decision = limiter.acquire("k")
            if number % 2:
                limiter.refund(decision)

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert limiter.peek("k").remaining == 100_000 - 8 * 250


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_own_limits_hold_for_one_key_and_keep_what_it_has_used(clock, algorithm):
    """And the limiter's own again, with what was used meanwhile."""
    limiter = RateLimiter("2/minute", algorithm=algorithm, clock=clock)
    assert limiter.allow("big", 2)
    limiter.override("big", "10/minute")
    decision = limiter.acquire("big", 8)
    assert (decision.allowed, decision.limit, decision.remaining) == (True, 10, 0)
    assert not limiter.allow("big")
    assert limiter.allow("other", 2)
    assert not limiter.allow("other")
    limiter.reset("big")
    assert limiter.acquire("big", 9).remaining == 1
    limiter.override("big", None)
    assert not limiter.allow("big")
    assert limiter.limits_of("big") == limiter.limits


def test_own_limits_may_be_several_where_the_limiter_has_one(clock):
    """And are told in the headers."""
    limiter = RateLimiter("2/minute", name="api", clock=clock)
    limiter.override("big", ["5/second", RateLimit(100, per=60.0)])
    headers = limiter.acquire("big", 4).headers()
    assert headers["RateLimit-Policy"] == '"api-1";q=5;w=1, "api-2";q=100;w=60'
    assert headers["RateLimit"] == '"api-1";r=1;t=1'


def test_other_limits_keep_what_is_counted(clock):
    """A higher one leaves the difference, a lower one nothing until it is free; a longer window has the same log."""
    limiter = RateLimiter("5/minute", clock=clock)
    assert limiter.allow("k", 5)
    clock.advance(30)
    limiter.change("7/minute")
    assert [limiter.allow("k", 2), limiter.allow("k")] == [True, False]
    limiter.change("3/minute")
    assert limiter.acquire("k").retry_after == 30.0  # five of the seven must be out
    clock.advance(30)  # the five are out, the two are in
    assert [limiter.allow("k"), limiter.allow("k")] == [True, False]
    limiter.change(["3/minute", "4/hour"])
    clock.advance(60)
    assert [limiter.allow("k"), limiter.allow("k")] == [True, False]


def test_what_was_in_use_at_a_change_counts_in_a_longer_window(clock):
    """However long the key does not come."""
    limiter = RateLimiter("3/second", clock=clock)
    assert limiter.allow("k", 3)
    limiter.change("3/minute")
    clock.advance(59)
    assert not limiter.allow("k")
    clock.advance(1)
    assert limiter.allow("k", 3)


def test_changes_without_an_end_remember_no_more_than_is_live(clock):
    """Somebody may change the limit every second."""
    limiter = RateLimiter("10/5 seconds", clock=clock)
    for number in range(500):
        limiter.allow(f"client-{number}")
        clock.advance(1)
        limiter.change(f"{10 + number % 2}/5 seconds")
    assert len(limiter) <= 12
    assert len(limiter._counts._past) <= 12


def test_what_comes_when_max_keys_is_reached_shares_one_count(clock, caplog):
    """Nobody who is exhausted is forgotten, nobody passes uncounted, and it is said once."""
    caplog.set_level(logging.WARNING, "mobius_otel")
    limiter = RateLimiter("2/minute", clock=clock, max_keys=3, audit=False)
    for key in "abc":
        assert limiter.allow(key, 2)
    assert [limiter.allow(key) for key in "defg"] == [True, True, False, False]
    assert [limiter.allow(key) for key in "abc"] == [False, False, False]
    assert len(limiter) == 4
    assert len([record for record in caplog.records if "max_keys=3" in record.getMessage()]) == 1
    clock.advance(180)
    assert [limiter.allow(key, 2) for key in "defgh"] == [True, True, True, True, False]


def test_a_refund_of_the_shared_count_goes_to_it(clock):
    """Which is where it was taken from."""
    limiter = RateLimiter("1/minute", clock=clock, max_keys=1)
    limiter.acquire("a")
    charged = limiter.acquire("b")
    assert not limiter.allow("c")
    assert limiter.refund(charged)
    assert limiter.allow("c")


@pytest.mark.parametrize("max_keys", [0, -1, 1.5, True, "many"])
def test_a_bound_that_is_none_is_refused(max_keys):
    """By name."""
    with pytest.raises(ConfigurationError, match="max_keys"):
        RateLimiter("1/minute", max_keys=max_keys)


def test_what_a_backend_lacks_is_refused_by_name():
    """At construction, with what it can do."""

    class Small(MemoryBackend):
        capabilities = frozenset({"sliding_window_log"})

    RateLimiter("1/minute", backend=Small())
    for given in ({"limits": ["1/minute", "2/hour"]}, {"algorithm": "gcra"}, {"max_keys": 5}):
        with pytest.raises(ConfigurationError, match=r"capable of (several_limits|gcra|max_keys)"):
            RateLimiter(**{"limits": "1/minute", **given}, backend=Small())
    assert LimiterSpec(limits=(RateLimit(1, 1.0),)).needs == {"sliding_window_log"}


def test_generators_of_both_kinds_are_limited_and_stay_what_they_are(clock):
    """At their first step; what is sent, thrown and returned passes."""
    limiter = RateLimiter("1/minute", clock=clock)

    @limiter.limit(key="plain")
    def numbers(last):
        got = yield 1
        try:
            yield got
        except ValueError:
            yield "caught"
        return last

    @limiter.limit(key="async")
    async def numbers_async():
        got = yield 1
        try:
            yield got
        except ValueError:
            yield "caught"

    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(numbers_async)
    steps = numbers("end")
    assert [next(steps), steps.send(5), steps.throw(ValueError)] == [1, 5, "caught"]
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert done.value.value == "end"
    second = numbers("end")
    with pytest.raises(RateLimitExceeded):
        next(second)

    async def scene():
        steps = numbers_async()
        assert [await anext(steps), await steps.asend(5), await steps.athrow(ValueError)] == [1, 5, "caught"]
        await steps.aclose()
        with pytest.raises(RateLimitExceeded):
            await anext(numbers_async())

    asyncio.run(scene())


def test_a_limited_method_keeps_its_name_and_its_self(clock):
    """The key may be made of it."""
    limiter = RateLimiter("1/minute", clock=clock)

    class Shop:
        def __init__(self, name):
            self.name = name

        @limiter.limit(key=lambda self, *_: self.name, cost=1)
        def sell(self, what):
            """Sell."""
            return f"{self.name} sells {what}"

    assert Shop("a").sell("tea") == "a sells tea"
    assert Shop("b").sell("tea") == "b sells tea"
    assert Shop.sell.__name__ == "sell"
    with pytest.raises(RateLimitExceeded, match="used up"):
        Shop("a").sell("tea")


def test_subclasses_and_patches_of_the_class_are_asked(monkeypatch, clock):
    """The fast path hides behind the methods, not before them."""
    limiter = RateLimiter("1/minute", clock=clock)
    monkeypatch.setattr(RateLimiter, "allow", lambda self, key, cost=1: "patched")
    assert limiter.allow("k") == "patched"
