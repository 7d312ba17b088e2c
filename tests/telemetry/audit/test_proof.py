"""Proof: signatures, checkpoints told elsewhere, what was pruned, and records outside of the ledger."""

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.chain import canonical, digest, parse
from mobius_otel.telemetry.audit.exports import verify_lines
from mobius_otel.telemetry.audit.ledger import finished
from mobius_otel.telemetry.audit.otlp import decode_json, encode, encode_json
from mobius_otel.telemetry.audit.schema import MIGRATIONS, unfinished
from mobius_otel.telemetry.audit.signing import Ed25519Key, HmacKey, key_from, key_from_environment
from mobius_otel.telemetry.audit.stream import Checkpoint
from mobius_otel.telemetry.audit.verify import parse_checkpoint, read_records, verify_ledger, verify_records

SECRET = "a made-up secret of the tests"


def ed25519():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = Ed25519PrivateKey.generate()
    return (
        Ed25519Key(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        Ed25519Key(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    )


@pytest.fixture(params=["hmac", "ed25519"])
def keys(request):
    """A key that signs, and one that checks."""
    return (HmacKey(SECRET), HmacKey(SECRET)) if request.param == "hmac" else ed25519()


def write(path, count=10, *, end=True, **options):
    ledger = Ledger(path, **options)
    audit = AuditLogger("shop", ledger=ledger)
    receipts = [
        audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n, "price": n / 4, "none": None, "list": []})
        for n in range(count)
    ]
    if end:
        ledger.close()
    else:
        ledger.flush()
        ledger._file.close()
    return receipts


