"""What the promise must survive: the whole table of faults, with real processes."""

import concurrent.futures
import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from itertools import chain
from pathlib import Path

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.sqlite import SqliteFile
from mobius_otel.telemetry import safety
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger, Source, Target
from mobius_otel.telemetry.audit.browse import find_records, walk_records
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.signing import HmacKey
from mobius_otel.telemetry.audit.tail import tails_of
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.telemetry.safety import raise_errors
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services import forking
from tests.services.losses import FAULTS, ROOT, measure
from tests.services.rotel import free_port
from tests.services.unwritable import unwritable

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and forks")
SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@posix
@pytest.mark.timeout(900)
def test_nothing_that_was_acknowledged_is_lost_under_any_fault():
    """Ways to end, and ways in which a collector misbehaves: all arrives, and the ledger is whole."""
    seconds = float(os.environ.get("FAULT_SECONDS", "0.5"))
    asked = list(FAULTS)[:: 1 if "FAULT_SECONDS" in os.environ else 2]  # every second one; nox -s kills: all
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = dict(zip(asked, pool.map(lambda name: measure("mobius", name, seconds), asked), strict=True))
    for name, outcome in found.items():
        assert outcome.acknowledged >= 50, name
        assert (outcome.lost, outcome.whole) == (0, True), name
        assert outcome.doubled <= outcome.acknowledged, name


# --- gunicorn -------------------------------------------------------------------------------------------------


def ask(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return answer.read().decode().split()


@posix
def test_gunicorn_with_preload_loses_nothing_when_a_worker_is_killed(tmp_path):
    """Four workers that share a ledger with the command line; one dies by kill -9: all arrives, each stream once."""
    port = free_port()
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\n[api_keys]\nstore = "sqlite:///keys.db"\n')
    with OtlpReceiver() as receiver:
        environ = forking.environment() | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [
            sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--threads", "4", "--bind",
            f"127.0.0.1:{port}", "--log-level", "error", "tests.services.gunicorn_audit:app",
        ]  # fmt: skip
        server = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL)
        try:
            answers = served(port, tmp_path, environ)
        finally:
            server.terminate()
            server.wait(30)
        issued = [
            record for _, record in read_records(tmp_path / "audit.db") if record["event_name"] == "api_key.issued"
        ]
        with Ledger(tmp_path / "audit.db") as ledger:
            shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
            ledger.seal(adopt=True)
            for _ in range(3):
                shipper.run_once()
            assert ledger.backlog() == 0
            arrived = [log["attributes"]["log.record.uid"] for log in receiver.logs]
            assert {record_id for record_id, _, _ in answers} <= set(arrived)
    assert len(answers) >= 150
    assert len(issued) == 2
    assert len({pid for _, pid, _ in answers}) >= 2
    result = verify_ledger(tmp_path / "audit.db")
    assert (result.ok, result.unended) == (True, 0), result.problems
    adopted = [
        record["attributes"]["audit.target.id"]
        for _, record in read_records(tmp_path / "audit.db", notes=True)
        if record["event_name"] == "audit.stream.adopted"
    ]
    assert len(adopted) == len(set(adopted))
    assert adopted  # the killed worker's


def served(port, folder, environ):
    """Ask from eight threads, kill a worker meanwhile, and let the command line write twice; return the answers."""
    end = time.monotonic() + 30
    while True:
        try:
            answers = [ask(port)]
            break
        except OSError:
            assert time.monotonic() < end, "gunicorn does not listen"
            time.sleep(0.1)
    victim = int(answers[0][1])
    lock = threading.Lock()

    def client():
        for _ in range(25):
            try:
                answer = ask(port)
            except OSError:  # a request of the worker that was killed
                continue
            with lock:
                answers.append(answer)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for owner in ("a", "b"):
        command = [sys.executable, "-m", "mobius_otel", "keys", "issue", owner]
        subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)
        if owner == "a":
            os.kill(victim, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    return answers


# --- the disk -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes; gives a function that mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "none", place], capture_output=True, check=False
    )
    if not done or done.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root on Linux)")

    def remount(options):
        subprocess.run([mount, "-o", f"remount,{options}", place], check=True)

    yield place, remount
    subprocess.run(["umount", "-l", place], check=False)


