"""A cluster, a failover, sentinels."""

import asyncio
import time

import pytest

from mobius_otel.security import RateLimiter
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from tests.services.valkeys import Cluster, Watched, wait_until


def test_every_limit_of_a_subject_lies_in_one_slot(cluster, name):
    """As the cluster itself reckons it."""
    backend = ValkeyBackend(cluster.url, deadline=5.0)
    limiter = RateLimiter(["9/second", "50/minute", "99/hour"], name=name, backend=backend)
    counts, client = limiter._counts._remote, cluster.nodes[0].client()
    for number in range(100):
        stem = counts._names.stem(f"k{number}")
        slots = {client.execute_command("CLUSTER", "KEYSLOT", stem + window) for window in counts._form.windows}
        assert slots == {backend._route._slot(stem)}


def test_a_cluster_counts_as_one_server_does(cluster, name):
    """Every subject exactly, wherever it lies; with the asyncio twin too."""
    limiter = RateLimiter(["3/hour", "100/day"], name=name, backend=cluster.url, deadline=5.0)
    for number in range(60):
        decisions = [limiter.acquire(f"k{number}") for _ in range(4)]
        assert [decision.allowed for decision in decisions] == [True, True, True, False]
        assert {decision.source for decision in decisions} == {"remote"}
    assert len(limiter._counts._remote._route.links()) == 3

    async def work():
        return [await limiter.acquire_async(f"a{number // 4}") for number in range(80)]

    decisions = asyncio.run(work())
    assert [decision.allowed for decision in decisions].count(True) == 60
    limiter.reset("k1")
    assert limiter.allow("k1", 3)


@pytest.mark.parametrize("package", ["valkey", "redis"])
def test_a_client_of_a_cluster_lends_its_settings(cluster, name, package):
    """Where to begin, and how to get in."""
    module = pytest.importorskip(f"{package}.cluster")
    client = getattr(module, f"{package.capitalize()}Cluster")(host="127.0.0.1", port=cluster.nodes[0].port)
    limiter = RateLimiter("2/hour", name=name, backend=client, deadline=5.0)
    assert [limiter.acquire(f"k{number}").source for number in range(30)] == ["remote"] * 30
    assert asyncio.run(limiter.acquire_async("k")).source == "remote"
    client.close()


def test_a_slot_that_has_moved_is_found(cluster, name):
    """The node that had it says where it is; while it is on its way, the call goes on to the other one."""
    backend = ValkeyBackend(cluster.url, deadline=5.0)
    limiter = RateLimiter("9/hour", name=name, backend=backend)
    assert limiter.acquire("k").remaining == 8
    stem = limiter._counts._remote._names.stem("k")
    slot, clients = backend._route._slot(stem), [node.client() for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
    at = next(i for i, node in enumerate(cluster.nodes) if node.port == backend._route._owners[slot][1])
    to = (at + 1) % 3
    clients[to].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[at])
    clients[at].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
    # Other tests' subjects may lie in the same slot, and a node that holds any key of a slot does not give it away.
    there = clients[at].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    assert stem + b"3600000000" in there
    clients[at].execute_command("MIGRATE", "127.0.0.1", cluster.nodes[to].port, "", 0, 5000, "KEYS", *there)
    assert limiter.acquire("k").remaining == 7  # ASK
    assert asyncio.run(limiter.acquire_async("k")).remaining == 6
    for index in (to, at, 3 - at - to):
        clients[index].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[to])
    assert limiter.acquire("k").remaining == 5  # MOVED
    assert backend._route._owners[slot][1] == cluster.nodes[to].port
    assert limiter.acquire("k").remaining == 4
    assert backend._route.answers()


def test_a_node_that_is_lost_costs_its_own_subjects_alone(tmp_path, name, told, caplog):
    """And its replica is asked once it has taken over; lost and found are said once."""
    nodes = Cluster(tmp_path, replicas=1)
    try:
        limiter = RateLimiter("90/hour", name=name, backend=nodes.start().url, deadline=1.0)
        assert {limiter.acquire(f"k{number}").source for number in range(50)} == {"remote"}
        time.sleep(0.2)  # replication is asynchronous
        nodes.nodes[0].kill()
        sources = [limiter.acquire(f"k{number % 50}").source for number in range(300)]
        assert set(sources) == {"remote", "fallback"}
        nodes.nodes[3].client().execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: {limiter.acquire(f"k{number}", 0).source for number in range(50)} == {"remote"})
        wait_until(lambda: not limiter._counts.look())
        assert all(limiter.acquire(f"k{number}").remaining <= 88 for number in range(50))  # counted before, and kept
        assert len([record for record in caplog.records if name in record.getMessage()]) == 2
    finally:
        nodes.stop()


def test_sentinels_say_who_the_primary_is(tmp_path, name):
    """Before and after it was lost."""
    watched = Watched(tmp_path)
    try:
        limiter = RateLimiter("50/hour", name=name, backend=watched.start().url, deadline=1.0)
        assert limiter.acquire("k", 5).source == "remote"
        assert asyncio.run(limiter.acquire_async("k")).remaining == 44
        assert watched.primary.client().wait(1, 5000) == 1  # replication is asynchronous
        watched.primary.kill()
        assert limiter.acquire("k").source == "fallback"
        # Who is about to become the primary answers a look before it takes a charge.
        wait_until(lambda: limiter.acquire("probe").source == "remote")
        assert limiter.acquire("k").remaining == 43
        client = pytest.importorskip("valkey.sentinel").Sentinel([("127.0.0.1", watched.port)]).master_for("shop")
        lent = RateLimiter("50/hour", name=f"{name}-lent", backend=client, deadline=1.0)
        wait_until(lambda: lent.acquire("probe").source == "remote")  # the client is stricter about who is one
        assert [lent.acquire("k").source, asyncio.run(lent.acquire_async("k")).source] == ["remote"] * 2
    finally:
        watched.stop()
