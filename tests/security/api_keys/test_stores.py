"""Stores under threads, processes, forks and failures."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from mobius_otel.errors import ConfigurationError, InvalidApiKey, KeyStoreUnavailable, RotationConflict
from mobius_otel.security import ApiKeyManager, KeyState
from mobius_otel.security.api_keys import MemoryKeyStore, SqliteKeyStore
from mobius_otel.security.api_keys.secret import generate
from mobius_otel.security.api_keys.stores import Selection
from mobius_otel.security.api_keys.stores.failures import StoreFailure
from mobius_otel.sqlite import SqliteFile
from tests.security.api_keys.conftest import PEPPER


def at_once(count, work):
    """Run `work` in so many threads that begin together; return what each of them gave or raised."""
    results, barrier = [], threading.Barrier(count)

    def run():
        barrier.wait()
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


def test_a_hundred_rotations_at_once_give_one_successor(manager):
    """The others get a conflict."""
    key = manager.issue("alice").key
    results = at_once(100, lambda: manager.rotate(key.id))
    assert sum(isinstance(result, RotationConflict) for result in results) == 99
    assert len(manager.list()) == 2


def test_a_hundred_repeats_at_once_give_one_successor_and_one_secret(manager):
    """All of them have the same request id."""
    key = manager.issue("alice").key
    results = at_once(100, lambda: manager.rotate(key.id, request_id="r"))
    assert len({result.key.id for result in results}) == 1
    assert sum(result.secret is not None for result in results) == 1
    assert len(manager.list()) == 2


def test_verifying_and_revoking_at_once_never_brings_a_key_back(manager):
    """The last use is never written through the record."""
    issued = [manager.issue("alice") for _ in range(20)]
    done = threading.Event()

    def verify():
        while not done.is_set():
            for one in issued:
                manager.store.touch({one.key.id: manager.clock()})
                with contextlib.suppress(InvalidApiKey):
                    manager.verify(one.secret)

    thread = threading.Thread(target=verify)
    thread.start()
    for one in issued:
        manager.revoke(one.key.id)
    done.set()
    thread.join()
    assert {key.state for key in manager.list()} == {KeyState.REVOKED}


PROCESS = """
import sys
from mobius_otel.errors import RotationConflict
from mobius_otel.security import ApiKeyManager
manager = ApiKeyManager(sys.argv[1], pepper="a made-up pepper")
sys.stdin.readline()
won = 0
for key_id in sys.argv[2:]:
    try:
        won += manager.rotate(key_id).secret is not None
    except RotationConflict:
        pass
for _ in range(50):
    secret = manager.issue("worker").secret
    manager.verify(secret)
print(won)
"""


def test_two_processes_share_one_file(told, tmp_path):
    """Every key is rotated once, by one of them, and nothing is lost."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    manager = ApiKeyManager(url, pepper=PEPPER)
    ids = [manager.issue("alice").key.id for _ in range(100)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, *ids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    won = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(won) == 100
    keys = manager.list()
    assert len(keys) == 300
    assert sum(key.state is KeyState.RETIRING for key in keys) == 100


def test_a_revocation_in_one_process_holds_in_the_other(told, tmp_path, clock):
    """At the very next verification, cached or not, and nothing brings it back."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    here, there, strict = (ApiKeyManager(url, pepper=PEPPER, clock=clock, cache_ttl=ttl) for ttl in (5, 5, 0))
    issued = here.issue("alice")
    for manager in (there, strict):
        manager.verify(issued.secret)
    here.revoke(issued.key.id)
    for manager in (here, there, strict):
        with pytest.raises(InvalidApiKey):
            manager.verify(issued.secret)
    there.close()
    assert here.get(issued.key.id).state is KeyState.REVOKED


def test_a_revocation_elsewhere_holds_though_somebody_here_waits_to_write(told, tmp_path):
    """A thread that waits for SQLite's write lock keeps nobody from looking, nor from reading."""
    path = tmp_path / "keys.db"
    manager = ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER)
    issued = manager.issue("alice")
    manager.verify(issued.secret)
    elsewhere = sqlite3.connect(path, isolation_level=None)
    elsewhere.execute("BEGIN IMMEDIATE")
    with contextlib.ExitStack() as waiting:
        writer = threading.Thread(target=manager.issue, args=("bob",))
        writer.start()
        while manager.store._file.lock.acquire(blocking=False):  # until the writer has it
            manager.store._file.lock.release()
        waiting.callback(writer.join)
        waiting.callback(elsewhere.execute, "ROLLBACK")
        elsewhere.execute("UPDATE api_keys SET revoked_at = 1 WHERE id = ?", (issued.key.id,))
        elsewhere.execute("COMMIT")
        elsewhere.execute("BEGIN IMMEDIATE")
        with pytest.raises(InvalidApiKey):
            manager.verify(issued.secret)


