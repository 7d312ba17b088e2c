"""The tails: what is committed beside the database survives every end, and whatever is done to it is found or named."""

import _thread
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from mobius_otel.errors import AuditUnavailable
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit import tail as tail_module
from mobius_otel.telemetry.audit.browse import count_events, find_records, walk_records
from mobius_otel.telemetry.audit.keeper import Keeper
from mobius_otel.telemetry.audit.schema import MIGRATIONS
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.tail import tails_of
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services import forking
from tests.services.interrupting import at_every_step
from tests.services.unwritable import unwritable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="tails are for systems where an open file can be replaced")

EMIT = """
import os, signal, sys, time
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
ledger = Ledger(sys.argv[1])
audit = AuditLogger("child", ledger=ledger, fail_mode="strict")
for number in range(int(sys.argv[2])):
    receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"n": number})
    os.write(1, receipt.record_id.encode() + b"\\n")
    if len(sys.argv) > 3: time.sleep(float(sys.argv[3]))
"""
#: The same, until it is killed at once, with all but its first record in the tail.
DIE = EMIT + "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


def start(script, *args):
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=forking.environment())


def die(path, count=10, script=DIE):
    """Run a process that records so many and is killed; return the ids that it was told."""
    output, errors = start(script, path, count).communicate(timeout=60)
    assert b"Traceback" not in errors, errors
    return [line for line in output.decode().split("\n") if len(line) == 36]


def emit(ledger, count=1):
    audit = AuditLogger(ledger=ledger, fail_mode="strict")
    return [audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n}).record_id for n in range(count)]


def ids_in(path):
    return [record["attributes"]["audit.record.id"] for _, record in read_records(path)]


def only_tail(path):
    (place,) = tails_of(path).values()
    return place


def stored(path):
    """Return how many records lie in the database itself."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT COUNT(*) FROM records").fetchone()[0]


def problems(path):
    result = verify_ledger(path)
    assert result.ok is not bool(result.problems)
    return [(problem.what, problem.sequence) for problem in result.problems]


# --- what lies in a tail counts -------------------------------------------------------------------------------


def test_readers_see_what_lies_in_a_tail_and_change_no_file(path, tmp_path):
    """Every command that reads: the same answer before somebody adopts the dead stream and after, but for that note."""
    told = die(path, 10)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}

    def seen():
        walked = []
        assert walk_records(path, lambda position, record: walked.append((position, record))) == 0
        assert walked == read_records(path, notes=True)
        walked = read_records(path)
        assert [entry.record["attributes"]["audit.record.id"] for entry in find_records(path, told[7])] == [told[7]]
        assert read_records(path, after=8)[:2] == walked[8:]
        assert read_records(path, last=2) == walked[-2:]
        return walked, [found for found in count_events(path) if found[0] == "order.placed"]

    first = seen()
    result = verify_ledger(path)
    assert (result.ok, result.records, result.unended, result.streams) == (True, 10, 1, 1)
    assert read_records(path, tails=False) == first[0][:1]
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir() if not f.name.endswith("-shm")} == before
    with Ledger(path) as ledger:
        assert (ledger.stats().records, ledger.stats().backlog) == (10, 10)
        ledger.seal(adopt=True)
        assert [position for position, _ in read_records(path)] == list(range(1, 11))
        assert stored(path) == 11
    assert seen() == first
    assert ids_in(path) == told
    assert tails_of(path) == {}
    assert (verify_ledger(path).ok, verify_ledger(path).unended) == (True, 0)


@pytest.mark.timeout(900)
def test_what_was_acknowledged_is_there_before_anybody_adopts(path):
    """Killed at random moments, at two speeds: all of it is read and the ledger is whole, at once and in the end."""
    chance, told = random.Random(3), []
    for number in range(int(os.environ.get("KILLS", "20"))):
        slow = number % 2  # long enough for the keeper to come; the others fill the tail and bring it in themselves
        child = start(EMIT, path, 10**9, 0.001 * slow)
        first = child.stdout.readline()
        time.sleep(chance.random() * (0.3 if slow else 0.03))
        child.kill()
        lines = (first + child.stdout.read()).decode().split("\n")
        child.wait()
        told += [line for line in lines if len(line) == 36]
        result = verify_ledger(path)
        assert result.ok, result.problems
        assert set(told) <= set(ids_in(path))
    with Ledger(path) as ledger:
        ledger.seal(adopt=True)
    found = ids_in(path)
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    assert (verify_ledger(path).ok, verify_ledger(path).unended, tails_of(path)) == (True, 0, {})


KILLED_INSIDE = """
import os, signal, sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit import adoption, intake as module, tail
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
ledger = Ledger(sys.argv[1])
audit = AuditLogger("child", ledger=ledger)
for number in range(int(sys.argv[2])):
    os.write(1, audit.record("order.placed", actor=Actor("u-1")).record_id.encode() + b"\\n")