def tamper(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS grow")  # as somebody does who knows what it is for
        for sql, *values in statements:
            connection.execute(sql, values)


def rechain(path, *, change, strip=False):
    """Change a record and write the whole file anew, hashes, counts and all, as somebody may who has no key."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        heads = {}
        rows = connection.execute("SELECT id, stream, payload FROM records ORDER BY id").fetchall()
        for number, stream, payload in rows:
            record = parse(payload.encode())
            if number == change:
                record["attributes"]["n"] = 1_000_000
            if stream in heads:
                record["attributes"]["audit.sequence.previous_hash"] = heads[stream].hex()
            payload = canonical(record)
            heads[stream] = digest(payload)
            connection.execute(
                "UPDATE records SET payload = ?, hash = ? WHERE id = ?", (payload.decode(), heads[stream], number)
            )
        for stream, head in heads.items():
            connection.execute("UPDATE streams SET head = ? WHERE id = ?", (head, stream))
        if strip:
            connection.execute("UPDATE records SET signature = NULL")


def named(result):
    assert result.ok is not bool(result.problems)
    return [(problem.what, problem.sequence) for problem in result.problems]


# --- signatures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["record", "checkpoint"])
def test_a_signed_ledger_is_whole_with_its_key_and_without(tmp_path, keys, sign):
    """The key checks every signature; without one they are counted."""
    path = tmp_path / "audit.db"
    write(path, key=keys[0], sign=sign)
    result = verify_ledger(path, keys=keys[1:])
    assert (result.ok, result.signed) == (True, 11 if sign == "record" else 2)  # the first, and the end
    result = verify_ledger(path)
    assert (result.ok, result.signed, result.unchecked) == (True, 0, 11 if sign == "record" else 2)


@pytest.mark.parametrize("sign", ["record", "checkpoint"])
@pytest.mark.parametrize("strip", [False, True])
def test_a_whole_file_that_was_written_anew_is_forged(tmp_path, keys, sign, strip):
    """The chain alone does not show it, the signatures do, also where they were taken away."""
    path = tmp_path / "audit.db"
    write(path, key=keys[0], sign=sign)
    rechain(path, change=5, strip=strip)
    assert verify_ledger(path).ok
    assert {what for what, _ in named(verify_ledger(path, keys=keys[1:]))} == {"forged"}


@pytest.fixture
def rewritten(tmp_path):
    """A signed stream whose records behind its first were written anew, and whose signed end was taken away."""
    path = tmp_path / "audit.db"
    write(path, 10, key=HmacKey(SECRET))
    tamper(path, ("DELETE FROM records WHERE id = 11",), ("UPDATE streams SET count = 10, newest = 10",))
    rechain(path, change=5)
    return path


def test_a_stream_that_is_said_to_have_ended_must_have_its_end(rewritten):
    """Its end would be signed: without it somebody could write anew what is behind the last signature."""
    assert named(verify_ledger(rewritten, keys=[HmacKey(SECRET)])) == [("cut", 11)]
    assert named(verify_ledger(rewritten)) == [("cut", 11)]


def test_what_no_signature_covers_is_told(rewritten, tmp_path):
    """How many records and since which, of a ledger and of an export; a stream that is still written has a tail."""
    tamper(rewritten, ("UPDATE streams SET ended = NULL",))
    assert [(one.what, one.stream_id is None) for one in verify_ledger(rewritten).problems] == [("unreadable", False)]
    tamper(rewritten, ("UPDATE streams SET tail = 0",))  # of a process without one
    result = verify_ledger(rewritten, keys=[HmacKey(SECRET)])
    (tail,) = result.tails
    assert (result.ok, result.unended, result.unsigned, tail.since, tail.records) == (True, 1, 9, 2, 9)
    outside = verify_lines(exported(rewritten), 0, keys=[HmacKey(SECRET)])
    assert (outside.ok, outside.unsigned, outside.tails) == (True, 9, (tail,))
    assert verify_ledger(rewritten).unsigned == 9  # not checked, but there
    whole = tmp_path / "whole.db"
    write(whole, key=HmacKey(SECRET))
    for form in (exported, collected):
        assert verify_lines(form(whole), 0, keys=[HmacKey(SECRET)]).tails == ()
    assert verify_ledger(whole, keys=[HmacKey(SECRET)]).tails == verify_ledger(whole).tails == ()
    with Ledger(whole) as ledger:  # a stream without a signature, in the same file
        receipt = AuditLogger(ledger=ledger).record("a.b", actor=Actor("u-1"))
        assert [(t.stream_id, t.since) for t in verify_ledger(whole).tails] == [(receipt.stream_id, 1)]


def test_a_stream_that_was_adopted_is_covered_by_the_signature_of_who_adopted_it(tmp_path):
    """As far as that one saw it."""
    path = tmp_path / "audit.db"
    script = (
        "import os, sys; from mobius_otel.telemetry.audit import *\n"
        "from mobius_otel.telemetry.audit.signing import HmacKey\n"
        f"audit = AuditLogger(ledger=Ledger(sys.argv[1], key=HmacKey({SECRET!r})))\n"
        "for n in range(5): audit.record('a.b', actor=Actor('u'))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert [(tail.since, tail.records) for tail in verify_ledger(path, keys=[HmacKey(SECRET)]).tails] == [(2, 4)]
    write(path, 3, key=HmacKey(SECRET))
    result = verify_ledger(path, keys=[HmacKey(SECRET)])
    assert (result.ok, result.unended, result.tails) == (True, 0, ())


def test_a_signature_of_another_key_counts_for_nothing(tmp_path):
    """Nor one that is none."""
    path = tmp_path / "audit.db"
    write(path, key=HmacKey(SECRET))
    assert not verify_ledger(path, keys=[HmacKey("another made-up secret")]).ok
    assert verify_ledger(path, keys=[HmacKey("another made-up secret"), HmacKey(SECRET)]).ok
    for nonsense in ("", "x", "hmac-sha256:1:record:!!", "a:b:c:d"):
        tamper(path, ("UPDATE records SET signature = ? WHERE id = 1", nonsense))
        assert ("forged", 1) in named(verify_ledger(path, keys=[HmacKey(SECRET)]))


def test_an_unsigned_ledger_is_not_taken_for_a_signed_one(tmp_path):
    """With a key, every stream must be signed."""
    path = tmp_path / "audit.db"
    write(path)
    assert ("forged", 1) in named(verify_ledger(path, keys=[HmacKey(SECRET)]))


def test_a_tail_put_on_a_stream_whose_every_record_is_signed_is_forged(tmp_path):
    """Somebody chained a record on, with all counters, and could not sign it."""
    path = tmp_path / "audit.db"
    write(path, end=False, key=HmacKey(SECRET), sign="record")
    other = Ledger(path)
    stream = other._stream = __import__("mobius_otel.telemetry.audit.stream", fromlist=["Stream"]).Stream()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (stream.stream_id, stream.row, stream.count, stream.head) = connection.execute(
            "SELECT stream_id, id, count, head FROM streams"
        ).fetchone()
    other.append({"event_name": "a.b", "attributes": {"audit.record.id": "made-up"}})
    other.flush()
    other._file.close()
    assert verify_ledger(path).ok
    assert named(verify_ledger(path, keys=[HmacKey(SECRET)])) == [("forged", 11)]


def test_a_key_comes_from_the_environment(tmp_path):
    """A secret, a file with one, a file with a key in PEM; no error and no repr shows it."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    assert key_from_environment({}) is None
    by_text, by_file = (
        key_from_environment({"MOBIUS_OTEL_AUDIT_KEY": SECRET}),
        key_from_environment({"MOBIUS_OTEL_AUDIT_KEY_FILE": str(file)}),
    )
    assert by_text.name == by_file.name
    assert SECRET not in repr(by_text)
    with pytest.raises(ConfigurationError, match="can be read"):
        key_from_environment({"MOBIUS_OTEL_AUDIT_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError, match="16 bytes") as caught:
        key_from("too-short-123")
    assert "too-short" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="Ed25519"):
        key_from("-----BEGIN PRIVATE KEY-----\nbm90aGluZw==\n-----END PRIVATE KEY-----\n")


@pytest.mark.parametrize("name", ["MOBIUS_OTEL_AUDIT_KEY", "MOBIUS_OTEL_AUDIT_KEY_FILE"])
@pytest.mark.parametrize("value", ["", " \n"])
def test_a_key_that_did_not_come_is_not_taken_for_none(name, value):
    """A secret that was not mounted would leave the ledger unsigned without a word."""
    with pytest.raises(ConfigurationError, match=f"{name} = ''"):
        key_from_environment({name: value})


def test_a_public_key_cannot_sign(tmp_path):
    """And the ledger says so when it is opened."""
    with pytest.raises(ConfigurationError, match="private"):
        Ledger(tmp_path / "audit.db", key=ed25519()[1])


# --- checkpoints ----------------------------------------------------------------------------------------------


def test_a_checkpoint_from_elsewhere_shows_a_cut_tail_and_a_ledger_written_anew(tmp_path):
    """A metric or a span event said how far the stream was; the ledger's own counts were changed with it."""
    path = tmp_path / "audit.db"
    receipts = write(path, end=False)
    told = Checkpoint(receipts[-1].stream_id, receipts[-1].sequence, receipts[-1].hash)
    assert verify_ledger(path, expected=[told]).ok
    assert verify_ledger(path, expected=[parse_checkpoint(f"{told.stream_id}:10:{told.head[:12]}")]).ok
    assert verify_ledger(path, expected=[parse_checkpoint(f"{told.stream_id}:10")]).ok
    whole = path.read_bytes()
    rechain(path, change=5)
    assert verify_ledger(path).ok
    assert named(verify_ledger(path, expected=[told])) == [("forged", 10)]
    path.write_bytes(whole)
    tamper(
        path, ("DELETE FROM records WHERE id > 8",), ("UPDATE streams SET newest = 8",),
        ("UPDATE streams SET count = 8, head = (SELECT hash FROM records WHERE id = 8)",),
    )  # fmt: skip
    assert verify_ledger(path).ok
    assert named(verify_ledger(path, expected=[told])) == [("cut", 9)]
    assert named(verify_ledger(path, expected=[Checkpoint("another", 3, "")])) == [("missing", None)]


@pytest.mark.parametrize("text", ["", "x", "x:y", "x:1:zz", ":1", "x:-1"])
def test_what_is_no_checkpoint_is_refused(text):
    """With what it should look like."""
    with pytest.raises(ConfigurationError, match="STREAM:COUNT"):
        parse_checkpoint(text)


def test_the_stream_of_a_dead_process_is_pinned_by_who_adopted_it(tmp_path):
    """Its tail is cut, and everything that the ledger notes of it is changed: the other stream's record tells."""
    path = tmp_path / "audit.db"
    script = (
        "import os, sys; from mobius_otel.telemetry.audit import *; audit = AuditLogger(ledger=Ledger(sys.argv[1]))\n"
        "for n in range(5): audit.record('a.b', actor=Actor('u'))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    write(path, 3)
    adopted = [record for _, record in read_records(path, notes=True) if record["event_name"] == "audit.stream.adopted"]
    assert [record["attributes"]["mobius.audit.checkpoint.count"] for record in adopted] == [5]
    assert verify_ledger(path).ok
    tamper(
        path, ("DELETE FROM records WHERE id = 5",),
        ("UPDATE streams SET count = 4, head = (SELECT hash FROM records WHERE id = 4) WHERE id = 1",),
    )  # fmt: skip
    assert ("cut", 5) in named(verify_ledger(path))


def without_stream(path, stream):
    """Remove a stream, its tail and its numbers, as somebody does who knows what they are for."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS grow")
        (stream_id,) = connection.execute("SELECT stream_id FROM streams WHERE id = ?", (stream,)).fetchone()
        connection.execute("DELETE FROM records WHERE stream = ?", (stream,))
        connection.execute("DELETE FROM streams WHERE id = ?", (stream,))
        for number, (row,) in enumerate(connection.execute("SELECT id FROM records ORDER BY id").fetchall(), 1):
            connection.execute("UPDATE records SET id = ? WHERE id = ?", (number, row))
        for number, (row,) in enumerate(connection.execute("SELECT id FROM streams ORDER BY id").fetchall(), 1):
            connection.execute("UPDATE streams SET id = ? WHERE id = ?", (number, row))
            connection.execute("UPDATE records SET stream = ? WHERE stream = ?", (number, row))
        connection.execute("UPDATE streams SET newest = (SELECT MAX(id) FROM records r WHERE r.stream = streams.id)")
        for table in ("records", "streams"):
            connection.execute(f"UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM {table}) WHERE name = '{table}'")
    Path(f"{path}-tail-{stream_id}").unlink(missing_ok=True)


@pytest.mark.parametrize("stream", [1, 2, 3])
def test_a_removed_stream_is_told_of_by_those_behind_it(tmp_path, keys, stream):
    """Whose signed first records say which stream of the ledger they are; the newest is a matter for other places."""
    path, (key, public) = tmp_path / "audit.db", keys
    for _ in range(4):
        write(path, 3, key=key)
    result = verify_ledger(path, keys=[public])
    assert result.ok
    without_stream(path, stream)
    assert named(verify_ledger(path, keys=[public])) == [("missing", 1)] * (4 - stream)
    assert f"is stream number {stream + 1} of the ledger and stands as number {stream}" in str(
        verify_ledger(path).problems[0]
    )


def test_a_removed_stream_is_told_of_by_who_adopted_it(tmp_path):
    """Also where nothing else does: the ledger that it was the first of is otherwise whole."""
    path = tmp_path / "audit.db"
    write(path, 3, end=False)
    with Ledger(path) as ledger:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE streams SET pid = 1, process = 'dead', born = 'long ago'")
        ledger.seal(adopt=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (first,) = connection.execute("SELECT stream_id FROM streams WHERE id = 1").fetchone()
    assert verify_ledger(path).ok
    without_stream(path, 1)
    problems = {(problem.what, problem.stream_id) for problem in verify_ledger(path).problems}
    assert ("missing", first) in problems


def test_a_removed_stream_is_told_of_by_one_whose_beginning_was_pruned(tmp_path):
    """Its notes say which one it is, too."""
    path = tmp_path / "audit.db"
    write(path, 3)
    write(path, 100, checkpoint_records=10, end=False)
    with Ledger(path, max_age=1.0, clock=FrozenClock(time.time() + 10)) as ledger:
        ledger.acknowledge(80)
        ledger.prune()
        result = verify_ledger(path)
        assert result.ok
        assert result.pruned == 80
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM streams WHERE id = 1")
        connection.execute("UPDATE streams SET id = id - 1")
        connection.execute("UPDATE records SET stream = stream - 1")
        connection.execute("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'streams'")
    assert "stands as number 1" in verify_ledger(path).problems[0].text


def test_a_record_after_the_end_of_its_stream_is_forged(tmp_path):
    """Nobody writes after a clean stop."""
    path = tmp_path / "audit.db"
    write(path, 2)
    lines = exported(path)
    last = json.loads(lines[-1])
    assert last["attributes"]["audit.sequence.end"] is True
    bare, head, _ = unfinished(last)
    bare["attributes"] |= {
        "audit.sequence.number": 4,
        "audit.record.id": "made-up",
        "audit.sequence.previous_hash": head,
    }
    more = finished(bare, digest(canonical(bare)).hex())
    assert named(verify_lines([*lines, json.dumps(more).encode()], 0)) == [("forged", 4)]


# --- records outside of the ledger ----------------------------------------------------------------------------


def exported(path):
    return [json.dumps(record).encode() + b"\n" for _, record in read_records(path, notes=True)]


def collected(path, size=4):
    """Return the records as a collector's file exporter writes them, among log records of others."""
    records = [record for _, record in read_records(path, notes=True)]
    other = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "hello"}}]}]}]}
    return [json.dumps(other).encode()] + [
        encode_json(records[start : start + size], {"service.name": "shop"}) for start in range(0, len(records), size)
    ]