def fill(audit, count=4000):
    """Record until it fails; return what was acknowledged and how many were refused."""
    kept, refused = [], 0
    for _ in range(count):
        try:
            receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"note": "x" * 700})
        except AuditUnavailable:
            refused += 1
            if refused > 5:
                break
            continue
        if receipt.durability == "process":
            kept.append(receipt.record_id)
    return kept, refused


@pytest.mark.parametrize("fail_mode", ["strict", "spool"])
def test_a_full_disk_keeps_what_was_acknowledged_and_goes_on_when_there_is_room(small_disk, fail_mode, caplog):
    """A real one: strict refuses, spool keeps in memory, and both record again once the disk has grown."""
    place, remount = small_disk
    with Ledger(place / "audit.db") as ledger:
        audit = AuditLogger(ledger=ledger, fail_mode=fail_mode)
        kept, refused = fill(audit, 2500)
        assert 100 < len(kept) < 2500
        assert (refused > 0) is (fail_mode == "strict")
        assert set(kept) <= {record["attributes"]["audit.record.id"] for _, record in read_records(ledger.path)}
        remount("size=20m")
        assert ledger.spool.drain() == 0
        assert audit.record("order.placed", actor=Actor("u-1")).durability == "process"
        found = [record["attributes"]["audit.record.id"] for _, record in read_records(ledger.path)]
        assert len(found) == len(set(found)) == (len(kept) + 1 if fail_mode == "strict" else 2501)
    assert verify_ledger(place / "audit.db").ok
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == (fail_mode == "spool")


@pytest.mark.parametrize("fail_mode", ["strict", "spool", "best_effort"])
def test_a_small_disk_that_was_full_is_used_again(small_disk, fail_mode, caplog):
    """Room for twice the records is enough for as many: the log does not take it all for itself."""
    place, _ = small_disk
    before = raise_errors(False)
    safety._seen.clear()
    filler = place / "filler"
    with Ledger(place / "audit.db") as ledger:
        filler.write_bytes(bytes(1_000_000))
        audit = AuditLogger(ledger=ledger, fail_mode=fail_mode)
        first, _ = fill(audit, 1500)
        assert len(first) < 1500
        assert "database or disk is full" in caplog.text or fail_mode == "strict"
        filler.unlink()
        deadline = time.monotonic() + 10
        while not fill(audit, 1)[0] and time.monotonic() < deadline:  # whether there is room is tried once a second
            time.sleep(0.05)
        more, _ = fill(audit, 300)
        assert os.path.getsize(f"{ledger.path}-wal") < 1_000_000
        assert verify_ledger(ledger.path).records > len(first) + 200
    raise_errors(before)
    found = {record["attributes"]["audit.record.id"] for _, record in read_records(place / "audit.db")}
    assert {*first, *more} <= found
    assert verify_ledger(place / "audit.db").ok


def test_after_a_full_disk_everything_arrives_once_there_is_room(small_disk):
    """While it is full the cursor cannot be written either, so shipping waits; then all goes, memory too."""
    place, remount = small_disk
    before = raise_errors(False)
    with OtlpReceiver() as receiver, Ledger(place / "audit.db", checkpoint_records=100) as ledger:
        kept, _ = fill(AuditLogger(ledger=ledger), 2500)
        assert len(ledger.spool) > 100
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
        shipper.run_once()
        remount("size=20m")
        for _ in range(3):
            shipper.run_once()
        assert (len(ledger.spool), ledger.backlog()) == (0, 0)
        arrived = {log["attributes"]["log.record.uid"] for log in receiver.logs}
        assert set(kept) <= arrived
        assert len(arrived) >= 2500
        assert verify_ledger(ledger.path).ok
    raise_errors(before)