where = sys.argv[3]
if where == "before the commit": module.newest_of = die
if where == "after the commit": module.Intake._place = die
if where == "before the new tail": tail.Tail.renew = die
if where == "before its name": os.rename = die
if where == "before the tail is removed": os.unlink = die
ledger.end() if where == "before the tail is removed" else ledger.flush()
"""


@pytest.mark.parametrize("where", ["before the commit", "after the commit", "before the new tail", "before its name",
                                   "before the tail is removed"])  # fmt: skip
def test_a_process_may_be_killed_while_it_brings_its_tail_in(path, tmp_path, where):
    """Every record is there once, before it is adopted and after, and nothing is left over."""
    output, _ = start(KILLED_INSIDE, path, 20, where).communicate(timeout=60)
    told = output.decode().split()
    assert len(told) == 20
    for _ in range(2):
        assert (ids_in(path), problems(path)) == (told, [])
        adopt(path)
    assert verify_ledger(path).unended == 0
    assert not [name for name in os.listdir(tmp_path) if "-tail-" in name]


KILLED_ADOPTING = """
import os, signal, sys
from mobius_otel.telemetry.audit import Ledger, adoption, intake as module
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
ledger = Ledger(sys.argv[1])
setattr(module if sys.argv[2] == "forget" else adoption, sys.argv[2], die)
ledger.seal(adopt=True)
"""


@pytest.mark.parametrize("where", ["begins_after", "insert", "forget"])
def test_a_process_may_be_killed_while_it_adopts(path, where):
    """The next one does it, once."""
    told = die(path, 20)
    start(KILLED_ADOPTING, path, where).communicate(timeout=60)
    assert (ids_in(path), problems(path)) == (told, [])
    with Ledger(path) as ledger:
        ledger.seal(adopt=True)
    assert (ids_in(path), problems(path), tails_of(path)) == (told, [], {})


def test_readers_beside_writers_see_a_whole_chain_every_time(path):
    """Two processes, whose tails are brought in and renewed meanwhile; never fewer than before."""
    reads = int(os.environ.get("READS", "150"))
    told, seen = 0, 0
    children = []
    try:
        for _ in range(reads):
            if not children or children[0].poll() is not None:
                children = [start(EMIT, path, 10**9, 0.0005) for _ in range(2)]
                for child in children:
                    assert child.stdout.readline()
                    threading.Thread(target=child.stdout.read, daemon=True).start()
            result = verify_ledger(path)
            assert result.ok, result.problems
            assert result.records >= seen
            told, seen = told + 1, result.records
            if seen > 4000:  # a verification must not take ever longer
                for child in children:
                    child.kill()
                    child.wait()
                for file in path.parent.iterdir():
                    file.unlink()
                children, seen = [], 0
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert told == reads


def test_a_ledger_behind_a_link_has_its_tails_beside_itself(path, tmp_path):
    """As SQLite's own log: whoever goes by its own name finds them."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    os.symlink(folder / "real.db", path)
    Ledger(folder / "real.db").close()
    told = die(path)
    for place in (path, folder / "real.db"):
        assert (ids_in(place), problems(place)) == (told, [])
    adopt(folder / "real.db")
    assert (ids_in(path), tails_of(path)) == (told, {})


