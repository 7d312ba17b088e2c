"""The command line, as a person and as a script use it."""

import json
import os
import sys

import pytest

from mobius_otel.cli.main import main
from tests.services.service import open_shop


@pytest.fixture
def shop(tmp_path):
    """A folder with a policy; no service is started."""
    with open_shop(tmp_path) as opened:
        yield opened


def test_a_key_is_issued_listed_shown_rotated_revoked_and_purged(shop):
    """The life of a key; its secret is printed once, alone, on standard output."""
    result = shop.cli("keys", "issue", "alice", "--scope", "read", "--scope", "write", "--name", "ci")
    secret = result.stdout.strip()
    assert secret.startswith("mob_live_")
    assert secret not in result.stderr
    assert "shown once" in result.stderr
    (listed,) = json.loads(shop.cli("keys", "list", "--json").stdout)
    assert (listed["owner"], listed["scopes"], listed["state"]) == ("alice", ["read", "write"], "active")
    assert "secret" not in listed
    rotated = json.loads(shop.cli("keys", "rotate", listed["id"], "--grace-hours", "1", "--json").stdout)
    assert rotated["rotated_from"] == listed["id"]
    assert json.loads(shop.cli("keys", "show", listed["id"], "--json").stdout)["state"] == "retiring"
    assert "is revoked" in shop.cli("keys", "revoke", listed["id"], "--reason", "lost").stdout
    assert json.loads(shop.cli("keys", "purge", "--older-than-days", "0", "--dry-run", "--json").stdout) == {
        "purged": 1,
        "dry_run": True,
    }
    assert json.loads(shop.cli("keys", "purge", "--older-than-days", "0", "--json").stdout)["purged"] == 1
    assert len(json.loads(shop.cli("keys", "list", "--owner", "alice", "--json").stdout)) == 1
    names = [
        json.loads(line)["event_name"] for line in shop.cli("audit", "tail", "audit.db", "--json").stdout.splitlines()
    ]
    assert names == ["api_key.issued", "api_key.rotated", "api_key.revoked", "api_key.purged"]


def test_tables_are_for_people(shop):
    """Plain columns where standard output is no terminal."""
    assert "no keys; to issue one" in shop.cli("keys", "list").stdout
    shop.cli("keys", "issue", "alice")
    header, row = shop.cli("keys", "list").stdout.splitlines()
    assert header.split() == ["id", "owner", "name", "state", "scopes", "expires", "last", "used"]
    assert row.split()[1] == "alice"
    assert "\x1b" not in row
    assert shop.cli("audit", "tail", "audit.db").stdout.splitlines()[1].split()[1] == "api_key.issued"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["keys", "show", "key_nobody"], "no API key has the id"),
        (["keys", "issue", "alice", "--ttl-days", "x"], "must be a number of days"),
        (["keys", "issue", "alice", "--store", "memory://"], "a store that outlives this command"),
        (["keys", "list", "--store", "postgresql://app:hunter2@db/x"], "postgresql"),
        (["keys", "list", "--policy", "nowhere.toml"], "cannot be read"),
        (["audit", "verify", "nowhere.db"], "nowhere.db"),
        (["audit", "tail", "nowhere.db"], "nowhere.db"),
        (["redact", "nowhere.txt"], "a file that can be read"),
        (["run"], "what shall be run?"),
        (["run", "--", "no-such-program"], "a program on PATH"),
    ],
)
def test_an_error_is_one_line_and_a_status(shop, argv, said):
    """What is wrong and what to do, without a traceback or a secret."""
    result = shop.cli(*argv, check=False)
    assert result.returncode in {2, 78}
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr


def test_verify_says_whole_broken_or_unreadable(shop):
    """Status 0, 1 and 2."""
    for owner in ("a", "b", "c"):
        shop.cli("keys", "issue", owner)
    whole = json.loads(shop.cli("audit", "verify", "audit.db", "--json").stdout)
    assert (whole["ok"], whole["records"]) == (True, 3)
    assert "whole; 3 records" in shop.cli("audit", "verify", "audit.db").stdout
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(shop.folder / "audit.db")) as ledger, ledger:
        ledger.execute("UPDATE records SET payload = replace(payload, 'success', 'failure') WHERE id = 2")
    broken = shop.cli("audit", "verify", "audit.db", check=False)
    assert broken.returncode == 1
    assert "BROKEN" in broken.stdout
    assert "changed" in broken.stdout
    (shop.folder / "other.db").write_bytes(b"nothing of the kind" * 100)
    assert shop.cli("audit", "verify", "other.db", "--json", check=False).returncode == 2


