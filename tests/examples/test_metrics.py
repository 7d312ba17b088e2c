"""The metrics examples: the script prints what it did, the test file passes, the snippets of the page run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "metrics"


def test_the_script_prints_what_it_did() -> None:
    """A thousand orders, told apart and timed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "import_orders.py")], capture_output=True, text=True, check=True
    )
    shown = dict(re.findall(r"^(\w+(?: \w| %)?\S*)\s{2,}(.*)$", done.stdout, re.MULTILINE))
    assert int(shown["imported"].split()[0]) + int(shown["refused"]) == 1000
    assert int(shown["backlog"]) == 0


def test_the_test_file_passes(tmp_path: Path) -> None:
    """As a user runs it: in a folder of its own, with the fixture that the package brings."""
    (tmp_path / "test_orders.py").write_text((EXAMPLE / "test_orders.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout


def test_the_snippets_of_the_page_run(telemetry) -> None:
    """The first block, and what it counted; the page's other blocks stand on it."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(blocks[0], names)
    exec(blocks[1], names)
    asyncio.run(names["pay"]())  # type: ignore[operator]
    assert telemetry.metric("orders.placed", currency="EUR") == 2
    assert telemetry.metric("checkout.duration") == 2
    assert telemetry.metric("checkout.duration", step="pay", provider="stripe") == 1
    exec(blocks[3], {})
