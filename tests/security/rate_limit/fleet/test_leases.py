"""Units drawn in advance: few calls, never more than the limit, and a bound that is kept."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from tests.services.forking import in_processes
from tests.services.valkeys import wait_until

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def calls(server):
    """How often a script was run."""
    return int(server.client().info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def leased(server, name, limit, lease=0.1, **more):
    return RateLimiter(limit, name=name, backend=server.url(), lease=lease, deadline=5.0, **more)


def test_a_limit_that_is_far_away_is_asked_for_rarely(shared_server, name):
    """The answers are the process's own; what is left is what the server said, less what was spent."""
    limiter = leased(shared_server, name, "1000000/hour", 0.01)
    before = calls(shared_server)
    decisions = [limiter.acquire("k") for _ in range(2000)]
    assert calls(shared_server) - before < 50
    assert [decision.remaining for decision in decisions] == [999_999 - n for n in range(2000)]
    assert {decision.source for decision in decisions} == {"local", "remote"}
    assert decisions[-1].source == "local"
    assert 3590 < decisions[-1].reset_after <= 3600


def test_the_limit_is_met_exactly_and_denials_are_remembered(shared_server, name):
    """Nothing is lent within the last part; who was refused is refused here until it is time."""
    limiter = leased(shared_server, name, "500/hour")
    assert [limiter.allow("k") for _ in range(600)] == [True] * 500 + [False] * 100
    before = calls(shared_server)
    denied = [limiter.acquire("k") for _ in range(500)]
    assert calls(shared_server) == before
    assert {decision.source for decision in denied} == {"local"}
    assert 3590 < denied[-1].retry_after < denied[0].retry_after < 3600
    assert not limiter.peek("k").allowed
    assert not limiter.acquire("k", 501).allowed


def test_a_remembered_denial_ends_when_the_server_said(shared_server, name):
    """Not later: it counts from when the question was sent."""
    limiter = leased(shared_server, name, RateLimit(20, 0.4))
    assert [limiter.allow("k") for _ in range(21)][-1] is False
    wait_until(lambda: limiter.acquire("k", 20).allowed, every=0.005, seconds=2)
    assert limiter.acquire("k").allowed is False


@forks
@pytest.mark.parametrize("lease", [0, 0.01, 0.1])
def test_four_processes_let_exactly_the_limit_pass(shared_server, name, lease):
    """With leases and without; each tries more often than the limit allows all of them."""

    def work(index):
        limiter = RateLimiter("1000/hour", name=name, backend=shared_server.url(), lease=lease, deadline=5.0)
        return sum(limiter.allow("k") for _ in range(1200 if lease else 400))

    assert sum(in_processes(4, work)) == 1000


@forks
def test_four_processes_over_two_limits_with_costs(shared_server, name):
    """Never more than either limit, and none is wasted."""

    def work(index):
        limiter = leased(shared_server, name, ["700/hour", "10000/day"])
        return sum(cost for n in range(600) if limiter.allow("k", cost := 1 + (n + index) % 3))

    assert 698 <= sum(in_processes(4, work)) <= 700


@pytest.mark.parametrize("lease", [0.02, 0.2])
def test_no_window_holds_more_than_the_limit_and_what_was_lent(shared_server, name, lease):
    """Four that do not know each other, at full speed over many windows: by true time, from before to after a call."""
    limit, per = 300, 0.5
    passed, end = [[] for _ in range(4)], time.monotonic() + 2.5

    def work(times):
        limiter = leased(shared_server, name, RateLimit(limit, per), lease)
        while (began := time.monotonic()) < end:
            if limiter.allow("k"):
                times.append((began, time.monotonic()))
            else:
                time.sleep(0.002)

    threads = [threading.Thread(target=work, args=(times,)) for times in passed]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    times = sorted(pair for each in passed for pair in each)
    most = max(sum(1 for began, done in times[first:] if done < times[first][0] + per) for first in range(len(times)))
    assert limit * 0.8 < most <= limit * (1 + lease)
    assert len(times) > 4 * limit * 0.8


def test_what_was_not_spent_is_given_back_with_the_next_call(shared_server, name):
    """A key that was busy and is no more holds nothing back."""
    limiter = leased(shared_server, name, "1000/hour", 0.5)
    for _ in range(40):
        limiter.acquire("k")
    truth = RateLimiter("1000/hour", name=name, backend=shared_server.url(), deadline=5.0)
    lent = 960 - truth.peek("k").remaining
    assert lent > 5
    time.sleep(1.05)  # a lease's age
    limiter.acquire("k")
    assert 959 - truth.peek("k").remaining <= 40  # what it draws anew is no more than it spent of the last one


def test_at_the_end_everything_is_given_back(shared_server, name):
    """By closing the backend, as the runtime does."""
    backend = ValkeyBackend(shared_server.url(), deadline=5.0)
    limiter = RateLimiter("1000/hour", name=name, backend=backend, lease=0.5)
    for _ in range(50):
        limiter.acquire("k")
    backend.close()
    assert RateLimiter("1000/hour", name=name, backend=shared_server.url(), deadline=5.0).peek("k").remaining == 950


