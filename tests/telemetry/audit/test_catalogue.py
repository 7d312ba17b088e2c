"""Known events: what is registered is checked, carries its names, and has a schema."""

import enum
import threading
from datetime import UTC, datetime
from decimal import Decimal

import jsonschema
import pytest

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError, InvalidEvent
from mobius_otel.telemetry.audit import Actor, AuditEvent, AuditLogger, Source, Target, catalogue, register_event
from mobius_otel.telemetry.audit.catalogue import event_type, known_events
from mobius_otel.telemetry.audit.vocabulary import OCSF_CLASSES, OWASP, is_type_uid


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """What a test registers is its own."""
    monkeypatch.setattr(catalogue, "_registered", {})


def refund(**fields):
    return AuditEvent(**{"event_name": "payment.refund", "action": "UPDATE", "actor": Actor("u-1"), **fields})


class Colour(enum.StrEnum):
    RED = "red"


SHAPES = {"amount": float, "count": int, "currency": ["EUR", "USD"], "final": bool, "lines": list, "who": dict,
          "note": str, "price": Decimal, "at": datetime, "colour": Colour, "any": None}  # fmt: skip


@pytest.mark.parametrize(("name", "good", "bad", "rule"), [
    ("amount", 5, "5 EUR", "a number"), ("amount", 1.5, True, "a number"), ("count", 2**60, 1.5, "a whole number"),
    ("count", str(2**60), "12", "a whole number"), ("currency", "EUR", "GBP", "one of EUR, USD"),
    ("final", False, 0, "True or False"), ("lines", [1], "1", "a list"), ("who", {"a": 1}, [1], "a dictionary"),
    ("note", "x", 7, "a text"), ("price", Decimal("1.10"), [1], "a Decimal"),
    ("at", datetime(2026, 1, 1, tzinfo=UTC), {}, "a datetime"), ("colour", Colour.RED, [], "a Colour"),
])  # fmt: skip
def test_an_attribute_must_have_its_shape(name, good, bad, rule):
    """The error names the attribute, the value and the rule; what was accepted once is accepted as it is kept."""
    register_event("payment.refund", attributes=SHAPES)
    kept = refund(attributes={name: good})
    assert refund(attributes=dict(kept.attributes)).attributes == kept.attributes
    with pytest.raises(InvalidEvent, match=rule) as caught:
        refund(attributes={name: bad})
    assert caught.value.field == f"attributes[{name!r}]"


def test_an_attribute_that_nobody_registered_is_a_mistake():
    """With the name that was meant; standard names and those of this package are always welcome."""
    register_event("payment.refund", attributes=["amount", "any"])
    with pytest.raises(InvalidEvent, match="did you mean 'amount'"):
        refund(attributes={"amout": 5})
    assert refund(attributes={"amount": [1], conventions.HTTP_ROUTE: "/v1", conventions.ERROR_TYPE: "E"})
    assert AuditEvent("another.event", "READ", Actor("u-1"), attributes={"amout": 5})


def test_required_attributes_are_asked_of_what_succeeded():
    """What failed may have had no time to learn them."""
    register_event("payment.refund", attributes={"amount": float}, required=["amount"])
    for attributes in ({}, {"amount": None}):
        with pytest.raises(InvalidEvent, match="given where a payment"):
            refund(attributes=attributes)
        assert refund(attributes=attributes, outcome="failure")
        assert refund(attributes=attributes, outcome="unknown")


def test_a_registered_event_has_its_names_its_action_and_its_risk(telemetry):
    """Wherever it is recorded from; what the event says itself wins."""
    register_event("payment.refund", owasp="sensitive_update", ocsf=600303, risk=60, action="UPDATE")
    audit = AuditLogger("payments")
    audit.record("payment.refund", actor=Actor("u-1"))
    record = telemetry.audit("payment.refund")
    assert record["severity_number"] == 14
    assert record["attributes"]["mobius.audit.owasp"] == "sensitive_update"
    assert record["attributes"]["mobius.audit.ocsf_type_uid"] == 600303
    assert record["attributes"]["mobius.audit.risk_score"] == 60
    assert record["attributes"]["audit.action"] == "UPDATE"
    audit.record("payment.refund", actor=Actor("u-2"), action="DELETE", risk_score=5)
    record = telemetry.audit("payment.refund", {"audit.actor.id": "u-2"})
    assert (record["attributes"]["audit.action"], record["attributes"]["mobius.audit.risk_score"]) == ("DELETE", 5)