def test_redact_is_a_filter(shop):
    """Text goes through; secrets do not; --check finds them for CI."""
    text = "user=ann password=hunter2secret\nall is well\n-----BEGIN PRIVATE KEY-----\nMIIEabc\n"
    text += "-----END PRIVATE KEY-----\nend\n"
    (shop.folder / "app.log").write_text(text)
    result = shop.cli("redact", "app.log")
    assert result.stdout == "user=ann password=[redacted:password]\nall is well\n[redacted:private_key]\nend\n"
    assert shop.cli("redact", "--check", "app.log", check=False).returncode == 1
    assert json.loads(shop.cli("redact", "--json", "app.log").stdout)["matches"] == 2
    (shop.folder / "clean.log").write_text("nothing to see\n")
    assert shop.cli("redact", "--check", "clean.log").returncode == 0


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ('fail_mode = "strict"\n', "mobius.toml:2: audit.fail_mode: 'strict'"),
        ('durability = "power"\n', "mobius.toml:2: audit.durability: 'power'"),
        ('durability = "sink"\n', "mobius.toml:2: audit.durability: 'sink'"),
        ('sign = "record"\n', "mobius.toml:2: audit.sign: 'record'"),
        ('[audit.fail_modes]\n"payment.*" = "strict"\n', "mobius.toml:2: audit.fail_modes.payment.*: 'strict'"),
    ],
)
def test_what_only_a_ledger_does_takes_a_ledger(shop, lines, place):
    """Nobody counts on a promise that nothing keeps: one line that names the key, and what to write."""
    policy = shop.folder / "mobius.toml"
    policy.write_text(f"[audit]\n{lines}")
    said = shop.cli("policy", "check", check=False)
    assert said.returncode == 1
    assert said.stderr == (
        f"{place}: it must be given together with a `ledger`. Without one a record is kept nowhere."
        ' Write in [audit]: ledger = "audit.db"\n'
    )
    started = shop.cli("run", "--", sys.executable, "-c", "print('served')", check=False)
    assert (started.returncode, started.stdout) == (78, "")
    assert place in started.stderr
    policy.write_text(f'[audit]\nledger = "audit.db"\n{lines}')
    assert shop.cli("policy", "check").returncode == 0


def test_a_service_without_a_policy_is_told_what_is_off_and_what_to_type(tmp_path):
    """It starts all the same, unchanged; the policy that the command writes is good and locks nobody out."""
    with open_shop(tmp_path, policy=None) as shop:
        served = ["run", "--", sys.executable, "-c", "print('served')"]
        started = shop.cli(*served)
        assert started.stdout == "served\n"
        (said,) = started.stderr.splitlines()
        for part in ("nothing is guarded", "Off: API keys", "redaction", "On: OpenTelemetry alone", "policy init"):
            assert part in said
        assert "policy init" in shop.cli("policy", "check", check=False).stderr
        assert "policy init" in shop.cli("doctor", check=False).stdout
        assert "mobius-otel run -- COMMAND" in shop.cli("policy", "init").stdout
        checked = shop.cli("policy", "check").stdout
        for part in (
            "keys demanded   nowhere",
            "per-client (100/minute, only counted)",
            "audit ledger    audit.db",
            "headers         api",
        ):
            assert part in checked
        assert "nothing is guarded" not in shop.cli(*served).stderr
        service = shop.start()
        for _ in range(3):
            answer = service.get("/v1/items")
        assert (answer.status, answer["X-Content-Type-Options"]) == (200, "nosniff")


def test_a_policy_that_is_there_is_not_replaced(shop):
    """One line, and the file as it was; another name, and what to type for it."""
    before = (shop.folder / "mobius.toml").read_text()
    again = shop.cli("policy", "init", check=False)
    assert (again.returncode, "a file that is not there yet" in again.stderr) == (2, True)
    assert (shop.folder / "mobius.toml").read_text() == before
    assert "run --policy other.toml -- COMMAND" in shop.cli("policy", "init", "other.toml").stdout
    assert json.loads(shop.cli("policy", "init", "third.toml", "--json").stdout)["file"].endswith("third.toml")
    assert "No such file" in shop.cli("policy", "init", "no/such/folder.toml", check=False).stderr


