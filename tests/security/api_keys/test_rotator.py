"""Rotation by the clock."""

import asyncio
import os
import queue
import subprocess
import sys
import threading

import pytest

from mobius_otel.errors import ConfigurationError, InvalidApiKey, KeyStoreUnavailable
from mobius_otel.security import ApiKeyManager, KeyRotator, KeyState
from tests.security.api_keys.conftest import PEPPER


class Sink:
    """Takes secrets, or does not."""

    def __init__(self, ack=True):
        self.ack = ack
        self.taken = []

    def deliver(self, owner, issued):
        self.taken.append((owner, issued.secret))
        if isinstance(self.ack, Exception):
            raise self.ack
        return self.ack


def test_what_ends_soon_is_rotated_and_handed_over(manager, clock, caplog):
    """The grace of the old key begins with the acknowledgement."""
    soon, later = manager.issue("alice", ttl=100), manager.issue("bob", ttl=1000)
    manager.issue("carol", ttl=float("inf"))
    sink = Sink()
    rotator = KeyRotator(manager, sink=sink, rotate_before=200)
    run = rotator.run_once()
    assert (run.rotated, run.undelivered, run.failed) == ((soon.key.id,), (), ())
    ((owner, secret),) = sink.taken
    assert owner == "alice"
    assert manager.verify(secret).rotated_from == soon.key.id
    assert manager.verify(soon.secret).state is KeyState.RETIRING
    assert "shorter than" in caplog.text  # the new one lives 100 s too, so it is rotated again and again
    assert rotator.run_once().rotated == (manager.verify(secret).id,)
    assert caplog.text.count("shorter than") == 1
    assert manager.get(later.key.id).state is KeyState.ACTIVE


@pytest.mark.parametrize("ack", [False, None, OSError("no route")])
def test_without_an_acknowledgement_the_old_key_goes_on(manager, told, clock, ack):
    """The new one is revoked; the next run tries again."""
    old = manager.issue("alice", ttl=100)
    sink = Sink(ack)
    rotator = KeyRotator(manager, sink=sink, rotate_before=200, grace_period=10)
    assert rotator.run_once().undelivered == (old.key.id,)
    with pytest.raises(InvalidApiKey):
        manager.verify(sink.taken[0][1])
    assert manager.verify(old.secret).state is KeyState.ACTIVE
    clock.advance(50)
    manager.verify(old.secret)
    sink.ack = True
    assert rotator.run_once().rotated == (old.key.id,)
    manager.verify(sink.taken[1][1])
    clock.advance(10)
    with pytest.raises(InvalidApiKey):
        manager.verify(old.secret)
    names = [entry.record()["event_name"] for entry in told.ledger.records()]
    assert [name for name in names if name != "api_key.reused"] == [
        "api_key.issued", "api_key.rotated", "api_key.revoked", "api_key.rotated",
    ]  # fmt: skip


def test_a_process_that_died_in_the_middle_of_a_delivery_costs_nobody_a_key(manager, clock):
    """Its successor is withdrawn after ten minutes, not before."""
    old = manager.issue("alice", ttl=5000)
    lost = manager.succession.begin(old.key.id, None)
    sink = Sink()
    rotator = KeyRotator(manager, sink=sink, rotate_before=9000)
    rotator.run_once()
    assert old.key.id not in [key.rotated_from for key in manager.list() if key.id != lost.key.id]
    clock.advance(601)
    assert old.key.id in rotator.run_once().rotated
    assert manager.get(lost.key.id).state is KeyState.REVOKED
    manager.verify(old.secret)


def test_a_callable_is_a_sink_and_anything_else_is_refused(manager):
    """A function first, an object second."""
    manager.issue("alice", ttl=10)
    seen = []
    KeyRotator(manager, sink=lambda owner, issued: seen.append(owner) or True).run_once()
    assert seen == ["alice"]
    for wrong in ({"sink": 5}, {"sink": print, "every": 0}, {"sink": print, "rotate_before": -1}):
        with pytest.raises(ConfigurationError):
            KeyRotator(manager, **wrong)


