"""The logger: redaction before the disk, receipts, fail modes, blocks, the package's own events."""

import asyncio
import os
import shutil
import types

import pytest
from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.errors import AuditUnavailable, ConfigurationError, InvalidEvent
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, AuditEvent, AuditLogger, Ledger, Source, Target
from mobius_otel.telemetry.audit import logger as logger_module
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.audit.observe import observe_ledger
from mobius_otel.telemetry.audit.ocsf import ocsf_event
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.safety import raise_errors
from tests.services.unwritable import unwritable

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


@pytest.fixture
def ledger(path):
    with Ledger(path) as ledger:
        yield ledger


@pytest.fixture
def backend():
    backend = InMemoryMetricsBackend()
    defaults.install(defaults.Defaults(emitter=MetricEmitter("test", backend=backend)))
    return backend


def newest(path):
    return read_records(path, last=1)[0][1]


def test_the_record_has_every_field(ledger, path):
    """The draft's names, ours, the caller's attributes, the chain."""
    audit = AuditLogger("payments", ledger=ledger)
    receipt = audit.emit(
        AuditEvent(
            "payment.refund", "UPDATE", Actor("u-1"), "failure", Target("order-9", "order"), 70, "too late",
            Source("2001:db8::1"), "acme", {"amount": 12.5}, 1_700_000_000_123_456_789,
        )
    )  # fmt: skip
    record = newest(path)
    attributes = record.pop("attributes")
    observed = record.pop("observed_timestamp")
    assert int(observed) > 1_700_000_000_123_456_789
    assert record == {
        "event_name": "payment.refund", "scope": "payments", "timestamp": "1700000000123456789",
        "severity_number": 17, "severity_text": "ERROR",
    }  # fmt: skip
    assert attributes == {
        "amount": 12.5, "audit.action": "UPDATE", "audit.actor.id": "u-1", "audit.actor.type": "user",
        "audit.outcome": "failure", "audit.target.id": "order-9", "audit.target.type": "order",
        "audit.source.id": "2001:db8::1", "audit.source.type": "ipv6", "audit.schema.version": "1",
        "mobius.audit.reason": "too late", "mobius.audit.risk_score": 70, "mobius.audit.tenant": "acme",
        "audit.integrity.canonicalization": "jcs", "audit.integrity.value": receipt.hash,
        "audit.record.id": receipt.record_id, "log.record.uid": receipt.record_id,
        "audit.sequence.stream_id": receipt.stream_id, "audit.sequence.number": 1,
        "mobius.audit.stream.number": 1, "client.address": "2001:db8::1", "user.id": "u-1",
    }  # fmt: skip
    assert (receipt.sequence, receipt.durability) == (1, "process")
    second = audit.record("payment.refund", actor=Actor("u-1"))
    assert newest(path)["attributes"]["audit.sequence.previous_hash"] == receipt.hash
    assert set(newest(path)["attributes"]) - {"audit.sequence.previous_hash"} <= conventions.ATTRIBUTES.keys()
    assert second.sequence == 2


def test_no_secret_reaches_the_disk_from_any_field(ledger, path, tmp_path):
    """A token in every text and every depth: not in the file, not in its log, and the record says so."""
    audit = AuditLogger(SECRET, ledger=ledger)
    audit.record(
        "payment.refund", actor=Actor(SECRET), target=Target(SECRET, SECRET), reason=f"because {SECRET} was used",
        source=Source(SECRET), tenant=SECRET,
        attributes={"note": SECRET, "deep": [{"x": (SECRET,)}], SECRET: 1, "password": "hunter2",
        "raw": SECRET.encode()},
    )  # fmt: skip
    everything = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert SECRET.encode() not in everything
    assert SECRET[4:].encode() not in everything
    assert b"hunter2" not in everything
    attributes = newest(path)["attributes"]
    assert attributes["mobius.redaction.count"] >= 9
    assert "password" in attributes["mobius.redaction.kinds"]


def test_a_redactor_that_fails_blanks_every_text(ledger, path):
    """Closed, not open: the record is kept, its texts are not."""
    before = raise_errors(False)
    try:
        redactor = types.SimpleNamespace(redact=lambda value, location: 1 / 0)
        receipt = AuditLogger(ledger=ledger, redactor=redactor).record(
            "payment.refund", actor=Actor(SECRET), attributes={"note": SECRET}
        )
    finally:
        raise_errors(before)
    assert receipt.durability == "process"
    record = newest(path)
    assert SECRET not in str(record)
    assert record["attributes"]["mobius.redaction.kinds"] == ["error"]
    assert verify_ledger(path).ok