FORMS = {"jsonl": exported, "otlp": collected}


@pytest.mark.parametrize("form", FORMS)
def test_records_outside_of_the_ledger_are_verified(tmp_path, form, monkeypatch):
    """From a file and from standard input, with their signatures."""
    path = tmp_path / "audit.db"
    write(path, key=HmacKey(SECRET), sign="record")
    write(path, 3)
    lines = FORMS[form](path)
    file = tmp_path / "export"
    file.write_bytes(b"\n".join(line.rstrip() for line in lines) + b"\n")
    told = []
    result = verify_records(file, progress=lambda done, total: told.append((done, total)))
    assert (result.ok, result.records, result.streams, result.notes, result.unended) == (True, 13, 2, 2, 0)
    assert told[-1] == (file.stat().st_size, file.stat().st_size)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert verify_records("-").records == 13
    assert named(verify_records(file, keys=[HmacKey(SECRET)])) == [("forged", 1), ("forged", 4)]
    assert verify_records(path).records == 13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("what", "how"), [
    ("changed", lambda records: records[4]["attributes"].update(n=400)),
    ("missing", lambda records: records.pop(4)),
    ("reordered", lambda records: records.insert(4, records.pop(5))),
    ("doubled", lambda records: records.append(records[4])),
])  # fmt: skip
def test_tampering_with_an_export_is_named(tmp_path, form, what, how):
    """As in the ledger; a collector may have records twice and in another order."""
    path = tmp_path / "audit.db"
    write(path)
    records = [json.loads(line) for line in exported(path)]
    how(records)
    lines = (
        [json.dumps(record).encode() for record in records]
        if form == "jsonl"
        else [encode_json([record], {}) for record in records]
    )
    result = verify_lines(lines, 0)
    found = [(name, number) for name, number in named(result) if name != "unreadable"]
    if form == "otlp" and what in ("reordered", "doubled"):
        assert (result.ok, result.duplicates) == (True, int(what == "doubled"))
    else:
        assert found == [(what, 5)]