@pytest.mark.parametrize(("arguments", "setting"), [
    ({"name": "two words"}, "name"), ({"name": ""}, "name"), ({"name": None}, "name"), ({"name": "a" * 129}, "name"),
    ({"name": "api_key.issued"}, "name"), ({"attributes": "amount"}, "attributes"), ({"attributes": [7]}, "attributes"),
    ({"attributes": {"a": "float"}}, "attributes['a']"), ({"attributes": {"a": []}}, "attributes['a']"),
    ({"attributes": ["a"], "required": ["b"]}, "required"), ({"required": "a"}, "required"),
    ({"owasp": "sensitive_updated"}, "owasp"), ({"ocsf": 6003}, "ocsf"), ({"ocsf": "600303"}, "ocsf"),
    ({"ocsf": 600377}, "ocsf"), ({"risk": 101}, "risk"), ({"risk": True}, "risk"), ({"action": "update"}, "action"),
])  # fmt: skip
def test_a_registration_that_breaks_a_rule_is_refused_by_name(arguments, setting):
    """At import, where somebody sees it."""
    with pytest.raises(ConfigurationError) as caught:
        register_event(**{"name": "payment.refund", **arguments})
    assert caught.value.setting == setting
    assert known_events() == sorted(known_events(), key=lambda known: known.name)


def test_a_mistyped_owasp_name_gets_the_right_one():
    """And an OCSF number the classes there are."""
    with pytest.raises(ConfigurationError, match="Did you mean 'authn_login_success'"):
        register_event("a.b", owasp="authn_login_sucess")
    with pytest.raises(ConfigurationError, match="6003 API Activity"):
        register_event("a.b", ocsf=1)


def test_the_same_registration_twice_is_one():
    """A module may be imported again; another registration of the name is a conflict."""
    first = register_event("payment.refund", attributes={"amount": float})
    assert register_event("payment.refund", attributes={"amount": float}) is first
    with pytest.raises(ConfigurationError, match="something else"):
        register_event("payment.refund", attributes={"amount": int})
    assert event_type("payment.refund") is first


def test_threads_that_register_one_name_agree():
    """One wins, the others are told, and nobody is in between."""
    results = []

    def register(risk):
        try:
            register_event("payment.refund", risk=risk)
            results.append(risk)
        except ConfigurationError:
            results.append(None)

    threads = [threading.Thread(target=register, args=(risk,)) for risk in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [risk for risk in results if risk is not None] == [event_type("payment.refund").risk]


def test_every_event_of_the_package_is_in_the_vocabularies():
    """The registry of what is emitted is held to the same rules."""
    for event in conventions.EVENTS.values():
        assert event.owasp in OWASP
        assert is_type_uid(event.ocsf)
        assert event_type(event.name).own
    assert not is_type_uid(True)
    assert all(is_type_uid(uid * 100 + 99) for uid in OCSF_CLASSES)


def as_data(event):
    def party(value):
        return value and {"id": value.id, "type": value.type}

    return {
        "event_name": event.event_name, "action": event.action, "actor": party(event.actor), "outcome": event.outcome,
        "target": party(event.target), "risk_score": event.risk_score, "reason": event.reason,
        "source": party(event.source), "tenant": event.tenant, "attributes": dict(event.attributes),
        "timestamp": event.timestamp,
    }  # fmt: skip


def test_the_schema_says_what_the_constructor_says():
    """What is a good event is valid by it, what is refused is not."""
    register_event("payment.refund", attributes={"amount": float, "currency": ["EUR"], "any": None})
    schema, own = AuditEvent.schema(), AuditEvent.schema("payment.refund")
    for found in (schema, own):
        jsonschema.Draft202012Validator.check_schema(found)
        for event in (
            refund(),
            refund(attributes={"amount": 1.5, "currency": "EUR"}, target=Target("o"), source=Source("203.0.113.9"),
                   risk_score=100, reason="r", tenant="t", timestamp=10**18, outcome="unknown"),
        ):  # fmt: skip
            jsonschema.validate(as_data(event), found)
    valid = as_data(refund())
    for field, value in (
        ("event_name", "two words"), ("action", "update"), ("outcome", "ok"), ("actor", None), ("risk_score", 101),
        ("tenant", ""), ("timestamp", 0), ("attributes", [1]), ("source", {"id": "x", "type": "dns"}), ("more", 1),
    ):  # fmt: skip
        assert not jsonschema.Draft202012Validator(schema).is_valid({**valid, field: value}), field
    assert not jsonschema.Draft202012Validator(own).is_valid({**valid, "attributes": {"amount": "5"}})
    assert AuditEvent.schema("api_key.issued")["properties"]["event_name"] == {"const": "api_key.issued"}
    with pytest.raises(InvalidEvent, match="register_event"):
        AuditEvent.schema("nobody.knows")
