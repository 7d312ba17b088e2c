"""What the key manager tells."""

import pytest

from mobius_otel.errors import AuditUnavailable, InsufficientScope, InvalidApiKey, KeyThrottled, RotationConflict
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys.secret import generate
from tests.security.api_keys.conftest import PEPPER


def refused(manager, secret, **more):
    """Present a secret that opens nothing."""
    with pytest.raises((InvalidApiKey, InsufficientScope, KeyThrottled)):
        manager.verify(secret, **more)


def test_each_verification_is_counted_once_by_its_result(manager, told, clock):
    """And by nothing else: no id, no owner."""
    issued, expired = manager.issue("alice"), manager.issue("alice", ttl=1)
    clock.advance(1)
    manager.verify(issued.secret)
    for secret in (expired.secret, generate("mob", "live"), "x", issued.secret):
        refused(manager, secret, scopes={"admin"})
    name, result = "mobius.api_key.verifications", "mobius.api_key.result"
    counted = {point.attributes[result]: point.value for point in told.metrics.series(name) if point.value}
    assert counted == {"valid": 1, "expired": 1, "unknown": 1, "malformed": 1, "insufficient_scope": 1}
    assert {tuple(point.attributes) for point in told.metrics.series(name)} == {(result,)}


def test_the_share_of_old_and_new_secrets_is_counted_while_both_work(manager, told, clock):
    """Afterwards nothing of it is."""
    old = manager.issue("alice")
    manager.verify(old.secret)
    new = manager.rotate(old.key.id)
    for secret in (old.secret, old.secret, new.secret):
        manager.verify(secret)
    clock.advance(100)
    manager.verify(new.secret)
    name, generation = "mobius.api_key.retiring.verifications", "mobius.api_key.generation"
    assert told.metrics.value(name, {generation: "old"}) == 2
    assert told.metrics.value(name, {generation: "new"}) == 1


def test_every_change_is_one_record(manager, told, clock):
    """With its target, who did it and why; what changes nothing is none."""
    issued = manager.issue("alice", scopes={"read"}, issued_by="root")
    new = manager.rotate(issued.key.id, request_id="r", issued_by="root")
    manager.rotate(issued.key.id, request_id="r")
    manager.revoke(new.key.id, reason="leaked", revoked_by="bob")
    manager.revoke(new.key.id)
    with pytest.raises(RotationConflict):
        manager.rotate(new.key.id)
    clock.advance(5000)
    manager.purge(older_than=0, dry_run=True)
    manager.purge(older_than=0)
    manager.purge(older_than=0)
    names = [entry.record()["event_name"] for entry in told.ledger.records()]
    assert names == ["api_key.issued", "api_key.rotated", "api_key.revoked", "api_key.purged"]
    made, rotated, revoked, purged = told.events()
    assert (made["audit.target.id"], made["audit.actor.id"]) == (issued.key.id, "root")
    assert made["mobius.api_key.scopes"] == ["read"]
    assert (rotated["audit.target.id"], rotated["mobius.api_key.rotated_from"]) == (new.key.id, issued.key.id)
    assert (revoked["mobius.audit.reason"], revoked["audit.actor.id"]) == ("leaked", "bob")
    assert purged["mobius.count"] == 2
    assert {event["audit.outcome"] for event in told.events()} == {"success"}
    assert told.metrics.value("mobius.api_key.rotations", {"mobius.outcome": "success"}) == 1
    assert told.metrics.value("mobius.api_key.rotations", {"mobius.outcome": "failure"}) == 1
    assert told.metrics.value("mobius.api_key.purged", {"mobius.outcome": "success"}) == 2
    for secret in (issued.secret, new.secret):
        assert secret[9:30] not in told.text()


def test_refusals_are_records_of_their_kind_and_a_flood_is_one(manager, told, clock):
    """Coalesced by source and cause."""
    expired, revoked, good = manager.issue("alice", ttl=1), manager.issue("bob"), manager.issue("carol")
    manager.revoke(revoked.key.id)
    clock.advance(1)
    before = len(told.events())
    for _ in range(100):
        refused(manager, generate("mob", "live"), source="192.0.2.1")
    refused(manager, expired.secret, source="192.0.2.2")
    refused(manager, revoked.secret, source="192.0.2.3")
    refused(manager, good.secret, scopes={"admin"}, source="192.0.2.4")
    events = told.events()[before:]
    names = [entry.record()["event_name"] for entry in told.ledger.records()][before:]
    assert names == [
        "api_key.rejected", "api_key.expired", "api_key.reused", "api_key.reused", "authorization.failed",
    ]  # fmt: skip
    assert [event["audit.source.id"] for event in events] == [f"192.0.2.{n}" for n in (1, 2, 2, 3, 4)]
    ids = [None, expired.key.id, expired.key.id, revoked.key.id, good.key.id]
    assert [event.get("audit.target.id") for event in events] == ids
    reasons = ["unknown", "expired", "expired", "revoked", None]
    assert [event.get("mobius.api_key.reason") for event in events] == reasons
    assert events[2]["mobius.audit.risk_score"] == events[3]["mobius.audit.risk_score"] == 85
    assert events[4]["audit.actor.id"] == "carol"
    manager.close()
    assert told.events()[-1]["mobius.count"] == 99


