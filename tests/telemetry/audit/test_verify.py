"""Verification: each kind of tampering is named, and nothing whole is called broken."""

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.chain import canonical, digest
from mobius_otel.telemetry.audit.exports import verify_lines
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger


def write(path, count=10, streams=2, **options):
    """Write streams that did not end, as those of processes that were killed."""
    for number in range(streams):
        ledger = Ledger(path, **{"checkpoint_records": 10**6, **options})
        audit = AuditLogger(f"stream-{number}", ledger=ledger)
        for n in range(count):
            audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n})
        ledger.flush()
        ledger._file.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "audit.db"
    write(path)
    return path


def tamper(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS grow")  # as somebody does who knows what it is for
        for statement in statements:
            sql, *values = (statement,) if isinstance(statement, str) else statement
            connection.execute(sql, values)


def payload_of(path, position):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT payload FROM records WHERE id = ?", (position,)).fetchone()[0]


def named(path):
    result = verify_ledger(path)
    assert result.ok is not bool(result.problems)
    return [(problem.what, problem.sequence) for problem in result.problems]


def test_a_whole_ledger_is_whole(path):
    """Two streams of ten records, and the same again while it is open."""
    result = verify_ledger(path)
    assert (result.ok, result.records, result.streams, result.problems) == (True, 20, 2, ())
    with Ledger(path) as ledger:
        AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"))
        assert verify_ledger(path).records == 21


def test_one_changed_field_is_named(path):
    """The amount of one record, its hash left alone."""
    changed = payload_of(path, 5).replace('"n":4', '"n":400')
    tamper(path, ("UPDATE records SET payload = ? WHERE id = 5", changed))
    assert named(path) == [("changed", 5)]
    problem = verify_ledger(path).problems[0]
    record = dict(read_records(path))[5]
    assert (problem.record_id, problem.stream_id) == (
        record["attributes"]["audit.record.id"], record["attributes"]["audit.sequence.stream_id"],
    )  # fmt: skip
    assert problem.record_id in problem.text


@pytest.mark.parametrize("position", [1, 5, 10, 20])
def test_one_flipped_byte_is_named(path, position):
    """Anywhere in a payload, also one that is no text any more."""
    for spoiled in (payload_of(path, position).encode().replace(b"order", b"\xffrder", 1), b"", b"{}"):
        tamper(path, ("UPDATE records SET payload = CAST(? AS TEXT) WHERE id = ?", spoiled, position))
        assert named(path) == [("changed", (position - 1) % 10 + 1)]


def test_a_changed_record_with_a_new_hash_is_forged(path):
    """Its successor was chained to another hash; the last one's was noted beside the records."""
    for position, sequence in ((5, 5), (10, 10)):
        forged = json.loads(payload_of(path, position))
        forged["attributes"]["n"] = 1000
        payload = canonical(forged)
        tamper(
            path, ("UPDATE records SET payload = ?, hash = ? WHERE id = ?", payload.decode(), digest(payload), position)
        )
        assert ("forged", sequence) in named(path)
    assert named(path) == [("forged", 5), ("forged", 10)]


@pytest.mark.parametrize(("where", "what"), [("id = 5", [("missing", 5)]), ("id IN (3, 4, 8)", [("missing",
3), ("missing", 8)]),
                                             ("id = 1", [("missing", 1)]), ("id = 10", [("cut", 10)]),
                                             ("id > 17", [("cut", 8)]), ("stream = 1", [("cut", 1)])])  # fmt: skip
def test_removed_records_are_named(path, where, what):
    """In the middle they are missing, at the end of a stream it is cut."""
    tamper(path, f"DELETE FROM records WHERE {where}")
    assert named(path) == what


def test_a_cut_tail_whose_count_was_changed_too_is_named(path):
    """The numbers that the ledger gave out have no holes, so the newest one shows."""
    tamper(
        path, "DELETE FROM records WHERE id = 20",
        "UPDATE streams SET count = 9, head = (SELECT hash FROM records WHERE id = 19) WHERE id = 2",
    )  # fmt: skip
    assert [what for what, _ in named(path)] == ["cut"]
    tamper(
        path, "DELETE FROM records WHERE id = 10",
        "UPDATE streams SET count = 9, head = (SELECT hash FROM records WHERE id = 9) WHERE id = 1",
        "UPDATE streams SET newest = 19",
    )  # fmt: skip
    assert [what for what, _ in named(path)] == ["missing"]


@pytest.mark.parametrize("stream", [1, 2])
def test_a_removed_stream_is_named(path, stream):
    """With its records and its row."""
    tamper(path, f"DELETE FROM records WHERE stream = {stream}", f"DELETE FROM streams WHERE id = {stream}")
    assert [what for what, _ in named(path)] == [["missing", "cut"][stream - 1]]


def test_two_swapped_records_are_reordered(path):
    """Their contents changed places."""
    tamper(path, "UPDATE records SET id = -5 WHERE id = 5", "UPDATE records SET id = 5 WHERE id = 6",
           "UPDATE records SET id = 6 WHERE id = -5")  # fmt: skip
    assert named(path) == [("reordered", 5)]


def move(*places):
    """Return statements that let records stand in others' places."""
    return [
        *(f"UPDATE records SET id = {-place} WHERE id = {old}" for old, place in places),
        "UPDATE records SET id = -id WHERE id < 0",
    ]


@pytest.mark.parametrize(
    ("places", "sequences"),
    [
        ([(3, 8), (8, 3)], [3, 8]),
        ([(2, 9), *((n, n - 1) for n in range(3, 10))], [2]),
        ([(9, 2), *((n, n + 1) for n in range(2, 9))], [9]),
        ([(2, 5), (5, 2), (6, 9), (9, 6)], [2, 5, 6, 9]),
    ],
)
def test_no_record_between_is_named_with_those_that_were_moved(path, places, sequences):
    """Only what has to go back to its place is reordered."""
    tamper(path, *move(*places))
    assert sorted(named(path)) == [("reordered", sequence) for sequence in sequences]


def test_swapped_contents_under_the_old_numbers_are_forged(path):
    """The columns say one number, what was hashed another."""
    tamper(path, ("UPDATE records SET payload = ?, hash = ? WHERE id = 5", payload_of(path, 6),
                  digest(payload_of(path, 6).encode())))  # fmt: skip
    assert ("forged", 5) in named(path)


def test_a_doubled_record_is_named(path):
    """The same record once more, at the end, and the counters adjusted."""
    tamper(path, "INSERT INTO records (stream, sequence, record_id, hash, payload)"
                 " SELECT stream, sequence, record_id, hash, payload FROM records WHERE id = 13",
           "UPDATE streams SET newest = 21")  # fmt: skip
    assert named(path) == [("doubled", 3)]


@pytest.mark.parametrize(
    "notes", ["pruned = 0", "pruned = 5", "acknowledged = 5", "acknowledged = 4, pruned = 5", "pruned = 'x'"]
)
def test_a_removed_beginning_that_no_collector_had_is_forged(path, notes):
    """The stream's row may say that it was pruned: the notes of what was shipped must say the same."""
    tamper(
        path,
        "UPDATE streams SET pruned = 5, pruned_head = (SELECT hash FROM records WHERE id = 5) WHERE id = 1",
        "DELETE FROM records WHERE id <= 5",
        f"UPDATE shipping SET {notes}",
    )
    assert [what for what, _ in named(path)] == ["forged"]


def test_a_record_that_was_put_in_is_forged(path):
    """It is well-formed and hashed, but the stream never had it; or its stream is not known at all."""
    forged = json.loads(payload_of(path, 20))
    forged["attributes"] |= {"audit.sequence.number": 11, "audit.record.id": "made-up"}
    payload = canonical(forged)
    row = ("INSERT INTO records (stream, sequence, record_id, hash, payload) VALUES (?, 11, 'made-up', ?, ?)",)
    tamper(path, (*row, 2, digest(payload), payload.decode()))
    assert "forged" in [what for what, _ in named(path)]
    tamper(path, "DELETE FROM records WHERE id = 21", (*row, 99, digest(payload), payload.decode()))
    assert "forged" in [what for what, _ in named(path)]


def test_a_moved_record_is_forged(path):
    """Hung into another stream."""
    tamper(
        path, "UPDATE records SET stream = 1, sequence = 11 WHERE id = 20", "UPDATE streams SET count = 11 WHERE id = 1"
    )
    assert ("forged", 11) in named(path)


@pytest.mark.parametrize("statement", [
    "UPDATE streams SET count = 'many'", "UPDATE streams SET head = 'x'", "UPDATE records SET hash = 7 WHERE id = 3",
    "UPDATE records SET sequence = 'x' WHERE id = 3", "UPDATE records SET sequence = 9000000000000000000 WHERE id = 3",
    "UPDATE records SET sequence = -1 WHERE id = 3", "UPDATE records SET record_id = CAST(X'FF' AS TEXT) WHERE id = 3",
    "UPDATE streams SET stream_id = CAST(X'FF' AS TEXT) WHERE id = 1", "UPDATE records SET id = 1000 WHERE id = 20",
    "DELETE FROM sqlite_sequence", "DELETE FROM streams", "UPDATE records SET stream = 'x'",
])  # fmt: skip
def test_nonsense_in_the_tables_is_a_problem_not_a_crash(path, statement):
    """Whatever somebody writes into a column, verification says broken."""
    tamper(path, statement)
    assert named(path)


def test_flipped_bytes_in_the_file_never_pass_and_never_crash(path):
    """Two hundred files with sixteen bytes flipped each: broken, unreadable, or bytes that hold nothing."""
    import random

    chance = random.Random(3)
    whole = path.read_bytes()
    before = [record for _, record in read_records(path)]
    for _ in range(200):
        spoiled = bytearray(whole)
        for _ in range(16):
            spoiled[chance.randrange(100, len(spoiled))] ^= 1 << chance.randrange(8)
        path.write_bytes(spoiled)
        try:
            result = verify_ledger(path)
        except ConfigurationError:
            continue
        if result.ok:  # then nothing that was recorded is different
            assert [record for _, record in read_records(path)] == before


def test_a_removed_ledger_that_was_made_anew_says_what_it_lacks(path):
    """The stream goes on in the new file, so its beginning is missing there."""
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        for _ in range(4):
            audit.record("order.placed", actor=Actor("u-1"))
        ledger.flush()
        for suffix in ("", "-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        receipt = audit.record("order.placed", actor=Actor("u-1"))
        assert (receipt.durability, receipt.sequence) == ("process", 5)
        audit.record("order.placed", actor=Actor("u-1"))
    assert named(path) == [("missing", 1)]
    assert "numbers 1 to 4" in verify_ledger(path).problems[0].text
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_ledger_replaced_by_an_older_copy_says_what_it_lacks(path, tmp_path):
    """A restored backup: what came after it is missing, what comes now is chained on."""
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        audit.record("order.placed", actor=Actor("u-1"))
        ledger.flush()
        ledger._file.close()
        shutil.copy(path, tmp_path / "copy.db")
        for _ in range(3):
            audit.record("order.placed", actor=Actor("u-1"))
        ledger.flush()
        ledger._file.close()
        os.replace(tmp_path / "copy.db", path)
        assert audit.record("order.placed", actor=Actor("u-1")).sequence == 5
    assert named(path) == [("missing", 2)]


def test_verification_makes_and_changes_no_file(path, tmp_path):
    """Not beside a closed ledger, not beside one whose writer was killed, not beside a copy without its index."""

    def files(folder):
        return {
            p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir() if not p.name.endswith("-shm")
        }

    def names(folder):
        return sorted(p.name for p in folder.iterdir())

    before = files(tmp_path), names(tmp_path)
    assert verify_ledger(path).ok
    assert (files(tmp_path), names(tmp_path)) == before
    script = (
        "import os, sys; from mobius_otel.telemetry.audit import *; l = Ledger(sys.argv[1]);"
        " AuditLogger(ledger=l).record('a.b', actor=Actor('u'));"
        " os.kill(os.getpid(), 9) if os.name == 'posix' else os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    before = files(tmp_path), names(tmp_path)
    assert "audit.db-wal" in before[1]
    assert verify_ledger(path).records == 21
    assert (files(tmp_path), names(tmp_path)) == before
    copies = tmp_path / "copies"
    copies.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", copies)
    before = files(copies), names(copies)
    assert verify_ledger(copies / "audit.db").records == 21
    assert (files(copies), names(copies)) == before


def test_verification_works_while_others_write(tmp_path):
    """Forty verifications beside four writing threads: always whole, and never fewer records than before."""
    path = tmp_path / "audit.db"
    stop = threading.Event()
    with Ledger(path) as one, Ledger(path) as two:
        one_logger = AuditLogger(ledger=one)
        one_logger.record("order.placed", actor=Actor("u-1"))

        def emit(audit):
            while not stop.is_set():
                audit.record("order.placed", actor=Actor("u-1"))
                time.sleep(0.01)  # or there is more each time than was verified meanwhile

        threads = [threading.Thread(target=emit, args=(AuditLogger(ledger=ledger),)) for ledger in (one, one, two, two)]
        for thread in threads:
            thread.start()
        seen = 0
        try:
            for _ in range(40):
                result = verify_ledger(path)
                assert result.ok, result.problems
                assert result.records >= seen
                seen = result.records
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_what_is_no_ledger_is_refused(tmp_path):
    """No file, another file, another database, a newer version: an error that names the path."""
    with pytest.raises(ConfigurationError, match="existing file"):
        verify_ledger(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("this is no database at all, but it is long enough to look like one" * 30)
    with pytest.raises(ConfigurationError, match=r"text\.db"):
        verify_ledger(tmp_path / "text.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(ConfigurationError, match="lacks the tables"):
        verify_ledger(tmp_path / "other.db")
    write(tmp_path / "newer.db", count=1, streams=1)
    tamper(tmp_path / "newer.db", "PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="newer"):
        verify_ledger(tmp_path / "newer.db")
    assert not (tmp_path / "nothing.db").exists()


def test_where_no_record_is_nothing_is_proven(tmp_path):
    """A ledger may have been emptied; the command before a pipe may have failed."""
    Ledger(tmp_path / "new.db").close()
    other = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}'
    for result in (
        verify_ledger(tmp_path / "new.db"),
        *(verify_lines(lines, 0) for lines in ([], [b"\n"], [b'{"resourceLogs":[]}'], [other])),
    ):
        assert (result.ok, [problem.what for problem in result.problems]) == (False, ["unreadable"])


def test_progress_is_told(tmp_path):
    """Up to the end, with the total."""
    write(tmp_path / "audit.db", count=1100, streams=1)
    told = []
    verify_ledger(tmp_path / "audit.db", progress=lambda done, total: told.append((done, total)))
    assert told == [(1000, 1100), (1100, 1100)]


def test_records_are_read_from_the_end_or_from_a_position(path):
    """The newest ones oldest first, and what came after."""
    assert [number for number, _ in read_records(path, last=3)] == [18, 19, 20]
    assert [number for number, _ in read_records(path, after=18)] == [19, 20]
    assert read_records(path, last=0) == []
    record = read_records(path, last=1)[0][1]
    attributes = record["attributes"]
    assert attributes["log.record.uid"] == attributes["audit.record.id"]
    stated = attributes.pop("audit.integrity.value")
    attributes.pop("log.record.uid")
    assert digest(canonical(record)).hex() == stated
