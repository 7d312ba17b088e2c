"""The bridge from standard logging: what carries an audit event becomes a record, whatever else logging does."""

import logging
import logging.config
import pickle
import threading

import pytest

from mobius_otel.errors import AuditUnavailable, InvalidEvent
from mobius_otel.telemetry.audit import (
    Actor,
    AuditEvent,
    AuditHandler,
    AuditLogger,
    Ledger,
    Target,
    bridge,
    catalogue,
    register_event,
)
from mobius_otel.telemetry.audit.bridge import bridge_logging, unbridge_logging
from mobius_otel.telemetry.audit.verify import read_records
from mobius_otel.telemetry.safety import raise_errors
from tests.services.unwritable import unwritable

EVENT = {"event_name": "payment.refund", "actor": "u-1"}
SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.fixture(autouse=True)
def _unbridged(monkeypatch):
    """No bridge and no complaint of another test."""
    monkeypatch.setattr(bridge, "_complained", set())
    before = logging.Logger.callHandlers
    yield
    unbridge_logging()
    assert logging.Logger.callHandlers is before


@pytest.fixture
def log():
    logger = logging.getLogger("shop.billing")
    handler = AuditHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_log_record_becomes_an_audit_record(telemetry, log):
    """All fields; parties by id or as dictionaries; the logger's name is the scope, the message the reason."""
    log.info("order %s was paid back", "order-9", extra={"audit": {
        **EVENT, "action": "UPDATE", "target": {"id": "order-9", "type": "order"}, "source": "203.0.113.9",
        "risk_score": 70, "tenant": "acme", "attributes": {"amount": 12.5}, "timestamp": 1_700_000_000_000_000_000,
    }})  # fmt: skip
    record = telemetry.audit("payment.refund")
    attributes = record["attributes"]
    assert (record["scope"], record["timestamp"]) == ("shop.billing", "1700000000000000000")
    assert {name: attributes[name] for name in (
        "audit.actor.id", "audit.action", "audit.target.type", "audit.source.type", "audit.outcome", "amount",
        "mobius.audit.risk_score", "mobius.audit.reason", "mobius.audit.tenant",
    )} == {
        "audit.actor.id": "u-1", "audit.action": "UPDATE", "audit.target.type": "order", "audit.source.type": "ipv4",
        "audit.outcome": "success", "amount": 12.5, "mobius.audit.risk_score": 70,
        "mobius.audit.reason": "order order-9 was paid back", "mobius.audit.tenant": "acme",
    }  # fmt: skip


def test_an_exception_is_a_failure(telemetry, log):
    """Its class is recorded, its text is not."""
    try:
        raise PermissionError("made-up secret")
    except PermissionError:
        log.exception("refused", extra={"audit": EVENT})
    attributes = telemetry.audit("payment.refund")["attributes"]
    assert (attributes["audit.outcome"], attributes["error.type"]) == ("failure", "PermissionError")
    assert "made-up secret" not in str(attributes)


def test_an_event_may_be_given_whole(telemetry, log):
    """As it is."""
    log.info("x", extra={"audit": AuditEvent("a.b", "READ", Actor("u-1"), target=Target("t"))})
    assert "mobius.audit.reason" not in telemetry.audit("a.b")["attributes"]


@pytest.mark.parametrize("extra", [None, {}, {"audit": None}, {"audit": "on"}, {"audit": 7}, {"other": EVENT}])
def test_other_log_records_are_left_alone(telemetry, log, extra):
    """Other code may use the word too."""
    log.info("x", extra=extra)
    assert telemetry.audits == []


@pytest.mark.parametrize(("given", "field"), [
    ({"event_name": "a.b"}, "actor"), ({"actor": "u-1"}, "event_name"), ({**EVENT, "risk": 7}, "audit"),
    ({**EVENT, "risk_score": SECRET}, "risk_score"), ({**EVENT, "actor": {"name": SECRET}}, "actor"),
    ({**EVENT, "actor": {"id": SECRET, "type": SECRET}}, "actor.type"), ({**EVENT, "attributes": SECRET}, "attributes"),
    ({**EVENT, "source": 7}, "source"),
])  # fmt: skip
def test_an_event_that_breaks_a_rule_is_reported_once_a_place(caplog, log, given, field):
    """With the place in the code and the rule, without the value; the log record goes its way."""
    before = raise_errors(False)
    try:
        for _ in range(3):
            log.info("the line", extra={"audit": given})
    finally:
        raise_errors(before)
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert f"{field} must be" in said[0]
    assert "test_bridge.py:" in said[0]
    assert SECRET not in caplog.text
    assert [record.getMessage() for record in caplog.records].count("the line") == 3