def otlp_record(document, number=4):
    return document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][number]


def attribute(name, value="eve"):
    return {"key": name, "value": {"stringValue": value}}


@pytest.mark.parametrize("how", [
    lambda log: log.update(body={"stringValue": "refund by eve"}), lambda log: log.update(body={"stringValue": " "}),
    lambda log: log["attributes"].append(attribute("audit.actor.id", "u-1")),
    lambda log: log["attributes"].insert(0, attribute("audit.actor.id")),
    lambda log: log["attributes"].append(attribute("log.record.uid")),
    lambda log: log.update(attributes=[a for a in log["attributes"] if a["key"] != "log.record.uid"]),
    lambda log: log.update(droppedAttributesCount=5), lambda log: log.update(flags=1),
    lambda log: log.update(spanId="00f067aa0ba902b7"), lambda log: log.update(extra={"stringValue": "x"}),
    lambda log: log["attributes"].append({"key": "list", "value": {"kvlistValue": {"values": [attribute("a")] * 2}}}),
])  # fmt: skip
def test_what_no_record_of_ours_has_is_named_in_otlp(tmp_path, how):
    """A body, a name that is there twice (readers differ in which one counts), another id for collectors."""
    path = tmp_path / "audit.db"
    write(path, 6)
    document = json.loads(encode_json([record for _, record in read_records(path, notes=True)], {"service.name": "x"}))
    for log in document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        log.update(
            body={}, traceId="", spanId="", droppedAttributesCount=0
        )  # as a collector may write what is not there
    assert verify_lines([json.dumps(document).encode()], 0).ok
    how(otlp_record(document))
    assert named(verify_lines([json.dumps(document).encode()], 0)) == [("changed", 5)]


