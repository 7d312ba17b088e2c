"""Terminals that are not UTF-8: ``LANG=C`` in a container, a code page of Windows."""

import io
import json
import os
import subprocess
import sys

import pytest

from mobius_otel import Actor, AuditLogger
from mobius_otel.cli.main import main
from mobius_otel.telemetry.audit.ledger import Ledger

OTHERS = {
    "an ASCII terminal": {"PYTHONIOENCODING": "ascii"},
    "the C locale": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "a code page": {"PYTHONIOENCODING": "cp1252"},
}
EVERY_HELP = """
import argparse, contextlib
from importlib import import_module
main = import_module("mobius_otel.cli.main")

def parsers(parser, path=()):
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from parsers(below, (*path, name))

for path in parsers(main._parser()):
    print("## " + " ".join(path))
    with contextlib.suppress(SystemExit):
        main.main([*path, "--help"])
"""


def run(folder, environ, *argv, stdin=b""):
    """One command as in a terminal of some encoding: status, and what was printed, as bytes."""
    done = subprocess.run(
        [sys.executable, *argv], cwd=folder, env={**os.environ, **environ}, capture_output=True, input=stdin,
        timeout=60, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def mobius(folder, environ, *argv, stdin=b""):
    return run(folder, environ, "-m", "mobius_otel", *argv, stdin=stdin)


@pytest.fixture
def folder(tmp_path):
    """A folder with a key store that has an owner beyond ASCII, and a ledger with an actor of that kind."""
    (tmp_path / "mobius.toml").write_text('[api_keys]\nrequire = ["/*"]\n[audit]\nledger = "audit.db"\n')
    with Ledger(tmp_path / "audit.db") as ledger:
        AuditLogger("pay", ledger=ledger).record(
            "payment.refund", action="UPDATE", actor=Actor("Jürgen 信"), outcome="success"
        )
    return tmp_path


@pytest.mark.parametrize("environ", OTHERS.values(), ids=OTHERS)
def test_the_help_of_every_command_is_printed(tmp_path, environ):
    """What cannot be shown is written otherwise: an ellipsis as three dots, and nobody gets a traceback."""
    status, out = run(tmp_path, environ, "-c", EVERY_HELP)
    assert status == 0
    parts = {title: text for title, _, text in (part.partition("\n") for part in out.decode("cp1252").split("## ")[1:])}
    assert {"", "keys scan", "keys import", "audit show", "policy check", "redact", "doctor"} <= parts.keys()
    assert all("usage: mobius-otel" in text for text in parts.values())
    ellipsis = "…" if environ.get("PYTHONIOENCODING") == "cp1252" else "..."  # that code page has one
    assert f"key_4SAE{ellipsis} --grace-hours" in parts["keys"].replace("\r\n", "\n")


@pytest.mark.parametrize("environ", OTHERS.values(), ids=OTHERS)
def test_what_is_beyond_the_terminal_is_shown_by_its_number_and_told_to_machines_exactly(folder, environ):
    """A name of a person in a table, in JSON, in an export."""
    status, out = mobius(folder, environ, "audit", "tail")
    assert (status, b"rgen \\u4fe1" in out) == (0, True)
    for argv in (["audit", "tail", "--json"], ["audit", "export"]):
        status, out = mobius(folder, environ, *argv)
        assert json.loads(out.splitlines()[0])["attributes"]["audit.actor.id"] == "Jürgen 信"
    assert mobius(folder, environ, "audit", "verify", "-", stdin=mobius(folder, environ, "audit", "export")[1])[0] == 0


@pytest.mark.parametrize("environ", OTHERS.values(), ids=OTHERS)
def test_keys_are_imported_and_scanned_for(folder, environ):
    """Standard input is UTF-8 whatever the terminal is; what is printed of a leaked key holds an ellipsis."""
    line = json.dumps(
        {"owner": "Jürgen 信", "secret": "7q2mzk4v9xw1hd8t5c0rj3bn6gfyaple2s7u4ik9"}, ensure_ascii=False
    ).encode()
    imported = ["keys", "import", "--form", "[0-9a-z]{40}"]
    assert mobius(folder, environ, *imported, stdin=line)[0] == 0
    status, out = mobius(folder, environ, "keys", "list", "--json")
    assert [key["owner"] for key in json.loads(out)] == ["Jürgen 信"]
    status, secret = mobius(folder, environ, "keys", "issue", "alice")
    status, out = mobius(folder, environ, "keys", "scan", "-", stdin=secret)
    assert (status, b"alice" in out) == (1, True)


def test_a_name_that_is_no_text_is_printed(folder):
    """A file whose name is not UTF-8 holds a key, under a terminal that is UTF-8."""
    name = os.fsdecode(b"caf\xe9.txt")
    secret = mobius(folder, {}, "keys", "issue", "alice")[1]
    try:
        (folder / name).write_bytes(secret)
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    status, out = mobius(folder, {"PYTHONIOENCODING": "utf-8"}, "keys", "scan", ".", "--json")
    assert status == 1
    assert os.fsencode(json.loads(out)["found"][0]["where"]).endswith(b"caf\xe9.txt")


def test_standard_input_that_is_no_utf8_is_one_line(tmp_path, monkeypatch, capsys):
    """A secret among other bytes is not repeated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"secret-\xff\xfe-of-somebody")))
    assert main(["keys", "import", "alice", "--store", "sqlite:///keys.db"]) == 2
    said = capsys.readouterr().err
    assert "standard input" in said
    assert "text in UTF-8" in said
    assert "somebody" not in said
