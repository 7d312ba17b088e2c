"""Verification: the cache, the throttle, networks, single flight, and what a hostile client may try."""

import asyncio
import gc
import random
import statistics
import threading
import time
import tracemalloc

import pytest

from mobius_otel.errors import (
    ConfigurationError,
    InsufficientScope,
    InvalidApiKey,
    KeyStoreUnavailable,
    KeyThrottled,
)
from mobius_otel.security import ApiKeyManager, KeyState
from mobius_otel.security.api_keys import MemoryKeyStore
from mobius_otel.security.api_keys.cache import KeyCache
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.secret import generate
from tests.security.api_keys.conftest import PEPPER
from tests.security.api_keys.test_manager import reason
from tests.security.api_keys.test_stores import at_once


class Counting(MemoryKeyStore):
    """Counts look-ups, and takes its time for them when it is told to."""

    blocking = True

    def __init__(self):
        super().__init__()
        self.finds = 0
        self.slow = 0.0
        self.gone = False

    def find(self, digests):
        self.finds += 1
        time.sleep(self.slow)
        if self.gone:
            raise OSError("gone")
        return super().find(digests)


@pytest.fixture
def store():
    """A store that counts."""
    return Counting()


@pytest.fixture
def counted(told, store, clock):
    """A manager over it."""
    return ApiKeyManager(store, ttl=1000, grace_period=100, pepper=PEPPER, clock=clock)


def test_a_cached_key_ends_at_exactly_its_deadlines(counted, store, clock):
    """Expiry and grace are looked at on every verification, cached or not."""
    expiring, retiring = counted.issue("alice", ttl=3), counted.issue("bob")
    counted.rotate(retiring.key.id, grace_period=4)
    for issued in (expiring, retiring):
        counted.verify(issued.secret)
    finds = store.finds
    clock.advance(2.999)
    assert counted.verify(expiring.secret).state is KeyState.ACTIVE
    clock.advance(0.001)
    assert reason(counted, expiring.secret) == "expired"
    clock.advance(0.999)
    assert counted.verify(retiring.secret).state is KeyState.RETIRING
    clock.advance(0.001)
    assert reason(counted, retiring.secret) == "retired"
    assert store.finds == finds


def test_a_cached_key_is_asked_for_anew_after_five_seconds(counted, store, clock):
    """Also where the clock has been set back in between."""
    issued = counted.issue("alice")
    for _ in range(10):
        counted.verify(issued.secret)
    assert store.finds == 1
    clock.advance(5)
    counted.verify(issued.secret)
    assert store.finds == 2
    clock.advance(-3600)
    counted.verify(issued.secret)
    assert store.finds == 3


def test_a_change_here_holds_at_once_though_the_key_is_cached(counted, store):
    """Revoked, rotated, and one that somebody was reading meanwhile."""
    issued = counted.issue("alice")
    counted.verify(issued.secret)
    counted.revoke(issued.key.id)
    assert reason(counted, issued.secret) == "revoked"
    other = counted.issue("bob")
    counted.verify(other.secret)
    counted.rotate(other.key.id, grace_period=0)
    assert reason(counted, other.secret) == "retired"


def test_what_was_read_before_a_revocation_is_not_cached_after_it(counted, store):
    """The race of a reader that is slower than the change."""
    issued = counted.issue("alice")
    reading, revoked = threading.Event(), threading.Event()
    real = store.find

    def find(digests):
        found = real(digests)
        reading.set()
        assert revoked.wait(10)
        return found

    store.find = find
    thread = threading.Thread(target=counted.verify, args=(issued.secret,))
    thread.start()
    assert reading.wait(10)
    counted.revoke(issued.key.id)
    revoked.set()
    thread.join()
    store.find = real
    assert reason(counted, issued.secret) == "revoked"


@pytest.mark.parametrize("version", [lambda: None, lambda: 1 / 0])
def test_what_is_not_known_is_never_taken_for_unchanged(version):
    """A store that cannot say whether it has changed is asked."""
    answers = [lambda: 1]
    cache = KeyCache(5.0, 10, time.monotonic, lambda: answers[0]())
    assert cache.get(b"d") is None
    cache.put(b"d", ApiKey(id="key_1", owner="alice"), cache.epoch)
    assert cache.get(b"d") is not None
    answers[0] = version
    time.sleep(0.001)
    assert cache.get(b"d") is None


