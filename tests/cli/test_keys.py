"""``mobius-otel keys``, in this process; what needs a terminal or a pipe has a process of its own."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from mobius_otel import configure
from mobius_otel.cli.main import main
from mobius_otel.errors import ConfigurationError
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys.secret import generate

PEPPER = "a made-up pepper"
POLICY = """
[api_keys]
require = ["/v1/*"]
store = "sqlite:///keys.db"
imported = ["sk-[A-Za-z0-9]{40}"]
[audit]
ledger = "audit.db"
"""


@dataclass
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def keys(tmp_path, monkeypatch, capsys):
    """Runs ``mobius-otel keys`` in a folder with a policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", PEPPER)
    (tmp_path / "mobius.toml").write_text(POLICY)

    def run(*argv, stdin=""):
        raw = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        status = main(["keys", *argv])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def manager(keys, tmp_path):
    """The same store, from within."""
    with ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER) as manager:
        yield manager


def issued(keys, *argv):
    """A new key as JSON."""
    return keys("issue", *argv, "--json").json


def test_every_fact_of_a_key_can_be_said(keys, manager):
    """And is shown again."""
    made = issued(
        keys, "alice", "--scope", "read", "--name", "ci", "--tenant", "t", "--network", "10.0.0.0/8", "--limit",
        "5/second", "--limit", "100/hour", "--metadata", "team=pay", "--ttl-days", "2",
    )  # fmt: skip
    shown = keys("show", made["id"], "--json").json
    assert {name: shown[name] for name in ("owner", "scopes", "name", "tenant", "networks", "limit", "metadata")} == {
        "owner": "alice", "scopes": ["read"], "name": "ci", "tenant": "t", "networks": ["10.0.0.0/8"],
        "limit": ["5/second", "100/hour"], "metadata": {"team": "pay"},
    }  # fmt: skip
    assert "secret" not in shown
    assert manager.verify(made["secret"], {"read"}, network="10.1.1.1").expires_at < time.time() + 2 * 86400
    assert issued(keys, "bob", "--no-expiry")["expires"] is None
    assert "10.0.0.0/8" in keys("show", made["id"]).out
    for wrong in (
        ["--metadata", "x=1", "--metadata", "x=2"],
        ["--network", "x"],
        ["--limit", "fast"],
        ["--scope", "a b"],
    ):
        said = keys("issue", "alice", *wrong)
        assert (said.status, said.out) == (2, "")


def test_a_secret_goes_into_a_file_of_its_own(keys, tmp_path, manager):
    """Mode 0600, not printed; a file that is there is not overwritten."""
    said = keys("issue", "alice", "--secret-file", "key")
    path = tmp_path / "key"
    assert path.stat().st_mode & 0o777 == 0o600
    secret = path.read_text().strip()
    assert manager.verify(secret).owner == "alice"
    assert secret[9:] not in said.out + said.err
    again = keys("issue", "alice", "--secret-file", "key")
    assert again.status == 2
    assert "not there yet" in again.err
    assert len(manager.list()) == 1
    rotated = keys("rotate", manager.list()[0].id, "--secret-file", "key", "--json")
    assert "secret" not in rotated.json
    assert manager.verify(path.read_text().strip()).generation == 2


def test_a_key_whose_secret_cannot_be_written_is_revoked(keys, manager):
    """It would be of no use to anybody."""
    said = keys("issue", "alice", "--secret-file", "nowhere/key")
    assert said.status == 2
    assert "has been revoked" in said.err
    assert [key.state for key in manager.list()] == ["revoked"]


def test_the_first_key_is_issued_once(keys, tmp_path, manager):
    """For a container that starts again and again; a secret that is lost is said."""
    first = keys("issue", "svc", "--if-none", "--secret-file", "key")
    assert first.status == 0
    for _ in range(2):
        assert keys("issue", "svc", "--if-none", "--secret-file", "key").status == 0
    assert keys("issue", "svc", "--if-none", "--json").json["secret"] is None
    assert len(manager.list()) == 1
    assert keys("issue", "svc", "--if-none", "--name", "other").status == 0
    assert keys("issue", "bob", "--if-none").status == 0
    assert len(manager.list()) == 3
    (tmp_path / "key").unlink()
    lost = keys("issue", "svc", "--if-none", "--secret-file", "key")
    assert lost.status == 1
    assert "keys rotate key_" in lost.err
    manager.revoke(manager.list(owner="svc")[0].id)
    assert keys("issue", "svc", "--if-none", "--secret-file", "key").status == 0
    assert (tmp_path / "key").exists()


