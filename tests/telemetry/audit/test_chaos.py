"""Everything at once: processes that record, ship, prune and are killed, before a collector that misbehaves."""

import os
import random
import subprocess
import sys
import time

import pytest

from mobius_otel.telemetry.audit import Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.verify import verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services import forking

WORKER = """
import os, random, sys, threading, time
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
ledger = Ledger(sys.argv[1], checkpoint_records=13, durability=random.choice(["process", "power"]))
audit = AuditLogger("chaos", ledger=ledger, fail_mode="strict")
Shipper(ledger, endpoint=sys.argv[2], interval=0.05, batch=17).start()
def work():
    while True:
        os.write(1, audit.record("a.b", actor=Actor("u")).record_id.encode() + b"\\n")
        moment = random.random()
        if moment < 0.05: ledger.prune(max_bytes=1)
        elif moment < 0.07: ledger.seal(adopt=True)
        elif moment < 0.08: ledger.end()
        time.sleep(moment * 0.01)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
time.sleep(3600)
"""
MOODS = (
    {"status": 503, "times": 3},
    {"rejected": 1, "times": 2},
    {"cut": True, "times": 2},
    {"status": 400, "times": 5},
)


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
@pytest.mark.timeout(900)
def test_everything_at_once(tmp_path):
    """At any moment the ledger is whole; in the end every acknowledged record has arrived, each stream has an end."""
    seconds = float(os.environ.get("CHAOS_SECONDS", "8"))
    path, chance = tmp_path / "audit.db", random.Random()

    with OtlpReceiver() as receiver, open(tmp_path / "acknowledged", "wb") as output:

        def worker():
            command = [sys.executable, "-c", WORKER, str(path), receiver.logs_endpoint]
            return subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=forking.environment())

        workers = [worker() for _ in range(3)]
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end or (tmp_path / "acknowledged").stat().st_size < 2000:
                time.sleep(chance.random())
                if chance.random() < 0.5:
                    victim = workers.pop(chance.randrange(3))
                    victim.kill()
                    victim.wait()
                    workers.append(worker())
                if chance.random() < 0.3:
                    receiver.answer(**chance.choice(MOODS))
                if (tmp_path / "acknowledged").stat().st_size:  # before, a ledger may be in the making
                    result = verify_ledger(path)
                    assert result.ok, result.problems
        finally:
            for victim in workers:
                victim.kill()
                victim.wait()
        receiver.behave()
        with Ledger(path) as ledger:
            shipper = Shipper(ledger, endpoint=receiver.logs_endpoint)
            for _ in range(4):
                shipper.run_once()
                shipper.retry()
            assert ledger.backlog() == 0
        arrived = {log["attributes"]["log.record.uid"] for log in receiver.logs}
    lines = (tmp_path / "acknowledged").read_text().split("\n")
    acknowledged = {line for line in lines if len(line) == 36}  # a killed process may leave half a line
    assert acknowledged
    assert acknowledged <= arrived
    result = verify_ledger(path)
    assert (result.ok, result.unended) == (True, 0), result.problems