@pytest.mark.parametrize(
    "name",
    ["audit.actor.id", " audit.actor.id", "AUDIT.actor.id", "audit\u200b.actor.id", "\0audit.x",
     "mobius.audit.risk_score", "Mobius.Audit.x", "mobius.redaction.count", "log.record.uid", " log.record.uid"],
)  # fmt: skip
def test_no_name_of_ours_is_a_callers(ledger, path, name):
    """Nor one that reads like it; what the caller gave is there under another name, also where that one is taken."""
    AuditLogger(ledger=ledger).record(
        "a.b", actor=Actor("ann"), attributes={name: 1, f"attribute.{name}": 2, "auditor": 3, "logging": 4}
    )
    attributes = newest(path)["attributes"]
    assert (attributes[f"attribute.attribute.{name}"], attributes[f"attribute.{name}"]) == (1, 2)
    assert (attributes["auditor"], attributes["logging"], attributes["audit.actor.id"]) == (3, 4, "ann")


@pytest.mark.parametrize("name", ["audit", "Audit", "mobius", "mobius.audit", "mobius.redaction", "log", "log.record"])
def test_no_mapping_becomes_a_name_of_ours(ledger, path, name):
    """Some backends flatten mappings, and lists of them; a text is no mapping."""
    inner = {"audit": {"risk_score": 0}, "actor": {"id": "eve"}, "record": {"uid": "x"}}
    for value in (inner, [inner]):
        AuditLogger(ledger=ledger).record("a.b", actor=Actor("ann"), attributes={name: value})
        assert newest(path)["attributes"][f"attribute.{name}"] == value
        assert name not in newest(path)["attributes"]
    AuditLogger(ledger=ledger).record("a.b", actor=Actor("ann"), attributes={name: "text"})
    assert newest(path)["attributes"][name] == "text"


def test_what_the_event_says_itself_is_no_callers_to_say(ledger, path):
    """Source, actor, exception and count: the event's own stand, the caller's are kept beside them."""
    forged = {"client.address": "6.6.6.6", "user.id": "root", "enduser.pseudo.id": "x", "error.type": "Fake",
              "mobius.count": 999}  # fmt: skip
    audit = AuditLogger(ledger=ledger)
    with (
        pytest.raises(ValueError, match="boom"),
        audit.audited("a.b", actor=Actor("ann"), source=Source("203.0.113.9"), attributes=forged),
    ):
        raise ValueError("boom")
    attributes = newest(path)["attributes"]
    said = {"client.address": "203.0.113.9", "user.id": "ann", "error.type": "ValueError"}
    assert {name: attributes.get(name) for name in forged} == {**dict.fromkeys(forged), **said}
    assert {name: attributes[f"attribute.{name}"] for name in forged} == forged
    made = ocsf_event(newest(path))
    assert (made["status_code"], made["src_endpoint"], made.get("count")) == ("ValueError", {"ip": "203.0.113.9"}, None)
    # What the event does not say, its maker may; an error there is only where something failed.
    audit.record("a.b", actor=Actor("job", "service"), outcome="failure", attributes=forged)
    attributes = newest(path)["attributes"]
    assert {name: attributes.get(name) for name in forged} == {**forged, "mobius.count": None}
    audit.record("a.b", actor=Actor("job", "service"), attributes=forged)
    assert "error.type" not in newest(path)["attributes"]
    assert "status_code" not in ocsf_event(newest(path))


def test_nobody_forges_a_field_through_an_attribute(ledger, path):
    """A caller's attribute with a name of ours is kept beside it."""
    AuditLogger(ledger=ledger).record(
        "payment.refund", actor=Actor("u-1"), risk_score=90,
        attributes={"audit.actor.id": "somebody else", "mobius.audit.risk_score": 0, "log.record.uid": "x",
                    "audit.sequence.number": 7, "audit.integrity.value": "x", "auditor": "fine"},
    )  # fmt: skip
    attributes = newest(path)["attributes"]
    assert (attributes["audit.actor.id"], attributes["mobius.audit.risk_score"]) == ("u-1", 90)
    assert (attributes["attribute.audit.actor.id"], attributes["auditor"]) == ("somebody else", "fine")
    assert attributes["log.record.uid"] == attributes["audit.record.id"]
    assert verify_ledger(path).ok


