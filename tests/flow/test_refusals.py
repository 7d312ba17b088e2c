"""Refusals in the audit trail: every one is counted, when its window is over and when the process ends."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from mobius_otel.telemetry.audit.verify import read_records
from tests.services.service import command, open_shop

POLICY = """\
[api_keys]
require = ["/v1/*"]
[api_keys.scopes]
"GET /v1/items/1" = ["refund"]
[[rate_limit.rules]]
name = "slow"
paths = ["/own"]
limit = "LIMIT"
by = "client_address"
[audit]
ledger = "audit.db"
"""
SILENT = {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}
REFUSALS = ("api_key.rejected", "authorization.failed", "rate_limit.exceeded")
GUNICORN = [command("gunicorn"), "-b", "127.0.0.1:PORT"] if shutil.which(
    "gunicorn", path=str(Path(command("uvicorn")).parent)
) else []  # fmt: skip


def counted(folder: Path) -> dict[str, list[int]]:
    """Return the counts of the records of each refusal, in their order."""
    found: dict[str, list[int]] = {}
    for _, record in read_records(folder / "audit.db"):
        if record["event_name"] in REFUSALS:
            found.setdefault(record["event_name"], []).append(record["attributes"]["mobius.count"])
    return found


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("framework", "argv", "number"),
    [
        ("fastapi", None, signal.SIGTERM),
        ("fastapi", None, signal.SIGINT),
        ("flask", None, signal.SIGTERM),
        ("flask", [*GUNICORN, "shop:app"], signal.SIGTERM),
        ("flask", [*GUNICORN, "--preload", "shop:app"], signal.SIGTERM),
    ],
    ids=["uvicorn", "uvicorn-int", "flask", "gunicorn", "preload"],
)
def test_an_end_writes_every_refusal_that_is_still_counted(tmp_path, framework, argv, number):
    """Twenty of each kind: the first at once, nineteen in one record before the ledger closes, none beside it."""
    if argv is not None and not GUNICORN:
        pytest.skip("gunicorn is not installed")
    with open_shop(tmp_path, framework, POLICY.replace("LIMIT", "1/hour")) as shop:
        key = shop.issue("ann", "read")["secret"]
        service = shop.start(argv=argv, **SILENT)
        for _ in range(20):
            assert service.get("/v1/items", "wrong").status == 401
            assert service.get("/v1/items/1", key).status == 403
        assert Counter(service.get("/own").status for _ in range(21)) == {418: 1, 429: 20}
        service.process.send_signal(number)
        service.process.wait(20)
        assert counted(tmp_path) == {name: [1, 19] for name in REFUSALS}
        assert "mobius_otel:" not in service.log


def test_the_rest_of_a_window_is_written_when_it_is_over(tmp_path):
    """Without any further request."""
    with open_shop(tmp_path, "fastapi", POLICY.replace("LIMIT", "1/second")) as shop:
        service = shop.start(**SILENT)
        answers = Counter(service.get("/own").status for _ in range(40))
        assert answers[429] > 1
        end = time.monotonic() + 20
        while sum(counted(tmp_path)["rate_limit.exceeded"]) < answers[429]:
            assert time.monotonic() < end, counted(tmp_path)
            time.sleep(0.1)
        assert sum(counted(tmp_path)["rate_limit.exceeded"]) == answers[429]
