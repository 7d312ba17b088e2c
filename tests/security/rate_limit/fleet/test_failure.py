"""A limiter whose server is gone, hangs, is slow, is full, may not be written, or does not let it in."""

import asyncio
import logging
import os
import threading
import time

import pytest

from mobius_otel.security import RateLimiter
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from tests.services.proxy import SlowProxy
from tests.services.valkeys import server, wait_until

POLICY = "mobius.rate_limit.policy"
DEGRADED = "mobius.rate_limit.degraded"
DURATION = "mobius.rate_limit.backend.duration"


def back(limiter):
    """Wait until the server decides again."""
    wait_until(lambda: limiter.peek("somebody").source == "remote")


def test_a_killed_server_is_replaced_at_once_and_used_again_when_it_is_back(own_server, told, caplog, name):
    """The change of state is one line, one audit event and one metric, and nobody waits."""
    caplog.set_level(logging.WARNING, "mobius_otel")
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url("", query=""))
    back(limiter)
    assert limiter.acquire("k", 2).remaining == 3
    own_server.kill()
    began = time.monotonic()
    decisions = [limiter.acquire("k") for _ in range(1000)]
    assert time.monotonic() - began < 5  # a peer takes 4 s for each of them
    assert [decision.allowed for decision in decisions].count(True) == 5
    assert {decision.source for decision in decisions} == {"fallback"}
    assert told.metrics.value(DEGRADED, {POLICY: name}) == 1
    own_server.start()
    wait_until(lambda: told.metrics.value(DEGRADED, {POLICY: name}) == 0)  # without a decision
    assert limiter.acquire("k").source == "remote"
    own = [event for event in told.events() if event.get(POLICY) == name]
    assert [event["audit.outcome"] for event in own if "audit.outcome" in event and "mobius.count" not in event] == [
        "failure",
        "success",
    ]
    assert len([record for record in caplog.records if name in record.getMessage()]) == 2
    assert told.metrics.value("mobius.rate_limit.requests", {POLICY: name, "mobius.rate_limit.result": "denied"}) == 995


def test_a_stopped_server_costs_one_deadline(own_server, told, name):
    """SIGSTOP keeps the connection open and says nothing; only the first decision waits."""
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=0.2)
    back(limiter)
    own_server.pause()
    began = time.monotonic()
    assert limiter.acquire("k").source == "fallback"
    waited = time.monotonic() - began
    assert 0.19 <= waited < 2  # peers: 5 s, or for ever
    began = time.monotonic()
    for _ in range(200):
        limiter.acquire("k")
    assert time.monotonic() - began < 2
    assert told.metrics.count(DURATION, {POLICY: name, "error.type": "TimeoutError"}) == 1
    own_server.resume()
    back(limiter)


def test_a_stopped_server_costs_one_deadline_from_the_first_call_on(own_server, name):
    """Also where there is no connection yet: the listener accepts it, and nobody answers."""
    own_server.pause()
    for algorithm in ("first", "second"):
        limiter = RateLimiter("5/hour", name=f"{name}{algorithm}", backend=own_server.url(":secret@"), deadline=0.2)
        began = time.monotonic()
        assert limiter.acquire("k").source == "fallback"
        assert 0.19 <= time.monotonic() - began < 2
    own_server.resume()


def test_the_asyncio_twin_waits_no_longer(own_server, name):
    """And the loop goes on meanwhile."""
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=0.2)

    async def work():
        assert (await limiter.acquire_async("k")).source == "remote"
        own_server.pause()
        turns, began = 0, time.monotonic()
        task = asyncio.ensure_future(limiter.acquire_async("k"))
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert task.result().source == "fallback"
        assert 0.19 <= time.monotonic() - began < 2
        assert turns > 3
        assert (await limiter.acquire_async("k")).source == "fallback"
        own_server.resume()
        while (await limiter.acquire_async("k", 0)).source != "remote":
            await asyncio.sleep(0.02)

    asyncio.run(work())


def test_a_restart_without_data_begins_anew_and_one_with_data_goes_on(tmp_path, name):
    """The server's memory is the count."""
    with server(tmp_path / "aof", appendonly="yes", appendfsync="always") as kept:
        limiter = RateLimiter("5/hour", name=name, backend=kept.url(), deadline=5.0)
        assert limiter.acquire("k", 4).remaining == 1
        kept.kill()
        assert limiter.acquire("k").source == "fallback"
        kept.start()
        back(limiter)
        assert [limiter.allow("k"), limiter.allow("k")] == [True, False]
        kept.client().flushall()
        assert limiter.acquire("k").remaining == 4


def test_scripts_that_were_flushed_are_brought_again(own_server, name):
    """In the same call, which is no failure."""
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=5.0)
    limiter.acquire("k")
    own_server.client().script_flush()
    assert [limiter.acquire("k").source, limiter.acquire("k").remaining] == ["remote", 2]
    own_server.client().script_flush()
    assert asyncio.run(limiter.acquire_async("k")).remaining == 1


