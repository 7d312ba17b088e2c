"""The state file: counters go on after any end, and a damaged file is told and never guessed at."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.sidecar import Sidecar
from mobius_otel.sidecar.merge import Merged
from mobius_otel.sidecar.state import Journal
from tests.sidecar.kit import counter, gauge, histogram, page, report, up_down


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "metrics.state")


def opened(path):
    return Sidecar(port=0, state=path)


def abandoned(sidecar):
    """End a sidecar as kill -9 does: nothing is written, the lock goes with the file."""
    sidecar._http.server_close()
    sidecar._journal._file.close()


def everything(worker, count, start=1):
    return report(
        worker, n=counter(count, start, k="v"), h=histogram([count, 0, 1], 2.0 * count, start=start),
        u=up_down(count, time=count), g=gauge(1.0 * count, time=count),
    )  # fmt: skip


@pytest.mark.parametrize("end", [Sidecar.close, abandoned], ids=["closed", "killed"])
def test_counters_go_on_after_a_restart(path, end):
    """Also for a worker that goes on, one that died meanwhile and one that is new."""
    first = opened(path)
    first.take(everything("a", 5))
    first.take(everything("b", 7, start=2))
    end(first)
    second = opened(path)
    second.start()
    second.take(everything("a", 6))
    second.take(everything("c", 1, start=9))
    found = page(second)
    assert found["n_total", "k=v"] == 14
    assert (found["h_count",], found["h_sum",], found["u",]) == (17, 28.0, 14)
    assert found["g", "service_instance_id=a"] == 6.0
    end(second)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_torn_last_line_is_dropped_and_written_over(path):
    """It was never acknowledged."""
    first = opened(path)
    first.take(everything("a", 5))
    abandoned(first)
    with open(path, "ab") as file:
        file.write(b'{"time":1,"worker":"a","numb')
    second = opened(path)
    second.take(everything("a", 6))
    abandoned(second)
    third = opened(path)
    assert [s.total for s in third.merged.series if s.metric.name == "n"] == [6]
    third.close()


@pytest.mark.parametrize(
    "damage", [b"garbage\n", b'{"mobius_otel_sidecar":99}\n', b"[]\n", b"\xff\xfe\n", b'{"a":1}\n']
)
def test_what_is_no_state_file_is_refused_and_left_alone(path, damage):
    """The error names the file and the way out."""
    with open(path, "wb") as file:
        file.write(damage)
    with pytest.raises(ConfigurationError, match=r"metrics\.state.*line 1 cannot be read.*move it"):
        opened(path)
    with open(path, "rb") as file:
        assert file.read() == damage


def test_damage_in_the_middle_is_refused(path):
    """A number that nobody wrote would be worse than none."""
    first = opened(path)
    first.take(everything("a", 5))
    first.take(everything("a", 6))
    abandoned(first)
    lines = Path(path).read_bytes().split(b"\n")
    lines[2] = lines[2][:-9]
    with open(path, "wb") as file:
        file.write(b"\n".join(lines))
    with pytest.raises(ConfigurationError, match="line 3 cannot be read"):
        opened(path)


@pytest.mark.skipif(os.name == "nt", reason="no flock")
def test_two_sidecars_do_not_share_a_file(path):
    """Also after the first one has written it anew."""
    first = opened(path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="another sidecar has it"):
            opened(path)
        first._journal.compact()
    first.close()
    opened(path).close()


def test_a_folder_that_does_not_exist(tmp_path):
    """One line that names the file."""
    with pytest.raises(ConfigurationError, match=r"no/where.*cannot be opened \(FileNotFoundError\)"):
        opened(str(tmp_path / "no/where"))


def test_another_services_state_is_refused(path):
    """A state file is one service's."""
    first = opened(path)
    first.take(everything("a", 5))
    first.close()
    with pytest.raises(ConfigurationError, match=r"'bank'.*'shop'"):
        Sidecar(port=0, state=path, service="bank")
    opened(path).close()


def test_the_journal_is_written_anew_when_it_has_grown(path):
    """It stays near the size of what it tells."""
    merged = Merged()
    journal = Journal(path, merged, compact_at=2000)
    sidecar = opened(None)
    sidecar.merged, sidecar._journal = merged, journal
    sidecar._decoder._merged = merged
    for count in range(1, 500):
        sidecar.take(everything("a", count))
    size = os.path.getsize(path)
    assert size < 20_000
    abandoned(sidecar)
    again = opened(path)
    assert [s.total for s in again.merged.series if s.metric.name == "n"] == [499]
    again.close()


def test_reports_that_tell_nothing_new_cost_next_to_nothing(path):
    """An idle service fills no disk."""
    sidecar = opened(path)
    sidecar.take(everything("a", 5))
    before = os.path.getsize(path)
    sidecar.take(everything("a", 5))
    assert os.path.getsize(path) - before < 150
    sidecar.close()


def test_a_full_disk_stops_no_page_and_is_healed(path, monkeypatch, caplog):
    """Numbers go on in memory, told once; when there is room again, everything is written down."""
    sidecar = opened(path)
    sidecar.take(everything("a", 5))
    real = sidecar._journal._append
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_):
        raise full

    monkeypatch.setattr(sidecar._journal, "_append", fail)
    monkeypatch.setattr(sidecar._journal, "compact", fail)
    for count in (6, 7, 8):
        sidecar.take(everything("a", count))
    assert len([r for r in caplog.records if "would not survive a restart" in r.message]) == 1
    monkeypatch.undo()
    assert sidecar._journal._append == real
    sidecar._journal._failed_at -= 60
    sidecar.take(everything("a", 9))
    abandoned(sidecar)
    again = opened(path)
    assert [s.total for s in again.merged.series if s.metric.name == "n"] == [9]
    again.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_write_that_fails_for_real(path):
    """The kernel's own refusal, at the very file."""
    sidecar = opened(path)
    good = sidecar._journal._file
    with open("/dev/full", "r+b", buffering=0) as full:
        sidecar._journal._file = full
        sidecar.take(everything("a", 5))
        assert sidecar._journal._failed_at is not None
    sidecar._journal._file = good
    sidecar.close()
    assert json.loads(Path(path).read_text().splitlines()[0])["service"] == "shop"
    again = opened(path)
    assert [s.total for s in again.merged.series if s.metric.name == "n"] == [5]
    again.close()