def test_arguments_are_taken_in_either_form(shop):
    """`policy check` takes --policy as every command does, and `audit show` the ledger first as `audit tail` does."""
    (shop.folder / "other.toml").write_text("[api_keys]\nrequre = []\n")
    for argv in (["other.toml"], ["--policy", "other.toml"], ["other.toml", "--policy", "other.toml"]):
        assert "other.toml:2" in shop.cli("policy", "check", *argv, check=False).stderr
    two = shop.cli("policy", "check", "other.toml", "--policy", "mobius.toml", check=False)
    assert (two.returncode, "the same as FILE, 'other.toml'" in two.stderr) == (2, True)
    shop.cli("keys", "issue", "alice")
    (record,) = shop.cli("audit", "tail", "--json").stdout.splitlines()
    start = json.loads(record)["attributes"]["audit.record.id"][:13]
    shown = [shop.cli("audit", "show", *argv).stdout for argv in ([start], [start, "audit.db"], ["audit.db", start])]
    assert shown[0] == shown[1] == shown[2]
    assert "api_key.issued" in shown[0]
    alone = shop.cli("audit", "show", "audit.db", check=False)
    assert (alone.returncode, "the beginning of a record's id" in alone.stderr) == (2, True)


def test_a_policy_is_checked_and_its_schema_printed(shop):
    """Status 0 good, 1 not good; the schema is JSON."""
    good = shop.cli("policy", "check")
    assert "keys demanded   /v1/*" in good.stdout
    (shop.folder / "mobius.toml").write_text("[api_keys]\nrequre = []\n")
    bad = shop.cli("policy", "check", "--json", check=False)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["line"] == 2
    assert json.loads(shop.cli("policy", "schema").stdout)["properties"]["api_keys"]
    (shop.folder / "mobius.toml").write_text("[redaction.patterns]\nbad = '(a)\\1'\n")
    assert "mobius.toml:2: redaction.patterns.bad: " in shop.cli("policy", "check", check=False).stderr
    os.remove(shop.folder / "mobius.toml")
    assert shop.cli("policy", "check", check=False).returncode == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("require = []", "names no path"),
        ('public = ["/health"]', "names no path"),
        ('require = ["/admin"]\npublic = ["/*"]', "'/admin'"),
        ('require = ["/v1/items/*", "/v1/orders"]\npublic = ["/v1/items/*"]', "'/v1/items/*'"),
        ('require = ["/v1/*"]\npublic = ["/v1/items", "/v2/*"]', None),
        ('require = ["/*"]\npublic = ["/health"]', None),
    ],
)
def test_a_policy_that_demands_less_than_it_looks_like_is_told(tmp_path, capsys, text, said):
    """It may be meant, so it is a note and no error."""
    (tmp_path / "mobius.toml").write_text(f"[api_keys]\n{text}\n")
    assert main(["policy", "check", str(tmp_path / "mobius.toml"), "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_the_doctor_says_what_would_hold(shop):
    """Good, with warnings; a failure gives status 1."""
    result = json.loads(shop.cli("doctor", "--json").stdout)
    assert result["ok"]
    found = {finding["what"]: finding["verdict"] for finding in result["findings"]}
    assert (found["policy"], found["key store"], found["pepper"], found["audit ledger"]) == ("ok", "ok", "ok", "ok")
    assert "warn" in shop.cli("doctor", OTEL_SDK_DISABLED="true").stdout
    (shop.folder / "keys.db").chmod(0o644)
    if os.name == "posix":
        failed = shop.cli("doctor", check=False)
        assert failed.returncode == 1
        assert "chmod 600" in failed.stdout


def test_the_conventions_are_listed(shop):
    """Every metric, span and event of the registry."""
    registry = json.loads(shop.cli("conventions", "--json").stdout)
    assert "mobius.guard.requests" in {metric["name"] for metric in registry["metrics"]}
    assert "rate_limit.exceeded" in shop.cli("conventions").stdout


def test_help_is_given_where_a_command_is_missing(shop):
    """Status 2, and what there is."""
    for argv in ([], ["keys"], ["audit"], ["policy"]):
        result = shop.cli(*argv, check=False)
        assert result.returncode == 2
        assert "usage: mobius-otel" in result.stdout
