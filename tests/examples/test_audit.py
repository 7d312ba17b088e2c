"""The audit example and the snippets of the page: they run, and the ledger holds what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobius_otel.telemetry.audit import catalogue
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "audit"


def test_the_script_writes_what_it_says(tmp_path: Path) -> None:
    """Seven events, no card, a whole chain; and the catalogue knows them."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "refunds.py"), str(tmp_path / "audit.db")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "it survives the process" in done.stdout
    assert "Authentication: Logon" in done.stdout
    records = [record for _, record in read_records(tmp_path / "audit.db")]
    own = [record for record in records if not record["event_name"].startswith("audit.")]
    assert [(r["event_name"], r["attributes"]["audit.outcome"], r["attributes"].get("mobius.audit.risk_score"))
            for r in own] == [
        ("user.login", "failure", 50), ("payment.refund", "success", 60), ("payment.refund", "success", 90),
        ("payment.refund", "failure", 60), ("customer.export", "success", 80), ("newsletter.send", "success", None),
        ("limit.raise", "success", None),
    ]  # fmt: skip
    assert "1111 1111" not in str(records)
    assert verify_ledger(tmp_path / "audit.db").ok
    shown = subprocess.run(
        [sys.executable, "-m", "mobius_otel", "audit", "events", "events", "--json"],
        capture_output=True, text=True, check=True, cwd=EXAMPLE,
    )  # fmt: skip
    assert {"payment.refund", "customer.export"} < {event["name"] for event in json.loads(shown.stdout)}


def test_the_snippets_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, telemetry: Any) -> None:
    """One after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "_registered", {})
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/audit.md", "exec"), names)
    refunds = [record for record in telemetry.audits if record["event_name"] == "payment.refund"]
    assert {record["attributes"]["audit.outcome"] for record in refunds} == {"success", "failure"}
    assert verify_ledger(tmp_path / "audit.db").ok