def test_it_runs_in_a_thread_until_it_is_stopped(told, url):
    """A failing store costs a run, not the thread."""
    manager = ApiKeyManager(url, ttl=100, pepper=PEPPER)
    manager.issue("alice")
    arrived, failed = threading.Event(), threading.Event()
    real = manager.store.list

    def failing(selection):
        if not failed.is_set():
            failed.set()
            raise OSError("gone")
        return real(selection)

    manager.store.list = failing
    rotator = KeyRotator(manager, sink=lambda *_: arrived.set() or True, every=0.02, rotate_before=200)
    with rotator:
        rotator.start()
        assert "running" in repr(rotator)
        assert arrived.wait(10)
    assert failed.is_set()
    assert "stopped" in repr(rotator)
    assert not [thread for thread in threading.enumerate() if thread.name == "mobius-otel-key-rotator"]


def test_a_run_without_a_store_says_so(manager, monkeypatch):
    """For cron: an exit status."""
    monkeypatch.setattr(manager.store, "list", lambda selection: 1 / 0)
    with pytest.raises(KeyStoreUnavailable):
        KeyRotator(manager, sink=Sink()).run_once()


PEPPERED = {"ttl": 1000, "pepper": PEPPER}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_a_rotator_of_its_own(told, tmp_path, monkeypatch):
    """Where the parent ran one; and no handle or lock of the parent is used."""
    monkeypatch.setattr("mobius_otel.security.api_keys.rotation._FIRST_IN_CHILD", 0.05)
    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", **PEPPERED)
    manager.issue("alice", ttl=600)
    read, write = os.pipe()

    def deliver(owner, issued):
        os.write(write, b"%d " % os.getpid())
        return True

    rotator = KeyRotator(manager, sink=deliver, every=0.2, rotate_before=2000)
    with rotator:
        child = os.fork()
        if child == 0:
            os.read(os.open(os.devnull, os.O_RDONLY), 1)
            threading.Event().wait(20)
            os._exit(1)
        seen = set()
        while child not in seen or os.getpid() not in seen:
            seen |= {int(part) for part in os.read(read, 100).split()}
        os.kill(child, 9)
        os.waitpid(child, 0)


FLEET = """
import sys
from mobius_otel.security import ApiKeyManager, KeyRotator
manager = ApiKeyManager(sys.argv[1], ttl=1e6, pepper="a made-up pepper")
taken, claim = [], manager.claim
def claimed(job, period, holder):
    won = claim(job, period, holder)
    if won:
        taken.append(period)
    return won
manager.claim = claimed
def deliver(owner, issued):
    print(owner, taken[-1], flush=True)
    return True
with KeyRotator(manager, sink=deliver, every=0.5, rotate_before=2e6):
    sys.stdin.readline()
"""


