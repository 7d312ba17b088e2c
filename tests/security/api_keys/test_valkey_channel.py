"""Changes of keys, told by a Valkey server: whatever store they are in."""

import os
import threading

import pytest

from mobius_otel.errors import ConfigurationError, InvalidApiKey, MissingExtra
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys import ValkeyChannel
from mobius_otel.security.api_keys.stores.failures import DatabaseUnreachable
from tests.security.api_keys.conftest import PEPPER
from tests.services.postgres import wait_until
from tests.services.valkeys import Server

pytest.importorskip("valkey")


@pytest.fixture
def server(tmp_path):
    """A server of this test's own: it is stopped."""
    server = Server(tmp_path / "valkey").start()
    yield server
    server.stop()


def listening(url):
    """A channel, what it has heard, and it has begun."""
    channel, heard = ValkeyChannel(url), []
    channel.subscribe(heard.append)
    assert wait_until(lambda: heard == [None])
    return channel, heard


def test_a_revocation_in_one_process_holds_in_the_other_at_once(told, tmp_path, server, monkeypatch):
    """Without it the cache of the other would have answered for five seconds."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    monkeypatch.delattr("mobius_otel.security.api_keys.SqliteKeyStore.version")  # as if it were on another host
    here, there = (ApiKeyManager(url, pepper=PEPPER, channel=ValkeyChannel(server.url())) for _ in range(2))
    issued = here.issue("alice")
    assert wait_until(lambda: there._channel._connection is not None)
    there.verify(issued.secret)
    here.revoke(issued.key.id)

    def is_out():
        try:
            there.verify(issued.secret)
        except InvalidApiKey:
            return True
        return False

    assert wait_until(is_out, 2.0)
    here.close()
    there.close()


def test_many_keys_are_told_of_at_once(server):
    """A whole owner's."""
    channel, heard = listening(server.url())
    ids = {f"key_{number}" for number in range(250)}
    channel.publish(ids)
    assert wait_until(lambda: {one for told in heard[1:] for one in told} == ids)
    channel.close()


def test_the_server_is_found_again(server):
    """And everybody is told that anything may have changed; meanwhile telling fails in bounded time."""
    channel, heard = listening(server.url())
    server.stop()
    with pytest.raises(DatabaseUnreachable) as caught:
        channel.publish({"key_1"})
    assert caught.value.__context__ is None
    server.start()
    assert wait_until(lambda: heard == [None, None])
    channel.publish({"key_1"})
    assert wait_until(lambda: heard[2:] == [["key_1"]])
    channel.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_listens_by_itself(server):
    """The parent's connection stays the parent's."""
    channel, heard = listening(server.url())
    child = os.fork()
    if child == 0:
        ready = wait_until(lambda: heard.count(None) == 2)
        channel.publish({"key_ready"})
        os._exit(0 if ready and wait_until(lambda: ["key_2"] in heard) else 1)
    assert wait_until(lambda: ["key_ready"] in heard)
    channel.publish({"key_2"})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wait_until(lambda: ["key_2"] in heard)
    channel.close()


def test_a_channel_that_is_closed_has_no_thread(server):
    """Nothing is left running."""
    channel, _ = listening(server.url())
    thread = channel._thread
    channel.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(thread, threading.Thread)


@pytest.mark.parametrize("url", ["", "hunter2", "http://u:hunter2@h", "valkey://u:hunter2@h:port", None])
def test_a_url_that_names_no_server_is_refused_without_its_password(url):
    """With an example."""
    with pytest.raises(ConfigurationError, match="valkey://") as caught:
        ValkeyChannel(url)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    """The package alone is missing."""
    monkeypatch.setitem(__import__("sys").modules, "valkey", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mobius_otel\[valkey\]'"):
        ValkeyChannel("valkey://cache")


def test_its_name_shows_no_password():
    """Logs hold the names of objects."""
    assert repr(ValkeyChannel("redis://:hunter2@cache")) == "ValkeyChannel(0 listeners)"