def test_a_connection_that_the_server_closed_is_noticed(own_server, name):
    """After it was idle: a timeout of the server or of something between must cost no decision."""
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=5.0)
    limiter.acquire("k")
    time.sleep(1.1)
    own_server.client().client_kill_filter(_type="normal", skipme=True)
    assert limiter.acquire("k").source == "remote"


def test_a_slow_network_is_waited_for_up_to_the_deadline(shared_server, name, told):
    """One round trip of 30 ms fits in, and one of half a second does not; a connection may take longer than a call."""
    with SlowProxy(shared_server.address, delay=0.03) as proxy:
        shared_server.client().execute_command("ACL", "SETUSER", "slow", "on", ">pw", "~*", "+@all")
        limiter = RateLimiter("50/hour", name=name, backend=f"valkey://slow:pw@127.0.0.1:{proxy.port}/5", deadline=0.5)
        assert [limiter.acquire("k").source for _ in range(3)] == ["remote"] * 3
        proxy.delay = 10.0
        began = time.monotonic()
        assert limiter.acquire("k").source == "fallback"
        assert 0.45 <= time.monotonic() - began < 5


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_longer(shared_server, name):
    """Each piece comes in time, and all of them do not."""
    with SlowProxy(shared_server.address) as proxy:
        limiter = RateLimiter("50/hour", name=name, backend=f"valkey://127.0.0.1:{proxy.port}", deadline=0.3)
        assert [limiter.acquire("k").source for _ in range(2)] == ["remote"] * 2
        proxy.drip, proxy.delay = True, 0.25
        began = time.monotonic()
        assert limiter.acquire("k").source == "fallback"
        assert 0.29 <= time.monotonic() - began < 5  # all of some forty bytes take ten seconds
        proxy.drip, proxy.delay = True, 0.001
        back(limiter)
        assert limiter.acquire("k").source == "remote"


def test_a_connection_that_comes_too_late_serves_the_next_decision(shared_server, name):
    """Three round trips to get in take longer than a decision may; later ones need one."""
    with SlowProxy(shared_server.address, delay=0.12) as proxy:
        limiter = RateLimiter("50/hour", name=name, backend=f"valkey://127.0.0.1:{proxy.port}/6", deadline=0.2)
        assert limiter.acquire("k").source == "fallback"
        back(limiter)
        assert limiter.acquire("k").source == "remote"
        assert proxy.connections <= 3


def test_a_cut_line_is_one_failure(shared_server, name):
    """The next connection is made by the breaker's thread."""
    with SlowProxy(shared_server.address) as proxy:
        limiter = RateLimiter("50/hour", name=name, backend=f"valkey://127.0.0.1:{proxy.port}", deadline=5.0)
        limiter.acquire("k")
        proxy.cut()
        assert limiter.acquire("k").source == "fallback"
        back(limiter)


def test_many_tasks_share_a_few_connections(shared_server, name):
    """They wait for their turn, and all of them get an answer of the server."""
    with SlowProxy(shared_server.address) as proxy:
        limiter = RateLimiter("250/hour", name=name, backend=f"valkey://127.0.0.1:{proxy.port}", deadline=5.0)

        async def work():
            return await asyncio.gather(*[limiter.acquire_async("k") for _ in range(300)])

        decisions = asyncio.run(work())
        assert {decision.source for decision in decisions} == {"remote"}
        assert sum(decision.allowed for decision in decisions) == 250
        assert proxy.connections <= 16


def test_a_loop_that_was_held_up_blames_the_server_at_last_alone(own_server, name):
    """An answer that nobody could read in time is no failure of the server; one that never comes is."""
    limiter = RateLimiter("90000/hour", name=name, backend=own_server.url(), deadline=0.1)

    async def held_up():
        while True:
            time.sleep(0.2)
            await asyncio.sleep(0)

    async def work():
        await limiter.acquire_async("k")
        task = asyncio.ensure_future(held_up())
        for _ in range(3):
            await limiter.acquire_async("k")
        assert not limiter._counts.look()
        own_server.pause()
        while not limiter._counts.look():
            await limiter.acquire_async("k")
        own_server.resume()
        task.cancel()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_host_that_has_no_address_is_not_waited_for(name):
    """Name servers may take their time; the thread that asks them is not the caller's."""
    limiter = RateLimiter("5/hour", name=name, backend="valkey://no-such-host.invalid", deadline=0.3)
    began = time.monotonic()
    assert [limiter.acquire("k").source for _ in range(50)] == ["fallback"] * 50
    assert time.monotonic() - began < 3


def test_a_full_server_is_a_lost_one_until_there_is_room(own_server, told, name, caplog):
    """maxmemory without eviction: what cannot be written cannot be counted."""
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=5.0)
    limiter.acquire("k")
    client = own_server.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    assert [limiter.acquire("k").source for _ in range(3)] == ["fallback"] * 3
    assert told.metrics.count(DURATION, {POLICY: name, "error.type": "OutOfMemoryError"}) == 1
    time.sleep(0.3)
    assert limiter.acquire("k").source == "fallback"  # it answers a PING, but it cannot count
    client.config_set("maxmemory", "0")
    back(limiter)
    assert limiter.acquire("k").remaining == 3


