"""Streams: shared commits, durability, ends, checkpoints told in other signals, adoption."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.browse import count_events, walk_records
from mobius_otel.telemetry.audit.observe import observe_ledger, tell_checkpoint
from mobius_otel.telemetry.audit.stream import Checkpoint, is_dead, process_birth, process_token
from mobius_otel.telemetry.audit.tail import tails_of
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter
from tests.services import forking
from tests.services.interrupting import at_every_step
from tests.services.unwritable import unwritable

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


def emit(ledger, count=1):
    audit = AuditLogger("test", ledger=ledger)
    return [audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n}) for n in range(count)]


def notes(path, name):
    return [record for _, record in read_records(path, notes=True) if record["event_name"] == name]


# --- durability -----------------------------------------------------------------------------------------------


def test_threads_that_record_at_once_share_a_commit(path):
    """Sixty-four threads, far fewer transactions than records; each has a number of its own."""
    with Ledger(path, durability="power") as ledger:
        batches, commit = [], ledger._turns._work
        ledger._turns._work = lambda waiting: (batches.append(len(waiting)), commit(waiting))
        receipts = []
        threads = [threading.Thread(target=lambda: receipts.extend(emit(ledger, 8))) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(batches) == 512
    assert len(batches) < 300
    assert sorted(receipt.sequence for receipt in receipts) == list(range(1, 513))
    assert {receipt.durability for receipt in receipts} == {"power"}
    assert verify_ledger(path).ok


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("sink", 1), ("power", 2)])
def test_durability_is_what_sqlite_is_told(path, durability, level):
    """NORMAL survives the process, FULL waits for the disk at every commit."""
    with Ledger(path, durability=durability) as ledger, ledger._file.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("options", [{"durability": "both"}, {"sign": "all"}, {"checkpoint_records": 0},
                                     {"checkpoint_seconds": 0}, {"sink_timeout": 0}, {"max_bytes": 10},
                                     {"max_age": 0}])  # fmt: skip
def test_a_wrong_setting_is_refused(path, options):
    """At construction, by name, before a file is made."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Ledger(path, **options)
    assert not path.exists()


# --- ends and checkpoints -------------------------------------------------------------------------------------


def test_a_stream_that_ends_says_so(path):
    """Its last record has the draft's marker, how many there were before it and the hash of the last one."""
    with Ledger(path) as ledger:
        last = emit(ledger, 3)[-1]
    (end,) = notes(path, "audit.stream.ended")
    attributes = end["attributes"]
    assert attributes["audit.sequence.end"] is True
    assert (attributes["audit.sequence.number"], attributes["audit.sequence.previous_hash"]) == (4, last.hash)
    assert (attributes["mobius.audit.checkpoint.count"], attributes["mobius.audit.checkpoint.head"]) == (3, last.hash)
    assert verify_ledger(path).unended == 0
    with Ledger(path):  # one that records nothing leaves nothing
        pass
    assert verify_ledger(path).streams == 1


def test_a_ledger_that_cannot_be_written_at_the_end_ends_without_a_word(path):
    """Closing never raises."""
    ledger = Ledger(path)
    emit(ledger, 1)
    unwritable(ledger)
    with pytest.raises(AuditUnavailable):
        ledger.end()
    ledger.close()
    assert verify_ledger(path).unended == 1


def test_checkpoints_come_after_so_many_records_and_so_much_time(path, monkeypatch):
    """Every ten records; and after a minute, if there is a new one."""
    with Ledger(path, checkpoint_records=10, checkpoint_seconds=60) as ledger:
        emit(ledger, 25)
        counts = [note["attributes"]["mobius.audit.checkpoint.count"] for note in notes(path, "audit.checkpoint")]
        assert counts == [10, 21]
        ledger.seal()
        assert len(notes(path, "audit.checkpoint")) == 2
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        ledger.seal()
        assert len(notes(path, "audit.checkpoint")) == 3
        ledger.seal()
        assert len(notes(path, "audit.checkpoint")) == 3
    assert verify_ledger(path).ok