def test_success_is_recorded_on_demand(told, clock):
    """Never by default."""
    for choice, count in (("never", 0), ("all", 2)):
        manager = ApiKeyManager("memory://", pepper=PEPPER, clock=clock, audit_success=choice)
        secret = manager.issue("alice").secret
        manager.verify(secret, source="192.0.2.1"), manager.verify(secret)
        assert len(told.events("api_key.verified")) == count


def test_gauges_tell_states_and_what_expires_soon(told, clock, url):
    """From one query, over every manager of the process."""
    day = 86400
    with ApiKeyManager(url, pepper=PEPPER, clock=clock) as manager:
        for ttl in (day, 5 * day, 20 * day, 60 * day):
            manager.issue("alice", ttl=ttl)
        manager.rotate(manager.issue("bob", ttl=None).key.id)
        manager.revoke(manager.issue("carol").key.id)
        manager.observe(told.slot.emitter)
        value = told.metrics.value
        states = {state: value("mobius.api_key.keys", {"mobius.api_key.state": state})
                  for state in ("active", "retiring", "retired", "expired", "revoked")}  # fmt: skip
        assert states == {"active": 5, "retiring": 1, "retired": 0, "expired": 0, "revoked": 1}
        within = {span: value("mobius.api_key.expiring", {"mobius.within": span}) for span in ("1d", "7d", "30d")}
        assert within == {"1d": 1, "7d": 2, "30d": 3}
        assert value("mobius.api_key.never_used") == 5
        assert value("mobius.api_key.oldest_active_age") == 0


def test_the_age_of_the_oldest_key_and_what_nobody_uses_are_gauges(told, clock, url):
    """Of active keys alone; no key, no age."""
    with ApiKeyManager(url, pepper=PEPPER, clock=clock) as manager:
        manager.observe(told.slot.emitter)
        assert told.metrics.series("mobius.api_key.oldest_active_age") == []
    clock.advance(100)
    with ApiKeyManager(url, pepper=PEPPER, clock=clock) as manager:
        manager.revoke(manager.issue("alice").key.id)
        clock.advance(50)
        used = manager.issue("bob")
        manager.verify(used.secret)
        clock.advance(25)
        manager.issue("carol")
        manager.get(used.key.id)
        manager.observe(told.slot.emitter)
        assert told.metrics.value("mobius.api_key.oldest_active_age") == 25
        assert told.metrics.value("mobius.api_key.never_used") == 1


def test_the_census_of_a_store_agrees_with_the_records(manager, clock):
    """The store's own counting against the decision itself, over many ages."""
    from mobius_otel.security.api_keys.stores.protocol import Selection, take_census

    for number in range(40):
        issued = manager.issue("alice", ttl=number * 7 + 1 if number % 5 else 1e18)
        if number % 3 == 0:
            manager.rotate(issued.key.id, grace_period=number * 5)
        if number % 7 == 0:
            manager.revoke(issued.key.id)
    for _ in range(30):
        now = clock.advance(11)
        taken = manager.store.census(now, [10.0, 100.0])
        assert taken == take_census(manager.store.list(Selection()), now, [10.0, 100.0])


def test_with_a_strict_ledger_that_is_gone_no_key_is_changed(told, clock, url):
    """Neither issued, rotated, revoked nor purged; but a good key opens and a wrong one does not."""
    with ApiKeyManager(url, pepper=PEPPER, clock=clock) as manager:
        issued = manager.issue("alice")
        told.slot.fail_mode = "strict"
        told.lose_the_ledger()
        for call in (
            lambda: manager.issue("bob"),
            lambda: manager.rotate(issued.key.id),
            lambda: manager.revoke(issued.key.id),
            lambda: manager.purge(older_than=0),
        ):
            with pytest.raises(AuditUnavailable):
                call()
        assert manager.list() == [issued.key]
        assert manager.verify(issued.secret).id == issued.key.id
        refused(manager, generate("mob", "live"))


def test_a_strict_ledger_has_the_intent_and_the_outcome(told, clock):
    """Two records for what worked and for what failed."""
    told.slot.fail_mode = "strict"
    manager = ApiKeyManager("memory://", pepper=PEPPER, clock=clock)
    key = manager.issue("alice").key
    manager.rotate(key.id)
    with pytest.raises(RotationConflict):
        manager.rotate(key.id)
    outcomes = [event["audit.outcome"] for event in told.events()]
    assert outcomes == ["unknown", "success", "unknown", "success", "unknown", "failure"]