def test_the_current_span_is_on_the_record(telemetry, ledger, path):
    """Trace and span id, and nothing where no span is."""
    audit = AuditLogger(ledger=ledger)
    with trace.get_tracer("t").start_as_current_span("s") as span:
        audit.record("payment.refund", actor=Actor("u-1"))
        context = span.get_span_context()
    assert newest(path)["trace_id"] == f"{context.trace_id:032x}"
    assert newest(path)["span_id"] == f"{context.span_id:016x}"
    audit.record("payment.refund", actor=Actor("u-1"))
    assert "trace_id" not in newest(path)


# --- without a ledger ---------------------------------------------------------------------------------------


def test_without_a_ledger_the_record_goes_to_the_log_pipeline(telemetry):
    """At most once, and the receipt says so."""
    receipt = AuditLogger("payments").record("payment.refund", actor=Actor("u-1"), risk_score=70, attributes={"n": 1})
    assert (receipt.durability, receipt.sequence, receipt.delivered(0)) == ("none", None, False)
    log = telemetry.log(event_name="payment.refund")
    assert log["attributes"]["audit.record.id"] == receipt.record_id
    assert log["attributes"]["log.record.uid"] == receipt.record_id
    assert log["severity_number"] == 14
    assert log["timestamp"]


def test_a_flood_of_attributes_leaves_the_audit_fields(telemetry):
    """The SDK keeps 128 attributes: the caller's are dropped, the record's stay."""
    AuditLogger("payments").record(
        "payment.refund", actor=Actor("u-1"), target=Target("o", "order"), risk_score=1, reason="r",
        source=Source("203.0.113.9"), tenant="t", attributes={f"k{n}": n for n in range(500)},
    )  # fmt: skip
    attributes = telemetry.log(event_name="payment.refund")["attributes"]
    assert len(attributes) == 128
    assert {"audit.actor.id", "audit.action", "audit.outcome", "audit.record.id", "audit.target.id", "audit.source.id",
            "mobius.audit.risk_score", "mobius.audit.reason", "mobius.audit.tenant"} <= attributes.keys()  # fmt: skip


def test_the_configured_ledger_is_found_at_each_event(path):
    """A logger made at import writes to what was opened later."""
    audit = AuditLogger("early")
    assert audit.record("a.b", actor=Actor("u-1")).durability == "none"
    with Ledger(path) as ledger:
        defaults.install(defaults.Defaults(ledger=ledger))
        assert audit.record("a.b", actor=Actor("u-1")).durability == "process"
        defaults.install(None)
    assert audit.record("a.b", actor=Actor("u-1")).durability == "none"


# --- fail modes ---------------------------------------------------------------------------------------------


def test_strict_raises(ledger, backend):
    """Nobody goes on as if the record were there."""
    audit = AuditLogger(ledger=ledger, fail_mode="strict")
    repair = unwritable(ledger)
    with pytest.raises(AuditUnavailable):
        audit.record("a.b", actor=Actor("u-1"))
    repair()
    assert audit.record("a.b", actor=Actor("u-1")).sequence == 1
    assert backend.value("mobius.audit.records", {"mobius.audit.result": "rejected"}) == 1
    assert backend.value("mobius.audit.records", {"mobius.audit.result": "recorded"}) == 1


def test_best_effort_goes_on(ledger, backend):
    """Counted as rejected, and given up."""
    before = raise_errors(False)
    repair = unwritable(ledger)
    receipt = AuditLogger(ledger=ledger, fail_mode="best_effort").record("a.b", actor=Actor("u-1"))
    repair()
    raise_errors(before)
    assert (receipt.durability, receipt.delivered(0)) == ("none", False)
    assert backend.value("mobius.audit.records", {"mobius.audit.result": "rejected"}) == 1
    assert ledger.backlog() == 0


