"""The ledger: streams, the cursor, quarantine, leases, and what happens to its file under it."""

import contextlib
import os
import random
import sqlite3
import threading
import time

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.schema import MIGRATIONS
from mobius_otel.telemetry.audit.tail import Tail
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from tests.services.unwritable import unwritable


def record(number=0):
    return {"event_name": "a.b", "attributes": {"audit.record.id": f"id-{number}", "n": number}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


@pytest.fixture
def ledger(path):
    with Ledger(path) as ledger:
        yield ledger


def test_records_are_chained_and_numbered(ledger):
    """The first has no previous hash, each later one that of the one before."""
    kept = [ledger.append(record(n)) for n in range(3)]
    assert [one.sequence for one in kept] == [1, 2, 3]
    assert [one.position for one in kept] == [1, 2, 3]
    before = [one.record["attributes"].get("audit.sequence.previous_hash") for one in kept]
    assert before == [None, kept[0].hash, kept[1].hash]


def test_a_stream_is_made_with_its_first_record(ledger, path):
    """Opening a ledger, as every worker does, leaves no trace; closing ends the stream, a later append opens one."""
    assert verify_ledger(path).streams == 0
    first = ledger.append(record())
    ledger.close()
    second = ledger.append(record(1))
    assert (second.sequence, second.position) == (1, 3)  # the second record says that the stream ended
    assert second.stream_id != first.stream_id
    with ledger._file.reading() as connection:
        assert [bool(ended) for (ended,) in connection.execute("SELECT ended FROM streams")] == [True, False]


def test_the_cursor_moves_forward_alone_and_not_past_the_end(ledger):
    """An acknowledgement of what is not there does not hide what comes."""
    for n in range(4):
        ledger.append(record(n))
    ledger.acknowledge(3)
    ledger.acknowledge(1)
    assert [entry.position for entry in ledger.unshipped()] == [4]
    ledger.acknowledge(1000)
    assert ledger.backlog() == 0
    ledger.append(record(5))
    assert [entry.position for entry in ledger.unshipped()] == [5]


def test_an_acknowledgement_for_another_record_does_nothing(ledger):
    """As for a file that was replaced meanwhile."""
    kept = ledger.append(record())
    ledger.acknowledge(1, "00" * 32)
    assert ledger.backlog() == 1
    ledger.acknowledge(1, kept.hash)
    assert ledger.backlog() == 0
    assert ledger.is_acknowledged(1, "id-0")
    assert not ledger.is_acknowledged(1, "another")


def test_what_is_in_quarantine_counts_as_backlog(ledger):
    """Kept and counted, until a collector has it."""
    for n in range(3):
        ledger.append(record(n))
    ledger.quarantine(2, "HTTP 400")
    assert [entry.position for entry in ledger.unshipped()] == [1, 3]
    ledger.acknowledge(3)
    assert (ledger.backlog(), [entry.record_id for entry in ledger.quarantined()]) == (1, ["id-1"])
    ledger.quarantine(2, "HTTP 413")
    assert ledger.backlog() == 1
    ledger.unquarantine(2)
    assert (ledger.backlog(), ledger.is_acknowledged(2, "id-1")) == (0, True)


def test_records_can_be_paged_through(ledger):
    """By position."""
    for n in range(5):
        ledger.append(record(n))
    assert [entry.record_id for entry in ledger.records(limit=2)] == ["id-0", "id-1"]
    assert [entry.record_id for entry in ledger.records(after=3)] == ["id-3", "id-4"]
    assert [entry.record_id for entry in ledger.unshipped(after=3)] == ["id-3", "id-4"]


def test_a_lease_has_one_holder(path):
    """Taken, renewed, given back, and over at its deadline."""
    clock = FrozenClock()
    with Ledger(path, clock=clock) as one, Ledger(path, clock=clock) as two:
        assert one.lease("one", 30)
        assert one.lease("one", 30)
        assert not two.lease("two", 30)
        clock.advance(29)
        assert one.lease("one", 30)
        clock.advance(29)
        assert not two.lease("two", 30)
        clock.advance(1)
        assert two.lease("two", 30)
        one.release("one")
        assert not one.lease("one", 30)
        two.release("two")
        assert one.lease("one", 30)


def test_one_of_many_threads_gets_the_lease(path):
    """Compare and set: exactly one of sixteen."""
    ledgers = [Ledger(path) for _ in range(16)]
    won = []
    barrier = threading.Barrier(16)

    def take(number):
        barrier.wait()
        if ledgers[number].lease(str(number), 60):
            won.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.close()
    assert len(won) == 1


def test_an_append_that_failed_after_its_commit_is_not_doubled(path):
    """The commit went through, the answer did not: the same record again finds itself, another one goes on."""

    class Connection:
        def __init__(self, inner):
            self._inner = inner
            self.failing = True

        def __enter__(self):
            self._inner.__enter__()
            return self

        def __exit__(self, *exception):
            self._inner.__exit__(*exception)
            if self.failing:
                self.failing = False
                raise sqlite3.OperationalError("disk I/O error")

        def __getattr__(self, name):
            return getattr(self._inner, name)

    with Ledger(path, durability="power") as ledger:
        ledger.append(record(0))
        ledger._file._connection = flaky = Connection(ledger._file._connection)
        with pytest.raises(AuditUnavailable):
            ledger.append(record(1))
        assert ledger.append(record(1)).sequence == 2
        flaky.failing = True
        with pytest.raises(AuditUnavailable):
            ledger.append(record(2))
        assert ledger.append(record(3)).sequence == 4
    result = verify_ledger(path)
    assert (result.ok, result.records) == (True, 4)


def test_another_writer_that_holds_the_file_is_waited_for(path):
    """A transaction of half a second delays an append that goes to the database, it does not fail it."""
    with Ledger(path, durability="power") as ledger:
        ledger.append(record(0))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        done = []
        thread = threading.Thread(target=lambda: done.append(ledger.append(record(1))))
        thread.start()
        time.sleep(0.3)
        assert done == []
        other.execute("COMMIT")
        other.close()
        thread.join(10)
        assert done[0].sequence == 2


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed there")
def test_two_ledgers_survive_a_removed_file(path):
    """Both go on in one new file, in their own streams, with what was not in the old one; what it lacks is named."""
    with Ledger(path) as one, Ledger(path) as two:
        for n in range(3):
            one.append(record(n))
            two.append(record(10 + n))
        os.unlink(path)
        for n in range(3, 6):
            assert one.append(record(n)).sequence == n + 1
            assert two.append(record(10 + n)).sequence == n + 1
    problems = verify_ledger(path).problems
    assert [(problem.what, problem.sequence) for problem in problems] == [("missing", 1), ("missing", 1)]
    assert 6 <= verify_ledger(path).records <= 10


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be replaced there")
def test_a_replaced_file_never_hides_a_loss(tmp_path):
    """Sixty times at random: whatever was acknowledged is in the file, or verification does not call it whole."""
    chance = random.Random(9)
    for number in range(60):
        path, copy = tmp_path / f"{number}.db", tmp_path / "copy.db"
        acknowledged = []
        ledger = Ledger(path)
        moment = chance.randrange(12)
        for n in range(12):
            if n == moment:
                with contextlib.closing(sqlite3.connect(copy)) as target, ledger._file.reading() as source:
                    source.backup(target)
                    target.execute("PRAGMA journal_mode=WAL")
                copy.chmod(0o600)
            if chance.random() < 0.2:
                with ledger._file.reading() as connection:
                    connection.execute(f"PRAGMA wal_checkpoint({chance.choice(['PASSIVE', 'TRUNCATE'])})")
            if n == 9:
                os.replace(copy, path) if copy.exists() else os.unlink(path)
            with contextlib.suppress(AuditUnavailable):
                ledger.append(record(n))
                acknowledged.append(f"id-{n}")
        with contextlib.suppress(AuditUnavailable):
            ledger.close()
        try:
            whole = verify_ledger(path).ok
            found = {one["attributes"]["audit.record.id"] for _, one in read_records(path)}
        except ConfigurationError:
            continue
        assert not whole or set(acknowledged) <= found, (number, moment)


def test_a_ledger_spoiled_under_us_refuses_and_never_crashes(ledger, path):
    """Bytes of the file are overwritten while it is open: an append either works or says AuditUnavailable."""
    for n in range(200):
        ledger.append(record(n))
    ledger.flush()
    with ledger._file.reading() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    ledger._file.close()

    def fill():
        for n in range(200, 1000):  # the tail takes no more than it holds
            ledger.append(record(n))

    with pytest.raises(AuditUnavailable):
        fill()


def test_hooks_run_after_every_append(ledger):
    """Once each, registered once."""
    calls = []

    def hook():
        calls.append(1)

    ledger.after_append(hook)
    ledger.after_append(hook)
    ledger.append(record())
    ledger.append(record(1))
    assert calls == [1, 1]


def test_a_repr_shows_no_content(ledger):
    """Counts, and the path."""
    ledger.append(record(7))
    assert "id-7" not in repr(ledger) + repr(ledger.spool)
    assert "1 records" in repr(ledger)


def test_a_position_is_given_once_also_where_nothing_is_left(ledger):
    """What a collector has may be pruned to the last record; what comes then is not taken for what was."""
    for n in range(3):
        ledger.append(record(n))
    ledger.acknowledge(3)
    assert ledger.prune(max_bytes=1) == 3
    assert ledger.append(record(3)).position == 4
    assert [entry.record_id for entry in ledger.unshipped()] == ["id-3"]
    assert ledger.backlog() == 1


def test_the_file_itself_refuses_a_record_that_does_not_follow(ledger, path):
    """Length and head of a stream move with its records, in the same statement, and by one."""
    ledger.append(record(0))
    insert = "INSERT INTO records (stream, sequence, record_id, hash, payload) VALUES (?, ?, 'x', X'00', '{}')"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for stream, sequence in ((1, 1), (1, 3), (2, 1)):
            with pytest.raises(sqlite3.IntegrityError, match="does not follow"):
                connection.execute(insert, (stream, sequence))
    assert ledger.append(record(1)).sequence == 2
    ledger.end()
    assert verify_ledger(path).ok


def test_positions_go_on_in_a_ledger_of_an_older_version_that_was_pruned(path):
    """Its counter told how many there were; the migrated one never gives the same position twice."""
    with contextlib.closing(sqlite3.connect(path)) as old:
        for script in MIGRATIONS[:2]:
            old.executescript(script)
        old.execute("INSERT INTO streams (stream_id, host, pid, started, count, head, pruned, pruned_head, ended)"
                    " VALUES ('s', 'h', 1, 0, 7, X'00', 7, X'00', 1)")  # fmt: skip
        old.execute("INSERT INTO records VALUES (7, 1, 7, 'x', X'00', '{}', NULL)")
        old.execute("DELETE FROM records")
        old.execute("UPDATE shipping SET acknowledged = 7, pruned = 7")
        old.execute("PRAGMA user_version = 2")
        old.commit()
    path.chmod(0o600)
    with Ledger(path) as ledger:
        assert ledger.backlog() == 0
        assert ledger.append(record(0)).position == 8
        assert [entry.record_id for entry in ledger.unshipped()] == ["id-0"]
    result = verify_ledger(path)
    assert (result.ok, result.records, result.pruned) == (True, 1, 7), result.problems


# --- a record within a record ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="tails are for systems where an open file can be replaced")
def test_a_record_that_comes_upon_its_own_thread_holds_nobody_up(ledger, monkeypatch, caplog):
    """Of a signal's handler, or of a finalizer: it waits until that thread goes on, and no longer; nothing fails."""
    audit = AuditLogger(ledger=ledger)
    within, append = [], Tail.append

    def interrupted(tail, lines):
        if len(within) < 2:
            within.append(audit.record("order.seen", actor=Actor("u-2")))
        return append(tail, lines)

    audit.record("order.placed", actor=Actor("u-1"))
    monkeypatch.setattr(Tail, "append", interrupted)
    receipts = [audit.record("order.placed", actor=Actor("u-1")) for _ in range(4)]
    assert [receipt.durability for receipt in receipts] == ["process"] * 4
    assert [receipt.durability for receipt in within] == ["none"] * 2
    assert len(ledger.spool) == 0
    assert all(receipt._place.kept is not None for receipt in within)
    assert not caplog.records
    ledger.flush()
    assert ledger.stats().records == 7


@pytest.mark.skipif(os.name != "posix", reason="tails are for systems where an open file can be replaced")
def test_a_thread_without_a_stack_holds_up_nobody_else(ledger, monkeypatch, caplog):
    """Its record waits in memory until the next one comes, and not for a second."""
    audit = AuditLogger(ledger=ledger)
    audit.record("order.placed", actor=Actor("u-1"))

    def deep(tail, lines):
        monkeypatch.undo()
        raise RecursionError

    monkeypatch.setattr(Tail, "append", deep)
    receipts = [audit.record("order.placed", actor=Actor("u-1")) for _ in range(3)]
    assert [receipt.durability for receipt in receipts] == ["none", "process", "process"]
    assert len(ledger.spool) == 0
    assert not caplog.records


def test_a_record_that_brings_memory_in_says_that_it_is_kept(ledger, caplog):
    """It went through memory, and into the ledger before its call returned."""
    audit = AuditLogger(ledger=ledger)
    audit.record("order.placed", actor=Actor("u-1"))
    again = unwritable(ledger)
    assert audit.record("order.placed", actor=Actor("u-1")).durability == "none"
    again()
    ledger.spool._retry_at = 0.0
    receipt = audit.record("order.placed", actor=Actor("u-1"))
    assert (receipt.durability, receipt.sequence) == ("process", 3)
    assert [line.levelname for line in caplog.records] == ["ERROR", "WARNING"]
