"""From an event to its record: standard names, what is last, what a limit of the SDK leaves."""

import subprocess
import sys
import textwrap

import pytest

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit import Actor, AuditEvent, AuditLogger, Ledger, Source, Target
from mobius_otel.telemetry.audit.chain import _write as slowly
from mobius_otel.telemetry.audit.chain import parse
from mobius_otel.telemetry.audit.record import build
from mobius_otel.telemetry.audit.verify import verify_ledger
from mobius_otel.telemetry.redaction import Pseudonyms, RedactionPolicy, Redactor

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


def attributes(redactor=None, **fields):
    event = AuditEvent(**{"event_name": "a.b", "action": "READ", "actor": Actor("u-1"), **fields})
    return build(event, "s", redactor)["attributes"]


def test_source_and_user_have_their_standard_names():
    """Backends look for these; a service is no user, and the caller's word does not count beside the event's."""
    found = attributes(source=Source("203.0.113.9"))
    assert (found["client.address"], found["user.id"]) == ("203.0.113.9", "u-1")
    assert "user.id" not in attributes(actor=Actor("svc-1", "service"))
    assert "client.address" not in attributes()
    found = attributes(source=Source("203.0.113.9"), attributes={"client.address": "proxy", "user.id": "7"})
    assert (found["client.address"], found["user.id"]) == ("203.0.113.9", "u-1")
    assert (found["attribute.client.address"], found["attribute.user.id"]) == ("proxy", "7")
    assert found["audit.source.id"] == "203.0.113.9"


def test_a_pseudonym_is_no_user_id():
    """It has a standard name of its own; what redaction masked is neither."""
    keyed = Redactor(
        RedactionPolicy(actions={"email": "pseudonym"}), Pseudonyms({"k1": b"a made-up key of 32 characters!!"})
    )
    found = attributes(keyed, actor=Actor("ann@example.com"))
    assert found["enduser.pseudo.id"] == found["audit.actor.id"]
    assert found["enduser.pseudo.id"] == attributes(keyed, actor=Actor("ann@example.com"))["enduser.pseudo.id"]
    assert "user.id" not in found
    found = attributes(Redactor(), actor=Actor("ann@example.com"))
    assert not {"user.id", "enduser.pseudo.id"} & found.keys()


def test_severity_may_be_left_out(telemetry):
    """As the draft has it; the score stays."""
    AuditLogger(severity="omit").record("a.b", actor=Actor("u-1"), risk_score=90)
    record = telemetry.audit("a.b")
    assert not {"severity_number", "severity_text"} & record.keys()
    assert record["attributes"]["mobius.audit.risk_score"] == 90
    assert not telemetry.log(event_name="a.b")["severity_number"]
    with pytest.raises(ConfigurationError, match="risk, omit"):
        AuditLogger(severity="none")


def test_what_must_be_there_comes_last():
    """The SDK drops what was set first."""
    names = list(attributes(
        target=Target("t", "x"), source=Source("::1"), reason="r", tenant="t", risk_score=1, attributes={"mine": 1},
    ))  # fmt: skip
    must = {conventions.AUDIT_ACTION, conventions.AUDIT_ACTOR_ID, conventions.AUDIT_ACTOR_TYPE,
            conventions.AUDIT_OUTCOME, conventions.AUDIT_RECORD_ID, conventions.AUDIT_SCHEMA_VERSION,
            conventions.AUDIT_CANONICALIZATION}  # fmt: skip
    assert names[0] == "mine"
    assert set(names[-len(must) :]) == must


@pytest.mark.parametrize("limit", [9, 128])
def test_a_flood_leaves_what_must_be_there_whatever_the_limit(limit):
    """The real SDK, with its own limit and with one that somebody set far too low."""
    code = """
    import json, logging
    logging.disable()
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    set_logger_provider(provider)
    from mobius_otel import *
    AuditLogger("x").record("a.b", actor=Actor("u"), target=Target("t"), attributes={f"k{n}": n for n in range(500)})
    print(json.dumps(sorted(exporter.get_finished_logs()[0].log_record.attributes)))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True,
        env={"OTEL_ATTRIBUTE_COUNT_LIMIT": str(limit), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert '"audit.actor.id"' in done.stdout
    assert '"audit.action"' in done.stdout
    assert '"audit.outcome"' in done.stdout
    assert '"log.record.uid"' in done.stdout
    assert done.stdout.count('"') == 2 * limit


def test_limits_of_the_policy_hold_for_attributes_as_for_any_value():
    """They lie at the first level, and a flood of them takes none of the record's own texts."""
    flat = Redactor(RedactionPolicy(max_depth=1))
    found = attributes(flat, attributes={"a": 1, "b": {"c": 2}})
    assert (found["audit.actor.id"], found["a"], found["b"]) == ("u-1", 1, "[redacted:depth]")
    found = attributes(Redactor(RedactionPolicy(max_items=20)), attributes={f"n{n}": n for n in range(1000)})
    assert (found["audit.actor.id"], found["audit.action"], found["n0"]) == ("u-1", "READ", 0)
    assert found["mobius.redaction.kinds"] == ["items"]