def test_nobody_goes_on_with_what_another_thread_is_just_looking_at(monkeypatch):
    """The one who looks may be held up for long; until it is over the others wait."""
    looking, over, answer = threading.Event(), threading.Event(), [1]

    def version():
        if len(answer) > 1:
            looking.set()
            assert over.wait(10)
        return answer[-1]

    cache = KeyCache(5.0, 10, time.monotonic, version)
    cache.get(b"d")
    cache.put(b"d", ApiKey(id="key_1", owner="alice"), cache.epoch)
    found = []
    threads = [threading.Thread(target=lambda: found.append(cache.get(b"d"))) for _ in range(2)]
    time.sleep(0.001)
    monkeypatch.setattr("mobius_otel.security.api_keys.cache._LOOKED_EVERY", 60.0)
    answer.append(2)
    threads[0].start()
    assert looking.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    over.set()
    [thread.join() for thread in threads]
    assert found == [None, None]


def test_a_key_that_nobody_knows_is_asked_for_once_and_a_million_of_them_take_no_room(counted, store, clock):
    """The negative cache is bounded, forgets, and lets in what is issued later."""
    unknown = generate("mob", "live")
    for _ in range(5):
        assert reason(counted, unknown) == "unknown"
    assert store.finds == 1
    clock.advance(5)
    assert reason(counted, unknown) == "unknown"
    assert store.finds == 2
    cache = counted._cache
    for number in range(30_000):
        cache.put(number.to_bytes(32, "big"), None, cache.epoch)
    assert len(cache._unknown) == 10_000
    assert reason(counted, unknown) == "unknown"
    counted.import_key(unknown, "alice")
    assert counted.verify(unknown).owner == "alice"


def test_the_cache_is_bounded_and_a_key_in_it_is_small(told, clock):
    """The oldest goes; less than a kilobyte each."""
    store = MemoryKeyStore()
    manager = ApiKeyManager(store, pepper=PEPPER, clock=clock, cache_size=500)
    for number in range(600):
        manager.verify(manager.issue(f"owner-{number}", scopes={"read"}).secret)
    assert len(manager._cache) == 500
    reader = ApiKeyManager(store, pepper=PEPPER, clock=clock)
    with store.changing() as change:
        digests = list(change.digests)
    gc.collect()
    tracemalloc.start()
    for digest in digests:
        reader._cache.put(digest, store.find([digest]).key, 0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(digests) < 1000


def test_a_thousand_who_ask_for_one_cold_key_at_once_cost_one_look_up(counted, store):
    """And all of them get in."""
    issued = counted.issue("alice")
    store.slow = 0.2
    found = at_once(100, lambda: counted.verify(issued.secret))
    assert {key.id for key in found} == {issued.key.id}
    assert store.finds == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_asks_after_a_revocation_does_not_share_a_look_up_from_before_it(counted, store, asynchronous):
    """A slow store's answer may be older than the question."""
    issued = counted.issue("alice")
    reading, revoked = threading.Event(), threading.Event()
    real = store.find

    def find(digests):
        found = real(digests)
        if not reading.is_set():
            reading.set()
            assert revoked.wait(10)
        return found

    store.find = find

    async def both():
        early = asyncio.create_task(counted.verify_async(issued.secret))
        await asyncio.to_thread(reading.wait, 10)
        counted.revoke(issued.key.id)
        late = asyncio.create_task(counted.verify_async(issued.secret))
        await asyncio.wait([late], timeout=0.5)
        revoked.set()
        return await asyncio.gather(early, late, return_exceptions=True)

    if asynchronous:
        results = asyncio.run(both())
    else:
        results = [None, None]

        def verify(place):
            try:
                results[place] = counted.verify(issued.secret)
            except InvalidApiKey as error:
                results[place] = error

        threads = [threading.Thread(target=verify, args=(place,)) for place in range(2)]
        threads[0].start()
        assert reading.wait(10)
        counted.revoke(issued.key.id)
        threads[1].start()
        threads[1].join(0.5)
        revoked.set()
        [thread.join() for thread in threads]
    assert isinstance(results[0], ApiKey)
    assert isinstance(results[1], InvalidApiKey)


def test_one_look_up_that_fails_fails_for_all_who_wait_for_it(counted, store):
    """And the next one asks again."""
    issued = counted.issue("alice")
    store.slow, store.gone = 0.1, True
    found = at_once(20, lambda: counted.verify(issued.secret))
    assert {type(error) for error in found} == {KeyStoreUnavailable}
    assert store.finds < 20
    store.gone = False
    assert counted.verify(issued.secret)


def test_tasks_share_a_look_up_and_one_that_is_cancelled_stops_nobody(counted, store):
    """The event loop goes on meanwhile."""
    issued = counted.issue("alice")
    store.slow = 0.2

    async def live():
        tasks = [asyncio.create_task(counted.verify_async(issued.secret)) for _ in range(50)]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks[1:])
        assert {key.id for key in found} == {issued.key.id}
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        store.gone = True
        for error in await asyncio.gather(
            *(counted.verify_async(generate("mob", "live")) for _ in range(5)), return_exceptions=True
        ):
            assert isinstance(error, KeyStoreUnavailable)

    asyncio.run(live())
    assert store.finds == 6