@pytest.mark.parametrize(
    ("form", "there", "before"),
    [
        (exported, b'"audit.actor.id"', b'"audit.actor.id":"eve",'),
        (exported, b'"event_name"', b'"event_name":"x",'),
        (collected, b'"eventName"', b'"eventName":"x",'),
        (collected, b'"stringValue":"u-1"', b'"stringValue":"eve",'),
    ],
)
def test_a_json_key_that_is_there_twice_is_named(tmp_path, form, there, before):
    """The last one counts here, the first one elsewhere: the line is no record."""
    write(tmp_path / "audit.db", 3)
    lines = form(tmp_path / "audit.db")
    assert verify_lines(lines, 0).ok
    (number,) = [n for n, line in enumerate(lines) if there in line][:1]
    lines[number] = lines[number].replace(there, before + there, 1)
    first = verify_lines(lines, 0).problems[0]
    assert (first.what, first.text) == ("unreadable", f"line {number + 1} is no record: a key stands in it twice")


@pytest.mark.parametrize("uid", ["x", None])
def test_an_id_for_collectors_that_is_not_the_records_is_named(tmp_path, uid):
    """A collector that removes copies by it would remove another record."""
    path = tmp_path / "audit.db"
    write(path, 6)
    lines = exported(path)
    record = json.loads(lines[4])
    record["attributes"]["log.record.uid"] = uid
    lines[4] = json.dumps(record).encode()
    assert named(verify_lines(lines, 0)) == [("changed", 5)]


