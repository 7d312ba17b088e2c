"""What a detector fails at: that one text is blanked and counted; what stands beside it is redacted as usual."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mobius_otel import Actor, AuditLogger, Ledger, Target
from mobius_otel.telemetry.audit.verify import read_records
from mobius_otel.telemetry.redaction import RedactingSpanProcessor, RedactionPolicy, Redactor, pairs
from tests.telemetry.redaction.secrets_kit import CANARY

POLICIES = [RedactionPolicy(), RedactionPolicy(actions={"email": "drop"})]  # one look at all of it, or a walk
BLANK = "[redacted:unreadable]"
BAD = "the password is boom"


@pytest.fixture
def failing(monkeypatch):
    """A detector that fails at one text."""
    detect = pairs.said

    def fails(text, of):
        if "boom" in text:
            raise ValueError(text)
        return detect(text, of)

    monkeypatch.setattr(pairs, "said", fails)
    monkeypatch.setattr(pairs, "may_tell", lambda text, words, of: [text.find("password is") + 1])


@pytest.mark.parametrize("policy", POLICIES)
def test_one_text_is_blanked_alone(failing, policy):
    """In lists, under keys and as one, in an object's place; and it is told where."""
    value = {
        "actor": "ann", "note": BAD, "mail": f"token={CANARY}", "list": ["a", BAD, {"to": BAD}], BAD: 1,
        "password": CANARY,
    }  # fmt: skip
    result = Redactor(policy).redact(value)
    assert result.value == {
        "actor": "ann", "note": BLANK, "mail": "token=[redacted:token]", "list": ["a", BLANK, {"to": BLANK}], BLANK: 1,
        "password": "[redacted:password]",
    }  # fmt: skip
    found = {(match.kind, match.path) for match in result.matches}
    assert {("unreadable", "note"), ("unreadable", "list[1]"), ("unreadable", "list[2].to")} <= found


@pytest.mark.parametrize("policy", POLICIES)
def test_one_text_of_a_document_is_blanked_alone(failing, policy):
    document = json.dumps({"actor": "ann", "note": BAD, "token": CANARY})
    clean = {"actor": "ann", "note": BLANK, "token": "[redacted:token]"}
    assert Redactor(policy).text(document) == json.dumps(clean)
    assert Redactor(policy).redact({"body": document, "n": 1}).value == {"body": json.dumps(clean), "n": 1}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_screen_that_fails_leaves_it_to_the_detectors(monkeypatch, policy):
    """Nothing is lost and nothing passes."""
    redactor = Redactor(policy)
    redactor._memory.scanner.suspects = lambda texts, times=0: 1 / 0
    value = {"actor": "ann", "note": f"token={CANARY}", "body": json.dumps({"a": "b", "note": f"token={CANARY}"})}
    assert redactor.redact(value).value == {
        "actor": "ann", "note": "token=[redacted:token]", "body": '{"a": "b", "note": "token=[redacted:token]"}',
    }  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_a_name_that_cannot_be_read_costs_its_value_alone(monkeypatch, policy):
    """What the name would have told is not known."""
    redactor = Redactor(policy)
    rules = redactor._memory.rules
    of = type(rules).of

    def fails(self, name):
        if "boom" in name:
            raise ValueError(name)
        return of(self, name)

    monkeypatch.setattr(type(rules), "of", fails)
    assert redactor.redact({"actor": "ann", "boom": "x1", "token": CANARY}).value == {
        "actor": "ann", "boom": BLANK, "token": "[redacted:token]",
    }  # fmt: skip
    said = redactor.redact({"actor": "ann", "inner": {"name": "boom", "value": "x1", "n": "b"}}).value
    assert said == {"actor": "ann", "inner": {"name": "boom", "value": BLANK, "n": "b"}}
    assert redactor.attribute("boom", "x1") == BLANK


def test_an_audit_event_keeps_who_did_what(failing, tmp_path):
    """What an attacker says in an attribute takes nothing else out of the record."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger("payments", ledger=ledger)
        with audit.audited(
            "payment.refund", action="UPDATE", actor=Actor("mallory"), target=Target("order-9", "order")
        ) as block:
            block.attributes["comment"] = BAD
    record = read_records(path, last=1)[0][1]
    said = record["attributes"]
    assert record["event_name"] == "payment.refund"
    assert (said["audit.action"], said["audit.actor.id"], said["audit.target.id"]) == ("UPDATE", "mallory", "order-9")
    assert said["comment"] == BLANK


def test_a_span_keeps_its_name_and_its_other_attributes(failing):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(RedactingSpanProcessor(SimpleSpanProcessor(exporter)))
    with provider.get_tracer("t").start_as_current_span("GET /a") as span:
        span.set_attributes({"user.name": BAD, "http.route": "/a"})
    sent = exporter.get_finished_spans()[0]
    assert sent.name == "GET /a"
    assert (sent.attributes["user.name"], sent.attributes["http.route"]) == (BLANK, "/a")


NAMES = ["token", "password", "the secret is", "wrong PIN", "api key:", "your code", "session id", "cookie ="]


@pytest.mark.parametrize(
    "text",
    [
        "Invalid token (request_id=req-123", "wrong password (attempt=3/5", "Failed to refresh token (401):",
        "token (12", "bad token (12:5", "password (a1", "secret (ref:a/b#1", "bad token (12)\u2026",
        "pin (1", "token (401).",
    ],
)  # fmt: skip
def test_a_bracket_that_stays_open_is_no_secret(text):
    """What is in brackets behind a name says more of it."""
    assert Redactor().text(text) == text


def test_no_short_form_with_brackets_is_unreadable():
    """Every ending of three signs behind a telling name."""
    redactor = Redactor()
    texts = [f"{name} {''.join(end)}" for name in NAMES for end in itertools.product("(){}[]<a1\"',:; \n", repeat=3)]
    for text in texts:
        assert "unreadable" not in redactor.text(text), text


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.text("()[]{}<>a1.,:;=\"'`*\\ \n\u2026", max_size=12))
def test_no_form_with_brackets_is_unreadable(name, rest):
    text = f"{name} {rest}"
    assert "unreadable" not in Redactor().text(text)
