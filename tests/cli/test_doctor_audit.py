"""What the doctor says about audit."""

from pathlib import Path

import pytest

from mobius_otel.cli.doctor_audit import audit_findings, file_system
from mobius_otel.policy import parse_policy


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_LOGS_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


def findings(text):
    return [(what, verdict) for what, verdict, _ in audit_findings(parse_policy(text))]


def test_functions_that_are_not_there_are_found_before_the_service_starts(tmp_path, monkeypatch):
    """A mistyped one would never be audited, and nobody would know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "audited_shop.py").write_text("def refund(): pass\nrate = 3\n")
    (tmp_path / "broken_shop.py").write_text("1 / 0\n")
    policy = (
        '[audit]\nactor = "audited_shop:refund"\n'
        'functions = ["audited_shop:refund", "audited_shop:refnd", "audited_shop:rate", "no_shop:x", "broken_shop:x"]'
    )
    assert findings(policy) == [
        ("audit actor", "ok"), ("audited function", "ok"), *[("audited function", "fail")] * 4,
    ]  # fmt: skip
    timed = '[[instrument]]\ntarget = "audited_shop:{}"\ntimer = "t"\n'
    assert findings(timed.format("refund") + timed.format("refnd")) == [
        ("timed function", "ok"), ("timed function", "fail"),
    ]  # fmt: skip


def test_functions_that_others_have_taken_are_found(tmp_path, monkeypatch):
    """Only where they have them before a wrapper could come: who imports one later gets the wrapped one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "taken_shop.py").write_text("def refund(): pass\ndef pay(): pass\nTABLE = [refund]\n")
    (tmp_path / "takes_shop.py").write_text("from taken_shop import pay\nTABLE = [pay]\ndef own(): pass\n")
    policy = '[audit]\nfunctions = ["takes_shop:own", "taken_shop:pay", "taken_shop:refund"]'
    assert findings(policy) == [("audited function", "ok"), ("audited function", "ok"), ("audited function", "warn")]


def test_where_records_go(monkeypatch):
    """Nowhere is a warning, and a failure where somebody waits for the collector."""
    ledger = '[audit]\nledger = "audit.db"\n'
    assert findings("") == []
    assert findings(ledger) == [("audit shipping", "warn")]
    assert findings(f'{ledger}durability = "sink"') == [("audit shipping", "fail")]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert findings(f'{ledger}durability = "sink"') == [("audit shipping", "ok")]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector")
    assert findings(ledger) == [("audit shipping", "fail")]


def test_a_ledger_on_a_file_server_is_found(monkeypatch):
    """By the longest mount point that the path lies under."""
    mounts = (
        "/dev/vda / ext4 rw 0 0\nserver:/x /mnt/my\\040files nfs4 rw 0 0\n/dev/vdb /mnt/my\\040files/local xfs rw 0 0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mounts)
    assert file_system(Path("/var/audit.db")) == "ext4"
    assert file_system(Path("/mnt/my files/audit.db")) == "nfs4"
    assert file_system(Path("/mnt/my files/local/audit.db")) == "xfs"
    assert file_system(Path("/mnt/my files too/audit.db")) == "ext4"
    assert findings('[audit]\nledger = "/mnt/my files/audit.db"')[0] == ("audit ledger's disk", "fail")