@pytest.mark.parametrize("field", ["reason", "tenant", "target", "target_type", "actor", "host", "attribute"])
def test_a_secret_is_taken_out_beside_what_was_seen_before(field):
    """A record of which everything was clean before takes a short way; one field that was not does not slip along."""
    redactor, secret = Redactor(), "alice@example.com"

    def found(text):
        said = {"reason": "r", "tenant": "t", "target": "o-1", "target_type": "order", "actor": "u-1", "host": "h"}
        said |= {field: text}
        return attributes(
            redactor, reason=said["reason"], tenant=said["tenant"], target=Target(said["target"], said["target_type"]),
            actor=Actor(said["actor"]), source=Source(said["host"]), attributes={"a": said.get("attribute", "x")},
        )  # fmt: skip

    for _ in range(2):
        assert "mobius.redaction.count" not in found("plain")
    changed = found(secret)
    assert secret not in str(changed)
    assert (changed["mobius.redaction.count"], changed["mobius.redaction.kinds"]) == (1, ["email"])


def test_a_name_is_judged_anew_for_every_event():
    """What is a caller's own name beside one event is the event's to say beside another."""
    own = {"user.id": "7", "mine": 1}
    for _ in range(2):
        assert attributes(actor=Actor("svc", "service"), attributes=own)["user.id"] == "7"
        found = attributes(attributes=own)
        assert (found["user.id"], found["attribute.user.id"], found["mine"]) == ("u-1", "7", 1)
        assert attributes(attributes={"audit": 1})["audit"] == 1
        assert attributes(attributes={"audit": {"outcome": "x"}})["attribute.audit"] == {"outcome": "x"}


@pytest.mark.parametrize("number", [12.5, 1.0, -0.0, 1e-07, 1e16, 2**53 + 1, 1e300, True, None])
@pytest.mark.parametrize("deep", [False, True])
def test_a_number_is_kept_in_the_canonical_form_whatever_writes_it(tmp_path, number, deep):
    """An event knows whether a quick writer of JSON would do; where one would not, it is not asked."""
    with Ledger(tmp_path / "audit.db") as ledger:
        audit = AuditLogger(ledger=ledger)
        for name in ("n", "\U0001f600", "\uffee"):  # such names sort otherwise in UTF-8 than in UTF-16
            audit.record("a.b", actor=Actor("u-1"), attributes={name: {"of": [{"it": number}]} if deep else number})
        for entry in ledger.records():
            assert entry.payload == slowly(parse(entry.payload)).encode()
    assert verify_ledger(tmp_path / "audit.db").ok


@pytest.mark.parametrize("name", [
    "audit.record.id", "log.record.uid", "LOG.Record.uid", "mobius.redaction.kinds", "audit.integrity.value",
    "audit.sequence.number", "mobius.audit.owasp", "mobius.audit.result", "mobius.api_key.id", "mobius.count",
])  # fmt: skip
@pytest.mark.parametrize("shape", [
    lambda name: {name: SECRET}, lambda name: {name: [{"a": SECRET}]}, lambda name: {"x": {name: [SECRET]}},
    lambda name: {"x": [{"y": {name: SECRET}}]},
], ids=["bare", "with more in it", "in a list", "deep"])  # fmt: skip
def test_no_secret_is_trusted_for_a_name_of_ours_that_somebody_else_gives(name, shape):
    """As at any other name, once the name is kept under another and where it stands inside of something."""
    for _ in range(2):  # what is known of a name by then changes nothing
        record = build(AuditEvent("a.b", "READ", Actor("u-1"), attributes=shape(name)), "test", None)
        assert SECRET not in str(record)
        assert record["attributes"]["mobius.redaction.kinds"] == ["github"]


def test_what_the_package_writes_itself_is_still_trusted():
    """A key's id is no secret, though it looks like one."""
    spec = conventions.API_KEY_ISSUED
    attributes = {"mobius.api_key.id": SECRET}
    record = build(AuditEvent(spec.name, spec.action, Actor("u-1"), attributes=attributes), "test", None, spec)
    assert record["attributes"]["mobius.api_key.id"] == SECRET
