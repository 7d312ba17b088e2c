"""The audit event: what it accepts, what it refuses, what it makes of odd values."""

import copy
import enum
import ipaddress
import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_otel.errors import ConfigurationError, InvalidEvent
from mobius_otel.telemetry.audit import Actor, AuditEvent, AuditLogger, Ledger, Source, Target, register_event
from mobius_otel.telemetry.audit.event import source_type


def event(**fields):
    return AuditEvent(**{"event_name": "payment.refund", "action": "UPDATE", "actor": Actor("u-1"), **fields})


@pytest.mark.parametrize(("risk", "success", "failure"), [
    (None, 9, 10), (0, 9, 10), (19, 9, 10), (20, 10, 13), (39, 10, 13), (40, 13, 14), (59, 13, 14), (60, 14, 17),
    (79, 14, 17), (80, 15, 18), (100, 15, 18),
])  # fmt: skip
def test_severity_comes_from_risk_and_outcome(risk, success, failure):
    """By bands; a success is never an error, an unknown outcome counts as one."""
    assert event(risk_score=risk).severity_number == success
    assert event(risk_score=risk, outcome="unknown").severity_number == success
    assert event(risk_score=risk, outcome="failure").severity_number == failure


@pytest.mark.parametrize(("field", "value"), [
    ("event_name", ""), ("event_name", "two words"), ("event_name", ".a"), ("event_name", "a..b"), ("event_name", "a."),
    ("event_name", None), ("event_name", "a" * 129), ("event_name", "café.order"), ("event_name", "a.b\n"),
    ("action", "update"), ("action", ""), ("action", None), ("action", "A B"), ("outcome", "ok"), ("outcome", None),
    ("actor", "u-1"), ("actor", None), ("target", "order-9"), ("source", "203.0.113.9"), ("risk_score", 101),
    ("risk_score", -1), ("risk_score", True), ("risk_score", 1.5), ("risk_score", "high"), ("reason", 7),
    ("tenant", ""), ("tenant", 7), ("attributes", [("a", 1)]), ("attributes", "x"), ("timestamp", 0),
    ("timestamp", 1_700_000_000), ("timestamp", 1_700_000_000_000_000),
    ("timestamp", 1.5), ("timestamp", True), ("timestamp", 2**63), ("timestamp", "now"),
])  # fmt: skip
def test_a_field_that_breaks_its_rule_is_refused_by_name(field, value):
    """The error names the field."""
    with pytest.raises(InvalidEvent, match=field) as caught:
        event(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["event_name", "action", "actor", "outcome", "target", "risk_score", "attributes"])
def test_an_error_shows_no_secret(field):
    """What is wrong may be a password that went into the wrong field."""
    for value in ({"password": "hunter2secret"}, "token=hunter2secret", ["postgresql://app:hunter2secret@db/x"]):
        if field != "attributes" or not isinstance(value, dict):
            with pytest.raises(InvalidEvent) as caught:
                event(**{field: value})
            assert "hunter2secret" not in str(caught.value)
            assert "redacted" in str(caught.value)


@pytest.mark.parametrize(("make", "field"), [
    (lambda: Actor(""), "actor.id"), (lambda: Actor(7), "actor.id"), (lambda: Actor("u", "robot"), "actor.type"),
    (lambda: Target(" "), "target.id"), (lambda: Target("t", ""), "target.type"), (lambda: Source(None), "source.id"),
    (lambda: Source("h", "dns"), "source.type"), (lambda: Source("h", "ipv4"), "source.type"),
    (lambda: Source("::1", "ipv4"), "source.type"),
])  # fmt: skip
def test_a_party_that_breaks_its_rule_is_refused_by_name(make, field):
    """Ids are texts, types are of the list."""
    with pytest.raises(InvalidEvent) as caught:
        make()
    assert caught.value.field == field


@pytest.mark.parametrize(("name", "good"), [
    ("order.1234567.cancel", False), ("user.0199f3a1-7b2c-7abc-8def-001122334455", False),
    ("file.d41d8cd98f00b204.read", False), ("oauth2.login", True), ("v1.order.404", True), ("s3.put-object", True),
    ("feedface.deadbeef", True), ("effaced.facade.decade.accede.beaded", True), ("sha256.mismatch", True),
])  # fmt: skip
def test_a_name_is_one_of_few(name, good):
    """An id in it would make a name of every record, and nobody could count or alert by it."""
    if good:
        assert event(event_name=name)
    else:
        with pytest.raises(InvalidEvent, match="few values"):
            event(event_name=name)
        with pytest.raises(ConfigurationError, match="few values"):
            register_event(name)


def test_long_ids_are_cut_rather_than_refused():
    """Whoever presents an id must not be able to keep the record from being written."""
    assert len(Actor("x" * 5000).id) == 1024
    assert len(event(reason="x" * 50_000).reason) == 8192