def test_a_rotation_can_be_repeated_and_can_wait_to_be_seen(keys, manager):
    """By its request id; by the first use of the new secret."""
    made = issued(keys, "alice")
    one = keys("rotate", made["id"], "--request-id", "r", "--json").json
    again = keys("rotate", made["id"], "--request-id", "r", "--json").json
    assert (again["id"], again["secret"]) == (one["id"], None)
    assert "stored nowhere" in keys("rotate", made["id"], "--request-id", "r").err
    assert keys("rotate", made["id"]).status == 2
    two = keys("rotate", one["id"], "--confirm-by-first-use", "--grace-hours", "1")
    assert "until the new one has been seen" in two.err
    assert manager.verify(one["secret"]).state == "active"
    manager.verify(two.out.strip())
    assert manager.verify(one["secret"]).state == "retiring"


def test_a_lineage_and_an_owner_are_revoked_as_one(keys, manager):
    """With a dry run first, and JSON."""
    made = issued(keys, "alice")
    new = keys("rotate", made["id"], "--json").json
    dry = keys("revoke", "--lineage", new["id"], "--dry-run", "--json").json
    assert {key["id"] for key in dry["keys"]} == {made["id"], new["id"]}
    assert manager.verify(new["secret"])
    assert "are revoked" in keys("revoke", "--lineage", made["id"], "--yes", "--reason", "leaked").out
    assert {key.state for key in manager.list()} == {"revoked"}
    issued(keys, "alice"), issued(keys, "bob")
    assert len(keys("revoke", "--owner", "alice", "--json").json["keys"]) == 1
    assert "nothing to revoke" in keys("revoke", "--owner", "alice").out
    assert len(manager.list(owner="bob", state="active")) == 1
    with pytest.raises(SystemExit):
        keys("revoke")


def test_keys_are_listed_by_what_is_asked(keys, manager):
    """Owner, tenant, state, how soon they end, how many."""
    issued(keys, "alice", "--ttl-days", "3", "--tenant", "t"), issued(keys, "bob"), issued(keys, "carol")
    assert [key["owner"] for key in keys("list", "--expires-within-days", "7", "--json").json] == ["alice"]
    assert [key["owner"] for key in keys("list", "--tenant", "t", "--json").json] == ["alice"]
    few = keys("list", "--most", "2")
    assert len(few.out.splitlines()) == 3
    assert "more than 2" in few.err
    assert keys("list", "--most", "0").status == 2
    assert keys("list", "--owner", "nobody").out == "no such keys\n"


def test_stats_count_by_state_end_and_pepper(keys, manager, monkeypatch):
    """So that it is known when an old pepper may go."""
    made = issued(keys, "alice", "--ttl-days", "3")
    issued(keys, "bob")
    manager.verify(made["secret"])
    manager.close()
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "a new made-up pepper")
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_ALSO", PEPPER)
    issued(keys, "carol")
    stats = keys("stats", "--json").json
    assert stats["states"]["active"] == 3
    assert stats["expiring"] == {"1d": 0, "7d": 1, "30d": 1}
    assert stats["never_used"] == 2
    assert sorted(stats["peppers"].values()) == [1, 2]
    assert stats["peppers"][stats["newest_pepper"]] == 1
    assert "under the newest pepper" in keys("stats").out