def test_a_full_ledger_does_not_keep_its_records_from_the_collector(tmp_path):
    """With a bound of its own there is room for the books: it is shipped, pruned, and takes what waited in memory."""
    with OtlpReceiver() as receiver, Ledger(tmp_path / "audit.db", max_bytes=1_000_000) as ledger:
        kept, _ = fill(AuditLogger(ledger=ledger), 1500)
        assert len(ledger.spool) > 100
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
        for _ in range(6):
            shipper.run_once()
        assert (len(ledger.spool), ledger.backlog()) == (0, 0)
        arrived = {log["attributes"]["log.record.uid"] for log in receiver.logs}
        assert set(kept) <= arrived
        assert len(arrived) >= 1500
    assert (tmp_path / "audit.db").stat().st_size <= 1_000_000
    assert verify_ledger(tmp_path / "audit.db").ok


def test_a_disk_that_becomes_read_only_is_named_and_recording_goes_on_after(small_disk):
    """Strict refuses with SQLite's word for it; nothing that was acknowledged is gone."""
    place, remount = small_disk
    path = place / "audit.db"
    ledger = Ledger(path)
    audit = AuditLogger(ledger=ledger, fail_mode="strict")
    first = audit.record("order.placed", actor=Actor("u-1"))
    ledger._file.close()
    ledger._tail.close()  # a disk with files that are open for writing is not remounted
    remount("ro")
    with pytest.raises(AuditUnavailable, match=r"audit\.db"):
        audit.record("order.placed", actor=Actor("u-1"))
    with pytest.raises(ConfigurationError, match="written"):
        Ledger(place / "another.db")
    assert verify_ledger(path).records == 1
    remount("rw")
    assert audit.record("order.placed", actor=Actor("u-1")).sequence == first.sequence + 1
    ledger.close()
    assert verify_ledger(path).ok