def test_a_replica_that_may_not_be_written_is_a_lost_server(own_server, tmp_path, name, told):
    """Until it is the primary."""
    with server(tmp_path / "replica", replicaof=f"127.0.0.1 {own_server.port}") as replica:
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        limiter = RateLimiter("5/hour", name=name, backend=replica.url(), deadline=5.0)
        assert limiter.acquire("k").source == "fallback"
        assert told.metrics.count(DURATION, {POLICY: name, "error.type": "ReadOnlyError"}) == 1
        replica.client().replicaof("NO", "ONE")
        back(limiter)


@pytest.mark.parametrize("login", ["wrong:hunter2@", ":hunter2@"])
def test_a_wrong_password_is_a_lost_server_and_is_told_nowhere(shared_server, name, told, caplog, login):
    """Not in the log, the record, a metric, a repr."""
    caplog.set_level(logging.DEBUG)
    limiter = RateLimiter("5/hour", name=name, backend=shared_server.url(login), deadline=5.0)
    assert limiter.acquire("k").source == "fallback"
    assert "AuthenticationError" in caplog.text
    said = caplog.text + repr(limiter) + repr(limiter._counts) + told.text() + repr(told.metrics.series(DURATION))
    assert "hunter2" not in said


def test_a_password_is_asked_for(own_server, name):
    """And a decision without one is the fallback's."""
    own_server.client().config_set("requirepass", "hunter2")
    assert RateLimiter("5/hour", name=name, backend=own_server.url(), deadline=5.0).acquire("k").source == "fallback"
    limiter = RateLimiter("5/hour", name=name, backend=own_server.url(":hunter2@"), deadline=5.0)
    assert limiter.acquire("k").source == "remote"
    assert asyncio.run(limiter.acquire_async("k")).source == "remote"


@pytest.mark.parametrize(("policy", "allowed"), [("open", True), ("closed", False)])
def test_open_lets_everybody_in_and_closed_nobody(name, told, policy, allowed):
    """While the server is gone; each decision is counted as an error."""
    limiter = RateLimiter("2/hour", name=name, backend="valkey://127.0.0.1:1", on_backend_error=policy)
    assert [limiter.acquire("k").allowed for _ in range(5)] == [allowed] * 5
    assert told.metrics.value("mobius.rate_limit.requests", {POLICY: name, "mobius.rate_limit.result": "error"}) == 5
    assert [limiter.peek("k").allowed, bool(limiter.acquire("k").retry_after)] == [allowed, not allowed]


def test_a_local_share_keeps_a_fleet_within_the_limit(name, told):
    """Each of four processes allows a quarter."""
    limiter = RateLimiter(["8/hour", "3/minute"], name=name, backend="valkey://127.0.0.1:1", local_share=0.25)
    assert [limiter.allow("k") for _ in range(3)] == [True, False, False]
    assert limiter.acquire("k").limit == 1


def test_a_server_that_fails_every_second_time_makes_no_flood_of_records(own_server, told, caplog, name):
    """Lost and found again a few times, however often it is tried."""
    caplog.set_level(logging.WARNING, "mobius_otel")
    limiter = RateLimiter("100000/hour", name=name, backend=own_server.url(), deadline=5.0)
    back(limiter)
    client = own_server.client()
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        client.client_kill_filter(_type="normal", skipme=True)
        limiter.acquire("k")
    lines = [record for record in caplog.records if name in record.getMessage()]
    assert 1 <= len(lines) <= 20


def test_one_thread_tries_the_server_whoever_asks(own_server, name):
    """Eight threads find it gone; one probe brings it back."""
    backend = ValkeyBackend(own_server.url(), deadline=0.2)
    limiter = RateLimiter("50/hour", name=name, backend=backend)
    back(limiter)
    own_server.pause()
    probes, probe = [], backend._route._link._probe_with
    backend._route._link._probe_with = lambda link: (probes.append(threading.get_ident()), probe(link))
    threads = [threading.Thread(target=lambda: [limiter.acquire("k") for _ in range(20)]) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(set(probes)) <= 1
    own_server.resume()
    back(limiter)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_connections_of_its_own(shared_server, name):
    """Parent and child ask at the same time; no answer goes to the other one."""
    limiter = RateLimiter("1000/hour", name=name, backend=shared_server.url(), deadline=5.0)
    limiter.acquire("k")
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            good = all(limiter.acquire(f"child-{number}").remaining == 999 - n for n in range(50))
            os._exit(0 if good else 1)
        children.append(child)
    assert all(limiter.acquire("parent").remaining == 999 - n for n in range(50))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_process_that_lost_its_server_asks_it_again(own_server, name):
    """The thread that tries the server did not come along."""
    limiter = RateLimiter("1000/hour", name=name, backend=own_server.url(), deadline=5.0)
    port_holder = own_server
    port_holder.kill()
    assert limiter.acquire("k").source == "fallback"
    port_holder.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if limiter.acquire("k").source == "remote" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