def test_an_export_of_a_part_is_whole_only_when_asked_so(tmp_path):
    """What came before is missing, unless somebody says that it must be."""
    path = tmp_path / "audit.db"
    write(path)
    part = exported(path)[4:]
    assert named(verify_lines(part, 0)) == [("missing", 1)]
    assert verify_lines(part, 0, partial=True).ok
    assert named(verify_lines([*part[:2], *part[3:]], 0, partial=True)) == [("missing", 7)]


def test_a_record_with_other_content_under_a_number_that_was_there_is_named(tmp_path):
    """A collector's duplicate is the same record; another one is not."""
    path = tmp_path / "audit.db"
    write(path)
    records = [json.loads(line) for line in exported(path)]
    bare, _, _ = unfinished(records[3])
    bare["attributes"]["n"] = 77
    records.append(finished(bare, digest(canonical(bare)).hex()))
    assert named(verify_lines([encode_json([record], {}) for record in records], 0)) == [("doubled", 4)]


def test_a_cut_tail_of_an_export_is_seen_by_what_was_told_elsewhere(tmp_path):
    """The end is not there, so the stream counts as open; a checkpoint says how far it was."""
    path = tmp_path / "audit.db"
    receipt = write(path)[-1]
    lines = exported(path)[:-3]
    result = verify_lines(lines, 0)
    assert (result.ok, result.unended) == (True, 1)
    told = Checkpoint(receipt.stream_id, receipt.sequence, receipt.hash)
    assert named(verify_lines(lines, 0, expected=[told])) == [("cut", 9)]


