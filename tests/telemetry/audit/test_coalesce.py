"""The coalescer: the first at once, the rest as a count, exact under threads."""

import os
import threading
from collections import Counter

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.coalesce import Coalescer
from mobius_otel.telemetry.safety import raise_errors


@pytest.fixture
def clock():
    return FrozenClock(0.0)


@pytest.fixture
def seen():
    return []


def coalescer(seen, clock, **options):
    return Coalescer(lambda key, count: seen.append((key, count)), clock=clock, **options)


def test_the_first_is_emitted_at_once_and_the_rest_when_the_window_is_over(seen, clock):
    """Three of one key: one record now, one with two at the end; a single one gets no second record."""
    c = coalescer(seen, clock, window=10)
    for key in ("a", "a", "b", "a"):
        c.add(key)
    assert seen == [("a", 1), ("b", 1)]
    clock.advance(9.9)
    c.flush()
    assert len(seen) == 2
    clock.advance(0.1)
    c.flush()
    assert seen == [("a", 1), ("b", 1), ("a", 2)]
    c.add("a")
    assert seen[-1] == ("a", 1)


def test_the_end_of_a_window_is_noticed_at_the_next_add_of_any_key(seen, clock):
    """No timer is needed."""
    c = coalescer(seen, clock, window=10)
    c.add("a")
    c.add("a")
    clock.advance(10)
    c.add("b")
    assert seen == [("a", 1), ("a", 1), ("b", 1)]


def test_it_is_bounded_and_counts_everything_all_the_same(seen, clock):
    """Beyond the bound the oldest window ends early."""
    c = coalescer(seen, clock, max_sources=3)
    for key in "aabbccddee":
        c.add(key)
    assert len(c) == 3
    c.flush(everything=True)
    totals = Counter()
    for key, count in seen:
        totals[key] += count
    assert totals == dict.fromkeys("abcde", 2)


def test_eight_threads_lose_no_count(seen, clock):
    """Exactly as many as were added, over a moving clock."""
    c = coalescer(seen, clock, window=5, max_sources=7)

    def add():
        for number in range(2000):
            c.add(number % 11)
            if number % 100 == 0:
                clock.advance(1)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    c.flush(everything=True)
    assert sum(count for _, count in seen) == 16_000


def test_a_sink_that_raises_is_kept_from_the_caller(clock):
    """The occurrence is gone, the service goes on."""
    before = raise_errors(False)
    try:
        Coalescer(lambda key, count: 1 / 0, clock=clock).add("a")
    finally:
        raise_errors(before)


def test_a_sink_may_come_back(seen, clock):
    """Emitting happens outside the lock, so a sink may add again."""
    c = Coalescer(lambda key, count: (seen.append(key), c.add("inner") if key == "outer" else None), clock=clock)
    c.add("outer")
    assert seen == ["outer", "inner"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_without_counts(seen, clock):
    """The parent emits its own."""
    c = coalescer(seen, clock)
    c.add("a")
    c.add("a")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(c) == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(c) == 1


@pytest.mark.parametrize("options", [{"window": 0}, {"window": float("nan")}, {"max_sources": 0}])
def test_a_wrong_setting_is_refused(seen, clock, options):
    """At construction."""
    with pytest.raises(ConfigurationError):
        coalescer(seen, clock, **options)
