"""A worker of Celery: what a policy names is audited where it runs, also where a decorator has made a task of it."""

import json
import time

import pytest

from tests.services.service import open_shop

pytest.importorskip("celery")

_APP = """
from celery import Celery, shared_task

app = Celery("jobs", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "q", "data_folder_out": "q", "control_folder": "c"}
app.conf.task_default_queue = "jobs"

@app.task
def plain(a):
    return helper(a)

@app.task(bind=True, autoretry_for=(KeyError,))
def bound(self, a):
    assert self.request.id
    return a

@shared_task
def shared(a):
    raise ValueError(a)

def helper(a):
    return a
"""
_SILENT = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_POLICY = """
[audit]
ledger = "audit.db"
functions = ["jobs:plain", "jobs:bound", "jobs:shared", "jobs:helper"]
"""


def test_tasks_are_audited_once_in_the_worker(tmp_path):
    """Neither the decorator nor the order in which Celery makes its tasks hides a call; sending one is none."""
    with open_shop(tmp_path, policy=_POLICY) as shop:
        (tmp_path / "jobs.py").write_text(_APP)
        for folder in ("q", "c"):
            (tmp_path / folder).mkdir()
        send = "import jobs; jobs.plain.delay(1); jobs.bound.delay(2); jobs.shared.delay(3); assert jobs.plain(4) == 4"
        shop.cli("run", "--", "python", "-c", send)
        argv = ["celery", "-A", "jobs", "worker", "-P", "solo", "--without-mingle", "--without-gossip"]
        worker = shop.start(argv=argv, ready=False, **dict.fromkeys(_SILENT, "none"))
        deadline = time.monotonic() + 60
        while len(seen := _audited(shop)) < 6:
            assert time.monotonic() < deadline, (seen, worker.log)
            time.sleep(0.3)
        assert worker.stop() == 0
        assert sorted(_audited(shop)) == [
            ("jobs:bound", "success"), ("jobs:helper", "success"), ("jobs:helper", "success"),
            ("jobs:plain", "success"), ("jobs:plain", "success"), ("jobs:shared", "failure"),
        ]  # fmt: skip
        assert "unseen" not in worker.log


def _audited(shop):
    lines = shop.cli("audit", "tail", "--json", "audit.db").stdout.splitlines()
    records = [json.loads(line)["attributes"] for line in lines]
    return [(r["audit.target.id"], r["audit.outcome"]) for r in records if r.get("audit.target.type") == "function"]