def test_spool_keeps_records_in_memory_and_drains_in_order(ledger, path, caplog, backend):
    """One loud line, everything in its order once the ledger works, one line about that."""
    audit = AuditLogger(ledger=ledger)
    first = audit.record("a.b", actor=Actor("u-1"), attributes={"n": 0})
    repair = unwritable(ledger)
    waiting = [audit.record("a.b", actor=Actor("u-1"), attributes={"n": n}) for n in range(1, 6)]
    assert [receipt.durability for receipt in waiting] == ["none"] * 5
    repair()
    assert ledger.spool.drain() == 0
    last = audit.record("a.b", actor=Actor("u-1"), attributes={"n": 6})
    assert (first.sequence, last.sequence) == (1, 7)
    assert [record["attributes"]["n"] for _, record in read_records(path)] == list(range(7))
    assert not waiting[0].delivered(0)
    ledger.acknowledge(7)
    assert all(receipt.delivered(0) for receipt in waiting)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert verify_ledger(path).ok


def test_spool_is_bounded_and_then_strict(ledger):
    """Ten thousand records, then AuditUnavailable."""
    audit = AuditLogger(ledger=ledger)
    repair = unwritable(ledger)
    event = AuditEvent("a.b", "READ", Actor("u-1"))
    for _ in range(10_000):
        audit.emit(event)
    with pytest.raises(AuditUnavailable, match="10000"):
        audit.emit(event)
    repair()
    assert ledger.spool.drain() == 0
    assert ledger.backlog() == 10_010  # with a checkpoint after every thousand


def test_close_writes_what_waits(ledger, path):
    """A ledger that works again is given what memory holds."""
    repair = unwritable(ledger)
    AuditLogger(ledger=ledger).record("a.b", actor=Actor("u-1"))
    repair()
    ledger.close()
    assert [record["event_name"] for _, record in read_records(path, notes=True)] == ["a.b", "audit.stream.ended"]


def test_a_wrong_fail_mode_is_refused():
    """At construction."""
    with pytest.raises(ConfigurationError, match="best_effort"):
        AuditLogger(fail_mode="loose")
    with pytest.raises(InvalidEvent):
        AuditLogger().emit("payment.refund")


# --- blocks -------------------------------------------------------------------------------------------------


def test_a_block_that_ends_is_a_success(ledger, path):
    """With what was learned inside it."""
    with AuditLogger(ledger=ledger).audited("a.b", actor=Actor("u-1"), attributes={"n": 1}) as block:
        block.attributes["more"] = 2
        block.risk_score = 80
    attributes = newest(path)["attributes"]
    assert (attributes["audit.outcome"], attributes["n"], attributes["more"]) == ("success", 1, 2)
    assert attributes["mobius.audit.risk_score"] == 80
    assert block.receipt.sequence == 1


@pytest.mark.parametrize("error", [ValueError("secret text"), KeyboardInterrupt(), SystemExit(3)])
def test_a_block_that_raises_is_a_failure_and_the_error_goes_on(ledger, path, error):
    """The very same object; its class is on the record, its text is not."""
    with pytest.raises(type(error)) as caught, AuditLogger(ledger=ledger).audited("a.b", actor=Actor("u-1")):
        raise error
    assert caught.value is error
    attributes = newest(path)["attributes"]
    assert (attributes["audit.outcome"], attributes["error.type"]) == ("failure", type(error).__name__)
    assert "secret text" not in str(attributes)


def test_an_async_block(ledger, path):
    """The same with ``async with``, also when the task is cancelled."""

    async def main():
        async with AuditLogger(ledger=ledger).audited("a.b", actor=Actor("u-1")):
            await asyncio.sleep(0)

        async def slow():
            async with AuditLogger(ledger=ledger).audited("a.b", actor=Actor("u-2")):
                await asyncio.sleep(60)

        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    outcomes = [record["attributes"]["audit.outcome"] for _, record in read_records(path)]
    assert outcomes == ["success", "failure"]
    assert newest(path)["attributes"]["error.type"] == "CancelledError"


def test_strict_keeps_a_record_before_the_block(ledger, path):
    """What cannot be written down does not happen."""
    audit = AuditLogger(ledger=ledger, fail_mode="strict")
    with audit.audited("a.b", actor=Actor("u-1")):
        assert newest(path)["attributes"]["audit.outcome"] == "unknown"
    assert newest(path)["attributes"]["audit.outcome"] == "success"
    repair = unwritable(ledger)
    done = []
    with pytest.raises(AuditUnavailable), audit.audited("a.b", actor=Actor("u-1")):
        done.append("the action")
    repair()
    assert done == []


def test_an_error_of_the_block_is_not_hidden_by_one_of_the_ledger(ledger):
    """The service's own exception is the one to be seen."""
    before = raise_errors(False)
    audit = AuditLogger(ledger=ledger, fail_mode="strict")
    block = audit.audited("a.b", actor=Actor("u-1"))
    block.__enter__()
    repair = unwritable(ledger)
    try:
        assert not block.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    finally:
        raise_errors(before)
    repair()


