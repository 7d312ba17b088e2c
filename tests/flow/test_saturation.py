"""How much of a limit is used, as the guard tells it."""

from __future__ import annotations

import os
import signal

import pytest

from mobius_otel.testing.receiver import OtlpReceiver
from tests.services.service import open_shop

LIMITED = """\
[[rate_limit.rules]]
name = "all"
limit = "100/hour"
by = "global"
paths = ["/own"]
"""
SILENT = {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_a_scrape_tells_the_highest_used_share_since_the_last_one(tmp_path, framework):
    """Once, and then what came after it."""

    def used():
        page = service.get("/metrics").body.decode()
        (line,) = (line for line in page.splitlines() if line.startswith("mobius_rate_limit_saturation{"))
        return float(line.split()[-1])

    with open_shop(tmp_path, framework, LIMITED + '[metrics]\npath = "/metrics"\n') as shop:
        service = shop.start(**SILENT)
        assert {service.get("/own").status for _ in range(80)} == {418}
        assert used() == 0.8
        assert used() == 0
        assert service.get("/own").status == 418
        assert used() == 0.81


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_collector_is_told_of_it(tmp_path):
    """By the only collection there is, the one of a SIGTERM."""
    with OtlpReceiver() as receiver, open_shop(tmp_path, "fastapi", LIMITED) as shop:
        rarely = {"OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
        service = shop.start(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **rarely)
        assert {service.get("/own").status for _ in range(80)} == {418}
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(20)
        (metric,) = (metric for metric in receiver.metrics if metric["name"] == "mobius.rate_limit.saturation")
        assert [point["value"] for point in metric["points"]] == [0.8]