def test_a_file_that_was_opened_anew_is_never_taken_for_unchanged(told, tmp_path):
    """SQLite begins to count with every connection."""
    manager, other = (ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER) for _ in range(2))
    manager.list()
    before = manager.store.version()
    assert manager.store.version() == before is not None
    manager.store._file.close()
    assert manager.store.version() is None
    other.issue("alice")
    manager.list()
    assert manager.store.version() not in {before, None}


def test_a_log_that_somebody_removed_before_the_first_look_up_closes_no_door(told, tmp_path):
    """What reads beside the connection that writes finds no log; the one that writes still has it."""
    path = tmp_path / "keys.db"
    manager = ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER)
    issued = manager.issue("alice")
    os.remove(f"{path}-wal")
    assert manager.verify(issued.secret).owner == "alice"


class WithoutVersion(MemoryKeyStore):
    """A store that several processes share, and that cannot say whether it has changed."""

    blocking = True


def test_where_a_store_cannot_say_that_it_has_changed_a_revocation_holds_after_the_cache_s_time(told, clock):
    """Five seconds at most, to the tick; with a channel at once."""
    store, channel = WithoutVersion(), Channel()
    here, there = (ApiKeyManager(store, pepper=PEPPER, clock=clock) for _ in range(2))
    issued = here.issue("alice")
    there.verify(issued.secret)
    here.revoke(issued.key.id)
    clock.advance(4.999)
    there.verify(issued.secret)
    clock.advance(0.001)
    with pytest.raises(InvalidApiKey):
        there.verify(issued.secret)
    with pytest.raises(ConfigurationError, match="at most 5"):
        ApiKeyManager(store, pepper=PEPPER, cache_ttl=6)
    here, there = (ApiKeyManager(store, pepper=PEPPER, clock=clock, channel=channel) for _ in range(2))
    issued = here.issue("alice")
    there.verify(issued.secret)
    here.revoke(issued.key.id)
    with pytest.raises(InvalidApiKey):
        there.verify(issued.secret)
    there.close()
    assert len(channel.listeners) == 1