def test_a_stream_shows_in_a_metric_and_in_span_events(path, telemetry):
    """Number and hash, outside of the ledger; on the span that is there, else on one of its own."""
    from opentelemetry import trace

    backend = InMemoryMetricsBackend()
    emitter = MetricEmitter("test", backend=backend)
    with Ledger(path, checkpoint_records=5) as ledger:
        observe_ledger(emitter, ledger)
        with trace.get_tracer("t").start_as_current_span("request"):
            emit(ledger, 5)
        emit(ledger, 2)
        at = ledger.checkpoint()
        assert at.count == 8  # seven, and the checkpoint
        stream = {"audit.sequence.stream_id": at.stream_id}
        assert backend.value("mobius.audit.stream.records", stream) == 8
        assert f"{int(backend.value('mobius.audit.stream.head', stream)):012x}" == at.head[:12]
        assert backend.value("mobius.audit.backlog") == 8
        assert backend.value("mobius.audit.quarantined") == 0
        assert 0 <= backend.value("mobius.audit.oldest") < 60
    (event,) = telemetry.span("request")["events"]
    assert (event["name"], event["attributes"]["mobius.audit.checkpoint.count"]) == ("audit.checkpoint", 6)
    assert event["attributes"]["audit.sequence.stream_id"] == at.stream_id
    (end,) = telemetry.span("audit.seal")["events"]
    assert end["attributes"]["mobius.audit.checkpoint.count"] == 9
    told = Checkpoint(at.stream_id, 9, end["attributes"]["mobius.audit.checkpoint.head"])
    assert verify_ledger(path, expected=[told]).ok
    tell_checkpoint(told)


# --- adoption -------------------------------------------------------------------------------------------------

LEAVE = """
import os, sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
audit = AuditLogger("left", ledger=Ledger(sys.argv[1]))
for _ in range(int(sys.argv[2])): audit.record("a.b", actor=Actor("u"))
os._exit(0)
"""


def leave(path, count=3):
    command = [sys.executable, "-c", LEAVE, str(path), str(count)]
    subprocess.run(command, check=True, env=forking.environment())


