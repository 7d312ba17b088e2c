"""Ways of a new secret to its owner, over real files, commands and sockets."""

import http.server
import json
import os
import sys
import threading

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security import KeyRotator, KeyState
from mobius_otel.security.api_keys import command_sink, file_sink, http_sink
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey

ISSUED = IssuedKey(ApiKey(id="key_1", owner="alice", expires_at=1e9), "made-up-secret")


def test_a_file_is_replaced_in_one_step_and_its_owner_alone_reads_it(tmp_path):
    """A folder has a file for each owner; what would leave the folder is refused."""
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    assert file_sink(path)("alice", ISSUED)
    assert path.read_text() == "made-up-secret\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert file_sink(tmp_path)("bob", ISSUED)
    assert (tmp_path / "bob").read_text() == "made-up-secret\n"
    for owner in ("../evil", "a/b", ".hidden", "", "x" * 200):
        with pytest.raises(ConfigurationError):
            file_sink(tmp_path)(owner, ISSUED)
    with pytest.raises(OSError, match="No such"):
        file_sink(tmp_path / "nowhere" / "key")("alice", ISSUED)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["bob", "key"]


def test_a_file_never_loses_the_secret_of_another_key(tmp_path, manager, clock, caplog):
    """One file takes one key through all of its rotations; a second key goes on with its old secret, run after run."""
    path = tmp_path / "key"
    first = manager.issue("alice", ttl=100)
    clock.advance(1)
    second = manager.issue("bob", ttl=100)
    for generation in (2, 3):
        run = KeyRotator(manager, sink=file_sink(path), rotate_before=200).run_once()
        assert (len(run.rotated), run.undelivered) == (1, (second.key.id,))
        assert manager.verify(path.read_text().strip()).lineage_id == first.key.lineage_id
        assert manager.verify(path.read_text().strip()).generation == generation
    assert manager.verify(second.secret).state is KeyState.ACTIVE
    assert f"key {second.key.id} was not rotated: the sink's file holds the secret of key " in caplog.text
    assert "name a folder" in caplog.text


def test_two_keys_of_one_owner_do_not_share_a_file(tmp_path, manager, clock):
    """Not in a folder either; a file whose key is dead, or that holds anything else, is free."""
    old = manager.issue("alice", ttl=100)
    clock.advance(1)
    other = manager.issue("alice", ttl=100)
    rotator = KeyRotator(manager, sink=file_sink(tmp_path), rotate_before=200)
    assert rotator.run_once().undelivered == (other.key.id,)
    manager.revoke_lineage(old.key.id)
    assert rotator.run_once().rotated == (other.key.id,)
    assert manager.verify((tmp_path / "alice").read_text().strip()).lineage_id == other.key.lineage_id
    (tmp_path / "carol").write_bytes(b"\xff nothing of ours")
    carol = manager.issue("carol", ttl=100)
    assert carol.key.id in rotator.run_once().rotated


COMMAND = """
import os, sys
with open(sys.argv[1], "w") as out:
    out.write(sys.stdin.read() + os.environ["MOBIUS_KEY_OWNER"] + repr(sys.argv) + repr(dict(os.environ)))
"""


def test_a_command_gets_the_secret_on_its_standard_input_alone(tmp_path, monkeypatch):
    """Status 0 is the acknowledgement; nothing in its arguments or environment, the pepper neither."""
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "a made-up pepper")
    out = tmp_path / "out"
    assert command_sink([sys.executable, "-c", COMMAND, str(out)])("alice", ISSUED)
    assert out.read_text().startswith("made-up-secret\nalice")
    assert out.read_text().count("made-up-secret") == 1
    assert "a made-up pepper" not in out.read_text()
    assert not command_sink([sys.executable, "-c", "import sys; sys.exit(3)"])("alice", ISSUED)
    for wrong in ("vault kv put", [], [5]):
        with pytest.raises(ConfigurationError):
            command_sink(wrong)


class Handler(http.server.BaseHTTPRequestHandler):
    """Takes secrets, or does not."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server():
    """A server that remembers what it got."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.status = [], 204
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}/keys"
        yield server
        server.shutdown()


def test_an_endpoint_gets_it_as_json_and_2xx_is_the_acknowledgement(server, monkeypatch):
    """No redirection is followed, no proxy is asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    deliver = http_sink(server.url, headers={"Authorization": "Bearer x"}, timeout=5)
    assert deliver("alice", ISSUED)
    assert server.got == [
        ("/keys", "Bearer x",
         {"id": "key_1", "owner": "alice", "secret": "made-up-secret", "expires": "2001-09-09T01:46:40Z"}),
    ]  # fmt: skip
    for status in (302, 404, 500):
        server.status = status
        assert not deliver("alice", ISSUED)
    assert {path for path, *_ in server.got} == {"/keys"}
    for wrong in ("http://example.com/keys", "ftp://example.com", "file:///etc/passwd", "", "https://"):
        with pytest.raises(ConfigurationError):
            http_sink(wrong)


def test_a_server_that_is_gone_costs_nobody_a_key(manager, server):
    """The rotation fails, the old key goes on, and the next run gets through."""
    old = manager.issue("alice", ttl=100)
    server.status = 500
    rotator = KeyRotator(manager, sink=http_sink(server.url, timeout=5), rotate_before=200)
    assert rotator.run_once().undelivered == (old.key.id,)
    assert manager.verify(old.secret).state is KeyState.ACTIVE
    server.status = 200
    assert rotator.run_once().rotated == (old.key.id,)
    assert manager.verify(server.got[-1][2]["secret"]).generation == 2
    dead = http_sink("http://127.0.0.1:1/", timeout=5)
    assert len(KeyRotator(manager, sink=dead, rotate_before=200).run_once().undelivered) == 1


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_no_delivery(tmp_path, manager):
    """And says so."""
    tmp_path.chmod(0o500)
    manager.issue("alice", ttl=100)
    assert KeyRotator(manager, sink=file_sink(tmp_path), rotate_before=200).run_once().undelivered