def test_four_processes_run_each_period_once_and_a_killed_one_costs_a_period_at_most(told, tmp_path):
    """Every run rotates the one key that is due, so deliveries are runs."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    ApiKeyManager(url, ttl=1e6, pepper=PEPPER).issue("alice")
    fleet = [
        subprocess.Popen([sys.executable, "-c", FLEET, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = queue.SimpleQueue()
    readers = [
        threading.Thread(target=lambda one=one: [said.put((one.pid, line)) for line in one.stdout]) for one in fleet
    ]
    [reader.start() for reader in readers]
    periods, killed = [], None
    while len(periods) < 6:
        pid, line = said.get(timeout=60)
        periods.append(int(line.split()[1]))
        if len(periods) == 3:
            killed = next(one for one in fleet if one.pid == pid)
            killed.kill()
    for one in fleet:
        if one is not killed:
            one.communicate("stop\n", timeout=60)
    [reader.join(60) for reader in readers]
    while not said.empty():
        periods.append(int(said.get()[1].split()[1]))
    assert len(set(periods)) == len(periods)  # no period twice
    keys = ApiKeyManager(url, ttl=1e6, pepper=PEPPER).list()
    assert len(keys) - 1 <= len(periods) + 1  # no rotation that nobody got, but for the one that was killed
    assert sum(key.state is KeyState.ACTIVE and key.rotated_to is None for key in keys) == 1


def test_periods_that_were_missed_run_once(manager, clock):
    """After a machine has slept through a hundred of them."""
    for _ in range(3):
        manager.issue("alice", ttl=500)
    rotator = KeyRotator(manager, sink=Sink(), every=10, rotate_before=400)
    assert rotator._takes_period()
    assert not rotator._takes_period()
    clock.advance(1000)
    assert rotator._takes_period()
    assert not rotator._takes_period()
    assert 0 < rotator._until_next() <= 11


def test_it_runs_as_a_task_of_the_event_loop(told, url):
    """With a sink that is a coroutine function; a delivery that is under way is waited for."""
    manager = ApiKeyManager(url, **PEPPERED)
    issued = manager.issue("alice")
    seen = []

    async def deliver(owner, new):
        await asyncio.sleep(0.05)
        seen.append(new.secret)
        return True

    async def live():
        rotator = KeyRotator(manager, sink=deliver, every=3600, rotate_before=2000)
        async with rotator:
            assert "running" in repr(rotator)
            await asyncio.sleep(0.02)
        assert "stopped" in repr(rotator)

    asyncio.run(live())
    assert manager.verify(seen[0]).rotated_from == issued.key.id
    assert manager.get(issued.key.id).state is KeyState.RETIRING
    with pytest.raises(ConfigurationError, match="run_once_async"):
        KeyRotator(manager, sink=deliver).run_once()
    run = asyncio.run(KeyRotator(manager, sink=Sink(), rotate_before=2000).run_once_async())
    assert len(run.rotated) == 1


def test_what_did_not_arrive_is_counted_as_a_failure(manager, told):
    """And what did as a success, once each."""
    manager.issue("alice", ttl=100)
    sink = Sink(False)
    rotator = KeyRotator(manager, sink=sink, rotate_before=50.0)
    assert rotator.run_once().undelivered == ()
    rotator = KeyRotator(manager, sink=sink, rotate_before=200)
    rotator.run_once()
    sink.ack = True
    rotator.run_once()
    name = "mobius.api_key.rotations"
    outcomes = {outcome: told.metrics.value(name, {"mobius.outcome": outcome}) for outcome in ("success", "failure")}
    assert outcomes == {"success": 1, "failure": 1}


def test_it_is_told_once_when_nobody_uses_the_old_secret_any_more(manager, told, clock):
    """And not while somebody does, nor before the new one was seen."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=90)
    rotator = KeyRotator(manager, sink=Sink(), unused_after=20, rotate_before=1)
    manager.verify(old.secret)
    clock.advance(30)
    assert rotator.run_once().unused == ()  # the new one was never seen
    manager.verify(new.secret)
    assert rotator.run_once().unused == (old.key.id,)
    assert rotator.run_once().unused == (old.key.id,)
    assert manager.get(old.key.id).unused_since == clock() - 30
    (event,) = told.events("api_key.unused")
    assert (event["audit.target.id"], event["mobius.api_key.rotated_to"]) == (old.key.id, new.key.id)
    manager.store.touch({old.key.id: clock()})
    assert rotator.run_once().unused == ()
    assert manager.get(old.key.id).unused_since is None
    clock.advance(20)
    assert rotator.run_once().unused == (old.key.id,)
    assert len(told.events("api_key.unused")) == 2


def test_it_removes_dead_keys_where_it_is_told_to(told, url, clock):
    """In the same run."""
    manager = ApiKeyManager(url, ttl=10, pepper=PEPPER, clock=clock, purge_after=5)
    manager.issue("alice")
    clock.advance(15)
    assert KeyRotator(manager, sink=Sink()).run_once().purged == 0
    assert KeyRotator(manager, sink=Sink(), purge=True).run_once().purged == 1
    assert manager.list() == []


def test_more_keys_than_a_page_are_rotated_in_one_run(manager, monkeypatch):
    """Each of them once."""
    monkeypatch.setattr("mobius_otel.security.api_keys.rotation._PAGE", 3)
    ids = {manager.issue("alice", ttl=500).key.id for _ in range(10)}
    manager.issue("bob", ttl=5000)
    run = KeyRotator(manager, sink=Sink(), rotate_before=499.99999).run_once()
    assert run.rotated == ()
    run = KeyRotator(manager, sink=Sink(), rotate_before=500).run_once()
    assert len(run.rotated) == 10
    assert set(run.rotated) == ids
