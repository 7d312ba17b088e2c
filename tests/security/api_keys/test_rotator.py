"""Rotation by the clock."""

import os
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_no_rotator_until_it_starts_one(manager):
    """The parent's goes on."""
    with KeyRotator(manager, sink=Sink(), every=60) as rotator:
        child = os.fork()
        if child == 0:
            stopped = "stopped" in repr(rotator)
            rotator.start()
            os._exit(0 if stopped and "running" in repr(rotator) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "running" in repr(rotator)
