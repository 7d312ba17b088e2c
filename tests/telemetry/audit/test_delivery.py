"""Delivery: protocols, compression, mutual TLS, any exporter, quarantine again, waiting for the collector's word."""

import datetime as dt
import ipaddress
import json
import ssl
import threading
import time
from concurrent import futures

import pytest
from opentelemetry.sdk._logs.export import (
    ConsoleLogRecordExporter,
    InMemoryLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
)

from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.settings import exporter_from_environment, settings_from_environment
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services.unwritable import unwritable

E = "OTEL_EXPORTER_OTLP_"


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "audit.db") as ledger:
        yield ledger


@pytest.fixture
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


def emit(ledger, count, **attributes):
    audit = AuditLogger("test", ledger=ledger)
    return [audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n, **attributes}) for n in range(count)]


# --- protocols ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_every_protocol_and_compression_delivers_the_same(ledger, receiver, protocol, compression):
    """What arrives is what was recorded, nested values and all."""
    receipts = emit(ledger, 30, deep={"list": [1, 2.5, None, True, "x", []], "empty": {}}, big=2**60)
    shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, protocol=protocol, compression=compression)
    assert shipper.run_once() == 30
    log = receiver.logs[7]
    assert log["attributes"]["deep"] == {"list": [1, 2.5, None, True, "x", []], "empty": {}}
    assert (log["attributes"]["big"], log["attributes"]["audit.integrity.value"]) == (str(2**60), receipts[7].hash)
    headers = receiver.requests[0].headers
    assert headers.get("content-encoding") == (None if compression == "none" else compression)
    assert headers["content-type"] == ("application/json" if protocol == "http/json" else "application/x-protobuf")


def test_every_setting_has_its_standard_variable():
    """The signal's own first, then the common one."""
    found = settings_from_environment({
        E + "ENDPOINT": "https://c", E + "PROTOCOL": "http/json", E + "COMPRESSION": "GZIP",
        E + "CLIENT_CERTIFICATE": "/cert.pem", E + "LOGS_CLIENT_KEY": "/key.pem", E + "CERTIFICATE": "/ca.pem",
    })  # fmt: skip
    assert (found.endpoint, found.protocol, found.compression) == ("https://c/v1/logs", "http/json", "gzip")
    assert (found.client_certificate, found.client_key, found.certificate) == ("/cert.pem", "/key.pem", "/ca.pem")
    with pytest.raises(ConfigurationError, match="compression"):
        settings_from_environment({E + "ENDPOINT": "http://c", E + "COMPRESSION": "zip"})


# --- TLS ------------------------------------------------------------------------------------------------------