def test_the_streams_of_dead_processes_are_adopted_once_by_one_living_one(path):
    """Five dead ones, eight ledgers that all look: each is adopted by exactly one record."""
    children = [
        subprocess.Popen([sys.executable, "-c", LEAVE, str(path), "3"], env=forking.environment()) for _ in range(5)
    ]
    for child in children:
        assert child.wait(60) == 0
    before = len(notes(path, "audit.stream.adopted"))  # they may have adopted each other
    ledgers = [Ledger(path) for _ in range(8)]
    threads = [threading.Thread(target=ledger.seal, kwargs={"adopt": True}) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    adopted = [note["attributes"]["audit.target.id"] for note in notes(path, "audit.stream.adopted")]
    assert len(adopted) == len(set(adopted)) == 5
    assert before < 5
    for ledger in ledgers:
        ledger.close()
    result = verify_ledger(path)
    assert (result.ok, result.unended) == (True, 0)


def test_a_stream_that_lives_is_not_adopted(path):
    """Nor one of this process, nor one of another host."""
    with Ledger(path) as one, Ledger(path) as two:
        emit(one, 1)
        emit(two, 1)
        two.seal(adopt=True)
        one.flush()
        with one._file.writing() as connection:
            connection.execute("UPDATE streams SET host = 'elsewhere', pid = 999999, process = 'x', born = '1'")
        two.seal(adopt=True)
        assert notes(path, "audit.stream.adopted") == []


@posix
def test_a_process_is_told_from_another_one_with_its_number():
    """By when it began, where the system says so; in a container every process may be number 1."""
    host, pid = __import__("platform").node(), os.getppid()
    assert not is_dead(host, pid, "x", process_birth(pid))
    if process_birth(pid) is not None:
        assert is_dead(host, pid, "x", "1")
    assert not is_dead(host, os.getpid(), process_token(), None)
    assert is_dead(host, os.getpid(), "of a former life", None)
    assert not is_dead("elsewhere", 999_999_999, "x", None)
    assert is_dead(host, 2**22 + 7, "x", None)


def test_whoever_ships_adopts(path):
    """At its first pass, without a record of its own."""
    from mobius_otel.telemetry.audit.shipper import Shipper
    from mobius_otel.testing.receiver import OtlpReceiver

    leave(path)
    with OtlpReceiver() as receiver, Ledger(path) as ledger:
        assert Shipper(ledger, endpoint=receiver.logs_endpoint).run_once() == 4
        assert receiver.logs[-1]["event_name"] == "audit.stream.adopted"


# --- retention ------------------------------------------------------------------------------------------------


def test_pruning_removes_what_a_collector_has_and_the_rest_stays_provable(path):
    """By age and by size; numbers go on, nothing undelivered goes, and verify says how much was removed."""
    options = {"checkpoint_records": 10**6, "durability": "power"}  # whose records get their positions at once
    with Ledger(path, **options) as one, Ledger(path, **options) as two:
        receipts = [receipt for n in range(50) for ledger in (one, two) for receipt in emit(ledger)]
        assert one.prune(max_age=0.000001) == 0
        one.acknowledge(60)
        one.quarantine(7, "HTTP 400")
        time.sleep(0.01)
        assert one.prune(max_age=3600) == 0
        told = []
        assert one.prune(max_age=0.001, progress=lambda *step: told.append(step)) == 59
        assert told == [(59, 0)]
        result = verify_ledger(path)
        assert (result.ok, result.records, result.kept, result.pruned) == (True, 41, 1, 59), result.problems
        assert [entry.record_id for entry in one.quarantined()] == [receipts[6].record_id]
        assert (one.backlog(), one.stats().pruned, one.stats().records) == (41, 59, 41)
        assert receipts[5].delivered(0)
        assert not receipts[6].delivered(0)
        one.unquarantine(7)
        assert receipts[6].delivered(0)
        assert emit(one)[0].sequence == 51
        one.acknowledge(101)
        assert one.prune(max_bytes=1) == 41
        assert emit(two)[0].sequence == 51
        result = verify_ledger(path)
        assert (result.ok, result.records, result.pruned) == (True, 1, 101), result.problems


@pytest.fixture
def aside(path):
    """A ledger whose third record a collector refuses, and whose first five were pruned around it."""
    ledger = Ledger(path)
    emit(ledger, 6)
    ledger.quarantine(3, "HTTP 400")
    ledger.acknowledge(5)
    assert ledger.prune(max_bytes=1) == 4
    ledger.flush()
    ledger._file.close()


@pytest.mark.usefixtures("aside")
def test_what_is_in_quarantine_stays_in_sight_when_the_others_are_pruned(path):
    """Nobody but the ledger has it: it is read, counted and verified with the rest."""
    walked = []
    assert walk_records(path, lambda position, _: walked.append(position)) == 0
    assert walked == [position for position, _ in read_records(path)] == [3, 6]
    assert [position for position, _ in read_records(path, last=1)] == [6]
    assert [position for position, _ in read_records(path, after=3)] == [6]
    assert count_events(path) == [("order.placed", "success", 2, None)]
    result = verify_ledger(path)
    assert (result.ok, result.records, result.kept, result.pruned) == (True, 2, 1, 4), result.problems
    with Ledger(path) as ledger:
        ledger.unquarantine(3)
        ledger.quarantine(3, "HTTP 400")  # too late: another shipper had delivered it
        assert ledger.quarantine_size() == 0
    assert (verify_ledger(path).ok, verify_ledger(path).pruned) == (True, 5)


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM kept", "missing"),
        ("UPDATE kept SET payload = replace(payload, '\"n\":2', '\"n\":9')", "changed"),
        ("UPDATE kept SET sequence = 4", "forged"),
        ("UPDATE kept SET record_id = 'x'", "forged"),
        ("UPDATE kept SET stream = 9", "forged"),
        ("INSERT INTO kept SELECT 9, stream, sequence, record_id, hash, payload, signature FROM records", "forged"),
    ],
)
def test_tampering_with_what_is_in_quarantine_is_named(path, statement, what):
    """Also where it lies beside its stream."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1
    assert [problem.what for problem in verify_ledger(path).problems] == [what]


def test_what_is_in_quarantine_has_its_own_signature_or_none(path):
    """Beside its stream nothing else covers it; that is told, and a signature of another key is none."""
    from mobius_otel.telemetry.audit.signing import HmacKey

    key = HmacKey("a made-up secret of the tests")
    with Ledger(path, key=key) as ledger:
        emit(ledger, 6)
        for position in (1, 3):
            ledger.quarantine(position, "HTTP 400")
        ledger.acknowledge(5)
        assert ledger.prune(max_bytes=1) == 3
    result = verify_ledger(path, keys=[key])
    assert (result.ok, result.kept, [tail.since for tail in result.tails]) == (True, 2, [3])
    other = verify_ledger(path, keys=[HmacKey("another made-up secret")])
    assert ("forged", 1) in [(problem.what, problem.sequence) for problem in other.problems]


def test_what_was_pruned_by_somebody_else_is_named(path):
    """Without its hash, with another one, without the counts."""
    for statement in (
        "UPDATE streams SET pruned = 3", "UPDATE streams SET pruned = 3, pruned_head = X'00'",
        "UPDATE streams SET pruned = 'x'",
        "UPDATE streams SET pruned = 3, pruned_head = (SELECT hash FROM records WHERE id = 3)",
    ):  # fmt: skip
        path.unlink(missing_ok=True)
        ledger = Ledger(path)
        emit(ledger, 6)
        ledger.flush()
        with ledger._file.writing() as connection:
            connection.execute(statement)
        ledger.flush()
        ledger._file.close()
        assert not verify_ledger(path).ok, statement


def test_a_signed_ledger_that_was_pruned_without_the_key_is_forged(path):
    """The key's holder signs what is removed."""
    from mobius_otel.telemetry.audit.signing import HmacKey

    key = HmacKey("a made-up secret of the tests")
    with Ledger(path, key=key, sign="record") as ledger:
        emit(ledger, 10)
        ledger.acknowledge(5)
        assert ledger.prune(max_bytes=1) == 5
    assert verify_ledger(path, keys=[key]).ok
    ledger = Ledger(path)
    ledger.acknowledge(8)
    assert ledger.prune(max_bytes=1) == 3
    ledger.flush()
    ledger._file.close()
    assert verify_ledger(path).ok
    assert [problem.what for problem in verify_ledger(path, keys=[key]).problems] == ["forged"]