def test_the_tail_of_a_process_of_which_nobody_knows_whether_it_lives_is_sent_too(path):
    """As of a container whose host name was another: brought in a minute later, and forgotten after a day."""
    told = die(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE streams SET host = 'elsewhere'")
    for age, there, kept in ((30, 0, 1), (90, 9, 1), (90_000, 9, 0)):
        os.utime(next(iter(tails_of(path).values())), times=(time.time() - age,) * 2)
        with Ledger(path, durability="power") as ledger:
            ledger.seal(adopt=True)
            assert sum(entry.record_id in told[1:] for entry in ledger.records()) == there
        assert len(tails_of(path)) == kept
        assert (ids_in(path), problems(path)) == (told, [])


def test_a_living_process_goes_on_where_another_brought_its_tail_in(path, monkeypatch):
    """It was taken for gone: nothing is doubled, nothing lost, and its records have their positions."""
    with Ledger(path) as one, Ledger(path) as two:
        receipts = [AuditLogger(ledger=one).record("order.placed", actor=Actor("u-1")) for _ in range(10)]
        with monkeypatch.context() as patched:
            patched.setattr("mobius_otel.telemetry.audit.adoption._QUIET_SECONDS", -1.0)
            with one._file.lock:  # its keeper waits
                two.seal(adopt=True)
                assert stored(path) == 10
        receipts += [AuditLogger(ledger=one).record("order.placed", actor=Actor("u-1")) for _ in range(10)]
        assert ids_in(path) == [receipt.record_id for receipt in receipts]
        assert [receipt._place.kept.position for receipt in receipts] == list(range(1, 21))
    assert (ids_in(path), problems(path)) == ([receipt.record_id for receipt in receipts], [])


# --- what somebody does to it ---------------------------------------------------------------------------------


def lines_of(place):
    with open(place, "rb") as file:
        return file.read().split(b"\n")


def rewrite(place, lines):
    with open(place, "wb") as file:
        file.write(b"\n".join(lines))


def adopt(path):
    with Ledger(path) as ledger:
        ledger.seal(adopt=True)


def test_a_tail_that_is_deleted_after_a_crash_is_named(path, caplog):
    """By verify, and by whoever adopts the stream; it does not pass as a shorter one."""
    told = die(path, 10)
    os.unlink(only_tail(path))
    assert problems(path) == [("unreadable", None)]
    assert "its newest records, is gone" in verify_ledger(path).problems[0].text
    adopt(path)
    assert "recorded in its last moments is lost" in caplog.text
    assert ids_in(path) == told[:1]


@pytest.mark.parametrize("offset", [-1, -2, -100])
def test_half_a_line_at_the_end_counts_for_nobody(path, offset):
    """As a process leaves it that was killed while it wrote: nobody was told of that record."""
    told = die(path, 10)
    place = only_tail(path)
    os.truncate(place, os.path.getsize(place) + offset)
    for _ in range(2):
        assert (ids_in(path), problems(path)) == (told[:9], [])
        adopt(path)


@pytest.mark.parametrize("line", [0, 3, 9])
def test_a_flipped_byte_is_named_before_adoption_and_after(path, line, caplog, tmp_path_factory):
    """In the first line, in the middle, in the last record; all others are kept."""
    told = die(path, 10)
    place = only_tail(path)
    for at in (10, 30, 300):
        shutil.copytree(path.parent, copy := tmp_path_factory.mktemp("copies") / str(at))
        lines = lines_of(place)
        flipped = bytearray(lines[line])
        flipped[min(at, len(flipped) - 5)] ^= 1
        lines[line] = bytes(flipped)
        mine = copy / path.name
        rewrite(only_tail(mine), lines)
        for _ in range(2):
            assert problems(mine), at
            assert len(set(ids_in(mine)) & set(told)) >= 9
            adopt(mine)
        assert "is damaged" in caplog.text
        assert [name for name in os.listdir(copy) if name.endswith(".damaged")]
        caplog.clear()


def test_any_flipped_byte_is_named(path):
    """Sixty at random: whatever is then read as whole is what was recorded."""
    die(path, 10)
    chance, place = random.Random(11), only_tail(path)
    before, whole = [record for _, record in read_records(path)], (path.parent / place).read_bytes()
    for _ in range(60):
        spoiled = bytearray(whole)
        spoiled[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        with open(place, "wb") as file:
            file.write(spoiled)
        result = verify_ledger(path)
        found = [record for _, record in read_records(path)]
        assert not result.ok or found == before or (found == before[:-1] and b"\n" not in spoiled[-1:])


def test_a_tail_that_was_gone_stays_named_after_somebody_adopted_its_stream(path):
    """The next start is a second later, and what is lost is lost for good."""
    die(path, 10)
    os.unlink(only_tail(path))
    assert not verify_ledger(path).ok
    for _ in range(2):
        adopt(path)
        (problem,) = verify_ledger(path).problems
        assert "its tail was gone" in problem.text


@pytest.mark.parametrize("name", ["audit.record.id", "event_name", "process"])
def test_half_a_character_in_a_tail_keeps_nobody_from_recording(path, name):
    """A line that the database cannot take is damage like any other."""
    die(path, 10)
    place = only_tail(path)
    lines = lines_of(place)
    number = 0 if name == "process" else 3
    start, payload = (b"", lines[0]) if number == 0 else (lines[3][:67], lines[3][67:])
    found = json.loads(payload) if number else json.loads(payload.rpartition(b" ")[2])
    target = found["attributes"] if name.startswith("audit.") else found
    target[name] = "\ud800"
    lines[number] = start + json.dumps(found).encode()
    rewrite(place, lines)
    adopt(path)
    assert not verify_ledger(path).ok


def test_what_is_no_file_is_no_tail(path, tmp_path):
    """A folder or a link of such a name keeps neither the service nor a reader from its ledger."""
    die(path, 3)
    (tmp_path / f"audit.db-tail-{'0' * 32}").mkdir(mode=0o755)
    (tmp_path / f"audit.db-tail-{'1' * 32}").symlink_to(tmp_path)
    assert verify_ledger(path).ok
    adopt(path)
    assert verify_ledger(path).ok


def test_who_records_while_the_interpreter_ends_does_not_hang(path):
    """No thread can be had any more; the record lies in the tail."""
    script = (
        EMIT
        + """
class Last:
    def __del__(self):
        self.audit.record("order.placed", actor=Actor("u-1"))
last = Last()
last.audit = AuditLogger("child", ledger=Ledger(sys.argv[1] + "2"), fail_mode="strict")
last.audit.record("order.placed", actor=Actor("u-1"))
"""
    )
    child = start(script, path, 2)
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert len(ids_in(f"{path}2")) == 2


def test_a_ledger_that_is_closed_leaves_no_thread(path):
    """A thousand of them would leave a thousand."""
    before = _thread._count()
    for number in range(20):
        with Ledger(path.with_name(f"{number}.db")) as ledger:
            emit(ledger, 3)
    deadline = time.monotonic() + 10
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _thread._count() <= before
    assert time.monotonic() < deadline


@pytest.mark.parametrize("how", ["doubled", "swapped", "missing", "first line", "empty", "garbage"])
def test_lines_that_were_moved_are_named(path, how):
    """A line twice, two in another order, one less, no first line, nothing at all."""
    told = die(path, 10)
    place = only_tail(path)
    lines = lines_of(place)
    if how == "doubled":
        lines.insert(4, lines[3])
    elif how == "swapped":
        lines[3], lines[4] = lines[4], lines[3]
    elif how == "missing":
        del lines[4]
    elif how == "first line":
        del lines[0]
    elif how == "garbage":
        lines[4] = os.urandom(100).replace(b"\n", b"")
    rewrite(place, [] if how == "empty" else lines)
    if how == "empty":  # as a stream of which nothing waits: see the table of threats
        assert ids_in(path) == told[:1]
        return
    for _ in range(2):
        assert problems(path)
        assert len(set(ids_in(path)) & set(told)) >= 8
        adopt(path)


def test_the_tails_of_two_streams_that_were_exchanged_are_named(path):
    """Neither is taken for the other's; both are kept for whoever looks into it."""
    die(path, 10)
    die(path.with_name("other.db"), 10)
    one, two = only_tail(path), only_tail(path.with_name("other.db"))
    shutil.copy(two, one)
    for _ in range(2):
        assert problems(path)
        assert len(ids_in(path)) == 1
        adopt(path)
    assert [name for name in os.listdir(path.parent) if name.endswith(".damaged")]


def test_a_tail_that_is_removed_while_it_is_open_takes_nothing_with_it(path, caplog):
    """Its owner has it in memory: it goes into the database, one line in the log, and a new tail is begun."""
    with Ledger(path) as ledger:
        told = emit(ledger, 5)
        os.unlink(only_tail(path))
        time.sleep(0.01)
        told += emit(ledger, 1)
        assert ids_in(path) == told
        assert caplog.text.count("was removed, replaced, cut or closed") == 1
        told += emit(ledger, 5)
        assert os.path.getsize(only_tail(path))
        with open(only_tail(path), "r+b") as file:
            file.truncate(300)
        told += emit(ledger, 3)
        assert (ids_in(path), problems(path)) == (told, [])
    assert caplog.text.count("was removed, replaced, cut or closed") == 2
    assert (ids_in(path), problems(path)) == (told, [])


def test_who_closes_every_handle_gets_no_record_into_another_file(path, tmp_path):
    """As daemons do at their start: the number of the tail's handle may be another file's by then."""
    with Ledger(path) as ledger:
        told = emit(ledger, 3)
        number = ledger._tail._file
        os.close(number)
        assert os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR) == number
        told += emit(ledger, 3)
        assert os.fstat(number).st_size == 0
        assert (ids_in(path), problems(path)) == (told, [])
    assert os.fstat(number).st_ino == (tmp_path / "other").stat().st_ino
    os.close(number)


def test_a_tail_that_others_may_read_is_its_owners_alone_again(path, caplog):
    """One that a dead process left keeps no service from its start; that others could read it is said."""
    told = die(path)
    place = only_tail(path)
    os.chmod(place, 0o644)
    with Ledger(path) as ledger:
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
        assert f"{place} (mode 0644)" in caplog.text
        told += emit(ledger)
    assert (ids_in(path), problems(path)) == (told, [])


def mode_changed(place):
    os.chmod(place, 0o644)


def renamed(place):
    os.rename(place, f"{place}.elsewhere")


def another_name(place):
    os.link(place, f"{place}.elsewhere")
    os.unlink(place)


@pytest.mark.parametrize("what", [mode_changed, renamed, another_name])
def test_a_tail_that_is_renamed_or_opened_to_others_is_made_anew(path, caplog, what):
    """The handle shows nothing of it; a process that is killed then would have left no tail, or one for all."""
    with Ledger(path) as ledger:
        told = emit(ledger, 3)
        place = only_tail(path)
        what(place)
        time.sleep(0.006)  # as long as nobody looks
        told += emit(ledger)
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
        assert (ids_in(path), problems(path)) == (told, [])
    assert caplog.text.count("was removed, replaced, cut or closed") == 1


def test_the_first_record_may_be_made_while_the_interpreter_ends(path):
    """There is no `open` any more; it is kept all the same."""
    script = """
import sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
class Last:
    def __del__(self):
        self.audit.record("order.placed", actor=Actor("u-1"))
last = Last()
last.audit = AuditLogger("child", ledger=Ledger(sys.argv[1]), fail_mode="strict")
"""
    _, errors = start(script, path).communicate(timeout=60)
    assert (errors, len(ids_in(path))) == (b"", 1)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_a_tail_of_another_owner_is_no_tail(path):
    """Who may write into the folder cannot put records into the ledger."""
    told = die(path)
    os.chown(only_tail(path), 65534, 65534)
    assert ids_in(path) == told[:1]
    assert problems(path) == [("unreadable", None)]
    assert stat.S_IMODE(os.stat(only_tail(path)).st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_the_tail_that_root_writes_can_be_adopted_by_the_service(path):
    """As `sudo mobius-otel keys issue` beside a service of another user."""
    Ledger(path).close()
    os.chown(path, 65534, 65534)
    die(path)
    assert os.stat(only_tail(path)).st_uid == 65534


# --- the database beside it -----------------------------------------------------------------------------------


def test_a_ledger_deleted_under_a_process_that_is_killed_then_keeps_its_tail(path):
    """The new file learns of the stream from the tail's first line: its records are there, what is missing is named."""
    script = EMIT + "for end in ('', '-wal', '-shm'): os.unlink(sys.argv[1] + end)\nos.kill(os.getpid(), 9)"
    told = die(path, 10, script)
    with Ledger(path) as ledger:
        emit(ledger, 1)
        assert set(told[1:]) <= set(ids_in(path))
    assert [what for what, _ in problems(path)] == ["missing"]
    assert (len(ids_in(path)), tails_of(path)) == (10, {})
    assert verify_ledger(path).unended == 0


def test_an_older_copy_in_the_ledgers_place_lacks_what_it_lacks(path):
    """What came between copy and tail is missing and named; the tail itself is there."""
    script = """
import shutil
ledger.close()
ledger = Ledger(sys.argv[1])
audit = AuditLogger("child", ledger=ledger)
def record(count):
    for _ in range(count):
        os.write(1, audit.record("order.placed", actor=Actor("u-1")).record_id.encode() + b"\\n")
record(3); ledger.flush(); ledger._file.close(); shutil.copy(sys.argv[1], sys.argv[1] + ".old")
record(3); ledger.flush(); ledger._file.close(); os.replace(sys.argv[1] + ".old", sys.argv[1])
record(3); os.kill(os.getpid(), 9)
"""
    told = die(path, 0, EMIT + script)
    for _ in range(2):
        assert (ids_in(path), problems(path)) == (told[:3] + told[6:], [("missing", 4)])
        adopt(path)


def test_while_the_database_fails_no_more_than_a_tail_is_taken(path):
    """What was taken is kept, and goes into the database once that works again, without a word of anybody."""
    ledger = Ledger(path)
    emit(ledger, 1)
    repair = unwritable(ledger)
    ledger._failing = False
    kept = []
    with contextlib.suppress(AuditUnavailable):
        for _ in range(3000):
            kept += emit(ledger, 1)
    assert 0 < len(kept) <= 256
    assert (ids_in(path)[1:], problems(path)) == (kept, [])
    assert ledger.backlog() == len(kept) + 1
    repair()
    end = time.monotonic() + 20
    while stored(path) < len(kept) + 1:
        assert time.monotonic() < end, "nobody brought it in"
        time.sleep(0.05)
    kept += emit(ledger, 3)
    ledger.close()
    assert (ids_in(path)[1:], problems(path), tails_of(path)) == (kept, [], {})


CUT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place = ledger._tail.place
ledger.flush(); ledger._file.close()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def record():
    receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"x": "y" * 300})
    os.write(1, receipt.record_id.encode() + b"\\n")