class Channel:
    """Tells everybody in this process."""

    def __init__(self):
        self.listeners = []

    def publish(self, key_ids):
        for listener in self.listeners:
            listener(key_ids)

    def subscribe(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


KILLED = """
import sys
from mobius_otel.security import ApiKeyManager
manager = ApiKeyManager(sys.argv[1], pepper="a made-up pepper")
while True:
    print(manager.issue("alice").secret, flush=True)
"""


def test_every_key_that_was_handed_out_survives_kill_minus_nine(told, tmp_path):
    """What `issue` returned is in the file."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    for lines in (1, 7, 30):
        worker = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
        secrets = [worker.stdout.readline().strip() for _ in range(lines)]
        worker.kill()
        rest, _ = worker.communicate(timeout=30)
        secrets += [line for line in rest.split("\n")[:-1] if line]
        with ApiKeyManager(url, pepper=PEPPER) as manager:
            for secret in secrets:
                manager.verify(secret)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_a_handle_of_its_own(manager):
    """While a thread of the parent is at it."""
    issued, done = manager.issue("alice"), threading.Event()

    def busy():
        while not done.is_set():
            manager.issue("bob")

    thread = threading.Thread(target=busy)
    thread.start()
    codes = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            try:
                manager.verify(issued.secret)
                manager.issue("child")
                os._exit(0)
            except BaseException:
                os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    done.set()
    thread.join()
    assert codes == [0] * 10
    manager.verify(issued.secret)


class Failing:
    """A store whose every call fails."""

    blocking = False

    def __init__(self, error):
        self._error = error

    def _fail(self, *args, **kwargs):
        raise self._error

    find = get = list = changing = touch = count_dead = census = peppers = claim = _fail

    def close(self):
        pass


@pytest.mark.parametrize(
    "error",
    [OSError("gone"), sqlite3.OperationalError("locked"), ConfigurationError("a", "b", "c"), KeyError("digest"),
     InvalidApiKey("unknown")],
    ids=repr,
)  # fmt: skip
def test_a_store_that_fails_lets_nobody_in(told, error):
    """Whatever it raises: unavailable, and counted as an error."""
    manager = ApiKeyManager(Failing(error), pepper=PEPPER)
    for call in (
        lambda: manager.verify(generate("mob", "live")),
        lambda: manager.issue("alice"),
        lambda: manager.get("key_1"),
        lambda: manager.rotate("key_1"),
        lambda: manager.revoke("key_1"),
        lambda: manager.list(),
        lambda: manager.purge(),
        lambda: manager.purge(dry_run=True),
    ):
        with pytest.raises(KeyStoreUnavailable):
            call()
    assert told.metrics.value("mobius.api_key.verifications", {"mobius.api_key.result": "error"}) == 1
    kind = type(error).__qualname__
    assert told.metrics.count("mobius.api_key.store.duration", {"error.type": kind}) == 8


def test_a_wrong_key_costs_no_look_up_when_the_store_is_gone(told):
    """Malformed is malformed."""
    with pytest.raises(InvalidApiKey):
        ApiKeyManager(Failing(OSError()), pepper=PEPPER).verify("x")


@pytest.mark.parametrize("loss", ["deleted", "replaced"])
def test_a_file_that_is_deleted_or_replaced_opens_nothing(told, tmp_path, clock, loss):
    """The one that is still open may know keys that the new one has revoked."""
    path = tmp_path / "keys.db"
    manager = ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER, clock=clock)
    issued = manager.issue("alice")
    path.rename(tmp_path / "moved.db")
    if loss == "replaced":
        SqliteKeyStore(tmp_path / "other.db")
        (tmp_path / "other.db").rename(path)
    with pytest.raises(KeyStoreUnavailable):
        manager.verify(issued.secret)
    with pytest.raises(KeyStoreUnavailable):
        manager.issue("bob")


def test_readers_go_on_while_somebody_writes(told, tmp_path, clock):
    """And the last use is not waited for."""
    path = tmp_path / "keys.db"
    manager = ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER, clock=clock)
    issued = manager.issue("alice")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert manager.verify(issued.secret).owner == "alice"
    assert manager.get(issued.key.id).last_used_at is None
    other.execute("ROLLBACK")
    clock.advance(61)
    manager.verify(issued.secret)
    assert manager.get(issued.key.id).last_used_at == clock()


def test_a_change_that_fails_leaves_nothing(manager):
    """All of it or nothing."""
    issued = manager.issue("alice")

    def fail():
        with manager.store.changing() as change:
            change.change(issued.key.id, {"revoked_at": 1.0})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert manager.verify(issued.secret)


def test_a_change_compares_before_it_sets(manager):
    """Nobody's change is lost, and nothing is brought back."""
    key = manager.issue("alice", networks=("10.0.0.0/8",), limit="5/second").key
    with manager.store.changing() as change:
        assert not change.change(key.id, {"revoked_at": 5.0}, {"rotated_to": "key_2"})
        assert not change.change("key_0", {"revoked_at": 5.0})
        assert change.change(key.id, {"revoked_at": 5.0}, {"revoked_at": None, "generation": 1, "limit": key.limit})
        assert not change.change(key.id, {"revoked_at": 6.0}, {"revoked_at": None})
    assert manager.get(key.id).revoked_at == 5.0


def test_a_selection_means_the_same_to_every_store(manager, clock):
    """Each of its conditions, alone and together, in order and in pages."""
    for number in range(24):
        issued = manager.issue("ab"[number % 2], ttl=50 + number, tenant="xyz"[number % 3])
        clock.advance(number % 2)
        if number % 5 == 0:
            manager.rotate(issued.key.id, grace_period=number)
    every, now = manager.store.list(Selection()), clock()
    assert [(key.created_at, key.id) for key in every] == sorted((key.created_at, key.id) for key in every)
    middle = (every[9].created_at, every[9].id)
    for selection in (
        Selection(owner="a"), Selection(tenant="x"), Selection(lineage=every[3].lineage_id), Selection(after=middle),
        Selection(state=KeyState.RETIRING, now=now), Selection(state=KeyState.ACTIVE, now=now + 55),
        Selection(expires_by=now + 60), Selection(owner="b", tenant="y", state=KeyState.ACTIVE, now=now),
    ):  # fmt: skip
        expected = [key for key in every if selection.matches(key)]
        assert manager.store.list(selection) == expected
        assert 0 < len(expected) < len(every)
        assert manager.store.list(replace(selection, most=2)) == expected[:2]


def test_a_period_of_a_job_is_taken_once(manager):
    """And a clock that ran ahead keeps nobody out for ever."""
    claim = manager.store.claim
    assert [claim("rotate", 7, "a"), claim("rotate", 7, "b"), claim("purge", 7, "b")] == [True, False, True]
    assert [claim("rotate", 6, "b"), claim("rotate", 8, "b"), claim("rotate", 7, "a")] == [False, True, False]
    assert at_once(20, lambda: claim("rotate", 9, "x")).count(True) == 1
    assert [claim("rotate", 10**9, "mad"), claim("rotate", 10, "a"), claim("rotate", 10, "b")] == [True, True, False]


def test_peppers_are_counted_by_name(manager):
    """So that an operator knows when an old one may go."""
    manager.issue("alice")
    assert sum(manager.store.peppers().values()) == 1


def test_a_digest_is_unique(manager):
    """Two records of one secret would be a riddle."""
    issued = manager.issue("alice")
    found = manager.store.find([manager._peppers.digest(issued.secret.encode())])
    with pytest.raises((ValueError, sqlite3.IntegrityError, StoreFailure)), manager.store.changing() as change:
        change.add(replace(found, key=replace(issued.key, id="key_2")))
    assert len(manager.list()) == 1


@pytest.mark.parametrize(
    "url",
    ["", "keys.db", "sqlite://", "sqlite:///", "sqlite:keys.db", "sqlite:///keys.db?mode=ro", "sqlite:///a\0b", "MEMORY://hunter2",
         "sqlite+pysqlite:///keys.db",
     "hunter2", "file:///keys.db"],
)  # fmt: skip
def test_a_url_that_names_no_store_is_refused_without_its_password(url, tmp_path, monkeypatch):
    """With what there is, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        ApiKeyManager(url, pepper=PEPPER)
    assert "memory://" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_and_an_absolute_file(told, tmp_path, monkeypatch):
    """Three slashes and four."""
    monkeypatch.chdir(tmp_path)
    issued = ApiKeyManager("sqlite:///keys.db", pepper=PEPPER).issue("alice")
    assert ApiKeyManager(f"sqlite:///{tmp_path}/keys.db", pepper=PEPPER).verify(issued.secret)
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_file_is_refused_by_name(tmp_path):
    """And stays as it is."""
    path = tmp_path / "keys.db"
    SqliteKeyStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigurationError, match="99"):
        ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER)


def test_a_full_disk_refuses_changes_and_lets_known_keys_in(told, tmp_path, clock):
    """What is there is read; what cannot be written is unavailable, and works again when there is room."""
    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER, clock=clock)
    issued = manager.issue("alice")
    with manager.store._file.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")  # SQLITE_FULL, as from a file system without room

    def fill():
        for _ in range(100):
            manager.issue("bob", metadata={"a": "b" * 8000})

    with pytest.raises(KeyStoreUnavailable) as caught:
        fill()
    assert "full" in str(caught.value.__cause__)
    clock.advance(120)
    assert manager.verify(issued.secret).owner == "alice"
    manager.close()
    assert manager.issue("bob", metadata={"a": "b" * 8000})
    manager.close()


def test_a_file_that_somebody_else_writes_to_is_left_in_time(told, tmp_path, monkeypatch):
    """A change waits, but not without end; look-ups go on, and afterwards everything does."""
    monkeypatch.setitem(SqliteFile.__init__.__kwdefaults__, "busy_timeout", 0.2)
    path = tmp_path / "keys.db"
    manager = ApiKeyManager(f"sqlite:///{path}", pepper=PEPPER, cache_ttl=0)
    issued = manager.issue("alice")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(KeyStoreUnavailable):
        manager.revoke(issued.key.id)
    assert manager.verify(issued.secret)
    other.execute("ROLLBACK")
    other.close()
    assert manager.revoke(issued.key.id).state is KeyState.REVOKED
    manager.close()


@pytest.mark.parametrize(
    "value", [1, 1.5, b"alice", [], {}, ["alice"], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_text_is_refused_as_such(manager, value):
    """Not as a store that does not answer."""
    with pytest.raises(ConfigurationError):
        manager.list(owner=value)
    with pytest.raises(ConfigurationError):
        manager.issue("alice", scopes=[value])


def test_the_tables_compare_bytes_in_every_dialect():
    """Ids differ in their case alone, and digests are no text; said to dialects that are not at hand here."""
    sa = pytest.importorskip("sqlalchemy")
    from sqlalchemy.dialects import mysql, postgresql

    from mobius_otel.security.api_keys.stores.sql_schema import KEYS

    table = sa.schema.CreateTable(KEYS)
    in_postgres = str(table.compile(dialect=postgresql.dialect()))
    in_mysql = str(table.compile(dialect=mysql.dialect()))
    assert 'id VARCHAR(64) COLLATE "C" NOT NULL' in in_postgres
    assert "digest BYTEA NOT NULL" in in_postgres
    assert "id VARCHAR(64) COLLATE utf8mb4_bin NOT NULL" in in_mysql
    assert "digest VARBINARY(64) NOT NULL" in in_mysql
    assert "`limit`" in in_mysql