def test_a_ledger_that_another_program_holds_locked_is_waited_for_and_then_spooled(tmp_path, caplog):
    """No request waits for it while the tail takes records; then the first one pays the timeout, others do not."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        ledger._file._opening.busy_timeout = 0.2
        ledger._file.close()
        audit = AuditLogger(ledger=ledger)
        audit.record("order.placed", actor=Actor("u-1"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        receipts = [audit.record("order.placed", actor=Actor("u-1")) for _ in range(800)]
        assert time.monotonic() - began < 5
        durabilities = [receipt.durability for receipt in receipts]
        kept = durabilities.count("process")
        assert 0 < kept <= 512
        assert durabilities == ["process"] * kept + ["none"] * (800 - kept)
        assert verify_ledger(path).records == kept + 1
        other.execute("ROLLBACK")
        other.close()
        assert ledger.spool.drain() == 0
    assert verify_ledger(path).records == 801
    assert "locked" in caplog.text


def test_what_memory_still_holds_at_the_end_is_lost_loudly(tmp_path, caplog):
    """One line with the number, at ERROR: the service said that it goes on without its ledger, and it did."""
    ledger = Ledger(tmp_path / "audit.db")
    audit = AuditLogger(ledger=ledger)
    audit.record("order.placed", actor=Actor("u-1"))
    unwritable(ledger)
    for _ in range(3):
        audit.record("order.placed", actor=Actor("u-1"))
    ledger.close()
    assert "3 records that were in memory are lost" in caplog.records[-1].getMessage()


@posix
def test_every_file_of_a_ledger_is_for_its_owner_alone(tmp_path):
    """The write-ahead log and its index too, whatever the umask; a ledger that others may read is refused."""
    before = os.umask(0)
    try:
        with Ledger(tmp_path / "audit.db") as ledger:
            receipt = AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    tail = f"audit.db-tail-{receipt.stream_id}"
    assert modes == dict.fromkeys(("audit.db", "audit.db-wal", "audit.db-shm", tail), 0o600)
    (tmp_path / "audit.db").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Ledger(tmp_path / "audit.db")


# --- the clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-3600, 365 * 86_400])
def test_a_clock_that_jumps_changes_neither_order_nor_delivery(tmp_path, monkeypatch, jump):
    """An hour back, a year ahead: numbers go on, all arrives, the ledger is whole."""
    clock = FrozenClock(time.time())
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(time, "time_ns", lambda: int(clock() * 1e9))
    with OtlpReceiver() as receiver, Ledger(tmp_path / "audit.db", clock=clock) as ledger:
        audit = AuditLogger(ledger=ledger)
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
        for n in range(20):
            if n == 7:
                shipper.run_once()
            if n == 10:
                clock.advance(jump)
            audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n})
        shipper.run_once()
        assert ledger.backlog() == 0
        assert [log["attributes"]["n"] for log in receiver.logs] == list(range(20))
        assert [log["attributes"]["audit.sequence.number"] for log in receiver.logs] == list(range(1, 21))
        assert ledger.oldest() is None
    assert verify_ledger(tmp_path / "audit.db").ok


# --- secrets --------------------------------------------------------------------------------------------------


def test_no_secret_is_in_the_files_the_exports_or_at_the_collector(tmp_path):
    """In every field of an event: not in the ledger, its log, its index, an export or a request, nor is the key."""
    key = "a made-up secret of the tests"
    place = tmp_path / "audit.db"
    with OtlpReceiver() as receiver, Ledger(place, key=HmacKey(key), sign="record") as ledger:
        audit = AuditLogger(SECRET, ledger=ledger)
        receipt = audit.record(
            "payment.refund", actor=Actor(SECRET), target=Target(SECRET, SECRET), reason=f"because {SECRET} was used",
            source=Source(SECRET), tenant=SECRET, attributes={"note": SECRET, "deep": [{"x": (SECRET,)}], SECRET: 1},
        )  # fmt: skip
        ledger.seal()
        Shipper(ledger, endpoint=receiver.logs_endpoint).run_once()
        ledger.quarantine(1, "HTTP 400")
        everything = b"".join(file.read_bytes() for file in Path(tmp_path).iterdir())
        everything += repr([receiver.logs, receiver.requests, receipt, ledger, read_records(place)]).encode()
    everything += b"".join(file.read_bytes() for file in Path(tmp_path).iterdir())
    for form in ("jsonl", "otlp", "ocsf"):
        command = [sys.executable, "-m", "mobius_otel", "audit", "export", str(place), "--format", form]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout.count(b"payment.refund") or form == "ocsf"
        everything += done.stdout + done.stderr
    assert SECRET.encode() not in everything
    assert SECRET[4:].encode() not in everything
    assert key.encode() not in everything


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def removed(path, *suffixes):
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed there")
@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")], ids=" ".join)
def test_a_log_that_is_removed_while_it_is_open_takes_nothing_with_it(tmp_path, caplog, suffixes):
    """One line at ERROR; what it held goes into the file, for every ledger that had it open."""
    path = tmp_path / "audit.db"
    one, two = Ledger(path), Ledger(path)
    audits = [AuditLogger(ledger=ledger, fail_mode="strict") for ledger in (one, two)]
    receipts = []
    for number in range(30):
        if number == 10:
            removed(path, *suffixes)
        if number == 20:
            time.sleep(0.1)  # they look that often at least, when something is brought in
            one.flush()
            two.flush()
        receipts += [audit.record("order.placed", actor=Actor("u-1")) for audit in audits]
    until(lambda: caplog.text.count("-shm) of ") == 2)  # a thread that brings something in speaks when that is done
    assert {line.levelname for line in caplog.records} == {"ERROR"}
    assert "nothing that was in it is lost" in caplog.text  # of who was first
    shutil.copytree(tmp_path, tmp_path / "copy")  # as a killed process leaves it
    assert {receipt.durability for receipt in receipts} == {"process"}
    found = {record["attributes"]["audit.record.id"] for _, record in read_records(tmp_path / "copy" / path.name)}
    assert found == {receipt.record_id for receipt in receipts}
    assert verify_ledger(tmp_path / "copy" / path.name).ok
    one.close()
    two.close()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be cut there")
def test_a_log_that_is_cut_while_it_is_open_is_said_and_what_it_held_is_named(tmp_path, caplog):
    """Recording goes on in the same stream, so that verification misses exactly what is gone."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger, fail_mode="strict")
        for number in range(20):
            if number in (10, 11):
                ledger.flush()
            if number == 10:
                os.truncate(f"{path}-wal", 0)
            assert audit.record("order.placed", actor=Actor("u-1")).sequence == number + 1
    assert "may be lost" in caplog.text
    result = verify_ledger(path)
    assert [(problem.what, problem.sequence) for problem in result.problems] == [("missing", 1)]
    assert "numbers 1 to 10" in result.problems[0].text
    assert result.records == 10


