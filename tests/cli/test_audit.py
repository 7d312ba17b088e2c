"""``mobius-otel audit``: records for people and for other programs."""

import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import jsonschema
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from mobius_otel.cli.main import main
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger, Source, Target, catalogue
from mobius_otel.telemetry.audit.signing import HmacKey
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services import forking

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger of four records, named by a policy, in a folder of its own; its process was killed, so to speak."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobius.toml").write_text('[service]\nname = "shop"\n[audit]\nledger = "audit.db"\n')
    ledger = Ledger("audit.db")
    audit = AuditLogger("payments", ledger=ledger)
    for n in range(3):
        audit.record("payment.refund", actor=Actor("u-1"), action="UPDATE", target=Target(f"order-{n}", "order"),
                     source=Source("203.0.113.9"), risk_score=70, attributes={"n": n})  # fmt: skip
    audit.record("odd.one", actor=Actor("\x1b[2Jevil"), outcome="failure", reason=f"because\r{SECRET}")
    ledger.acknowledge(2)
    ledger.quarantine(1, "HTTP 400")
    ledger.flush()
    ledger._file.close()
    return tmp_path / "audit.db"


@pytest.fixture
def run(capsys):
    """Run a command; return its status and what it printed."""

    def run(*argv):
        status = main(["audit", *map(str, argv)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def ids(ledger):
    with closing(sqlite3.connect(ledger)) as connection:
        return [record_id for (record_id,) in connection.execute("SELECT record_id FROM records ORDER BY id")]


def test_the_ledger_is_the_one_of_the_policy(ledger, run):
    """Unless another one is named; where there is neither, the error says what to do."""
    assert run("tail", "-n", "1")[1] == run("tail", "audit.db", "-n", "1")[1]
    assert run("verify")[1].startswith(f"{ledger}: whole; 4 records in 1 stream\n")
    (ledger.parent / "mobius.toml").unlink()
    status, _, said = run("tail")
    assert status == 2
    assert "LEDGER = ''" in said
    assert "there is no policy file here" in said


def test_tail_shows_one_line_a_record_and_nothing_that_moves_the_cursor(ledger, run):
    """Ids too, to go on with."""
    _, out, _ = run("tail")
    header, *lines = out.splitlines()
    assert header.split() == ["time", "event", "actor", "outcome", "target", "risk", "id"]
    assert [line.split()[-1] for line in lines] == ids(ledger)
    assert "\x1b" not in out
    assert "�[2Jevil" in lines[-1]
    assert run("tail", "-n", "0")[1] == "no records\n"


def test_tail_follows(ledger):
    """What is recorded by another process comes, until somebody ends it."""
    command = [sys.executable, "-m", "mobius_otel", "audit", "tail", "-f", "-n", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        try:
            assert json.loads(tail.stdout.readline())["event_name"] == "odd.one"  # now it follows
            with Ledger(ledger) as opened:
                AuditLogger(ledger=opened).record("it.came", actor=Actor("u-1"))
                assert json.loads(tail.stdout.readline())["event_name"] == "it.came"
            for path in ledger.parent.glob("audit.db*"):
                path.rename(path.with_name(f"old-{path.name}"))
            assert "is gone; waiting for one in its place" in tail.stderr.readline()
            with Ledger(ledger) as opened:  # another file in its place: a rotation, or somebody who hides something
                AuditLogger(ledger=opened).record("from.the.start", actor=Actor("u-1"))
                assert json.loads(tail.stdout.readline())["event_name"] == "from.the.start"
        finally:
            tail.terminate()


def test_show_says_everything_about_one_record(ledger, run):
    """By its id, or so much of it as tells it from others."""
    first, *_, last = ids(ledger)
    status, out, _ = run("show", first)
    assert status == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if "hash before" not in line and " " in line)
    assert (shown["event"], shown["actor"], shown["target"]) == ("payment.refund", "u-1 (user)", "order-0 (order)")
    assert (shown["risk"], shown["collector"]) == ("70 (high)", "quarantined: HTTP 400")
    assert shown["n:"] == "0"
    status, out, _ = run("show", last, "--json")
    found = json.loads(out)
    assert (found["position"], found["delivery"]) == (4, "waiting")
    assert SECRET not in run("show", last)[1]
    assert "\r" not in run("show", last)[1]


@pytest.mark.parametrize(("typed", "said"), [("zz", "no record in"), ("0", "several records"), (" ", "no record in")])
def test_show_finds_none_or_several(ledger, run, typed, said):
    """Status 1, and what to type next."""
    status, _, err = run("show", typed)
    assert (status, said in err) == (1, True)
    assert json.loads(run("show", typed, "--json")[1]) is not None


def test_an_export_is_every_record(ledger, run):
    """As it left the ledger, one a line."""
    status, out, err = run("export")
    assert (status, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["attributes"]["audit.record.id"] for record in records] == ids(ledger)
    assert records[0]["attributes"]["audit.integrity.value"]
    assert SECRET not in out


def test_an_export_may_begin_and_end_in_time(ledger, run):
    """By when it was recorded."""
    assert len(run("export", "--since", "1h")[1].splitlines()) == 4
    assert run("export", "--until", "1h")[1] == ""
    assert run("export", "--since", "2200-01-01")[1] == ""
    assert len(run("export", "--since", "999999999d")[1].splitlines()) == 4
    for typed in ("yesterday", "99999999999999d", "2026-13-01", "1 day"):
        status, _, said = run("export", "--since", typed)
        assert (status, "--since" in said, "24h" in said) == (2, True, True)


def test_an_export_in_otlp_is_read_by_the_standard_classes(ledger, run):
    """A collector's file receiver reads it: one request a line, ids in hexadecimal, the service's name."""
    from google.protobuf.json_format import ParseDict

    _, out, _ = run("export", "--format", "otlp")
    (line,) = out.splitlines()
    request = ParseDict(json.loads(line), ExportLogsServiceRequest())
    (resource,) = request.resource_logs
    assert resource.resource.attributes[0].value.string_value == "shop"
    logs = resource.scope_logs[0].log_records
    assert [log.event_name for log in logs] == ["payment.refund"] * 3 + ["odd.one"]
    assert logs[0].severity_number == 14


def test_an_export_in_ocsf_is_one_event_a_line(ledger, run):
    """Each with the id of its record."""
    _, out, _ = run("export", "--format", "ocsf")
    assert [json.loads(line)["metadata"]["uid"] for line in out.splitlines()] == ids(ledger)


def test_an_export_to_a_file_is_private_and_overwrites_nothing(ledger, run):
    """What is in it is nobody else's business."""
    status, out, err = run("export", "-o", "day.jsonl")
    assert (status, out, err) == (0, "", "4 records are in day.jsonl\n")
    if os.name == "posix":
        assert stat.S_IMODE((ledger.parent / "day.jsonl").stat().st_mode) == 0o600
    status, _, said = run("export", "-o", "day.jsonl")
    assert status == 2
    assert "a new file" in said
    assert json.loads(run("export", "-o", "two.jsonl", "--json")[1])["records"] == 4


def test_a_record_that_was_changed_to_none_spoils_no_export(ledger, run):
    """The others come, the status tells, and verify names it."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE records SET payload = '[]' WHERE id = 2")
        connection.execute("""UPDATE records SET payload = '{"attributes":{}}' WHERE id = 3""")
    for name, records in (("jsonl", 3), ("otlp", 1), ("ocsf", 2)):
        status, out, err = run("export", "--format", name)
        assert (status, len(out.splitlines())) == (1, records), name
        assert "audit verify" in err
    assert run("show", ids(ledger)[1])[2].endswith("see audit verify\n")
    assert run("tail")[0] == 0


def test_exports_are_verified_like_the_ledger(ledger, run, monkeypatch):
    """Whole, and broken by name: from a file and from standard input."""
    for name in ("jsonl", "otlp"):
        run("export", "--format", name, "-o", f"all.{name}")
        file = ledger.parent / f"all.{name}"
        status, out, _ = run("verify", file)
        assert (status, out.splitlines()[0]) == (0, f"{file}: whole; 4 records in 1 stream")
        file.write_text(file.read_text().replace("order-1", "order-7"))
        status, out, _ = run("verify", file)
        assert (status, "changed: " in out) == (1, True)
        monkeypatch.setattr(sys, "stdin", file.open())
        assert run("verify", "-", "--json")[0] == 1
    later = ledger.parent / "later.jsonl"
    later.write_text(
        "".join((ledger.parent / "all.jsonl").read_text().replace("order-7", "order-1").splitlines(True)[2:])
    )
    status, out, _ = run("verify", later)
    assert (status, "--partial" in out) == (1, True)
    assert run("verify", later, "--partial")[0] == 0
    run("export", "--format", "ocsf", "-o", "all.ocsf")
    assert run("verify", ledger.parent / "all.ocsf")[0] == 2  # another form; nothing of it can be proven


def test_verify_of_nothing_is_no_proof(tmp_path, monkeypatch, run):
    """Status 2, in words and in JSON: what filled the pipe may have failed."""
    Ledger(tmp_path / "new.db").close()
    status, _, said = run("verify", tmp_path / "new.db")
    assert (status, "there is no audit record in it, so nothing is proven\n" in said) == (2, True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert run("verify", "-")[0] == 2
    status, out, _ = run("verify", tmp_path / "new.db", "--json")
    assert (status, json.loads(out)["ok"]) == (2, False)


def test_verify_says_what_no_signature_covers(tmp_path, run):
    """In words and in JSON: all of an unsigned ledger, the tail of a signed stream that is still written."""
    (tmp_path / "key").write_text("a made-up secret of the tests")
    with Ledger(tmp_path / "plain.db") as plain:
        AuditLogger(ledger=plain).record("a.b", actor=Actor("u"))
        assert "  no signature covers any of them\n" in run("verify", tmp_path / "plain.db")[1]
    path = tmp_path / "signed.db"
    with Ledger(path, key=HmacKey("a made-up secret of the tests")) as signed:
        for _ in range(3):
            receipt = AuditLogger(ledger=signed).record("a.b", actor=Actor("u"))
        said = f"  no signature covers 2 records: 2 of stream {receipt.stream_id} since number 2\n"
        assert said in run("verify", path, "--key", tmp_path / "key")[1]
        found = json.loads(run("verify", path, "--key", tmp_path / "key", "--json")[1])
        assert (found["ok"], found["unsigned"]) == (True, 2)
        assert found["tails"] == [{"stream_id": receipt.stream_id, "since": 2, "records": 2}]
    assert "no signature" not in run("verify", path, "--key", tmp_path / "key")[1]


def test_verify_takes_keys_and_what_was_told_elsewhere(tmp_path, monkeypatch, run):
    """A signature of the key, or none; a count that a metric said."""
    monkeypatch.delenv("MOBIUS_OTEL_AUDIT_KEY", raising=False)
    (tmp_path / "key").write_text("a made-up secret of the tests")
    with Ledger(tmp_path / "signed.db", key=HmacKey("a made-up secret of the tests")) as opened:
        AuditLogger(ledger=opened).record("a.b", actor=Actor("u-1"))
        receipt = AuditLogger(ledger=opened).record("a.b", actor=Actor("u-1"))
    signed = tmp_path / "signed.db"
    status, out, _ = run("verify", signed)
    assert (status, "not checked, because no key was given" in out) == (0, True)
    status, out, _ = run("verify", signed, "--key", tmp_path / "key")
    assert (status, "checked and good" in out) == (0, True)
    (tmp_path / "other").write_text("another made-up secret, as long")
    assert run("verify", signed, "--key", tmp_path / "other")[0] == 1
    assert run("verify", signed, "--expect", f"{receipt.stream_id}:2")[0] == 0
    status, out, _ = run("verify", signed, "--expect", f"{receipt.stream_id}:9")
    assert (status, "cut" in out) == (1, True)
    for arguments in (["--key", tmp_path / "no-file"], ["--expect", "nonsense"]):
        status, _, said = run("verify", signed, *arguments)
        assert status == 2
        assert str(arguments[1]) in said


def test_stats_say_how_a_ledger_is_doing(ledger, run):
    """Backlog, quarantine with the collector's answer, events; read from the file, also where nobody writes it."""
    status, out, _ = run("stats")
    assert status == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if line and line[0].islower())
    assert shown["records"] == "4"
    assert shown["waiting"].startswith("3 that no collector has; the oldest for ")
    assert shown["size"].endswith(" kB records")
    assert "HTTP 400" in out
    found = json.loads(run("stats", "--json")[1])
    assert (found["records"], found["backlog"], found["quarantined"], found["open_streams"]) == (4, 3, 1, 1)
    assert found["quarantine"][0]["record_id"] == ids(ledger)[0]
    assert {"event_name": "payment.refund", "outcome": "success", "records": 3, "highest_risk": 70} in found["events"]


def test_stats_of_a_killed_process_change_no_file(tmp_path, run):
    """As everything that only reads: the same number, the same bytes in the same files; what came beside it is gone."""
    path = tmp_path / "audit.db"
    script = (
        "import os, signal, sys\n"
        "from mobius_otel import Actor, AuditLogger, Ledger\n"
        "audit = AuditLogger(ledger=Ledger(sys.argv[1]))\n"
        "for _ in range(10): audit.record('order.placed', actor=Actor('u-1'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, env=forking.environment())

    def files():
        return {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}

    before = files()
    assert len(before) == 3
    found = json.loads(run("stats", path, "--json")[1])
    assert (found["records"], found["backlog"], found["open_streams"], found["streams"]) == (10, 10, 1, 1)
    assert found["events"][0]["records"] == 10
    assert files() == before
    assert found["bytes"] == sum(len(data) for name, data in before.items() if "-tail-" not in name)
    assert found["oldest"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is text")
def test_a_ledger_whose_name_is_no_utf8_is_read_as_any_other(tmp_path):
    """By every command that reads, as a process of its own: what cannot be shown is written otherwise."""
    folder = os.fsencode(tmp_path) + b"/nu\xff"
    os.mkdir(folder)
    path = os.fsdecode(folder + b"/audit\xfe.db")
    with Ledger(path) as ledger:
        AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"))
    for words in ("verify", "export", "tail", "stats", "stats --json"):
        command = [sys.executable, "-m", "mobius_otel", "audit", *words.split(), path]
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout


def test_stats_tell_records_from_what_a_ledger_writes_about_itself(tmp_path, run):
    """So that their number is the one that `verify` shows."""
    path = tmp_path / "ended.db"
    with Ledger(path) as whole:
        AuditLogger("shop", ledger=whole).record("a.b", action="READ", actor=Actor("ann"))
    assert "\nrecords      2, of which 1 about its streams\n" in run("stats", path)[1]
    assert "whole; 1 record in 1 stream" in run("verify", path)[1]


def test_prune_removes_what_a_collector_has(ledger, run):
    """By age or by size; what none has stays."""
    time.sleep(0.01)
    status, _, said = run("prune")
    assert (status, "--older-than 90d" in said) == (2, True)
    assert json.loads(run("prune", "--older-than", "1h", "--json")[1])["pruned"] == 0
    assert json.loads(run("prune", "--older-than", "0.001s", "--json")[1]) == {
        "pruned": 1, "records": 3, "backlog": 3,
    }  # fmt: skip
    assert run("prune", "--max-bytes", "1")[1].startswith("0 records are removed; 3 are left, 3 of them")
    assert "  1 record in quarantine, kept while those around were removed" in run("verify")[1]
    status, out, _ = run("verify")
    assert (status, "1 older record noted as removed after a collector had them" in out) == (0, True)
    for option, typed in (
        ("--older-than", "old"),
        ("--older-than", "0d"),
        ("--max-bytes", "much"),
        ("--max-bytes", "0"),
    ):
        status, _, said = run("prune", option, typed)
        assert (status, option in said) == (2, True)


@pytest.fixture
def receiver(monkeypatch):
    """A collector that the standard variable names."""
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.logs_endpoint.removesuffix("/v1/logs"))
        yield receiver


def test_ship_sends_what_no_collector_has(ledger, run, receiver):
    """Status 0 when nothing is left; what is in quarantine is offered again as well."""
    status, out, _ = run("ship", "--once")
    assert (status, out) == (0, "3 records were taken, 0 are left\n")
    uids = {log["attributes"]["log.record.uid"] for log in receiver.logs}
    assert uids >= {ids(ledger)[0], *ids(ledger)[2:4]}
    assert json.loads(run("ship", "--once", "--json")[1]) == {
        "shipped": 0, "left": 0, "quarantined": 0, "failure": "",
    }  # fmt: skip


def test_ship_and_retry_say_why_something_is_left(ledger, run, receiver):
    """With what the collector answered, and where to look."""
    receiver.answer(503)
    status, out, _ = run("ship", "--once")
    assert (status, "are left" in out, "HTTP 503" in out) == (1, True, True)
    status, out, _ = run("retry")
    assert (status, out) == (
        1,
        "0 records were taken, 1 are left (1 in quarantine: mobius-otel audit stats): HTTP 503\n",
    )
    receiver.behave()
    assert run("retry")[:2] == (0, "1 records were taken, 0 are left\n")


def test_ship_needs_a_collector(ledger, run, monkeypatch):
    """With the line to type."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_LOGS_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for command in (["ship", "--once"], ["retry"]):
        status, _, said = run(*command)
        assert (status, "export OTEL_EXPORTER_OTLP_ENDPOINT=" in said) == (2, True)


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "True"), ("OTEL_LOGS_EXPORTER", "otlp, none")])
def test_ship_says_which_variable_forbids_it(ledger, run, receiver, monkeypatch, name, value):
    """Not that an address is missing which is there."""
    monkeypatch.setenv(name, value)
    status, _, said = run("ship", "--once")
    assert (status, f"{name} = {value!r}" in said, "ENDPOINT" in said) == (2, True, False)


@pytest.mark.skipif(os.name != "posix", reason="adoption")
def test_ship_leaves_nothing_of_its_own(ledger, run, receiver):
    """The note that it took of a dead process's stream has a stream, whose end is to be sent as well."""
    script = (
        "import os; from mobius_otel import *; AuditLogger(ledger=Ledger('audit.db')).record('a.b', actor=Actor('u'))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ledger.parent)
    assert run("ship", "--once")[:2] == (0, "6 records were taken, 0 are left\n")
    assert [log["event_name"] for log in receiver.logs][-2:] == ["audit.stream.adopted", "audit.stream.ended"]
    assert json.loads(run("stats", "--json")[1])["backlog"] == 0


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ship_goes_on_until_it_is_ended(ledger, receiver):
    """As a process of its own: what comes meanwhile is sent too, SIGTERM ends it cleanly."""
    command = [sys.executable, "-m", "mobius_otel", "audit", "ship"]
    with subprocess.Popen(command, cwd=ledger.parent) as process:
        try:
            with Ledger(ledger) as opened:
                receipt = AuditLogger(ledger=opened).record("it.came", actor=Actor("u-1"))
                assert receipt.delivered(30)
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["tail", "verify", "export", "stats", "prune", "ship", "retry"])
def test_no_command_makes_a_ledger(tmp_path, run, command):
    """A mistyped path is an error, not a new file."""
    status, _, said = run(command, tmp_path / "nowhere.db", *(["--older-than", "1d"] if command == "prune" else []))
    assert (status, "nowhere.db" in said, list(tmp_path.iterdir())) == (2, True, [])


def test_the_catalogue_is_printed_with_a_services_own_events(tmp_path, monkeypatch, run):
    """As a table, as a page, and as schemas."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "_registered", {})
    (tmp_path / "shop_events.py").write_text(
        "from mobius_otel import register_event\n"
        "register_event('payment.refund', attributes={'amount': float, 'currency': ['EUR', 'USD']}, risk=60,\n"
        "               required=['amount'], owasp='sensitive_update', ocsf=600303, meaning='Money went back.')\n"
    )
    _, out, _ = run("events", "shop_events")
    assert out.splitlines()[-1].split()[:5] == ["payment.refund", "EXECUTE", "60", "sensitive_update", "600303"]
    _, page, _ = run("events", "shop_events", "--markdown")
    assert "| `payment.refund` | Money went back. | EXECUTE | 60 (high) | `sensitive_update` | 600303 |" in page
    assert "| `currency` | one of EUR, USD |  |" in page
    described = json.loads(run("events", "shop_events", "--json")[1])
    for event in described:
        jsonschema.Draft202012Validator.check_schema(event["schema"])
    assert "api_key.revoked" in {event["name"] for event in described}
    (tmp_path / "broken_events.py").write_text("import no_such_module")
    status, _, said = run("events", "broken_events")
    assert (status, "no_such_module" in said) == (2, True)


@pytest.mark.parametrize("page", [1, 2, 20, "cut"])
def test_every_command_answers_in_a_sentence_where_the_file_is_damaged(tmp_path, run, page, monkeypatch):
    """What cannot be read is told with the way on; status 1 where something could, else 2."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        for _ in range(100):
            AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"), attributes={"x": "x" * 300})
    if page == "cut":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        with open(path, "r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(4096))
    before = path.read_bytes()
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        for words in ("verify", "export", "tail", "show 01", "stats", "prune --older-than 1d", "retry", "ship --once"):
            status, out, said = run(*words.split(), path)
            assert out or said
            assert "Traceback" not in said
            if status == 2:
                assert said.startswith("mobius-otel: audit ledger = ")
                assert said.count("\n") == 1
    path.write_bytes(before)
    assert run("verify", path)[0] == 1


@pytest.mark.parametrize("found", ["foreign", "empty", "text"])
def test_no_command_makes_a_ledger_of_what_is_none(tmp_path, run, found, monkeypatch):
    """A wrong file, or one that somebody emptied, stays as it is and is called by its name."""
    path = tmp_path / "app.db"
    path.write_bytes(b"no database" * 100 if found == "text" else b"")
    if found == "foreign":
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE users (x)")
    path.chmod(0o600)
    before = path.read_bytes()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for words in ("stats", "prune --older-than 1d", "ship --once", "retry", "tail", "export", "show 01", "verify"):
        status, out, said = run(*words.split(), path)
        assert (status, out) == (2, "")
        assert "ledger" in said or "no audit record" in said
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["app.db"]
