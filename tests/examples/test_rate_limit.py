"""The rate limit examples run, the page's block does what it says, and its picture is what the limiter does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "rate_limit"


def run(*arguments: object) -> str:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_limited_function() -> None:
    """Five a second; the others have limits of their own."""
    shown = run(EXAMPLES / "reports.py")
    assert "ann made 5 reports" in shown
    assert "the limit that refused: 5 in 1 s" in shown
    assert "Retry-After: 1" in shown
    assert "carol made 1000 reports" in shown
    assert "dave has 5 of 5 left" in shown


def test_tasks_that_wait() -> None:
    """Four of each host at once, two a second later, in order."""
    lines = re.findall(r"^ *([\d.]+) s  (\S+)/(\d+)$", run(EXAMPLES / "crawl.py"), re.MULTILINE)
    assert len(lines) == 12
    for host in ("a.example", "b.example"):
        times = [float(seconds) for seconds, name, _ in lines if name == host]
        assert [int(page) for _, name, page in lines if name == host] == list(range(6))
        assert times[3] < 0.9 < times[4]


def test_the_block_of_the_page_runs() -> None:
    """Its first one, with what stands around it."""
    from mobius_otel import RateLimitExceeded

    text = (ROOT / "docs" / "rate-limits.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    exec(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0], names)
    export = names["export"]
    assert export("ann") == "export of ann"  # type: ignore[operator]
    with pytest.raises(RateLimitExceeded):
        [export("ann") for _ in range(100)]  # type: ignore[operator]


def test_the_picture_is_current() -> None:
    """It is drawn from real decisions on a frozen clock, so it is the same every time."""
    run(ROOT / "docs" / "rate_limits_picture.py", "--check")
