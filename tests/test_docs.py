"""What is written is true: docstrings' examples run, generated pages are current, links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mobius_otel

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(mobius_otel.__path__, "mobius_otel.")
    if not info.name.startswith("mobius_otel.autostart") and not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_modules_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that does not give what it shows is worse than none; files it makes land in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS, verbose=False)
    assert result.failed == 0


def test_there_are_examples_to_run() -> None:
    """The test above would be green over nothing at all."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = (importlib.import_module(name) for name in MODULES)
    assert sum(1 for module in modules for found in finder.find(module) if found.examples) >= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's interactive examples are doctests too."""
    monkeypatch.chdir(tmp_path)
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """A link to a file of this repository names one that exists."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_generated_page_is_current() -> None:
    """The page of what is emitted says what the registry says."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pins_are_those_of_no_machine() -> None:
    """requirements-dev.txt names packages alone: no path, no index, and every direct requirement is in it."""
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", pin) for pin in pins)
    assert "://" not in text
    pinned = {pin.split("==")[0] for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name in ("prometheus", "otlp", "http", "rich", "testing", "demo")
              for line in project["optional-dependencies"][name]]  # fmt: skip
    wanted = (ROOT / "requirements-dev.in").read_text(encoding="utf-8").splitlines()
    direct = [line for line in [*project["dependencies"], *extras, *wanted] if line and not line.startswith("#")]
    assert {re.split(r"[\[>=<; ]", line)[0] for line in direct} <= pinned


def test_every_action_of_a_workflow_is_pinned_by_its_commit() -> None:
    """A tag can be moved, a commit cannot; the comment says which version it is."""
    workflows = [*(ROOT / ".github" / "workflows").glob("*.yml")]
    uses = [line for file in workflows for line in file.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert len(workflows) == 2
    assert len(uses) >= 10
    assert [line for line in uses if not re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []
