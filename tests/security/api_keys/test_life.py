"""A key's later life: rotation that waits to be seen, whole lineages and owners, dead keys that come back."""

import asyncio

import pytest

from mobius_otel.errors import KeyNotFound, RotationConflict
from mobius_otel.security import ApiKeyManager, KeyState
from tests.security.api_keys.conftest import PEPPER
from tests.security.api_keys.test_manager import reason
from tests.security.api_keys.test_stores import at_once


def test_a_successor_inherits_everything_but_its_secret(manager, clock):
    """Scopes, networks, limit, metadata, tenant, lifetime and lineage."""
    old = manager.issue(
        "alice", {"read"}, name="ci", ttl=500, tenant="t", networks=["10.0.0.0/8"], limit="5/second", metadata={"a": 1}
    ).key
    clock.advance(100)
    new = manager.rotate(old.id).key
    for name in ("owner", "scopes", "name", "tenant", "networks", "limit", "metadata", "lineage_id", "environment"):
        assert getattr(new, name) == getattr(old, name), name
    assert new.expires_at - new.created_at == 500


def test_the_grace_of_the_old_secret_begins_when_the_new_one_is_first_used(manager, clock):
    """A secret that is lost in transit locks nobody out."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=50, confirm_by_first_use=True)
    clock.advance(400)
    assert manager.verify(old.secret).state is KeyState.ACTIVE
    assert manager.get(new.key.id).grace_on_first_use == 50
    for _ in range(2):
        assert manager.verify(new.secret).state is KeyState.ACTIVE
    assert manager.verify(old.secret).state is KeyState.RETIRING
    assert manager.get(old.key.id).retire_at == manager.get(new.key.id).overlap_until == clock() + 50
    clock.advance(49.99)
    manager.verify(old.secret)
    clock.advance(0.01)
    assert reason(manager, old.secret) == "retired"
    assert manager.verify(new.secret)


def test_many_first_uses_at_once_begin_one_grace(manager, clock):
    """And the asynchronous ones too."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=50, confirm_by_first_use=True)
    at_once(20, lambda: manager.verify(new.secret))
    assert manager.get(old.key.id).retire_at == clock() + 50
    third = manager.rotate(new.key.id, grace_period=20, confirm_by_first_use=True)

    async def live():
        await asyncio.gather(*(manager.verify_async(third.secret) for _ in range(10)))

    asyncio.run(live())
    assert manager.get(new.key.id).retire_at == clock() + 20


@pytest.mark.parametrize("on_first_use", [False, True])
def test_no_grace_is_a_state_and_no_deadline(manager, clock, on_first_use):
    """A clock that steps back, or that of another host, brings no secret back that was to end at once."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=0, confirm_by_first_use=on_first_use)
    manager.verify(new.secret)
    clock.advance(-0.5)
    assert reason(manager, old.secret) == "retired"
    assert [key.id for key in manager.list(state="retired")] == [old.key.id]
    assert manager.list(state="retiring") == []
    assert manager.census()[0].states[KeyState.RETIRED] == 1
    assert manager.purge(older_than=0) == 0
    clock.advance(0.5)
    assert manager.purge(older_than=0) == 1


def test_a_successor_that_was_never_seen_can_be_taken_back(manager):
    """Revoking it makes the old key as it was."""
    old = manager.issue("alice")
    lost = manager.rotate(old.key.id, confirm_by_first_use=True)
    with pytest.raises(RotationConflict):
        manager.rotate(old.key.id)
    manager.revoke(lost.key.id, reason="lost in transit")
    assert reason(manager, lost.secret) == "revoked"
    assert manager.verify(old.secret).state is KeyState.ACTIVE
    again = manager.rotate(old.key.id, confirm_by_first_use=True, request_id="r")
    assert manager.rotate(old.key.id, confirm_by_first_use=True, request_id="r").key.id == again.key.id
    manager.verify(again.secret)
    assert manager.get(old.key.id).state is KeyState.RETIRING


def test_a_grace_that_cannot_be_begun_refuses_nobody(manager, monkeypatch, clock):
    """It is begun at the next look-up."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=50, confirm_by_first_use=True)
    real = manager.store.changing
    monkeypatch.setattr(manager.store, "changing", lambda: 1 / 0)
    assert manager.verify(new.secret)
    assert manager.verify(old.secret).state is KeyState.ACTIVE
    monkeypatch.setattr(manager.store, "changing", real)
    clock.advance(5)
    manager.verify(new.secret)
    assert manager.verify(old.secret).state is KeyState.RETIRING


def test_fifty_rotations_at_once_leave_one_new_key_whatever_they_are_called(manager):
    """Half of them with one request id, half with others."""
    key = manager.issue("alice").key
    names = iter(["r"] * 25 + [f"r-{number}" for number in range(25)])
    results = at_once(50, lambda: manager.rotate(key.id, request_id=next(names)))
    made = {result.key.id for result in results if not isinstance(result, Exception)}
    assert len(made) == 1
    assert {type(result) for result in results if isinstance(result, Exception)} <= {RotationConflict}
    assert sum(getattr(result, "secret", None) is not None for result in results) == 1
    assert len(manager.list()) == 2


def test_a_rotation_that_loses_every_race_is_a_conflict(manager, monkeypatch):
    """A store whose compare and set never works is not asked for ever."""
    key = manager.issue("alice").key
    with manager.store.changing() as change:
        kind = type(change)
    monkeypatch.setattr(kind, "change", lambda *args: False)
    with pytest.raises(RotationConflict):
        manager.rotate(key.id)
    monkeypatch.undo()
    assert len(manager.list()) == 1


def test_a_lineage_is_revoked_as_one(manager, told):
    """By the id of any of them; what is dead already stays as it is; one record."""
    first = manager.issue("alice")
    second = manager.rotate(first.key.id)
    third = manager.rotate(second.key.id)
    other = manager.issue("alice")
    revoked = manager.revoke_lineage(second.key.id, reason="leaked", revoked_by="bob")
    assert {key.id for key in revoked} == {first.key.id, second.key.id, third.key.id}
    assert {key.state for key in revoked} == {KeyState.REVOKED}
    for issued in (first, second, third):
        assert reason(manager, issued.secret) == "revoked"
    assert manager.verify(other.secret)
    assert manager.revoke_lineage(first.key.id) == []
    (event,) = told.events("api_key.revoked")
    assert (event["mobius.count"], event["audit.target.id"]) == (3, first.key.lineage_id)
    assert (event["mobius.audit.reason"], event["audit.actor.id"]) == ("leaked", "bob")
    with pytest.raises(KeyNotFound):
        manager.revoke_lineage("key_nobody")


def test_an_owner_is_revoked_as_one(manager, told, clock):
    """Every key that opens something."""
    mine = [manager.issue("alice") for _ in range(3)]
    expired = manager.issue("alice", ttl=1)
    other = manager.issue("bob")
    clock.advance(1)
    assert len(manager.revoke_owner("alice", reason="left the company")) == 3
    assert [reason(manager, issued.secret) for issued in mine] == ["revoked"] * 3
    assert reason(manager, expired.secret) == "expired"
    assert manager.verify(other.secret)
    assert manager.revoke_owner("nobody") == []
    assert len(told.events("api_key.revoked")) == 1


def test_the_reuse_of_a_dead_key_can_revoke_its_lineage(told, clock, url):
    """Somebody has the old secret: was it the owner?"""
    manager = ApiKeyManager(url, pepper=PEPPER, clock=clock, on_reuse="revoke_lineage")
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=10)
    other = manager.issue("alice")
    clock.advance(10)
    assert manager.verify(new.secret)
    assert reason(manager, old.secret) == "retired"
    assert reason(manager, new.secret) == "revoked"
    assert manager.verify(other.secret)
    reused, revoked = told.events("api_key.reused"), told.events("api_key.revoked")
    assert reused[0]["mobius.audit.risk_score"] >= 80
    assert old.key.id in revoked[0]["mobius.audit.reason"]
    for _ in range(3):
        assert reason(manager, old.secret) == "retired"
    assert len(told.events("api_key.revoked")) == 1


def test_by_default_the_reuse_of_a_dead_key_is_only_told(manager, clock):
    """Its successor goes on."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=0)
    assert reason(manager, old.secret) == "retired"
    assert manager.verify(new.secret)


def test_purge_goes_in_batches_and_tells_how_far_it_is(manager, clock, told):
    """One record for all of them; what it could not remove is tried again the next time."""
    for _ in range(10):
        manager.issue("alice", ttl=1)
    alive = manager.issue("bob")
    clock.advance(100)
    steps = []
    assert manager.purge(older_than=0, batch=4, progress=lambda done, total: steps.append((done, total))) == 10
    assert steps == [(4, 10), (8, 10), (10, 10)]
    assert [key.id for key in manager.list()] == [alive.key.id]
    (event,) = told.events("api_key.purged")
    assert event["mobius.count"] == 10
    assert told.metrics.value("mobius.api_key.purged", {"mobius.outcome": "success"}) == 10


def test_a_purge_that_is_interrupted_records_what_is_gone(manager, clock, told, monkeypatch):
    """And fails all the same."""
    for _ in range(6):
        manager.issue("alice", ttl=1)
    clock.advance(100)
    with manager.store.changing() as change:
        kind, real, calls = type(change), type(change).purge, []

    def fails_later(self, dead_by, most):
        calls.append(1)
        return real(self, dead_by, most) if len(calls) < 3 else 1 / 0

    monkeypatch.setattr(kind, "purge", fails_later)
    from mobius_otel.errors import KeyStoreUnavailable

    with pytest.raises(KeyStoreUnavailable):
        manager.purge(older_than=0, batch=2)
    assert len(manager.list()) == 2
    assert told.events("api_key.purged")[0]["mobius.count"] == 4


def test_dead_keys_are_kept_for_a_month_unless_something_else_is_said(told, clock, url):
    """So that their reuse is noticed."""
    manager = ApiKeyManager(url, ttl=10, pepper=PEPPER, clock=clock)
    manager.issue("alice")
    clock.advance(10 + 30 * 86400 - 1)
    assert manager.purge(dry_run=True) == 0
    clock.advance(1)
    assert manager.purge(dry_run=True) == 1
    assert ApiKeyManager(manager.store, pepper=PEPPER, clock=clock, purge_after=40 * 86400).purge() == 0
    assert manager.purge() == 1


def test_list_gives_pages(manager, clock):
    """Oldest first, each once."""
    ids = []
    for _ in range(7):
        ids.append(manager.issue("alice", tenant="t", ttl=100).key.id)
        clock.advance(1)
    pages, after = [], None
    while page := manager.list(most=3, after=after):
        pages += [key.id for key in page]
        after = page[-1]
    assert pages == ids
    assert len(manager.list(tenant="t", expires_within=95)) == 3
    assert manager.list(tenant="other") == []
    assert len(manager.list(lineage=ids[0])) == 1


def test_success_is_recorded_once_for_each_key_where_that_is_asked_for(told, clock, url):
    """Its first use, with the source."""
    manager = ApiKeyManager(url, pepper=PEPPER, clock=clock, audit_success="first_use", cache_ttl=0)
    issued = [manager.issue("alice"), manager.issue("bob")]
    for one in issued * 3:
        manager.verify(one.secret, source="192.0.2.1")
        clock.advance(100)
    assert [event["audit.target.id"] for event in told.events("api_key.verified")] == [one.key.id for one in issued]