@pytest.mark.parametrize("line", [b"x", b"[]", b"7", b"{}", b'{"attributes":{}}', b'{"resourceLogs":7}',
                                  b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[7]}]}]}', b"\xff\xfe", b"[" * 5000,
                                  b'{"attributes":{"audit.integrity.value":"x","audit.record.id":"y"}}'])  # fmt: skip
def test_a_line_that_is_no_record_is_named_and_the_others_are_read(tmp_path, line):
    """By its number; nothing crashes."""
    path = tmp_path / "audit.db"
    write(path, 2)
    result = verify_lines([*exported(path), line], 0)
    assert (result.records, [problem.what for problem in result.problems]) == (2, ["unreadable"])
    assert "line 4" in result.problems[0].text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_attributes_survive_every_form(attributes):
    """Whatever a caller records, JSON, OTLP/JSON and OTLP's protobuf as JSON give back what was hashed."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    record = {
        "event_name": "a.b", "scope": "s", "timestamp": "1", "observed_timestamp": "2", "severity_number": 9,
        "severity_text": "INFO", "attributes": {**attributes, "audit.record.id": "id"},
    }  # fmt: skip
    payload = canonical(record)
    head = digest(payload).hex()
    stored = finished(parse(payload), head)
    again = [parse(json.dumps(stored).encode()), *decode_json(encode_json([stored], {}))]
    request = MessageToDict(ExportLogsServiceRequest.FromString(encode([stored], {})), use_integers_for_enums=True)
    again.extend(decode_json(json.dumps(request).encode()))
    for other in again:
        assert digest(canonical(unfinished(other)[0])).hex() == head


# --- older ledgers --------------------------------------------------------------------------------------------


def test_a_ledger_of_an_older_version_is_verified_as_it_is_and_migrated_when_written(tmp_path):
    """Reading changes nothing; the first writer brings it forward, with everything in it."""
    path = tmp_path / "audit.db"
    write(path, end=False)
    with (
        contextlib.closing(sqlite3.connect(path)) as new,
        contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as old,
    ):
        for statement in MIGRATIONS[0].split(";"):
            old.execute(statement)
        for table, columns in (
            ("streams", "id, stream_id, host, pid, started, count, head, ended"),
            ("records", "id, stream, sequence, record_id, hash, payload"),
        ):
            for row in new.execute(f"SELECT {columns} FROM {table}"):
                old.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", row)
        old.execute("PRAGMA user_version = 1")
        old.commit()
    (tmp_path / "old.db").chmod(0o600)
    before = (tmp_path / "old.db").read_bytes()
    assert verify_ledger(tmp_path / "old.db").records == 10
    assert (tmp_path / "old.db").read_bytes() == before
    write(tmp_path / "old.db", 2)
    result = verify_ledger(tmp_path / "old.db")
    assert (result.ok, result.records, result.streams) == (True, 12, 2)
