"""The demo as a stranger runs it: real processes, a real collector, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobius_otel.cli.demo.command import play
from mobius_otel.cli.demo.view import PlainView
from mobius_otel.cli.demo.world import DemoFailed, Secrets, World
from tests.services.rotel import NO_ROTEL, rotel_program

pytest.importorskip("uvicorn")

_MINUTE = 60.0
needs_rotel = pytest.mark.skipif(rotel_program() is None, reason=NO_ROTEL)
posix = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")


def command(*arguments: str) -> list[str]:
    """The command line of the demo."""
    return [sys.executable, "-m", "mobius_otel", "demo", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """An environment in which every temporary file is below `folder`, so that leftovers show."""
    return {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}


def processes_of(folder: Path) -> list[str]:
    """The processes that have something to do with a folder (Linux; elsewhere none are seen)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = str(entry.readlink())
        except OSError:
            continue
        if where.startswith(str(folder)):
            found.append(f"{entry.parent.name} {where}")
    return found


@needs_rotel
def test_the_demo_succeeds_with_the_real_collector_and_leaves_nothing(tmp_path):
    """Status 0, one JSON report in which everything is as it should be, no process, no file."""
    before = time.monotonic()
    done = subprocess.run(command("--json", "--collector", "rotel"), env=environment(tmp_path), capture_output=True,
                          text=True, timeout=_MINUTE, check=False)  # fmt: skip

    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0
    assert report["ok"] is True
    assert report["collector"]["name"] == "rotel"
    assert report["received"]["events"]["http.request"] >= 2
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
    assert time.monotonic() - before < _MINUTE


def test_the_demo_succeeds_with_the_built_in_receiver_and_says_so(tmp_path):
    """Without rotel a receiver in another process stands in; the lines are plain, since nobody watches."""
    done = subprocess.run(command("--collector", "builtin"), env=environment(tmp_path), capture_output=True, text=True,
                          encoding="utf-8", timeout=_MINUTE, check=False)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "collector: builtin" in done.stdout
    assert "\x1b" not in done.stdout
    assert "Everything was as it should be" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path, number):
    """Ctrl-C, or a request to end, while the service runs: no process, no file."""
    child = subprocess.Popen(command("--keep"), env=environment(tmp_path), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if "/health" in line:  # the service has answered its first client
            break
    assert processes_of(tmp_path) or sys.platform != "linux"

    child.send_signal(number)
    child.communicate(timeout=30)

    assert child.returncode in {0, 130}
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@posix
def test_keep_leaves_it_running_until_it_is_ended(tmp_path):
    """--keep --json prints the report, then the addresses; the service answers until Ctrl-C."""
    import http.client

    child = subprocess.Popen(command("--keep", "--json"), env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    report = json.loads(child.stdout.readline())
    places = json.loads(child.stdout.readline())
    connection = http.client.HTTPConnection(places["service"].removeprefix("http://"), timeout=10)
    connection.request("GET", "/v1/items", headers={"X-API-Key": places["key"]})
    status = connection.getresponse().status
    connection.close()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)

    assert report["problems"] == []
    assert status == 200
    assert child.returncode == 0
    assert list(tmp_path.iterdir()) == []


class _OpenDoor(World):
    """A world whose policy demands nothing."""

    def write_service(self) -> None:
        """Weaken the policy."""
        super().write_service()
        policy = self.folder / "mobius.toml"
        text = policy.read_text(encoding="utf-8")
        for kept, weak in (
            ('require = ["/v1/*"]', "require = []"),
            ('"GET /v1/items" = ["read"]', ""),
            ('limit = "20/', 'limit = "200/'),
        ):
            assert kept in text
            text = text.replace(kept, weak)
        policy.write_text(text, encoding="utf-8")


def test_a_demo_whose_guard_is_open_is_not_good():
    """Where keys are not demanded and the limit does not hold, the demo says so and is not good."""
    said: list[str] = []
    with _OpenDoor(Secrets.make(), "builtin") as world:
        report = play(world, PlainView(said.append), patience=1.0)

    assert not report.ok
    text = "\n".join(report.problems)
    assert "anyone: GET /v1/items: 200, expected 401" in text
    assert "25x200 0x429" in text
    assert any(line.startswith("!!") for line in said)


class _Broken(World):
    """A world whose policy breaks a rule."""

    def write_service(self) -> None:
        """Break the policy."""
        super().write_service()
        with (self.folder / "mobius.toml").open("a", encoding="utf-8") as policy:
            policy.write("\n[metricz]\n")


def test_a_service_that_does_not_start_is_told_with_its_reason():
    """The demo ends at once, with what the service printed."""
    with _Broken(Secrets.make(), "builtin") as world:
        world.start_collector()
        world.write_service()
        with pytest.raises(DemoFailed, match=r"(?s)status 78.*metricz"):
            world.start_service()