def test_a_log_that_sqlite_itself_cuts_is_no_loss(tmp_path, caplog):
    """Whoever brings it into the file may make it short."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        for _ in range(3):
            audit.record("order.placed", actor=Actor("u-1"))
            with contextlib.closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert os.path.getsize(f"{path}-wal") == 0
        assert verify_ledger(path).ok
    assert not caplog.records


CRASHED = """
import os, signal, sys
from mobius_otel import Actor, AuditLogger, Ledger
audit = AuditLogger(ledger=Ledger(sys.argv[1]))
for _ in range(20):
    audit.record("order.placed", actor=Actor("u-1"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs kill")
@pytest.mark.parametrize("left", [None, 0, 5000])
def test_a_log_that_is_gone_after_a_crash_is_said(tmp_path, caplog, left):
    """Its index tells how much it held: verification calls that missing, and so does who opens the ledger."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"))
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False, env=forking.environment())
    shutil.copytree(tmp_path, tmp_path / "whole")
    assert verify_ledger(tmp_path / "whole" / path.name).ok
    removed(path, "-wal") if left is None else os.truncate(f"{path}-wal", left)
    problems = verify_ledger(path).problems
    assert {problem.what for problem in problems} == {"missing"}  # only the log knew of the stream, which has a tail
    assert "of the write-ahead log" in problems[-1].text
    assert verify_ledger(path).records >= 20
    with Ledger(path) as ledger:
        assert "lacks" in caplog.text
        assert AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1")).durability == "process"
    caplog.clear()
    with Ledger(tmp_path / "whole" / path.name):
        assert not caplog.records


@pytest.mark.skipif(os.name != "posix", reason="needs kill")
def test_what_a_ledger_lacks_is_said_also_where_it_cannot_be_opened(tmp_path, caplog):
    """One reason does not hide the other."""
    path = tmp_path / "audit.db"
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False, env=forking.environment())
    os.truncate(f"{path}-wal", 5000)
    damaged(path, 0, b"\xa5" * 100)
    with pytest.raises(ConfigurationError):
        Ledger(path)
    assert "lacks" in caplog.text


def damaged(path, page, content=b"\xa5" * 4096):
    with open(path, "r+b") as file:
        file.seek(page * 4096)
        file.write(content)


@pytest.fixture
def ledger_of_many(tmp_path):
    """A ledger of 300 records on some eighty pages."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        for number in range(300):
            audit.record("order.placed", actor=Actor("u-1"), attributes={"n": number, "text": "x" * 300})
    return path


@pytest.mark.parametrize("page", [20, 40, 70])
def test_one_damaged_page_costs_its_own_records(ledger_of_many, page):
    """They are named; all others are proven, shown, exported and shipped, and no service starts on the file."""
    path = ledger_of_many
    damaged(path, page)
    result = verify_ledger(path)
    assert {problem.what for problem in result.problems} == {"unreadable", "missing"}
    assert 290 <= result.records < 300
    lost = 300 - result.records
    assert len(read_records(path)) == result.records
    assert walk_records(path, lambda *_: None) == lost
    assert len(find_records(path, "0")) == 20
    with pytest.raises(ConfigurationError, match=r"whole, but it is damaged.*audit verify"):
        Ledger(path)
    with OtlpReceiver() as receiver, Ledger(path, damaged=True) as ledger:
        shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
        assert shipper.run_once() >= result.records
        assert (ledger.quarantine_size(), ledger.backlog()) == (lost, lost)
        assert all("of the ledger" in name for name in ledger.quarantine_reasons())
        assert shipper.run_once() == 0


def test_damaged_streams_and_a_file_that_is_cut_are_read_as_far_as_they_go(ledger_of_many, tmp_path):
    """Records say themselves which stream they are of."""
    shutil.copy(ledger_of_many, cut := tmp_path / "cut.db")
    os.truncate(cut, os.path.getsize(cut) // 2)
    damaged(ledger_of_many, 1, bytes(4096))
    for path, least in ((ledger_of_many, 300), (cut, 100)):
        result = verify_ledger(path)
        assert result.records >= least
        assert not result.ok
        with pytest.raises(ConfigurationError):
            Ledger(path)


@pytest.mark.parametrize("page", [2, 5, 6, 7, 8])
def test_a_damaged_page_that_holds_no_record_is_said(ledger_of_many, page):
    """All are proven; but no service would start."""
    damaged(ledger_of_many, page, bytes(4096))
    result = verify_ledger(ledger_of_many)
    assert (result.ok, result.records) == (False, 300)
    assert {problem.what for problem in result.problems} == {"unreadable"}


# --- what the log is told -------------------------------------------------------------------------------------


class Busy(logging.Handler):
    """A log whose handler waits for another thread that records, as where both share a lock."""

    def __init__(self, ledger):
        super().__init__()
        self.ledger, self.told, self.stuck = ledger, [], 0

    def emit(self, record):
        self.told.append(record.getMessage())
        other = threading.Thread(
            target=AuditLogger(ledger=self.ledger).record, args=("order.seen",), kwargs={"actor": Actor("u-2")},
            daemon=True,
        )  # fmt: skip
        other.start()
        other.join(10)
        self.stuck += other.is_alive()


def tail_removed(path):
    (place,) = tails_of(path).values()
    os.unlink(place)


def ledger_replaced(path):
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{path}{suffix}")


def dead_tail_damaged(path):
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False, env=forking.environment())
    for place in tails_of(path).values():
        with open(place, "ab") as file:
            file.write(b"none\n")


def dead_tail_gone(path):
    mine = set(tails_of(path))
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False, env=forking.environment())
    for stream, place in tails_of(path).items():
        if stream not in mine:
            os.unlink(place)


@posix
@pytest.mark.parametrize(("what", "said"), [
    (tail_removed, "was removed, replaced, cut or closed"), (ledger_replaced, "was deleted, replaced or cut"),
    (lambda path: removed(path, "-wal", "-shm"), "write-ahead log"), (dead_tail_damaged, "is damaged"),
    (dead_tail_gone, "is gone"),
], ids=["tail", "ledger", "log", "damaged", "gone"])  # fmt: skip
def test_nobody_waits_for_the_log_while_he_holds_up_the_others(tmp_path, monkeypatch, what, said):
    """A handler that cannot go on before another thread has recorded: the ledger speaks when its turn is over."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        audit.record("order.placed", actor=Actor("u-1"))
        handler = Busy(ledger)
        log = logging.getLogger("mobius_otel")
        monkeypatch.setattr(log, "propagate", False)
        log.addHandler(handler)
        try:
            what(path)
            time.sleep(0.06)  # as long as it may take until somebody looks
            audit.record("order.placed", actor=Actor("u-1"))
            ledger.flush()
            ledger.seal(adopt=True)
        finally:
            log.removeHandler(handler)
    assert said in "".join(handler.told)
    assert handler.stuck == 0


# --- a ledger that is cut while it is open ----------------------------------------------------------------------

#: Records until it is killed, and tells of each.
ON = """
import os, sys, time
from mobius_otel import Actor, AuditLogger, Ledger
audit = AuditLogger(ledger=Ledger(sys.argv[1]), fail_mode="strict")
while True:
    receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"text": "x" * 3000})
    os.write(1, receipt.record_id.encode() + b"\\n")
    time.sleep(0.002)