@pytest.mark.parametrize("fail_mode", ["strict", "spool"])
def test_a_ledger_that_is_full_of_what_nobody_has_refuses_and_goes_on_after_a_delivery(path, fail_mode):
    """The bound holds, nothing undelivered is removed; once a collector has records, they make room by themselves."""
    with Ledger(path, max_bytes=1_000_000) as ledger:
        audit = AuditLogger("test", ledger=ledger, fail_mode=fail_mode)
        kept = 0
        for _ in range(2000):
            try:
                kept += audit.record("a.b", actor=Actor("u"), attributes={"x": "y" * 900}).durability == "process"
            except AuditUnavailable:
                break
        assert 300 < kept < 1000
        assert path.stat().st_size <= 1_000_000
        assert verify_ledger(path).records == kept
        ledger.acknowledge(kept // 2)
        ledger.spool.drain()
        for _ in range(20):
            audit.record("a.b", actor=Actor("u"), attributes={"x": "y" * 900})
        for _ in range(10):
            ledger.acknowledge(10**6)
            ledger.spool.drain()
        assert len(ledger.spool) == 0
        assert path.stat().st_size <= 1_000_000
        result = verify_ledger(path)
        assert result.ok
        assert result.pruned > 0


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_recording_delivery_quarantine_and_pruning_stays_whole(path, seed):
    """At random, over three ledgers of one file; what was recorded is there, or was delivered and pruned."""
    chance = random.Random(seed)
    ledgers = [Ledger(path, checkpoint_records=7) for _ in range(3)]
    recorded, aside = {}, set()
    for _ in range(120):
        ledger = chance.choice(ledgers)
        what = chance.random()
        if what < 0.6:
            for receipt in emit(ledger, chance.randrange(1, 4)):
                recorded[receipt.record_id] = receipt
        elif what < 0.75:
            ledger.acknowledge(chance.randrange(1, 400))
        elif what < 0.82 and recorded:
            number = chance.choice(list(recorded.values()))._place.kept.position
            if not ledger.is_acknowledged(number, "") and number not in aside and ledger.records(number - 1, 1):
                ledger.quarantine(number, "HTTP 400")
                aside.add(number)
        elif what < 0.87 and aside:
            number = chance.choice(sorted(aside))
            ledger.unquarantine(number)
            aside.discard(number)
        elif what < 0.95:
            ledger.prune(max_bytes=chance.choice([1, 40_000]))
        else:
            ledger.close()
        result = verify_ledger(path)
        assert result.ok or not recorded, result.problems
        assert len(ledger.quarantined()) == len(aside)
    for ledger in ledgers:
        ledger.close()
    there = {record["attributes"]["audit.record.id"] for _, record in read_records(path)}
    with Ledger(path) as ledger:
        assert all(name in there or receipt._place.kept.position <= ledger.stats().pruned + len(aside)
                   for name, receipt in recorded.items())  # fmt: skip


def test_stats_count_what_there_is(path):
    """For an operator."""
    leave(path, 2)
    with Ledger(path) as ledger:
        emit(ledger, 3)
        stats = ledger.stats()
        assert (stats.records, stats.streams, stats.open_streams, stats.adopted_streams) == (6, 2, 1, 1)
        assert (stats.backlog, stats.quarantined, stats.pruned) == (6, 0, 0)
        assert stats.payload_bytes < stats.bytes
        assert 0 <= stats.oldest < 60
        defaults.install(None)


# --- an end that is interrupted -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a finalizer is interrupted, too
@pytest.mark.parametrize("how", ["close", "end"])
def test_nothing_comes_behind_the_end_of_a_stream_wherever_that_is_interrupted(path, caplog, how):
    """Ctrl-C at each step of it: what is recorded after is kept and whole, in a stream that can be told from it."""
    receipts = []

    def ending():
        receipts.extend(emit(ledger, 3))
        return getattr(ledger, how)

    with Ledger(path) as ledger:
        for _ in at_every_step(ending, "audit/ledger.py", "audit/stream.py", "audit/tail.py"):
            receipts.extend(emit(ledger, 2))
            ledger.close()
            assert tails_of(path) == {}
    assert {receipt.durability for receipt in receipts} == {"process"}
    result = verify_ledger(path)
    assert (result.problems, result.unended) == ((), 0)
    assert [record["attributes"]["audit.record.id"] for _, record in read_records(path)] == [
        receipt.record_id for receipt in receipts
    ]
    assert len(receipts) > 250
    assert not caplog.records


def test_who_closes_while_others_record_leaves_neither_a_stream_without_an_end_nor_a_tail(path):
    """The end and the close are one turn: a thread that waits for its own comes after both."""
    with Ledger(path) as ledger:
        emit(ledger, 2)
        others, ended = [], ledger._end

        def end_while_others_wait():
            others.append(threading.Thread(target=emit, args=(ledger,)))
            others[-1].start()
            while not ledger._turns._queue:
                time.sleep(0.001)
            ended()

        ledger._end = end_while_others_wait
        ledger.close()
        others[0].join()
        del ledger._end
    result = verify_ledger(path)
    assert (result.ok, result.records, result.streams, result.unended) == (True, 3, 2, 0)
    assert tails_of(path) == {}