def test_a_process_that_ends_gives_back_too(shared_server, name):
    """Without anybody closing anything."""
    code = (
        "import sys; from mobius_otel import RateLimiter\n"
        "limiter = RateLimiter('1000/hour', name=sys.argv[1], backend=sys.argv[2], lease=0.5, deadline=5.0)\n"
        "[limiter.acquire('k') for _ in range(50)]"
    )
    subprocess.run([sys.executable, "-c", code, name, shared_server.url()], check=True, capture_output=True)
    assert RateLimiter("1000/hour", name=name, backend=shared_server.url(), deadline=5.0).peek("k").remaining == 950


def test_a_process_that_died_holds_its_part_for_two_ages_at_most(shared_server, name):
    """Its leases are forgotten; what it had drawn leaves with the window."""
    gone = leased(shared_server, name, RateLimit(1000, 3600.0), 0.1)
    for _ in range(300):
        gone.acquire("k")
    other = leased(shared_server, name, RateLimit(1000, 3600.0), 0.1)
    time.sleep(2.1)
    before = calls(shared_server)
    assert all(other.allow("k") for _ in range(200))
    assert calls(shared_server) - before < 40


@forks
def test_a_forked_child_does_not_spend_its_parents_lease(shared_server, name):
    """It would be spent twice."""
    limiter = leased(shared_server, name, "400/hour", 0.5)
    spent = sum(limiter.allow("k") for _ in range(30))
    child = sum(in_processes(2, lambda index: sum(limiter.allow("k") for _ in range(300))))
    assert spent + child + sum(limiter.allow("k") for _ in range(300)) == 400


def test_eight_threads_share_a_lease(shared_server, name):
    """One of them draws, the others ask meanwhile."""
    limiter = leased(shared_server, name, "3000/hour", 0.05)
    allowed = []
    threads = [
        threading.Thread(target=lambda: allowed.append(sum(limiter.allow("k") for _ in range(500)))) for _ in range(8)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(allowed) == 3000


def test_a_refund_goes_to_the_lease_or_to_the_server(shared_server, name):
    """And what was remembered of a refusal is forgotten."""
    limiter = leased(shared_server, name, "100/hour", 0.5)
    decisions = [limiter.acquire("k") for _ in range(100)]
    assert not limiter.allow("k")
    assert limiter.refund(decisions[0])
    assert limiter.refund(decisions[-1])
    assert [limiter.allow("k") for _ in range(3)] == [True, True, False]
    limiter.reset("k")
    assert limiter.allow("k")


def test_limits_changed_at_run_time_hold_at_once(shared_server, name):
    """No lease and no refusal of the old ones is left."""
    limiter = leased(shared_server, name, "10000/hour", 0.5)
    for _ in range(50):
        limiter.allow("k")
    limiter.change("20/hour")
    assert not limiter.allow("k")
    limiter.override("k", "100000/hour")
    assert limiter.allow("k")


def test_the_asyncio_twin_spends_from_the_same_lease(shared_server, name):
    """Exactly, from many tasks."""
    limiter = leased(shared_server, name, "700/hour")

    async def work():
        decisions = await asyncio.gather(*[limiter.acquire_async("k") for _ in range(400)])
        decisions += [await limiter.acquire_async("k") for _ in range(400)]
        return sum(decision.allowed for decision in decisions)

    assert asyncio.run(work()) == 700


def test_a_limit_too_small_for_leases_is_asked_for_each_time(shared_server, name):
    """A hundredth of 50 is no unit."""
    limiter = leased(shared_server, name, "50/hour", 0.01)
    assert {limiter.acquire("k").source for _ in range(50)} == {"remote"}
    assert limiter.acquire("k").source == "remote"
    assert limiter.acquire("k").source == "local"


def test_keys_that_are_not_asked_for_are_forgotten(shared_server, name, monkeypatch):
    """A process remembers those of the last twenty seconds."""
    from mobius_otel.security.rate_limit.backends.valkey import leases

    monkeypatch.setattr(leases, "_TURN_SECONDS", 0.2)
    limiter = leased(shared_server, name, "1000/hour")
    for number in range(100):
        limiter.allow(number)
    assert len(limiter) == 100
    time.sleep(0.5)
    for number in range(2):
        limiter.allow(number)
    time.sleep(0.25)
    limiter.allow(0)
    assert len(limiter) < 10


def test_without_its_server_a_leased_limiter_falls_back_too(own_server, name):
    """When its lease is used up or too old."""
    limiter = leased(own_server, name, "1000/hour")
    for _ in range(20):
        limiter.allow("k")
    own_server.kill()
    time.sleep(1.0)
    assert limiter.acquire("k").source == "fallback"
    own_server.start()
    wait_until(lambda: limiter.acquire("k").source != "fallback")


def test_leases_are_for_the_log_and_a_server():
    """Refused by name elsewhere."""
    with pytest.raises(ConfigurationError, match="lease"):
        RateLimiter("100/hour", lease=0.1)
    with pytest.raises(ConfigurationError, match="lease"):
        RateLimiter("100/hour", lease=0.1, algorithm="gcra", backend="valkey://localhost:1")