"""


def stored(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT COUNT(*) FROM records").fetchone()[0]


def checkpointed(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def told_by(children, count=100):
    """Return so many ids of each child's records that are made from now on, behind those that its pipe held already."""
    now, old, new = time.time() * 1000, [], []
    for child in children:
        enough = len(new) + count
        while len(new) < enough:
            record_id = child.stdout.readline().decode().strip()
            made = int(record_id.replace("-", "")[:12], 16)  # RFC 9562, 5.7: the milliseconds stand first
            (new if made > now else old).append(record_id)
    return old, new


@posix
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("left", [0, 8192, None], ids=["all", "but two pages", "but the log"])
def test_a_ledger_that_is_cut_while_it_is_open_takes_no_later_record_with_it(tmp_path, processes, left):
    """As `> audit.db` does, then kill -9: what the file held alone is named and kept beside, all else is there."""
    path, aside = tmp_path / "audit.db", tmp_path / "audit.db.cut"
    children = [
        subprocess.Popen([sys.executable, "-c", ON, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=forking.environment())
        for _ in range(processes)
    ]  # fmt: skip
    told = [*told_by(children)]
    if left is not None:
        until(lambda: stored(path) >= sum(map(len, told)))
        checkpointed(path)
        before = stored(path)
        told += told_by(children)  # and everybody has seen how large it is
        until(lambda: stored(path) >= before + 100 * processes)
    os.truncate(path, left or 0)
    told += told_by(children)
    until(lambda: path.exists() and path.stat().st_size and (left is None or aside.exists()))
    told += told_by(children)
    for child in children:
        child.kill()
    output = str([child.communicate() for child in children])
    assert "Traceback" not in output
    result = verify_ledger(path)
    found = {record["attributes"]["audit.record.id"] for _, record in read_records(path)}
    assert found.issuperset(told[-1])
    if left is None:
        assert found.issuperset(chain.from_iterable(told))
        assert result.ok
        assert not aside.exists()
        assert "its log held what was cut off, nothing is lost" in output
        return
    assert aside.stat().st_size == left
    assert output.count("is kept as audit.db.cut") == 1
    assert output.count("deleted, replaced or cut") == processes
    assert {(problem.what, problem.sequence) for problem in result.problems} == {("missing", 1)}
    with Ledger(path) as ledger:  # and the next process takes over what they left
        ledger.seal(adopt=True)
    assert tails_of(path) == {}
    assert {record["attributes"]["audit.record.id"] for _, record in read_records(path)} == found


@posix
@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_ledger_that_is_moved_away_during_a_commit_takes_no_record_with_it(tmp_path, durability, monkeypatch):
    """Another process may find that it was cut, between a look and the end of the transaction that followed it."""
    path, check, moved = tmp_path / "audit.db", SqliteFile.check_kept, []

    def moving(file):
        if not moved and len(told) == 3:
            for suffix in ("-wal", "-shm", ""):
                Path(f"{path}{suffix}").rename(f"{path}.cut{suffix}")
            moved.append(path)
        check(file)

    monkeypatch.setattr(SqliteFile, "check_kept", moving)
    told = []
    with Ledger(path, durability=durability) as ledger:
        audit = AuditLogger(ledger=ledger, fail_mode="strict")
        for number in range(6):
            told.append(audit.record("order.placed", actor=Actor(f"u-{number}")).record_id)
            ledger.flush()
    found = {record["attributes"]["audit.record.id"] for _, record in read_records(path)}
    assert moved
    assert found >= set(told[3:] if durability == "power" else told[2:])


@posix
def test_a_ledger_that_was_cut_when_its_process_is_dead_is_kept_with_its_log(tmp_path, caplog):
    """SQLite would remove the log of an empty file."""
    path = tmp_path / "audit.db"
    subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False, env=forking.environment())
    log = Path(f"{path}-wal").read_bytes()
    os.truncate(path, 0)
    with Ledger(path) as ledger:
        AuditLogger(ledger=ledger).record("order.placed", actor=Actor("u-1"))
    assert "what is left of it is kept as audit.db.cut" in caplog.text
    assert (tmp_path / "audit.db.cut-wal").read_bytes() == log
    assert not verify_ledger(path).ok


def test_a_ledger_that_vacuum_made_smaller_is_whole(tmp_path, caplog):
    """An operator may do so: nothing is missing, nothing is said."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger, fail_mode="strict")
        for _ in range(200):
            audit.record("order.placed", actor=Actor("u-1"), attributes={"text": "x" * 3000})
        ledger.flush()
        ledger.acknowledge(150)
        assert ledger.prune(max_age=1e-9) == 150
        checkpointed(path)
        size = path.stat().st_size
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("VACUUM")
        checkpointed(path)
        assert path.stat().st_size < size
        time.sleep(0.01)
        audit.record("order.placed", actor=Actor("u-1"))
        ledger.flush()
        assert verify_ledger(path).ok
    assert not caplog.records
    assert [file.name for file in tmp_path.iterdir()] == ["audit.db"]