# --- the package's own events -------------------------------------------------------------------------------


def test_an_event_of_the_package_has_its_names(path):
    """OWASP and OCSF, the default action and risk; None attributes are left out."""
    with Ledger(path) as ledger:
        defaults.install(defaults.Defaults(ledger=ledger))
        receipt = record_event(
            conventions.API_KEY_REVOKED, actor=Actor("cli", "system"), outcome="success", attributes={"a": None, "b": 1}
        )
        assert receipt.durability == "process"
    record = newest(path)
    attributes = record["attributes"]
    assert (record["event_name"], record["scope"]) == ("api_key.revoked", "mobius_otel")
    assert attributes["mobius.audit.owasp"] == "authn_token_revoked"
    assert attributes["mobius.audit.ocsf_type_uid"] == 300105
    assert (attributes["audit.action"], attributes["mobius.audit.risk_score"]) == ("DELETE", 50)
    assert "a" not in attributes
    assert attributes["b"] == 1


def test_an_event_of_the_package_never_breaks_its_caller_but_in_strict(path):
    """A bad argument and a broken ledger are swallowed; strict raises for the ledger alone."""
    before = raise_errors(False)
    with Ledger(path) as ledger:
        for fail_mode in ("spool", "best_effort", "strict"):
            defaults.install(defaults.Defaults(ledger=ledger, fail_mode=fail_mode))
            assert record_event(conventions.API_KEY_REVOKED, actor="nobody", outcome="success") is None
            repair = unwritable(ledger)
            if fail_mode == "strict":
                with pytest.raises(AuditUnavailable):
                    record_event(conventions.API_KEY_REVOKED, actor=Actor("u"), outcome="success")
            else:
                found = record_event(conventions.API_KEY_REVOKED, actor=Actor("u"), outcome="success")
                assert found.durability == "none"
            repair()
    raise_errors(before)


def test_listeners_see_the_finished_record(ledger, telemetry):
    """Redacted and with its hash; one that raises does no harm."""
    receipt = AuditLogger(ledger=ledger).record("a.b", actor=Actor("u-1"), attributes={"password": "hunter2"})
    audit = telemetry.audit("a.b")
    assert audit["attributes"]["audit.integrity.value"] == receipt.hash
    assert "hunter2" not in str(audit)
    before = raise_errors(False)
    logger_module.listeners.append(lambda record: 1 / 0)
    try:
        assert AuditLogger(ledger=ledger).record("a.b", actor=Actor("u-1")).sequence == 2
    finally:
        logger_module.listeners.pop()
        raise_errors(before)


def test_the_backlog_is_a_gauge(ledger, backend):
    """What no collector has, in the ledger and in memory."""
    observe_ledger(defaults.emitter(), ledger)
    audit = AuditLogger(ledger=ledger)
    for _ in range(3):
        audit.record("a.b", actor=Actor("u-1"))
    assert backend.value("mobius.audit.backlog") == 3
    ledger.acknowledge(2)
    repair = unwritable(ledger)
    audit.record("a.b", actor=Actor("u-1"))
    assert backend.value("mobius.audit.backlog") == 2
    repair()
    ledger.spool.drain()
    assert backend.value("mobius.audit.backlog") == 2


def test_the_backlog_is_told_also_while_the_ledger_cannot_be_read(ledger, backend, tmp_path):
    """What was known last, and what memory holds since."""
    observe_ledger(defaults.emitter(), ledger)
    audit = AuditLogger(ledger=ledger)
    for _ in range(3):
        audit.record("a.b", actor=Actor("u-1"))
    assert backend.value("mobius.audit.backlog") == 3
    ledger.close()
    assert backend.value("mobius.audit.backlog") == 4  # with the stream's end
    shutil.move(tmp_path, f"{tmp_path}-moved")
    audit.record("a.b", actor=Actor("u-1"))
    assert backend.value("mobius.audit.backlog") == 5
    ledger.close()
    shutil.move(f"{tmp_path}-moved", tmp_path)
    assert ledger.spool.drain() == 0
    assert backend.value("mobius.audit.backlog") == 5


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_ledger_that_others_may_read_is_refused(path):
    """With the command that mends it."""
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Ledger(path)