def test_a_key_from_elsewhere_is_read_from_standard_input(keys, manager):
    """Alone, or many as JSON lines, of which a bad one stops nothing."""
    secret = "sk-" + hashlib.sha1(b"x").hexdigest()
    manager = ApiKeyManager(manager.store, pepper=PEPPER, imported=["sk-[A-Za-z0-9]{40}"])
    said = keys("import", "alice", "--scope", "read", stdin=secret + "\n")
    assert "opens under its old secret" in said.out
    assert manager.verify(secret, {"read"}).owner == "alice"
    others = ["sk-" + hashlib.sha1(bytes([n])).hexdigest() for n in range(4)]
    lines = [
        {"owner": "bob", "secret": others[0], "scopes": ["write"], "ttl_days": 3},
        {"owner": "carol", "secret": hashlib.sha256(others[1].encode()).hexdigest(), "kind": "sha256"},
        {"owner": "dave", "secret": "no such form"},
        {"owner": "erin", "secret": others[2], "colour": "red"},
        {"secret": others[3]},
    ]
    said = keys("import", stdin="\n".join(map(json.dumps, lines)) + "\nno json " + others[3] + "\n")
    assert said.status == 1
    assert "2 keys were imported, 4 were not" in said.out
    assert "line 3: " in said.err
    assert "line 4: no JSON object with keys of owner, secret, kind, " in said.err
    for hidden in others:
        assert hidden not in said.out + said.err
    assert manager.verify(others[0], {"write"}).owner == "bob"
    assert manager.verify(others[1]).owner == "carol"
    other = "tok_" + hashlib.sha1(b"y").hexdigest()
    assert keys("import", "frank", stdin=other).status == 2
    said = keys("import", "frank", "--form", "tok_[0-9a-f]{40}", stdin=other)
    assert said.status == 0
    assert '[api_keys] imported = ["sk-[A-Za-z0-9]{40}", "tok_[0-9a-f]{40}"]' in said.err
    assert "imported =" not in keys("import", "dan", "--form", "sk-[A-Za-z0-9]{40}", stdin=others[3]).err


def test_no_line_stops_an_import_in_the_middle(keys, manager):
    """Else nobody would know which keys are in."""
    secrets = ["sk-" + hashlib.sha1(bytes([n])).hexdigest() for n in range(2)]
    good = [json.dumps({"owner": "bob", "secret": secret}) for secret in secrets]
    bad = [
        f'{{"owner": "bob", "secret": "{secrets[0]}", "ttl_days": 1e999}}',
        f'{{"owner": "bob", "secret": "{secrets[0]}", "ttl_days": true}}',
        f'{{"owner": "bob", "secret": "{secrets[0]}", "metadata": {"[" * 100_000}{"]" * 100_000}}}',
        f'{{"owner": "bob", "secret": "{secrets[0]}", "metadata": {{"a": {"[" * 500}{"]" * 500}}}, "limit": 5e400}}',
    ]
    said = keys("import", "--json", stdin="\n".join([good[0], *bad, good[1]]))
    assert said.status == 1
    assert said.json["failed"] == [2, 3, 4, 5]
    assert len(said.json["imported"]) == 2
    assert "line 2: ttl_days = '…': it must be a number of days above zero" in said.err
    assert "Traceback" not in said.err
    assert secrets[0] not in said.out + said.err


def test_maintenance_rotates_and_purges_once(keys, tmp_path, manager):
    """With a sink; without one it says what is left to do."""
    folder = tmp_path / "out"
    folder.mkdir()
    made = issued(keys, "alice", "--ttl-days", "3")
    dead = issued(keys, "bob")
    keys("revoke", dead["id"])
    (tmp_path / "mobius.toml").write_text(POLICY.replace("[audit]", "purge_after_days = 0\n[audit]"))
    dry = keys("maintain", "--dry-run", "--json").json
    assert (dry["rotated"], dry["purged"]) == ([made["id"]], 1)
    without = keys("maintain", "--rotate-before-days", "2")
    assert without.status == 0
    issued(keys, "carol", "--ttl-days", "1")
    assert keys("maintain", "--rotate-before-days", "2").status == 1
    said = keys("maintain", "--sink", f"file:{folder}", "--json")
    assert said.status == 0
    assert made["id"] in said.json["rotated"]
    secret = (folder / "alice").read_text().strip()
    assert manager.verify(secret).rotated_from == made["id"]
    assert secret not in said.out + said.err
    failed = keys("maintain", "--sink", "file:nowhere/x", "--rotate-before-days", "30")
    assert failed.status == 1
    assert "undelivered" in failed.out
    assert keys("maintain", "--sink", "mail:x").status == 2


@pytest.mark.parametrize("tool", ["gitleaks", "trufflehog", "github", None])
def test_the_pattern_is_printed_for_each_scanner(keys, tool):
    """And finds our keys, and not their neighbours."""
    import re

    said = keys("pattern", *(["--for", tool] if tool else []), "--json").json
    assert said["pattern"] in said["text"]
    good = generate("mob", "live")
    assert re.search(rf"\b({said['pattern']})\b", f'key = "{good}"')[1] == good
    assert not re.search(rf"\b({said['pattern']})\b", f"{good}A mobx_live_{good[9:]}")
    assert keys("pattern", "--prefix", "acme").out.startswith("acme_")
    if tool == "gitleaks":
        import tomllib

        rule = tomllib.loads(said["text"])["rules"][0]
        assert re.search(rule["regex"], f"x={good};")[1] == good


