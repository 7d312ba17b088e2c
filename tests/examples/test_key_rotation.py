"""The rotation under traffic, and the manifests beside it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "key_rotation"


def test_a_rotation_under_traffic_refuses_nobody():
    """The share of the old secret falls from all to none, and then its grace is ended."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "rotate_under_traffic.py"), "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shares = [int(share) for share in re.findall(r"^ *(\d+)%   ", done.stdout, re.MULTILINE)]
    assert shares[0] > 60
    assert shares[-1] < shares[0]
    assert ", 0 refused" in done.stdout
    assert "its grace was ended, revoked" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["job.yaml", "cronjob.yaml"])
def test_the_manifests_name_commands_that_exist(name):
    """And options that they have."""
    from mobius_otel.cli.main import _parser

    text = re.sub(r"\n\s+", " ", (EXAMPLE / name).read_text())
    (argv,) = re.findall(r'\["mobius-otel", ([^\]]*)\]', text)
    _parser().parse_args([part.strip(' "') for part in argv.split(",")])