def test_the_event_loop_is_never_held_up(told, clock, tmp_path):
    """Not by a cold SQLite file, nor by one that another process is writing to."""
    import sqlite3

    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER, clock=clock)
    issued = [manager.issue("alice") for _ in range(64)]
    ticks = [0]

    async def watch(stop):
        while not stop.is_set():
            await asyncio.sleep(0.001)
            ticks[0] += 1

    async def live():
        stop = asyncio.Event()
        watcher = asyncio.create_task(watch(stop))
        other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        rotation = asyncio.create_task(manager.rotate_async(issued[0].key.id))
        reading = asyncio.create_task(manager.verify_async(issued[1].secret))
        await asyncio.sleep(0.3)
        assert not rotation.done()  # it waits for the other writer, and the loop does not
        assert ticks[0] > 3
        other.execute("ROLLBACK")
        await asyncio.gather(rotation, reading)
        for place in range(1, 64, 8):
            await asyncio.gather(*(manager.verify_async(one.secret) for one in issued[place : place + 8]))
        stop.set()
        await watcher

    asyncio.run(live())


def test_a_throttled_source_gets_in_with_a_key_that_is_known_and_with_nothing_else(told, store, clock):
    """Whoever shares an address with an attacker is not shut out; the attacker is."""
    wait = {}
    manager = ApiKeyManager(store, pepper=PEPPER, clock=clock, throttle=lambda source: wait.get(source, 0.0))
    issued = manager.issue("alice")
    manager.verify(issued.secret, source="192.0.2.9")
    wait["192.0.2.9"] = 7.0
    manager.verify(issued.secret, source="192.0.2.9")
    finds = store.finds
    for _ in range(3):
        with pytest.raises(KeyThrottled):
            manager.verify(generate("mob", "live"), source="192.0.2.9")
    assert store.finds == finds


@pytest.mark.parametrize("cause", ["revoked", "retired", "expired", "wrong_network"])
def test_a_throttled_source_cannot_tell_a_dead_key_from_an_unknown_one(told, store, clock, cause):
    """Cached or not: six tries would say whether a key was ever one."""
    wait, noted = {}, []
    manager = ApiKeyManager(
        store, pepper=PEPPER, clock=clock, throttle=lambda source: wait.get(source, 0.0), on_rejected=noted.append
    )
    networks = ["10.0.0.0/8"] if cause == "wrong_network" else []
    issued = manager.issue("alice", networks=networks, ttl=2.0 if cause == "expired" else 1000.0)
    if cause == "revoked":
        manager.revoke(issued.key.id)
    elif cause == "retired":
        manager.rotate(issued.key.id, grace_period=0)
    elif cause == "expired":
        manager.verify(issued.secret)
        clock.advance(2)
    secrets = {cause: issued.secret, "unknown": generate("mob", "live")}
    for known, secret in secrets.items():
        assert reason(manager, secret, source="192.0.2.9") == known
    finds = store.finds
    wait["192.0.2.9"] = 7.0
    for secret in secrets.values():
        with pytest.raises(KeyThrottled) as refused:
            manager.verify(secret, source="192.0.2.9")
        assert refused.value.retry_after == 7.0
    assert (store.finds, noted) == (finds, ["192.0.2.9"] * 2)
    assert reason(manager, issued.secret, source="192.0.2.10") == cause


def test_a_throttle_that_fails_opens_nothing_and_shuts_nobody_out(told, store, clock, monkeypatch):
    """It is no lock."""
    from mobius_otel.telemetry import safety

    before = safety.raise_errors(False)
    try:
        manager = ApiKeyManager(store, pepper=PEPPER, clock=clock, throttle=lambda source: 1 / 0, on_rejected=print)
        assert manager.verify(manager.issue("alice").secret, source="a").owner == "alice"
        assert reason(manager, generate("mob", "live"), source="a") == "unknown"
    finally:
        safety.raise_errors(before)


@pytest.mark.parametrize(
    ("networks", "address", "good"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], None, False),
        (["10.0.0.0/8"], "unix:", False),
        (["10.0.0.0/8"], "10.0.0.1, 1.1.1.1", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["2001:db8::/32", "10.0.0.0/8"], "2001:db8::1%eth0", True),
        (["2001:db8::/32"], "x" * 100_000, False),
        ([], None, True),
    ],
)
def test_a_key_with_networks_opens_from_there_alone(manager, networks, address, good):
    """Cached or not; elsewhere it is a wrong key like any other."""
    issued = manager.issue("alice", networks=networks)
    for _ in range(2):
        if good:
            assert manager.verify(issued.secret, network=address)
            assert manager.verify(issued.secret, source=address)
        else:
            assert reason(manager, issued.secret, network=address) == "wrong_network"
            assert reason(manager, issued.secret, source=address) == "wrong_network"


def test_network_goes_before_source(manager):
    """The one is for the decision, the other for the audit trail."""
    issued = manager.issue("alice", networks=["10.0.0.0/8"])
    manager.verify(issued.secret, source="192.0.2.1", network="10.1.1.1")
    assert reason(manager, issued.secret, source="10.1.1.1", network="192.0.2.1") == "wrong_network"


@pytest.mark.parametrize("networks", ["10.0.0.0/8", ["10.0.0.1/8"], ["x"], [5], 5, ["10.0.0.0/33"]], ids=repr)
def test_what_is_no_network_is_refused_at_issue(manager, networks):
    """By name."""
    with pytest.raises(ConfigurationError, match="networks"):
        manager.issue("alice", networks=networks)


def test_a_key_may_have_limits_of_its_own(manager):
    """As text, as a RateLimit, or several; its successors have them too."""
    from mobius_otel.security import RateLimit

    key = manager.issue("alice", limit=["10/second", RateLimit(100, per=60)]).key
    assert manager.get(key.id).limit == ("10/second", "100/60 seconds")
    assert manager.rotate(key.id).key.limit == key.limit
    for wrong in ("fast", 5, ["10/second", None], RateLimit(5, per=0.5)):
        with pytest.raises(ConfigurationError, match="limit"):
            manager.issue("alice", limit=wrong)


def test_a_caller_cannot_change_what_is_cached(counted):
    """Nor what is deep inside of it."""
    issued = counted.issue("alice", metadata={"team": "pay", "n": [1, {"x": 2}]})
    for _ in range(3):
        key = counted.verify(issued.secret)
        assert key.metadata == {"team": "pay", "n": [1, {"x": 2}]}
        key.metadata["n"][1]["x"] = key.metadata["team"] = "evil"


HOSTILE = [
    b"", "", " ", "\0", "\0" * 58, "é" * 58, "\ud800" * 58, b"\xff" * 58, "x" * 65536, b"x" * 65536, None, 0, 1.5, [],
    object(), "mob_live_" + "A" * 49, "Bearer x", "a, b", "mob_live_" + "\u0661" * 49, memoryview(b"x"), bytearray(10),
]  # fmt: skip


