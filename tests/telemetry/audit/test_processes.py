"""Real processes: killed, forked, several on one ledger, on a full disk, on a deleted file."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services import forking

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")

EMIT = """
import os, sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
ledger = Ledger(sys.argv[1])
audit = AuditLogger("child", ledger=ledger)
number = 0
while number < int(sys.argv[2]):
    receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"n": number})
    assert receipt.durability == "process"
    os.write(1, receipt.record_id.encode() + b"\\n")
    number += 1
"""


def run(script, *args):
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=forking.environment())


def ids_in(path, *, own=False):
    """Return the records' ids; `own`: also those of what the ledger writes about itself."""
    return [record["attributes"]["audit.record.id"] for _, record in read_records(path, notes=own)]


@posix
def test_every_acknowledged_record_survives_kill_9(tmp_path):
    """Processes are killed at random moments: what emit returned for is there, and the ledger is whole."""
    kills = int(os.environ.get("KILLS", "20"))
    path = tmp_path / "audit.db"
    chance = random.Random(7)
    acknowledged = []
    for _ in range(kills):
        child = run(EMIT, path, 10**9)
        first = child.stdout.readline()
        time.sleep(chance.random() * 0.05)
        child.kill()
        lines = (first + child.stdout.read()).split(b"\n")
        child.wait()
        acknowledged += [line.decode() for line in lines if len(line) == 36]
    assert len(acknowledged) > kills
    assert set(acknowledged) <= set(ids_in(path))
    result = verify_ledger(path)
    assert result.ok, result.problems
    assert result.streams == kills
    assert result.unended == 1  # each but the last one was adopted by the next