record()
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(place) + 400, hard))
refused = 0
for _ in range(3):
    try:
        record()
    except Exception as error:
        refused += 1
        assert type(error).__name__ == "AuditUnavailable", error
assert open(place, "rb").read().endswith(b"\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert refused == 3
record()
os.kill(os.getpid(), 9)
"""


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_no_half_record(path):
    """It is refused, the tail is as it was, and the next one is kept."""
    told = die(path, 3, EMIT + CUT)
    assert len(told) == 5
    for _ in range(2):
        assert (ids_in(path), problems(path)) == (told, [])
        adopt(path)


def test_half_a_line_that_cannot_be_taken_back_closes_the_tail(path, monkeypatch):
    """The records go to the database then, and a tail is begun anew."""
    with Ledger(path) as ledger:
        told = emit(ledger, 3)
        write = os.write

        def half(file, data):
            write(file, data[: len(data) // 2])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(tail_module.os, "write", half)
            patched.setattr(tail_module.os, "ftruncate", lambda *_: 1 / 0)
            with pytest.raises(AuditUnavailable):
                emit(ledger, 1)
        assert (ids_in(path), problems(path)) == (told, [])
        told += emit(ledger, 3)
        assert (ids_in(path), problems(path)) == (told, [])
    assert (ids_in(path), problems(path)) == (told, [])


# --- the keeper -----------------------------------------------------------------------------------------------


def test_the_keeper_brings_in_what_lies_there_and_the_tail_is_empty(path):
    """Within a moment, without a word of anybody; an idle ledger's tail holds nothing."""
    with Ledger(path) as ledger:
        told = emit(ledger, 20)
        end = time.monotonic() + 20
        while stored(path) < 20 or len(lines_of(only_tail(path))) > 2:
            assert time.monotonic() < end, "nobody brought it in"
            time.sleep(0.02)
        assert ids_in(path) == told
    assert tails_of(path) == {}


def test_a_ledger_that_nobody_holds_any_more_is_brought_in(path):
    """As in a script that does not close it: the keeper holds it until then, and no longer."""
    import gc
    import weakref

    ledger = Ledger(path)
    told, gone = emit(ledger, 20), weakref.ref(ledger)
    del ledger
    end = time.monotonic() + 20
    while stored(path) < 20 or gone() is not None:
        assert time.monotonic() < end, "it is held for ever, or was let go too early"
        gc.collect()
        time.sleep(0.02)
    assert ids_in(path) == told


FORKS = """
import os, sys, threading
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
ledger = Ledger(sys.argv[1])
audit = AuditLogger("forks", ledger=ledger, fail_mode="strict")
def record(who, count):
    for _ in range(count):
        os.write(1, audit.record("order.placed", actor=Actor(who)).record_id.encode() + b"\\n")
record("parent", 20)
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        assert not [t for t in threading.enumerate() if "keeper" in t.name]
        record("child", 20)
        os._exit(0)
    children.append(pid)
    record("parent", 3)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
record("parent", 20)
os._exit(0)
"""


def test_a_fork_leaves_the_parents_tail_alone(path):
    """Each process has a tail and a keeper of its own."""
    told = die(path, 0, FORKS)
    assert len(told) == 155
    for _ in range(2):
        assert sorted(ids_in(path)) == sorted(told)
        assert problems(path) == []
        adopt(path)
    assert (verify_ledger(path).unended, tails_of(path)) == (0, {})


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise ValueError", "threading.Thread(target=emit).start()"])
def test_a_process_that_ends_without_a_close_loses_nothing(path, ending):
    """The keeper is a daemon: it holds nobody up, and what it did not do another does."""
    script = EMIT + (
        "\nimport threading, time\ndef emit():\n time.sleep(0.05)\n"
        " os.write(1, audit.record('a.b', actor=Actor('u')).record_id.encode() + b'\\n')\n" + ending
    )
    began = time.monotonic()
    output, _ = start(script, path, 20).communicate(timeout=60)
    assert time.monotonic() - began < 30
    told = output.decode().split()
    assert len(told) >= 20
    assert ids_in(path) == told
    adopt(path)
    assert (ids_in(path), problems(path), verify_ledger(path).unended) == (told, [], 0)


def test_two_ledgers_of_one_process_have_a_tail_each(path):
    """Eight threads over both, at once."""
    told = []
    with Ledger(path) as one, Ledger(path) as two:
        threads = [
            threading.Thread(target=lambda ledger=ledger: told.extend(emit(ledger, 300)))
            for ledger in (one, two) for _ in range(4)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tails_of(path)) == 2
        assert sorted(ids_in(path)) == sorted(told)
        assert problems(path) == []
    assert (len(ids_in(path)), problems(path), tails_of(path)) == (2400, [], {})


def test_a_record_in_a_tail_has_a_position_when_it_is_asked_for(path):
    """And what waits for its delivery finds it."""
    with OtlpReceiver() as receiver, Ledger(path) as ledger:
        audit = AuditLogger(ledger=ledger)
        receipts = [audit.record("order.placed", actor=Actor("u-1")) for _ in range(5)]
        assert stored(path) == 1
        assert [receipt._place.kept.position for receipt in receipts] == [1, 2, 3, 4, 5]
        receipts += [audit.record("order.placed", actor=Actor("u-1")) for _ in range(3)]
        assert not receipts[-1].delivered(0)
        Shipper(ledger, endpoint=receiver.logs_endpoint).run_once()
        assert all(receipt.delivered(0) for receipt in receipts)


def test_power_and_sink_have_no_tail(path):
    """Their records are in the database when they are acknowledged."""
    for durability in ("power", "sink"):
        with Ledger(path, durability=durability, sink_timeout=0.01) as ledger:
            AuditLogger(ledger=ledger, fail_mode="spool").record("a.b", actor=Actor("u-1"))
            assert tails_of(path) == {}
    assert verify_ledger(path).ok


# --- the rest -------------------------------------------------------------------------------------------------


def test_a_ledger_of_the_version_before_is_brought_forward(path):
    """Its streams have no tail, and nobody misses one."""
    with contextlib.closing(sqlite3.connect(path)) as old:
        for script in MIGRATIONS[:3]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 3")
        old.commit()
    path.chmod(0o600)
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        payload = json.dumps({"attributes": {"audit.record.id": "x"}})
        old.execute("INSERT INTO streams (stream_id, host, pid, started, count, head, process)"
                    " VALUES ('s', 'elsewhere', 1, 0, 0, X'00', 'p')")  # fmt: skip
        old.execute("INSERT INTO records VALUES (1, 1, 1, 'x', X'00', ?, NULL)", (payload,))
    before = path.read_bytes()
    texts = [problem.text for problem in verify_ledger(path).problems]
    assert path.read_bytes() == before
    assert not [text for text in texts if "tail" in text]
    with Ledger(path) as ledger:
        assert len(emit(ledger, 3)) == 3
        assert ledger.stats().records == 4
    assert not [problem for problem in verify_ledger(path).problems if "tail" in problem.text]


def test_verify_needs_no_folder_for_temporary_files(path):
    """A volume that is mounted read-only, a container without /tmp."""
    told = die(path, 20)
    script = (
        "import sys; from mobius_otel.telemetry.audit.verify import *; r = verify_ledger(sys.argv[1]);"
        " assert r.ok, r.problems; print(r.records, len(read_records(sys.argv[1])))"
    )
    environ = forking.environment() | dict.fromkeys(("TMPDIR", "SQLITE_TMPDIR", "TEMP", "TMP"), "/nonexistent")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environ, capture_output=True, check=False, cwd="/"
    )
    assert done.stdout.decode().split() == [str(len(told))] * 2, done.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timers here")
def test_a_handler_that_asks_the_ledger_breaks_no_transaction(path):
    """It comes upon its own thread anywhere, and asks for the backlog, which brings the tail in."""
    with Ledger(path) as ledger:
        told, asked = [], []

        def handler(*_):
            asked.append(ledger.backlog())

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0007)
        try:
            for _ in range(30):
                told += emit(ledger, 20)
                ledger.flush()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert asked
        assert (ids_in(path), problems(path)) == (told, [])


@pytest.mark.parametrize("how", ["wake", "end"])
def test_a_keeper_that_is_interrupted_anywhere_is_woken_again(how):
    """By a handler that raises, in a step of the interpreter's library too: nobody who records then waits for ever."""
    came = threading.Event()

    class Kept:
        def bring_in(self):
            came.set()
            return True

    keeper, kept = Keeper(), Kept()
    arguments = (kept,) if how == "wake" else ()
    for _ in at_every_step(lambda: partial(getattr(keeper, how), *arguments), "keeper.py", "threading.py"):
        came.clear()
        waking = threading.Thread(target=keeper.wake, args=(kept,), daemon=True)
        waking.start()
        waking.join(30)
        assert not waking.is_alive()
        assert came.wait(30)
    keeper.end()