def test_leaked_keys_are_found_and_their_state_is_told(keys, tmp_path, manager):
    """A key that opens is status 1; dead ones and those of nobody are told and are status 0."""
    live, dead = issued(keys, "alice"), issued(keys, "bob")
    keys("revoke", dead["id"])
    tree = tmp_path / "tree" / "deep"
    tree.mkdir(parents=True)
    (tree / "clean.py").write_text("nothing = 1\n" * 1000)
    (tree / "dead.env").write_bytes(b"\0\xff" * 100 + b"\n\nKEY=" + dead["secret"].encode() + b"\n")
    (tree / "nobody.txt").write_text(generate("acme", "test"))
    said = keys("scan", "tree", "--json")
    assert said.status == 0
    assert [(row["line"], row["state"]) for row in said.json["found"]] == [(3, "revoked"), (1, "unknown")]
    (tree / "live.log").write_text("x" * 3_000_000 + f"\n{live['secret']}\n{live['secret']}x")
    said = keys("scan", "tree", "--json")
    assert said.status == 1
    assert said.json["leaked"] == 1
    row = said.json["found"][1]
    assert (row["line"], row["state"], row["id"], row["owner"]) == (2, "active", live["id"], "alice")
    text = keys("scan", "tree").out
    for secret in (live["secret"], dead["secret"]):
        assert secret not in text + said.out
        assert secret[9:30] not in text + said.out
    assert keys("scan", "-", stdin=f"key: {live['secret']}.").status == 1
    assert keys("scan", "-", stdin=f"key: {live['secret'][:-1]}").status == 0
    assert keys("scan", "tree/deep/clean.py").out.strip() == "none of our keys was found"
    assert keys("scan", "tree", "--no-store").status == 1
    assert keys("scan", "nowhere").status == 2
    assert manager.get(live["id"]).last_used_at is None


def git(folder, *argv):
    """Run git."""
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *argv],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_a_key_in_the_history_of_a_repository_is_found(keys, tmp_path):
    """Though the file has been cleaned since."""
    live = issued(keys, "alice")
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    for text in (f"key = {live['secret']}\n", "key = none\n"):
        (repository / "settings.ini").write_text(text)
        git(repository, "add", "."), git(repository, "commit", "-qm", "x")
    assert keys("scan", "repository").status == 0
    said = keys("scan", "repository", "--git", "--json")
    assert said.status == 1
    assert said.json["found"][0]["where"].startswith("settings.ini@")
    assert keys("scan", "tree", "--git").status == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal here")
def test_a_person_at_a_terminal_is_asked(keys, tmp_path, manager):
    """No is no; --yes asks nothing; a script is not asked."""
    import pty

    def at_terminal(answer, *argv):
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "mobius_otel", "keys", *argv], stdin=child, stderr=child, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "MOBIUS_OTEL_KEY_PEPPER": PEPPER}, cwd=tmp_path,
        )  # fmt: skip
        os.close(child)
        os.write(parent, answer)
        out = process.communicate(timeout=60)[0]
        os.close(parent)
        return process.returncode, out

    made = issued(keys, "alice")
    assert at_terminal(b"n\n", "revoke", made["id"])[0] == 0
    assert manager.get(made["id"]).state == "active"
    assert at_terminal(b"y\n", "revoke", made["id"])[0] == 0
    assert manager.get(made["id"]).state == "revoked"
    assert "0 dead keys were removed" in keys("purge").out
    assert keys("purge", "--older-than-days", "0", "--yes").out.startswith("1 dead")


def test_a_store_without_a_pepper_is_warned_of_on_standard_error(keys, monkeypatch, caplog):
    """And standard output holds the answer alone."""
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER")
    said = keys("list", "--json")
    assert said.json == []
    assert "without a pepper" in caplog.text