def test_processes_write_one_ledger_at_once(tmp_path):
    """Three processes and this one: one stream each, nothing lost, whole."""
    path = tmp_path / "audit.db"
    with Ledger(path) as ledger:
        children = [run(EMIT, path, 150) for _ in range(3)]
        audit = AuditLogger("parent", ledger=ledger, fail_mode="strict")
        own = [audit.record("order.placed", actor=Actor("u-1")).record_id for _ in range(150)]
        outputs = [child.communicate(timeout=60)[0].decode().split() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    found = ids_in(path)
    assert len(found) == len(set(found)) == 600
    assert set(found) == {*own, *outputs[0], *outputs[1], *outputs[2]}
    result = verify_ledger(path)
    assert (result.ok, result.streams) == (True, 4)


def test_eight_threads_write_one_chain(tmp_path):
    """Their records get numbers of their own in one stream."""
    path = tmp_path / "audit.db"
    receipts = []
    with Ledger(path) as ledger:
        audit = AuditLogger("threads", ledger=ledger)

        def emit():
            for _ in range(200):
                receipt = audit.record("order.placed", actor=Actor("u-1"))
                receipts.append(receipt)

        threads = [threading.Thread(target=emit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    numbers = sorted(receipt.sequence for receipt in receipts)
    assert len(set(numbers)) == 1600
    assert numbers[-1] == 1601  # one of them is a checkpoint's
    assert len({receipt.stream_id for receipt in receipts}) == 1
    assert verify_ledger(path).ok


FORK = """
import os, sys, threading
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
ledger = Ledger(sys.argv[1])
audit = AuditLogger("forks", ledger=ledger, fail_mode="strict")
stop = threading.Event()
def emit():
    while not stop.is_set():
        audit.record("order.placed", actor=Actor("parent"))
threads = [threading.Thread(target=emit) for _ in range(3)]
for thread in threads: thread.start()
children = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            audit.record("order.placed", actor=Actor("child"))
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
for thread in threads: thread.join()
ledger.close()
print(codes)
"""


@posix
def test_a_fork_while_emitting_opens_a_stream_of_its_own(tmp_path):
    """Twelve children of a process whose threads are emitting: no deadlock, a stream each, whole."""
    path = tmp_path / "audit.db"
    child = run(FORK, path)
    output, _ = child.communicate(timeout=90)
    assert output.decode().strip() == str([0] * 12)
    result = verify_ledger(path)
    assert result.ok, result.problems
    assert result.streams == 13
    actors = [record["attributes"]["audit.actor.id"] for _, record in read_records(path)]
    assert actors.count("child") == 240


SHIP_AND_FORK = """
import os, sys, time
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
ledger = Ledger(sys.argv[1])
audit = AuditLogger("forks", ledger=ledger)
shipper = Shipper(ledger, endpoint=sys.argv[2], protocol=sys.argv[3], interval=0.05)
shipper.start()
assert audit.record("order.placed", actor=Actor("parent")).delivered(20)
pid = os.fork()
if pid == 0:
    receipt = audit.record("order.placed", actor=Actor("child"))
    os._exit(0 if receipt.delivered(20) else 1)
status = os.waitpid(pid, 0)[1]
assert status == 0, status
assert audit.record("order.placed", actor=Actor("parent again")).delivered(20)
assert shipper.stop(10)
print("done")
"""


@posix
def test_a_child_ships_for_itself_when_the_parent_was_shipping(tmp_path):
    """A record that a forked child appended arrives, and so does a later one of the parent."""
    with OtlpReceiver() as receiver:
        child = run(SHIP_AND_FORK, tmp_path / "audit.db", receiver.logs_endpoint, "http/protobuf")
        output, _ = child.communicate(timeout=90)
        assert output == b"done\n"
        actors = {log["attributes"]["audit.actor.id"] for log in receiver.logs}
    assert actors == {"parent", "child", "parent again"}


SHIP = """
import sys, time
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
ledger = Ledger(sys.argv[1])
audit = AuditLogger("ship", ledger=ledger)
Shipper(ledger, endpoint=sys.argv[2], interval=0.01).start()
number = 0
while True:
    print(audit.record("order.placed", actor=Actor("u-1"), attributes={"n": number}).record_id, flush=True)
    number += 1
    time.sleep(0.001)
"""


@posix
def test_what_a_killed_process_did_not_ship_arrives_after_the_next_start(tmp_path):
    """Killed while shipping, five times: the next start takes the lease at once, and every record arrives."""
    path = tmp_path / "audit.db"
    chance = random.Random(11)
    acknowledged = []
    with OtlpReceiver() as receiver:
        for _ in range(5):
            child = run(SHIP, path, receiver.logs_endpoint)
            first = child.stdout.readline()
            time.sleep(0.1 + chance.random() * 0.2)
            child.kill()
            lines = (first + child.stdout.read()).split(b"\n")
            child.wait()
            acknowledged += [line.decode() for line in lines if len(line) == 36]
        with Ledger(path) as ledger:
            Shipper(ledger, endpoint=receiver.logs_endpoint).run_once()
            assert ledger.backlog() == 0
            arrived = [log["attributes"]["log.record.uid"] for log in receiver.logs]
            assert set(arrived) == set(ids_in(path, own=True))
    assert set(acknowledged) <= set(arrived)


INTERRUPTED = """
import os, signal, sys, threading
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger

class TimeIsUp({kind}):
    pass

def handler(*_):
    global armed
    if armed:
        armed = False
        raise TimeIsUp

ledger = Ledger(sys.argv[1])
audit = AuditLogger(ledger=ledger, fail_mode=sys.argv[2])
armed, ended, raised, threads = False, threading.Event(), 0, int(sys.argv[3])

def record():
    receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={{"n": 1}})
    assert receipt.durability == "process", "it did not recover"
    os.write(1, receipt.record_id.encode() + b"\\n")

def run():
    while not ended.is_set():
        record()

def run_while_armed():
    while armed:
        record()

others = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
for thread in others:
    thread.start()
signal.signal(signal.SIGALRM, handler)
record()
for number in range(1000):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 1e-5 * (number % 29 + 1))
        run_while_armed()  # a `while` that stands in the `try` itself jumps back outside of it (CPython issue 108214)
    except TimeIsUp:
        raised += 1
    record()
ended.set()
for thread in others:
    thread.join()
ledger.close()
assert raised == 1000
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timers here")
@pytest.mark.parametrize(("fail_mode", "threads"), [("spool", 2), ("strict", 0)])
@pytest.mark.parametrize("kind", ["BaseException", "Exception", "TimeoutError"])
def test_a_handler_may_raise_at_any_moment(tmp_path, kind, fail_mode, threads):
    """It reaches the caller, whatever it is; the next event of every thread is kept; nothing is lost or doubled."""
    child = run(INTERRUPTED.format(kind=kind), tmp_path / "audit.db", fail_mode, threads)
    out = child.communicate(timeout=300)[0].decode().split()
    assert child.returncode == 0
    assert verify_ledger(tmp_path / "audit.db").ok
    found = ids_in(tmp_path / "audit.db")
    assert len(found) == len(set(found))
    assert set(out) <= set(found)


FULL = """
import resource, signal, sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.errors import AuditUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(sys.argv[1])
audit = AuditLogger("full", ledger=ledger, fail_mode=sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
kept, refused, spooled = [], 0, 0
for number in range(2000):
    try:
        receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"note": "x" * 500})
    except AuditUnavailable:
        refused += 1
        continue
    if receipt.durability == "process":
        kept.append(receipt.record_id)
    else:
        spooled += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
left = ledger.spool.drain()
print(len(kept), refused, spooled, left)
print(*kept)
ledger.close()
"""


@posix
@pytest.mark.parametrize("fail_mode", ["strict", "spool", "best_effort"])
def test_a_full_disk_keeps_what_was_acknowledged(tmp_path, fail_mode):
    """Strict refuses, spool keeps in memory and drains when there is room, best effort goes on; all stay whole."""
    path = tmp_path / "audit.db"
    child = run(FULL, path, fail_mode)
    output, _ = child.communicate(timeout=90)
    assert child.returncode == 0
    counts, kept = output.decode().splitlines()
    count, refused, spooled, left = map(int, counts.split())
    found = ids_in(path)
    assert 0 < count < 2000
    assert set(kept.split()) <= set(found)
    assert len(found) == len(set(found))
    if fail_mode == "strict":
        assert (refused, spooled, len(found)) == (2000 - count, 0, count)
    elif fail_mode == "spool":
        assert (refused, left, len(found)) == (0, 0, 2000)
    else:
        assert (refused, spooled, len(found)) == (0, 2000 - count, count)
    result = verify_ledger(path)
    assert result.ok, result.problems


@posix
def test_a_lease_of_a_killed_process_is_free_at_once(tmp_path):
    """The holder's deadline is far ahead, but nobody is there any more; a living one keeps it."""
    path = tmp_path / "audit.db"
    script = "import sys; from mobius_otel.telemetry.audit import Ledger; l = Ledger(sys.argv[1]);"
    script += " print(l.lease('other', 3600), flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert holder.stdout.readline() == b"True\n"
    with Ledger(path) as ledger:
        assert not ledger.lease("me", 3600)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert ledger.lease("me", 3600)


FIRST = """
import os, signal, sys
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.verify import read_records

class Interrupted:
    calls = 0

def record_in_the_middle(audit, at):
    def called(frame, event, argument):
        Interrupted.calls += event == "call"
        if Interrupted.calls == at:
            sys.setprofile(None)
            os.write(1, audit.record("order.nested", actor=Actor("u-2")).durability.encode() + b" ")
    return called

for at in range(1, int(sys.argv[2]), 4):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        path = f"{sys.argv[1]}-{at}"
        audit = AuditLogger("first", ledger=Ledger(path))
        sys.setprofile(record_in_the_middle(audit, at))
        first = audit.record("order.placed", actor=Actor("u-1"))
        sys.setprofile(None)
        os.write(1, f"{first.durability} {len(list(read_records(path)))}\\n".encode())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        os.write(1, f"hangs at call {at}\\n".encode())
        break
"""


@posix
def test_the_first_record_may_be_interrupted_by_another_one_anywhere(tmp_path):
    """A handler or a finalizer that records waits for nothing that its own thread holds."""
    child = run(FIRST, tmp_path / "audit.db", 160)
    lines = child.stdout.read().decode().splitlines()
    assert child.wait() == 0
    assert len(lines) == 40
    nested = [line for line in lines if line == "process process 2"]
    assert len(nested) > 10
    assert set(lines) <= {"process process 2", "process 1"}  # the last: the record had fewer calls


#: Its disk takes no more after the first record.
FILLED = """
import resource, signal, sys
from mobius_otel import Actor, AuditLogger, Ledger
ledger = Ledger(sys.argv[1])
audit = AuditLogger(ledger=ledger)
audit.record("order.placed", actor=Actor("u-1"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for _ in range(5):
    assert audit.record("order.placed", actor=Actor("u-1"), attributes={"text": "x" * 5000}).durability == "none"
if sys.argv[2] == "closed":
    ledger.close()
elif sys.argv[2] == "mended":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@posix
@pytest.mark.parametrize(("how", "lost", "kept"), [("closed", 1, 1), ("left open", 1, 1), ("mended", 0, 6)])
def test_what_only_memory_holds_when_a_process_ends_is_told(tmp_path, how, lost, kept):
    """Once, whether its ledger was closed or not; what can be written by then is."""
    path = tmp_path / "audit.db"
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(path), how], capture_output=True, text=True, check=True,
        env=forking.environment(),
    )  # fmt: skip
    assert done.stderr.count("5 records that were in memory are lost") == lost, done.stderr
    assert len(read_records(path)) == kept