@pytest.mark.parametrize("presented", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_a_client_sends_is_answered_with_the_one_refusal(manager, presented):
    """Synchronously and asynchronously, with and without scopes and source."""
    for more in ({}, {"scopes": {"read"}, "source": "192.0.2.1"}):
        with pytest.raises(InvalidApiKey):
            manager.verify(presented, **more)
        with pytest.raises(InvalidApiKey):
            asyncio.run(manager.verify_async(presented, **more))


def test_bytes_of_a_good_key_open_as_its_text_does(manager):
    """From a raw header."""
    issued = manager.issue("alice")
    for presented in (issued.secret, issued.secret.encode(), bytearray(issued.secret.encode())):
        assert manager.verify(presented).id == issued.key.id


def test_neighbours_of_a_good_key_open_nothing(manager):
    """Each with one to three characters changed, and the checksum made right again."""
    from mobius_otel.security.api_keys.secret import checksum

    chance, issued = random.Random(5), manager.issue("alice")
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for _ in range(2000):
        body = list(issued.secret[:-6])
        for place in chance.sample(range(9, 52), chance.randint(1, 3)):
            body[place] = chance.choice(digits.replace(body[place], ""))
        front = "".join(body)
        assert reason(manager, front + checksum(front.encode()).decode()) == "unknown"
    assert manager.verify(issued.secret)


def test_time_tells_nothing_about_whether_a_key_is_near(told, tmp_path):
    """Refusals of a neighbour of a good key, of a revoked one and of a random one: their medians lie together."""
    from mobius_otel.security.api_keys.secret import checksum

    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER, cache_ttl=0)
    issued = [manager.issue("alice") for _ in range(300)]
    near = []
    for one in issued:
        front = one.secret[:51] + ("A" if one.secret[51] != "A" else "B")
        near.append(front + checksum(front.encode()).decode())
    far = [generate("mob", "live") for _ in issued]
    took = {"near": [], "far": []}
    chance = random.Random(3)
    probes = [("near", secret) for secret in near] + [("far", secret) for secret in far]
    for _ in range(3):
        chance.shuffle(probes)
        for name, secret in probes:
            begin = time.perf_counter_ns()
            try:
                manager.verify(secret)
            except InvalidApiKey:
                took[name].append(time.perf_counter_ns() - begin)
    medians = {name: statistics.median(times) for name, times in took.items()}
    spread = statistics.quantiles(took["near"] + took["far"], n=4)
    assert abs(medians["near"] - medians["far"]) < 0.5 * (spread[2] - spread[0]) + 0.1 * medians["far"]


def test_every_twin_says_what_its_original_says(manager):
    """Scopes and networks included."""
    issued = manager.issue("alice", scopes={"read"}, networks=["10.0.0.0/8"])

    async def live():
        assert (await manager.verify_async(issued.secret, {"read"}, network="10.0.0.1")).id == issued.key.id
        with pytest.raises(InsufficientScope):
            await manager.verify_async(issued.secret, {"write"}, network="10.0.0.1")
        with pytest.raises(InvalidApiKey):
            await manager.verify_async(issued.secret)
        with pytest.raises(ConfigurationError):
            await manager.verify_async(issued.secret, "read")
        assert len(await manager.revoke_owner_async("alice")) == 1
        assert (await manager.census_async())[0].states[KeyState.REVOKED] == 1
        imported = await manager.import_key_async(generate("mob", "live"), "bob")
        assert len(await manager.revoke_lineage_async(imported.id)) == 1

    asyncio.run(live())


def test_last_uses_are_written_by_a_thread_and_no_verification_waits(told, tmp_path, monkeypatch):
    """Many keys in one write, some time later; the thread ends with the manager."""
    monkeypatch.setattr("mobius_otel.security.api_keys.last_used._WRITTEN_AFTER", 0.2)
    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER)
    issued = [manager.issue("alice") for _ in range(10)]
    writes, written = [], threading.Event()
    real = manager.store.touch

    def touch(used):
        writes.append(dict(used))
        real(used)
        if sum(map(len, writes)) == len(issued):
            written.set()

    manager.store.touch = touch
    for one in issued:
        manager.verify(one.secret)
    assert written.wait(10)
    assert len(writes) < len(issued)
    manager.close()
    assert manager._last_used._thread is None
    assert sum(map(len, writes)) == len(issued)