def certificates(folder):
    """Make an authority, a certificate of a server and one of a client; return where they are."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = dt.datetime.now(dt.UTC)

    def made(name, issuer, issuer_key, *, authority):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            # Python 3.13 verifies strictly: what RFC 5280 demands of a certificate has to be there.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority, content_commitment=False, key_encipherment=False,
                    data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
                    encipher_only=False, decipher_only=False,
                ), critical=True,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )  # fmt: skip
        certificate = builder.sign(issuer_key or key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return subject, key

    issuer, key = made("authority", None, None, authority=True)
    for name in ("server", "client"):
        made(name, issuer, key, authority=False)
    return lambda name: str(folder / name)


def test_mutual_tls_over_http(tmp_path, ledger):
    """With the client's certificate all arrives; without it, or without the authority's, nothing does."""
    file = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=file("authority.pem"))
    context.load_cert_chain(file("server.pem"), file("server.key"))
    context.verify_mode = ssl.CERT_REQUIRED
    emit(ledger, 3)
    with OtlpReceiver(tls=context) as receiver:
        assert receiver.endpoint.startswith("https://")
        for options in (
            {}, {"certificate": file("authority.pem")},
            {"client_certificate": file("client.pem"), "client_key": file("client.key")},
        ):  # fmt: skip
            shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, timeout=3, **options)
            assert (shipper.run_once(), ledger.backlog()) == (0, 3)
            assert shipper.failure
            shipper.stop(0.5)
        shipper = Shipper(
            ledger, endpoint=receiver.logs_endpoint, certificate=file("authority.pem"),
            client_certificate=file("client.pem"), client_key=file("client.key"),
        )  # fmt: skip
        assert (shipper.run_once(), shipper.failure) == (3, "")
        shipper.stop()


def test_mutual_tls_over_grpc(tmp_path, ledger):
    """The same by gRPC, compressed."""
    import grpc
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as messages
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service

    file = certificates(tmp_path)
    taken = []

    class Servicer(service.LogsServiceServicer):
        def Export(self, request, context):
            taken.extend(request.resource_logs[0].scope_logs[0].log_records)
            return messages.ExportLogsServiceResponse()

    def content(name):
        with open(file(name), "rb") as opened:
            return opened.read()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service.add_LogsServiceServicer_to_server(Servicer(), server)
    credentials = grpc.ssl_server_credentials(
        [(content("server.key"), content("server.pem"))], content("authority.pem"), require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    emit(ledger, 3)
    own = {"client_certificate": file("client.pem"), "client_key": file("client.key")}
    common = {"protocol": "grpc", "endpoint": f"https://127.0.0.1:{port}", "timeout": 5, "compression": "gzip"}
    try:
        shipper = Shipper(ledger, certificate=file("authority.pem"), **common)
        assert shipper.run_once() == 0
        shipper.stop()
        shipper = Shipper(ledger, certificate=file("authority.pem"), **own, **common)
        assert shipper.run_once() == 3
        shipper.stop()
    finally:
        server.stop(None)
    assert len(taken) == 3


# --- any exporter ---------------------------------------------------------------------------------------------


def test_any_exporter_of_logs_can_carry_records(ledger):
    """What it calls a success is taken for an acknowledgement; the record has every field."""
    receipts = emit(ledger, 5)
    exporter = InMemoryLogRecordExporter()
    shipper = Shipper(ledger, exporter=exporter, resource={"service.name": "shop"})
    assert shipper.run_once() == 5
    found = exporter.get_finished_logs()
    assert [one.log_record.attributes["log.record.uid"] for one in found] == [one.record_id for one in receipts]
    assert (found[0].log_record.event_name, found[0].resource.attributes["service.name"]) == ("order.placed", "shop")
    assert (found[0].log_record.severity_number.value, found[0].instrumentation_scope.name) == (9, "test")
    assert all(receipt.delivered(0) for receipt in receipts)


class Moody(LogRecordExporter):
    """Fails as it is told."""

    def __init__(self):
        self.taken, self.bad, self.answer = [], set(), LogRecordExportResult.SUCCESS

    def export(self, batch):
        numbers = [one.log_record.attributes.get("n") for one in batch]
        if self.bad & set(numbers):
            return LogRecordExportResult.FAILURE
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is LogRecordExportResult.SUCCESS:
            self.taken.extend(numbers)
        return self.answer

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


@pytest.mark.parametrize("answer", [LogRecordExportResult.FAILURE, None, True, OSError("no")])
def test_an_exporter_that_fails_gets_everything_again(ledger, answer):
    """Only SUCCESS is one."""
    exporter = Moody()
    shipper = Shipper(ledger, exporter=exporter)
    emit(ledger, 5)
    exporter.answer = answer
    assert (shipper.run_once(), ledger.backlog()) == (0, 5)
    exporter.answer = LogRecordExportResult.SUCCESS
    assert (shipper.run_once(), exporter.taken) == (5, [0, 1, 2, 3, 4])


def test_an_exporter_that_chokes_on_one_record_gets_the_others(ledger):
    """It is found by halving, once the failure has lasted."""
    exporter = Moody()
    exporter.bad = {3}
    shipper = Shipper(ledger, exporter=exporter)
    emit(ledger, 8)
    for _ in range(6):
        shipper.run_once()
    assert sorted(set(exporter.taken)) == [0, 1, 2, 4, 5, 6, 7]
    assert [entry.record()["attributes"]["n"] for entry in ledger.quarantined()] == [3]


def test_an_exporter_is_found_by_its_name(ledger, monkeypatch):
    """``OTEL_LOGS_EXPORTER=console``; with otlp among them, OTLP it is; a wrong name is refused."""
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "console")
    said = []
    monkeypatch.setattr(
        ConsoleLogRecordExporter, "export", lambda _, batch: said.extend(batch) or LogRecordExportResult.SUCCESS
    )
    emit(ledger, 1)
    assert Shipper.from_environment(ledger).run_once() == 1
    assert [one.log_record.event_name for one in said] == ["order.placed"]
    assert exporter_from_environment({"OTEL_LOGS_EXPORTER": "console"}) is ConsoleLogRecordExporter
    for value in ("", "none", "otlp", "console,otlp", "otlp_proto_grpc"):
        assert exporter_from_environment({"OTEL_LOGS_EXPORTER": value}) is None, value
    assert settings_from_environment({"OTEL_LOGS_EXPORTER": "console", E + "ENDPOINT": "http://c"}) is None
    with pytest.raises(ConfigurationError, match="OTEL_LOGS_EXPORTER"):
        exporter_from_environment({"OTEL_LOGS_EXPORTER": "nobodys"})


# --- quarantine -----------------------------------------------------------------------------------------------


def poisoned(receiver, number):
    receiver.answer(status=400, only_if=lambda log: log["attributes"].get("n") == number)


def test_quarantine_keeps_the_answer_and_is_offered_again_after_a_while(ledger, receiver):
    """Every hour, here every half a second, without a restart."""
    receipts = emit(ledger, 6)
    poisoned(receiver, 4)
    shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, interval=0.05, retry_quarantine=0.5)
    shipper.start()
    try:
        assert receiver.wait_for(lambda _: ledger.quarantine_reasons())
        ((record_id, (_, attempts, reason)),) = ledger.quarantine_reasons().items()
        assert (record_id, attempts, reason) == (receipts[4].record_id, 1, "HTTP 400")
        assert receiver.wait_for(lambda _: ledger.quarantine_reasons()[record_id][1] > 1)
        receiver.behave()
        assert receipts[4].delivered(10)
    finally:
        assert shipper.stop(5)


def test_retry_offers_it_now_or_asks_whoever_ships(tmp_path, ledger, receiver):
    """As the command line does, beside a running service too."""
    receipts = emit(ledger, 3)
    poisoned(receiver, 1)
    shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, interval=0.05)
    assert shipper.run_once() == 2
    assert shipper.retry() == (0, 1)
    assert shipper.failure == ""
    receiver.behave()
    with Ledger(tmp_path / "audit.db") as other:
        taken, left = Shipper(other, endpoint=receiver.logs_endpoint).retry()
    assert (taken, left) == (0, 1)
    assert not receipts[1].delivered(0)
    assert shipper.run_once() == 1
    assert receipts[1].delivered(0)


def test_one_request_holds_at_most_so_many_bytes(ledger, receiver):
    """A record that is larger goes alone."""
    emit(ledger, 6, note="x" * 1000)
    assert Shipper(ledger, endpoint=receiver.logs_endpoint, batch_bytes=4000).run_once() == 6
    assert [len(request.items) for request in receiver.requests] == [2, 2, 2]


# --- waiting for the collector --------------------------------------------------------------------------------


def test_durability_sink_returns_when_the_collector_has_it(tmp_path, receiver):
    """At once, not at the shipper's next look; the receipt says so."""
    with Ledger(tmp_path / "audit.db", durability="sink", sink_timeout=10) as ledger:
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, interval=30)
        shipper.start()
        time.sleep(0.2)
        began = time.monotonic()
        receipts = emit(ledger, 3)
        assert time.monotonic() - began < 8
        assert [receipt.durability for receipt in receipts] == ["sink"] * 3
        assert {log["attributes"]["log.record.uid"] for log in receiver.logs} >= {one.record_id for one in receipts}
        shipper.stop()