def test_attributes_are_copied_and_frozen():
    """Later changes of the caller's dict do not reach the event."""
    given = {"lines": [1, {"sku": "a"}]}
    made = event(attributes=given)
    given["lines"][1]["sku"] = "b"
    assert made.attributes == {"lines": [1, {"sku": "a"}]}
    with pytest.raises(TypeError):
        made.attributes["more"] = 1
    with pytest.raises(AttributeError):
        made.action = "DELETE"


def test_attributes_of_any_shape_become_json():
    """What JSON does not know is kept as its text; the key is a text as well."""

    class Colour(enum.StrEnum):
        RED = "red"

    class Broken:
        def __str__(self):
            raise RuntimeError

    made = event(
        attributes={
            1: Decimal("1.10"), "when": datetime(2026, 1, 2, tzinfo=UTC), "bytes": b"abc\xff", "set": {"b", "a"},
            "nan": float("nan"), "big": 2**70, "huge": 10**6000, "colour": Colour.RED, "broken": Broken(), "none": None,
            "surrogate": "\ud800", "tuple": (1, 2.5),
        }
    )  # fmt: skip
    assert made.attributes["huge"].endswith("bits)")
    assert {k: v for k, v in made.attributes.items() if k != "huge"} == {
        "1": "1.10", "when": "2026-01-02 00:00:00+00:00", "bytes": "abc\ufffd", "set": ["a", "b"], "nan": "nan",
        "big": str(2**70), "colour": "red", "broken": "[Broken]", "none": None, "surrogate": "\\ud800",
        "tuple": [1, 2.5],
    }  # fmt: skip


def test_a_hostile_value_is_cut():
    """A cycle, a bottomless nest and a value that doubles itself end, soon and small."""
    cycle = {}
    cycle["again"] = cycle
    deep = None
    for _ in range(10_000):
        deep = [deep]
    bomb = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    made = event(attributes={"cycle": cycle, "deep": deep, "bomb": bomb, "wide": list(range(10**6))})
    assert len(repr(made.attributes)) < 1_000_000


class Strange:
    """An object that does not want to be looked at."""

    def _refuse(self, *_):
        raise RuntimeError

    __eq__ = __bool__ = __str__ = __repr__ = _refuse
    __hash__ = object.__hash__


@pytest.mark.parametrize("field", [
    "event_name", "action", "actor", "outcome", "target", "risk_score", "reason", "source", "tenant", "attributes",
    "timestamp",
])  # fmt: skip
def test_a_strange_object_gets_the_same_answer_as_a_wrong_one(field):
    """By the field's name, whatever it does when it is compared or shown."""
    with pytest.raises(InvalidEvent) as caught:
        event(**{field: Strange()})
    assert caught.value.field == field
    with pytest.raises(InvalidEvent):
        Actor("u-1", Strange())


def test_attributes_that_cannot_be_read_are_kept_as_their_name():
    """A mapping that raises is no reason to lose the event."""

    class Broken(dict):
        def items(self):
            raise RuntimeError

    assert event(attributes=Broken(a=1)).attributes == {"attributes": "[Broken]"}
    assert event(attributes={"a": Strange()}).attributes == {"a": "[Strange]"}
    assert event(attributes=None).attributes == {}


def test_an_event_can_be_pickled_and_copied():
    """It crosses a process boundary as itself."""
    made = event(attributes={"a": [1]}, risk_score=3, source=Source("203.0.113.9"))
    assert pickle.loads(pickle.dumps(made)) == made
    assert copy.deepcopy(made) == made


@given(
    st.lists(st.one_of(st.integers(0, 300).map(str), st.sampled_from(["", "01", "1 ", "٣", "-1", "1\n"])), max_size=5)
)
def test_an_ipv4_address_is_what_the_standard_library_takes_for_one(parts):
    """The quick look and the thorough one agree."""
    text = ".".join(parts)
    try:
        expected = "ipv4" if ipaddress.ip_address(text).version == 4 else "ipv6"
    except ValueError:
        expected = "hostname"
    assert source_type(text) == expected


@pytest.mark.parametrize("name", ["audit.checkpoint", "audit.stream.ended", "audit.stream.adopted"])
def test_the_names_of_the_ledgers_own_notes_are_reserved(name):
    """They are counted, sealed and passed over as such."""
    with pytest.raises(InvalidEvent, match="the ledger writes of its streams"):
        AuditEvent(name, "READ", Actor("u-1"))


def test_of_an_enumeration_the_text_counts(tmp_path):
    """``str()`` of a member is its name, which is no action and no outcome."""

    class Word(str, enum.Enum):  # noqa: UP042 - its str() is what this is about
        NAME, ACTION, OUTCOME = "a.b", "READ", "failure"

    made = event(event_name=Word.NAME, action=Word.ACTION, outcome=Word.OUTCOME)
    assert [*map(type, (made.event_name, made.action, made.outcome))] == [str] * 3
    with Ledger(tmp_path / "audit.db") as ledger:
        AuditLogger(ledger=ledger).emit(made)
        record = ledger.records()[0].record()
    assert (record["event_name"], record["attributes"]["audit.outcome"]) == ("a.b", "failure")
