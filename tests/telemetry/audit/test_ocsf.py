"""Audit events as OCSF events: every one is valid by the schemas that OCSF publishes."""

import functools

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from mobius_otel import conventions
from mobius_otel.telemetry.audit import Actor, AuditEvent, Source, Target
from mobius_otel.telemetry.audit.ocsf import OCSF_VERSION, ocsf_event
from mobius_otel.telemetry.audit.record import build
from mobius_otel.telemetry.audit.stream import SEALED, Checkpoint, Stream
from mobius_otel.telemetry.audit.vocabulary import OCSF_CLASSES

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@functools.cache
def validator(version, class_uid):
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
    name = schema.lookup_class_name_from_uid(class_uid=class_uid)
    return jsonschema.Draft202012Validator(schema.get_class_schema(class_name=name))


def assert_valid(event, *versions):
    for version in versions or (OCSF_VERSION,):
        errors = [f"{error.json_path}: {error.message[:200]}" for error in
                  validator(version, event["class_uid"]).iter_errors(event)]  # fmt: skip
        assert errors == [], version


def made(spec=None, **fields):
    event = AuditEvent(**{"event_name": "payment.refund", "action": "UPDATE", "actor": Actor("u-1"), **fields})
    return ocsf_event(build(event, "payments", None, spec))


FULL = {
    "target": Target("order-9", "order"), "source": Source("203.0.113.9"), "reason": "too late", "tenant": "acme",
    "outcome": "failure", "risk_score": 70, "attributes": {"amount": 12.5, "nested": {"a": [1]}, "error.type": "Late"},
}  # fmt: skip


@pytest.mark.parametrize("fields", [{}, FULL], ids=["bare", "full"])
@pytest.mark.parametrize("actor", ["user", "service", "system"])
@pytest.mark.parametrize("type_uid", [
    *(uid * 100 + activity for uid, (_, activities) in OCSF_CLASSES.items() for activity in (1, len(activities), 99)),
])  # fmt: skip
def test_an_event_of_every_class_is_valid(type_uid, actor, fields):
    """With all that an event can have, and with the least."""
    spec = conventions.Event("payment.refund", "UPDATE", "", "sensitive_update", type_uid, 0)
    event = made(spec, **{**fields, "actor": Actor("u-1", actor)})
    assert event["type_uid"] == type_uid
    assert event["class_uid"] * 100 + event["activity_id"] == type_uid
    assert_valid(event)


@pytest.mark.parametrize("version", ["1.5.0", "1.6.0", "1.8.0"])
@pytest.mark.parametrize("uid", OCSF_CLASSES)
def test_an_event_is_valid_in_later_versions_too(uid, version):
    """A data lake may be newer."""
    spec = conventions.Event("payment.refund", "UPDATE", "", "sensitive_update", uid * 100 + 1, 0)
    assert_valid(made(spec, **FULL), version)


@pytest.mark.parametrize("event", conventions.EVENTS.values(), ids=lambda event: event.name)
def test_every_event_of_the_package_is_valid(event):
    """The whole catalogue; what the ledger notes of its streams is no event of anybody's."""
    if event.name in SEALED:
        assert_valid(ocsf_event(Stream().own_record(event, Checkpoint("a-stream", 1, "00"))))
        return
    attributes = dict.fromkeys(event.attributes, 1)
    assert_valid(made(event, event_name=event.name, action=event.action, attributes=attributes, risk_score=event.risk))


@pytest.mark.parametrize(("action", "type_uid", "activity"), [
    ("CREATE", 600301, "Create"), ("READ", 600302, "Read"), ("LOGIN", 300201, "Logon"), ("APPROVE", 600399, "Approve"),
])  # fmt: skip
def test_an_event_that_nobody_registered_goes_by_its_action(action, type_uid, activity):
    """Another activity has its own name, as the schema asks for."""
    event = made(action=action)
    assert (event["type_uid"], event["activity_name"]) == (type_uid, activity)
    assert_valid(event)


def test_the_fields_hold_what_the_event_says():
    """Who, what, where from, how it ended, and whatever OCSF has no field for."""
    event = made(**FULL, timestamp=1_700_000_000_123_456_789)
    assert event["time"] == 1_700_000_000_123
    assert event["actor"] == {"user": {"uid": "u-1", "type_id": 1, "type": "User"}}
    assert event["src_endpoint"] == {"ip": "203.0.113.9"}
    assert event["resources"] == [{"uid": "order-9", "type": "order"}]
    assert event["api"] == {"operation": "payment.refund", "service": {"name": "payments"}}
    assert (event["status"], event["status_detail"], event["status_code"]) == ("Failure", "too late", "Late")
    assert (event["severity_id"], event["severity"]) == (4, "High")
    metadata = event["metadata"]
    assert (metadata["tenant_uid"], metadata["event_code"], metadata["log_name"]) == (
        "acme",
        "payment.refund",
        "payments",
    )
    assert metadata["original_time"] == "1700000000123456789"
    assert event["unmapped"]["amount"] == 12.5
    assert event["unmapped"]["nested"] == {"a": [1]}
    assert not {"client.address", "user.id", "log.record.uid", "audit.actor.id"} & event["unmapped"].keys()


def test_the_hash_and_its_chain_go_along():
    """OCSF has no field for them in 1.x that every reader knows."""
    record = build(AuditEvent("a.b", "READ", Actor("u")), "s", None)
    record["attributes"] |= {"audit.integrity.value": "00", "audit.sequence.number": 7, "audit.sequence.stream_id": "s"}
    event = ocsf_event(record)
    assert event["metadata"]["sequence"] == 7
    assert event["unmapped"]["audit.integrity.value"] == "00"
    assert_valid(event)


def test_no_secret_is_in_it():
    """An event that was never recorded is redacted all the same."""
    event = AuditEvent(
        "payment.refund", "UPDATE", Actor(SECRET), target=Target(SECRET, SECRET), reason=f"because {SECRET}",
        source=Source(SECRET), tenant=SECRET, attributes={"note": SECRET, "password": "hunter2"},
    ).to_ocsf()  # fmt: skip
    assert SECRET not in str(event)
    assert "hunter2" not in str(event)
    assert_valid(event)


@pytest.mark.parametrize("spoiled", [
    {}, {"attributes": None}, {"attributes": {}}, {"event_name": "a", "attributes": {}, "timestamp": "soon"},
    {"event_name": "a", "attributes": {}, "timestamp": None},
])  # fmt: skip
def test_what_is_no_record_is_a_value_error(spoiled):
    """Somebody changed the ledger; an export goes on with the next."""
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        ocsf_event(spoiled)


def test_odd_values_of_a_changed_ledger_do_not_raise():
    """Numbers where texts were, a risk beyond the scale."""
    record = build(AuditEvent("a.b", "READ", Actor("u"), target=Target("t")), "s", None)
    record["attributes"] |= {"audit.actor.id": 7, "audit.target.id": [1], "mobius.audit.risk_score": 10**9,
        "mobius.count": "x", "mobius.audit.ocsf_type_uid": 600377, "audit.outcome": None}  # fmt: skip
    event = ocsf_event(record)
    assert (event["severity_id"], event["status_id"], event["type_uid"]) == (5, 0, 600302)
    assert_valid(event)