def test_the_pepper_comes_from_files_too(keys, tmp_path, monkeypatch, manager):
    """Further ones line by line; `none` stands for none."""
    made = issued(keys, "alice")
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER")
    (tmp_path / "new").write_text("a new made-up pepper\n")
    (tmp_path / "also").write_text(f"none\n{PEPPER}\n")
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_FILE", str(tmp_path / "new"))
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_ALSO_FILE", str(tmp_path / "also"))
    (tmp_path / "x").write_text(made["secret"])
    assert keys("scan", "x", "--json").json["found"][0]["state"] == "active"
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_ALSO_FILE", str(tmp_path / "nowhere"))
    assert "MOBIUS_OTEL_KEY_PEPPER_ALSO_FILE" in keys("list").err


def test_the_doctor_knows_about_peppers_and_about_what_ends_soon(keys, monkeypatch, capsys):
    """None, a former one that is still needed, one that may go, one that is missing."""

    def found(what):
        assert main(["doctor", "--json"]) == 0
        return [f["text"] for f in json.loads(capsys.readouterr().out)["findings"] if f["what"] == what]

    made = issued(keys, "alice", "--ttl-days", "3")
    assert "1 active keys end within 7 days" in found("keys")[0]
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "a new made-up pepper")
    assert "They open nothing; issue them anew, or MOBIUS_OTEL_KEY_PEPPER_ALSO=" in found("pepper")[1]
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_ALSO", PEPPER)
    assert "keep it" in found("pepper")[1]
    with ApiKeyManager("sqlite:///keys.db", pepper=["a new made-up pepper", PEPPER]) as manager:
        manager.verify(made["secret"])
    assert "may go" in found("pepper")[1]
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER")
    assert "without a pepper" in found("pepper")[0]


@pytest.mark.parametrize("content", [None, "", "\n", "\r\n"])
def test_an_empty_pepper_is_a_secret_that_was_not_mounted(keys, tmp_path, monkeypatch, content, capsys):
    """It is refused like a short one, by every command and at start; only what is not set at all is none."""
    name = "MOBIUS_OTEL_KEY_PEPPER"
    monkeypatch.setenv(name, "")
    if content is not None:
        name += "_FILE"
        (tmp_path / "pepper").write_text(content)
        monkeypatch.setenv(name, str(tmp_path / "pepper"))
    said = keys("issue", "alice")
    assert (said.status, said.out) == (2, "")
    assert f"{name} = " in said.err
    assert "at least 16 bytes" in said.err
    with pytest.raises(ConfigurationError, match=name):
        configure()
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [f["verdict"] for f in findings if f"{name} = " in f["text"]] == ["fail"]
    assert [f for f in findings if f["what"] == "pepper"] == []


@pytest.mark.parametrize(
    ("given", "mac"), [("another made-up pepper", "off"), ("another made-up pepper", "on"), (None, "off")]
)
def test_without_the_pepper_a_key_of_ours_may_open(keys, tmp_path, monkeypatch, given, mac):
    """The store cannot find it: nobody may take that for harmless."""
    (tmp_path / "mobius.toml").write_text(POLICY.replace("[api_keys]", f'[api_keys]\nmac = "{mac}"'))
    (tmp_path / "x").write_text(issued(keys, "alice")["secret"])
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER")
    if given is not None:
        monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", given)
    said = keys("scan", "x", "--json")
    assert (said.status, said.json["leaked"]) == (1, 1)
    assert said.json["found"][0]["state"] == "pepper missing"
    assert "MOBIUS_OTEL_KEY_PEPPER as the service has it" in said.err
    if given is not None:
        monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_ALSO", PEPPER)
        said = keys("scan", "x", "--json")
        assert (said.status, said.json["found"][0]["state"]) == (1, "active")


def test_a_key_of_nobody_is_unknown_where_the_store_has_none_that_it_cannot_find(keys, tmp_path, monkeypatch):
    """Without a pepper too."""
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER")
    issued(keys, "alice")
    (tmp_path / "x").write_text(generate("mob", "live"))
    said = keys("scan", "x", "--json")
    assert (said.status, said.json["found"][0]["state"]) == (0, "unknown")


def test_an_owner_of_no_key_is_a_mistake(keys):
    """Whoever revokes in a hurry must not believe that it was done; one whose keys are all dead is none."""
    issued(keys, "alice")
    said = keys("revoke", "--owner", "alcie", "--yes")
    assert (said.status, "alcie" in said.err, said.out) == (2, True, "")
    assert [keys("revoke", "--owner", "alice", "--yes").status for _ in range(2)] == [0, 0]