@pytest.mark.parametrize("fail_mode", ["strict", "spool", "best_effort"])
def test_durability_sink_before_a_collector_that_is_gone(tmp_path, receiver, fail_mode):
    """Strict raises, the others say what was reached; the record is in the ledger once and arrives later."""
    receiver.answer(status=503)
    with Ledger(tmp_path / "audit.db", durability="sink", sink_timeout=0.2) as ledger:
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, interval=0.05)
        shipper.start()
        audit = AuditLogger("test", ledger=ledger, fail_mode=fail_mode)
        if fail_mode == "strict":
            with pytest.raises(AuditUnavailable, match="in the ledger"):
                audit.record("order.placed", actor=Actor("u-1"))
        else:
            assert audit.record("order.placed", actor=Actor("u-1")).durability == "process"
        receiver.behave()
        assert receiver.wait_for(lambda r: r.logs)
        assert shipper.stop(5)
        assert len(receiver.logs) == 1


def test_delivered_waits_for_the_collectors_word(ledger, receiver):
    """And gives up in time."""
    (receipt,) = emit(ledger, 1)
    began = time.monotonic()
    assert not receipt.delivered(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    shipper = Shipper(ledger, endpoint=receiver.logs_endpoint, interval=60)
    timer = threading.Timer(0.3, shipper.start)
    timer.start()
    assert receipt.delivered(timeout=10)
    timer.join()
    shipper.stop()


# --- fail modes -----------------------------------------------------------------------------------------------


def test_fail_modes_by_name_and_by_risk(ledger):
    """The exact name, then the longest beginning, then the band, then the default; the policy's for every logger."""
    rules = {"payment.refund": "best_effort", "payment.*": "strict", "risk:critical": "strict"}
    audit = AuditLogger("test", ledger=ledger, fail_mode="spool", fail_modes=rules)
    repair = unwritable(ledger)
    from mobius_otel.telemetry.safety import raise_errors

    before = raise_errors(False)
    try:
        assert audit.record("payment.refund", actor=Actor("u"), risk_score=90).durability == "none"
        for name, risk in (("payment.sent", 5), ("door.opened", 80)):
            with pytest.raises(AuditUnavailable):
                audit.record(name, actor=Actor("u"), risk_score=risk)
        assert len(ledger.spool) == 0
        audit.record("door.opened", actor=Actor("u"), risk_score=79)
        assert len(ledger.spool) == 1
        with pytest.raises(AuditUnavailable), audit.audited("payment.sent", actor=Actor("u")):
            pytest.fail("the action must not happen")
        from mobius_otel.telemetry.audit.fail_modes import FailModes

        configured = defaults.install(defaults.Defaults(ledger=ledger, fail_modes=FailModes({"door.*": "strict"})))
        with pytest.raises(AuditUnavailable):
            AuditLogger("other").record("door.opened", actor=Actor("u"))
        defaults.install(configured)
    finally:
        raise_errors(before)
        repair()


@pytest.mark.parametrize("rules", [{"payment": "loose"}, {"": "strict"}, {"risk:huge": "strict"}, {"*": "strict"},
                                   {"a b": "strict"}])  # fmt: skip
def test_a_rule_that_is_none_is_refused(rules):
    """At construction, by name."""
    with pytest.raises(ConfigurationError, match="fail_modes"):
        AuditLogger(fail_modes=rules)


def test_json_of_a_request_is_what_the_standard_classes_read(ledger, receiver):
    """The receiver reads OTLP/JSON through protobuf's own parser, so a wrong field would be an error."""
    emit(ledger, 1)
    Shipper(ledger, endpoint=receiver.logs_endpoint, protocol="http/json").run_once()
    assert json.dumps(receiver.logs[0]["attributes"])