@pytest.mark.parametrize(("given", "broken", "kept"), [
    ({"actor": ""}, "actor.id", {"audit.actor.id": "unknown"}),
    ({"actor": None}, "actor", {"audit.actor.id": "unknown"}),
    ({"actor": {"id": " ", "type": "king"}}, "actor.id", {"audit.actor.id": "unknown"}),
    ({"target": ""}, "target.id", {"audit.target.id": None}),
    ({"source": " "}, "source.id", {"audit.source.id": None}),
    ({"tenant": ""}, "tenant", {"mobius.audit.tenant": None}),
    ({"risk_score": "9"}, "risk_score", {"mobius.audit.risk_score": None}),
    ({"outcome": "bad"}, "outcome", {"audit.outcome": "unknown"}),
    ({"reason": 5}, "reason", {"mobius.audit.reason": "the line"}),
    ({"action": "look"}, "action", {"audit.action": "EXECUTE"}),
    ({"timestamp": 5}, "timestamp", {"audit.actor.id": "u-1"}),
    ({"attributes": "x"}, "attributes", {"attributes": "x"}),
    ({"bogus": 1}, "audit", {"audit.actor.id": "u-1"}),
    ({"actor": "", "target": "", "bogus": 1}, "audit", {"audit.actor.id": "unknown", "audit.target.id": None}),
])  # fmt: skip
def test_nobody_keeps_a_record_from_being_written_by_what_he_sends(tmp_path, log, given, broken, kept):
    """It is recorded with what keeps the rules, and says which it breaks."""
    path = tmp_path / "audit.db"
    before = raise_errors(False)
    try:
        with Ledger(path) as ledger:
            log.handlers[0]._audit = AuditLogger(ledger=ledger)
            log.info("the line", extra={"audit": {"event_name": "a.b", "actor": "u-1", **given}})
    finally:
        raise_errors(before)
    ((_, record),) = read_records(path)
    attributes = record["attributes"]
    assert attributes["mobius.audit.invalid"].startswith(f"{broken} must be ")
    assert {name: attributes.get(name) for name in kept} == kept


def test_attributes_that_are_not_those_of_the_name_are_recorded(tmp_path, log, monkeypatch):
    """As with a block: what has happened is kept, and says which rule it breaks."""
    monkeypatch.setattr(catalogue, "_registered", {})
    register_event("a.b", attributes={"code": int}, required=["code"])
    before = raise_errors(False)
    try:
        with Ledger(tmp_path / "audit.db") as ledger:
            log.handlers[0]._audit = AuditLogger(ledger=ledger)
            for attributes in ({"code": "x"}, {}):
                log.info("x", extra={"audit": {"event_name": "a.b", "actor": "u-1", "attributes": attributes}})
    finally:
        raise_errors(before)
    records = [record["attributes"] for _, record in read_records(tmp_path / "audit.db")]
    assert [(found.get("code"), found["audit.outcome"]) for found in records] == [("x", "success"), (None, "success")]
    assert all(found["mobius.audit.invalid"].startswith("attributes['code'] must be ") for found in records)


def test_tests_are_told_of_a_broken_rule(telemetry, log):
    """As everywhere."""
    with pytest.raises(InvalidEvent, match="did you mean 'actor'"):
        log.info("x", extra={"audit": {"event_name": "a.b", "actr": "u-1"}})


def test_arguments_that_do_not_fit_lose_no_event(telemetry, log, monkeypatch):
    """Logging reports its own mistake; the event is recorded."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler raises
    log.info("%d orders", "many", extra={"audit": EVENT})
    assert telemetry.audit("payment.refund")["attributes"]["mobius.audit.reason"] == "%d orders"


def test_strict_reaches_the_caller(tmp_path, log):
    """Where no record means no action, the log call raises."""
    with Ledger(tmp_path / "audit.db") as ledger:
        log.handlers[0]._audit = AuditLogger(ledger=ledger, fail_mode="strict")
        log.info("x", extra={"audit": EVENT})
        repair = unwritable(ledger)
        with pytest.raises(AuditUnavailable):
            log.info("x", extra={"audit": EVENT})
        repair()


def test_threads_write_through_one_handler(tmp_path, log):
    """Every record is there, once."""
    with Ledger(tmp_path / "audit.db") as ledger:
        log.handlers[0]._audit = AuditLogger(ledger=ledger)

        def write(n):
            for _ in range(25):
                log.info("x", extra={"audit": {**EVENT, "actor": f"u-{n}"}})

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = {record["attributes"]["audit.record.id"] for _, record in read_records(tmp_path / "audit.db")
               if record["event_name"] == "payment.refund"}  # fmt: skip
    assert len(ids) == 200


def test_the_whole_process_may_be_bridged(telemetry):
    """Loggers that do not propagate, and whatever dictConfig does later; one record where a handler stands as well."""
    bridge_logging()
    bridge_logging()
    quiet = logging.getLogger("shop.quiet")
    quiet.propagate, quiet.level = False, logging.INFO
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "INFO"}})
    quiet.info("x", extra={"audit": EVENT})
    assert len(telemetry.audits) == 1
    handler = AuditHandler()
    quiet.addHandler(handler)
    quiet.info("x", extra={"audit": EVENT})
    assert len(telemetry.audits) == 2
    quiet.removeHandler(handler)
    unbridge_logging()
    quiet.info("x", extra={"audit": EVENT})
    assert len(telemetry.audits) == 2
    quiet.propagate, quiet.level = True, logging.NOTSET


def test_the_log_record_knows_the_id_and_can_still_be_sent_elsewhere(telemetry, log, caplog):
    """A formatter may print it; a handler that pickles records finds nothing live in it."""
    log.info("x", extra={"audit": EVENT})
    (record,) = (record for record in caplog.records if record.name == log.name)
    assert record.audit_record_id == telemetry.audit("payment.refund")["attributes"]["audit.record.id"]
    assert pickle.loads(pickle.dumps(record)).audit == EVENT


def test_no_secret_goes_through(telemetry, log):
    """Redacted like every event."""
    log.info("token %s", SECRET, extra={"audit": {**EVENT, "attributes": {"note": SECRET, "password": "hunter2"}}})
    record = telemetry.audit("payment.refund")
    assert SECRET not in str(record)
    assert "hunter2" not in str(record)
