"""A key store in PostgreSQL that loses its server, its network, its rights, its patience."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from mobius_otel.errors import ConfigurationError, InvalidApiKey, KeyStoreUnavailable, MissingExtra
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys import ApiKey, SqlKeyStore
from mobius_otel.security.api_keys.stores import StoredKey, open_store
from mobius_otel.security.api_keys.stores.failures import (
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    DatabaseUnreachable,
)
from tests.security.api_keys.conftest import PEPPER
from tests.services.postgres import running, wait_until

psycopg = pytest.importorskip("psycopg")
sa = pytest.importorskip("sqlalchemy")

KEY = StoredKey(ApiKey(id="key_1", owner="alice"), b"d" * 32)
PASSWORD = "hunter2/x@y z%"  # everything that is awkward in a URL


@pytest.fixture
def database(postgres):
    """The URL of an empty database."""
    return postgres.database()


@pytest.fixture(scope="module")
def hurt():
    """A server of this module's own."""
    with running() as postgres:
        yield postgres


@pytest.fixture
def fragile(hurt):
    """A server that may be hurt; it runs again for the next test."""
    yield hurt
    hurt.start()


def with_options(url, **options):
    return (
        sa.make_url(url)
        .update_query_dict({name: str(value) for name, value in options.items()})
        .render_as_string(False)
    )


def add(store, *stored):
    with store.changing() as change:
        for one in stored or [KEY]:
            change.add(one)


# a server that goes away


def test_a_restart_of_the_server_costs_nobody_a_refusal(fragile):
    """Every connection of the pool is dead; the next look-up and the next change take new ones."""
    store = SqlKeyStore(fragile.database())
    add(store)
    at_once = [threading.Thread(target=store.find, args=([KEY.digest],)) for _ in range(5)]
    [thread.start() for thread in at_once]
    [thread.join() for thread in at_once]
    fragile.stop()
    fragile.start()
    assert store.find([KEY.digest]) == KEY
    fragile.stop()
    fragile.start()
    with store.changing() as change:
        assert change.change("key_1", {"revoked_at": 1.0})
    assert store.get("key_1").revoked_at == 1.0
    store.close()


def test_without_a_server_nobody_gets_in_and_with_it_again_everybody(told, fragile, caplog):
    """In bounded time, with one line at the beginning and one at the end."""
    manager = ApiKeyManager(fragile.database(), pepper=PEPPER)
    issued = manager.issue("alice")
    fragile.stop()
    with caplog.at_level(logging.WARNING, "mobius_otel"):
        begin = time.monotonic()
        for _ in range(5):
            with pytest.raises(KeyStoreUnavailable):
                manager.verify(issued.secret)
        assert time.monotonic() - begin < 10
        fragile.start()
        assert wait_until(lambda: opens(manager, issued))
    lines = [record.getMessage() for record in caplog.records if "key store at" in record.getMessage()]
    assert len(lines) == 2
    assert "does not answer: DatabaseUnreachable" in lines[0]
    assert "answers again" in lines[1]
    manager.close()


def opens(manager, issued):
    try:
        return manager.verify(issued.secret)
    except KeyStoreUnavailable:
        return None


def test_a_server_that_is_gone_at_the_start_is_asked_again(told, fragile):
    """The service starts and refuses; nobody restarts it by hand."""
    url = fragile.database()
    fragile.stop()
    manager = ApiKeyManager(url, pepper=PEPPER)
    with pytest.raises(KeyStoreUnavailable):
        manager.issue("alice")
    fragile.start()
    assert wait_until(lambda: try_issue(manager))
    manager.close()


def try_issue(manager):
    try:
        return manager.issue("alice")
    except KeyStoreUnavailable:
        return None


def test_a_connection_that_is_cut_in_a_change_leaves_nothing(postgres, database):
    """And the next change works."""
    store = SqlKeyStore(database)
    add(store)

    def cut():
        with store.changing() as change:
            change.change("key_1", {"revoked_at": 1.0})
            end_connections(postgres, database)
            change.change("key_1", {"retire_at": 1.0})

    with pytest.raises(DatabaseUnreachable):
        cut()
    assert store.get("key_1").revoked_at is None
    with store.changing() as change:
        assert change.change("key_1", {"revoked_at": 2.0})
    store.close()


def end_connections(postgres, url):
    """End every connection of this user from the server's side."""
    user = sa.make_url(url).username
    with postgres.connect(postgres.admin) as connection:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s"
        assert connection.execute(query, (user,)).fetchall()


def test_a_server_that_hangs_is_left_in_time(fragile):
    """It takes the question and never answers; others do not wait for it one after the other."""
    store = SqlKeyStore(with_options(fragile.database(), timeout=1))
    add(store)
    with fragile.frozen():
        begin = time.monotonic()
        with pytest.raises(DatabaseTimeout):
            store.find([KEY.digest])
        assert time.monotonic() - begin < 8
        begin = time.monotonic()
        for _ in range(100):
            with pytest.raises(DatabaseUnreachable):
                store.find([KEY.digest])
        assert time.monotonic() - begin < 0.9
    assert wait_until(lambda: finds(store))
    store.close()


def finds(store):
    try:
        return store.find([KEY.digest])
    except (DatabaseUnreachable, DatabaseTimeout):
        return None


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_a_server_that_hangs_is_left_in_time_by_an_asynchronous_driver_too(fragile, driver):
    """The same, on an event loop."""
    store = SqlKeyStore(with_options(fragile.database(), timeout=1).replace("+psycopg", f"+{driver}"))
    add(store)
    with fragile.frozen():
        begin = time.monotonic()
        with pytest.raises(DatabaseTimeout):
            store.find([KEY.digest])
        assert time.monotonic() - begin < 8
    assert wait_until(lambda: finds(store))
    store.close()


def test_a_pool_without_a_free_connection_is_left_in_time(database):
    """Whoever waits too long hears that it is busy, not that it is gone."""
    store = SqlKeyStore(with_options(database, timeout=0.5, pool_size=1))
    add(store)
    with store.changing() as change:
        change.get("key_1")
        begin = time.monotonic()
        errors = []

        def find():
            try:
                store.find([KEY.digest])
            except DatabaseBusy as error:
                errors.append(error)

        thread = threading.Thread(target=find)
        thread.start()
        thread.join()
        assert 0.4 < time.monotonic() - begin < 5
        assert len(errors) == 1
    assert store.find([KEY.digest]) == KEY
    store.close()


def test_a_row_that_somebody_else_holds_is_left_in_time(postgres, database):
    """A session that was forgotten in a transaction stops one change, not the process."""
    store = SqlKeyStore(with_options(database, timeout=0.5))
    add(store)
    schema = sa.make_url(database).username
    with postgres.connect(postgres.admin) as other, other.transaction():
        other.execute(f"SELECT * FROM {schema}.mobius_api_keys FOR UPDATE")
        with pytest.raises(DatabaseTimeout), store.changing() as change:
            change.get("key_1")
        assert store.find([KEY.digest]) == KEY  # at once: the server does not hang
    with store.changing() as change:
        assert change.change("key_1", {"revoked_at": 2.0})
    store.close()


def test_a_count_that_takes_long_refuses_nobody(database, caplog):
    """It has its own end; look-ups go on, and nothing is said about the server."""
    store = SqlKeyStore(with_options(database, timeout=0.5))
    add(store)
    with pytest.raises(DatabaseTimeout):
        store._database.use(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(20)"))
    assert store.find([KEY.digest]) == KEY
    assert "does not answer" not in caplog.text
    store.close()


def test_a_replica_verifies_and_changes_nothing(told, postgres, database):
    """Reading goes on; a change says what is the matter, and the last use is simply not noted."""
    manager = ApiKeyManager(database, pepper=PEPPER)
    issued = manager.issue("alice")
    manager.close()
    with postgres.connect(postgres.admin) as connection:
        connection.execute(f"ALTER ROLE {sa.make_url(database).username} SET default_transaction_read_only = on")
    replica = ApiKeyManager(database, pepper=PEPPER)
    assert replica.verify(issued.secret).owner == "alice"
    with pytest.raises(KeyStoreUnavailable) as caught:
        replica.revoke(issued.key.id)
    assert isinstance(caught.value.__cause__, DatabaseReadOnly)
    assert replica.verify(issued.secret).last_used_at is None
    replica.close()


def test_many_threads_survive_connections_that_are_cut_all_the_time(told, postgres, database):
    """Whatever happens in mid-flight: a key, or KeyStoreUnavailable; never another error, never nothing."""
    manager = ApiKeyManager(with_options(database, timeout=2), pepper=PEPPER)
    issued = [manager.issue("alice") for _ in range(5)]
    done, answers, surprises = threading.Event(), [], []

    def work(number):
        store = manager.store
        digest = manager.store.list  # the store itself: no cache in between
        while not done.is_set():
            try:
                if number % 2:
                    answers.append(store.get(issued[number].key.id).owner)
                else:
                    with store.changing() as change:
                        change.change(issued[number].key.id, {"unused_since": time.time()})
                    answers.append("changed")
            except (DatabaseUnreachable, DatabaseBusy, DatabaseTimeout):
                answers.append("unavailable")
            except BaseException as error:
                surprises.append(error)
        assert digest

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    [thread.start() for thread in threads]
    for _ in range(15):
        time.sleep(0.05)
        user = sa.make_url(database).username
        with postgres.connect(postgres.admin) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,))
    done.set()
    [thread.join() for thread in threads]
    assert surprises == []
    assert {"alice", "changed"} <= set(answers)
    assert manager.verify(issued[0].secret)
    manager.close()


# nothing leaks


@pytest.mark.parametrize("where", ["userinfo", "query", "nowhere to connect to", "no such database"])
def test_a_password_is_in_no_error_no_name_and_no_log(told, postgres, database, caplog, where):
    """At any level of anybody's logger, and in no chain of errors."""
    url = sa.make_url(database).set(password=PASSWORD)
    if where == "query":
        url = url.set(password=None).update_query_dict({"password": PASSWORD})
    elif where == "nowhere to connect to":
        url = url.set(host="127.0.0.1", port=1, query={})
    elif where == "no such database":
        url = url.set(database="nothing")
    with caplog.at_level(logging.DEBUG):
        manager = ApiKeyManager(url.render_as_string(hide_password=False), pepper=PEPPER)
        texts = [repr(manager), repr(manager.store), repr(vars(manager.store)), str(manager.store)]
        try:
            manager.issue("alice")
            manager.list()
        except KeyStoreUnavailable as error:
            while error is not None:
                texts += [repr(error), str(error)]
                error = error.__cause__ or error.__context__
        assert where not in {"nowhere to connect to", "no such database"} or len(texts) > 4
        manager.close()
    texts += [record.getMessage() + repr(record.exc_info) for record in caplog.records]
    for text in texts:
        assert "hunter2" not in text
        assert KEY.digest.hex() not in text


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://u:hunter2@h:port/db", "postgresql+nodriver://u:hunter2@h/db", "nodialect://u:hunter2@h/db",
     "postgresql+psycopg://u:hunter2@h/db?timeout=hunter2", "postgresql+psycopg://u:hunter2@h/db?pool_size=0",
     "postgresql+psycopg://u:hunter2@h/db?prepare=hunter2", "mysql://u:hunter2@h/db",
     "postgresql+psycopg://u:hunter2@h/db?timeout=1&timeout=2"],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    """With the rule."""
    with pytest.raises(ConfigurationError) as caught:
        SqlKeyStore(url)
    assert "u:hunter2" not in str(caught.value)
    assert "it must be" in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    """SQLAlchemy or the driver."""
    for module in list(sys.modules):
        if module.startswith("mobius_otel.security.api_keys.stores.sql_"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mobius_otel\[sql\]'"):
        open_store("postgresql+psycopg://db/keys")


def test_without_psycopg_the_error_says_what_to_install(monkeypatch):
    """The driver alone is missing."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mobius_otel\[sql\]'"):
        open_store("postgresql://db/keys")


def test_an_error_quotes_nothing_from_a_row(database):
    """What the server says about a statement stays behind."""
    store = SqlKeyStore(database)
    add(store)
    with pytest.raises(DatabaseRefused) as caught:
        add(store, replace(KEY, key=ApiKey(id="key_2", owner="bob")))
    assert str(caught.value) == "UniqueViolation 23505"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    store.close()


# the schema

OPEN = """
import sys
from mobius_otel.security.api_keys import SqlKeyStore
sys.stdin.readline()
store = SqlKeyStore(sys.argv[1])
print(len(store.peppers()))
"""


def test_processes_that_begin_at_once_make_one_schema(postgres, database):
    """Under a lock of the server."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    time.sleep(0.5)
    outputs = [worker.communicate("go\n", timeout=60)[0] for worker in workers]
    assert outputs == ["0\n"] * 4
    with postgres.connect(database) as connection:
        assert connection.execute("SELECT version FROM mobius_api_key_schema").fetchall() == [(1,)]


def test_an_older_schema_is_brought_forward_once(database, monkeypatch):
    """By many at once, with the keys that are in it."""
    from mobius_otel.security.api_keys.stores import sql_schema

    first = SqlKeyStore(database)
    add(first)
    ran = []

    def second(connection):
        ran.append(1)
        connection.exec_driver_sql("ALTER TABLE mobius_api_keys ADD COLUMN colour TEXT DEFAULT 'blue'")
        time.sleep(0.3)

    monkeypatch.setattr(sql_schema, "MIGRATIONS", (*sql_schema.MIGRATIONS, second))
    stores = []
    threads = [threading.Thread(target=lambda: stores.append(SqlKeyStore(database))) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert ran == [1]
    assert [store.find([KEY.digest]) for store in stores] == [KEY] * 4
    [store.close() for store in [first, *stores]]


def test_a_migration_that_fails_leaves_the_older_schema(database, monkeypatch):
    """All of it or nothing."""
    from mobius_otel.security.api_keys.stores import sql_schema

    SqlKeyStore(database).close()

    def broken(connection):
        connection.exec_driver_sql("ALTER TABLE mobius_api_keys ADD COLUMN colour TEXT")
        connection.exec_driver_sql("SELECT 1 / 0")

    with monkeypatch.context() as patch:
        patch.setattr(sql_schema, "MIGRATIONS", (*sql_schema.MIGRATIONS, broken))
        store = SqlKeyStore(database)
        with pytest.raises(DatabaseRefused):
            store.peppers()
        store.close()
    store = SqlKeyStore(database)
    add(store)
    assert store.find([KEY.digest]) == KEY
    store.close()


def test_a_newer_schema_is_refused_by_name(postgres, database):
    """And stays as it is."""
    SqlKeyStore(database).close()
    with postgres.connect(database) as connection:
        connection.execute("UPDATE mobius_api_key_schema SET version = 99")
        with pytest.raises(ConfigurationError, match=r"version 1 or older, but it is of version 99.*pip install"):
            SqlKeyStore(database)
        assert connection.execute("SELECT version FROM mobius_api_key_schema").fetchall() == [(99,)]


def test_somebody_elses_table_is_left_alone(postgres, database):
    """Never by guessing."""
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE mobius_api_keys (id TEXT)")
        with pytest.raises(ConfigurationError, match="mobius_api_keys"):
            SqlKeyStore(database)
        assert connection.execute("SELECT count(*) FROM mobius_api_keys").fetchall() == [(0,)]


def test_a_role_that_may_not_make_tables_can_use_them(postgres, database):
    """As production would have it: one role migrates, another one works."""
    SqlKeyStore(database).close()
    role = sa.make_url(database).username
    worker = f"{role}_w"
    with postgres.connect(postgres.admin) as connection:
        connection.execute(f"CREATE ROLE {worker} LOGIN")
        connection.execute(f"ALTER ROLE {worker} SET search_path = {role}")
        connection.execute(f"GRANT USAGE ON SCHEMA {role} TO {worker}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {role} TO {worker}")
        connection.execute(
            f"GRANT INSERT, UPDATE, DELETE ON {role}.mobius_api_keys, {role}.mobius_api_key_jobs TO {worker}"
        )
    store = SqlKeyStore(database.replace(role, worker))
    add(store)
    assert store.find([KEY.digest]) == KEY
    assert store.claim("rotate", 1, "me")
    store.close()


def test_an_index_is_used_for_every_look_up(postgres, database):
    """The plan of the server itself."""
    SqlKeyStore(database).close()
    with postgres.connect(database) as connection:
        connection.execute("SET enable_seqscan = off")
        for condition in ("digest = 'x'", "id = 'x'", "owner = 'x'", "lineage_id = 'x'", "expires_at <= 5"):
            plan = str(connection.execute(f"EXPLAIN SELECT * FROM mobius_api_keys WHERE {condition}").fetchall())
            assert "Index" in plan, plan


@pytest.mark.parametrize(("prepare", "prepared"), [("on", True), ("off", False)])
def test_statements_are_prepared_unless_a_pooler_cannot_have_it(database, prepare, prepared):
    """As the URL says."""
    store = SqlKeyStore(with_options(database, prepare=prepare, pool_size=1))
    add(store)
    for _ in range(10):
        assert store.find([KEY.digest]) == KEY
    query = "SELECT count(*) FROM pg_prepared_statements WHERE position('digest' IN statement) > 0"
    count = store._database.use(lambda connection: connection.exec_driver_sql(query).scalar())
    assert bool(count) == prepared
    store.close()


# processes

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
print(won)
"""


def test_processes_that_share_a_database_rotate_each_key_once(told, database):
    """By one of them."""
    manager = ApiKeyManager(database, pepper=PEPPER)
    ids = [manager.issue("alice").key.id for _ in range(20)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, database, *ids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    won = [int(worker.communicate("go\n", timeout=60)[0]) for worker in workers]
    assert sum(won) == 20
    assert len(manager.list()) == 40
    manager.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_and_its_parent_use_connections_of_their_own(database):
    """Also of an engine that was made before, and after many forks."""
    store = SqlKeyStore(with_options(database, pool_size=2))
    add(store)
    before = session_of(store)
    codes = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            try:
                assert store.find([KEY.digest]) == KEY
                assert session_of(store) != before
                os._exit(0)
            except BaseException:
                os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert store.find([KEY.digest]) == KEY
    assert codes == [0] * 5
    assert session_of(store) == before
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_thread_that_is_quick_after_a_fork_takes_no_connection_of_the_parent(database):
    """Also when it is started by somebody whose turn after a fork comes earlier."""
    store = SqlKeyStore(database)
    add(store)
    before = session_of(store)
    child = os.fork()
    if child == 0:
        store._database._pid = os.getppid()  # as before the store's own turn
        store._database.engine.dispose(close=False)
        os._exit(0 if session_of(store) != before and store.find([KEY.digest]) == KEY else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert session_of(store) == before
    store.close()


def session_of(store):
    return store._database.use(lambda connection: connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())


HOLDER = """
import sys, time
from mobius_otel.security.api_keys import SqlKeyStore
store = SqlKeyStore(sys.argv[1])
with store.changing() as change:
    change.get("key_1")
    change.change("key_1", {"revoked_at": 9.0})
    print("holding", flush=True)
    time.sleep(60)
"""


def test_a_process_that_is_killed_in_a_change_holds_nobody_up(postgres, database):
    """Its change is undone, its rows are free."""
    store = SqlKeyStore(database)
    add(store)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "holding\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store.changing() as change:
        assert change.get("key_1").revoked_at is None
        assert change.change("key_1", {"revoked_at": 2.0})
    store.close()


# the channel


def test_the_channel_is_found_again_after_a_restart(fragile):
    """And everybody is told that anything may have changed meanwhile."""
    store, other = (SqlKeyStore(fragile.database()) for _ in range(2))
    heard = []
    store.channel.subscribe(lambda ids: heard.append(ids))
    assert wait_until(lambda: heard == [None])
    fragile.stop()
    fragile.start()
    assert wait_until(lambda: heard == [None, None])
    other.channel.publish({"key_1"})
    assert wait_until(lambda: heard[2:] == [["key_1"]])
    store.close()
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_listens_by_itself(database):
    """The parent's connection stays the parent's."""
    store = SqlKeyStore(database)
    heard = []
    store.channel.subscribe(lambda ids: heard.extend(ids or ["anything"]))
    assert wait_until(lambda: heard == ["anything"])
    child = os.fork()
    if child == 0:
        ready = wait_until(lambda: heard.count("anything") == 2)
        store.channel.publish({"key_ready"})
        os._exit(0 if ready and wait_until(lambda: "key_2" in heard) else 1)
    assert wait_until(lambda: "key_ready" in heard)
    store.channel.publish({"key_2"})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wait_until(lambda: "key_2" in heard)
    store.close()


def test_a_channel_that_is_closed_has_no_thread(database):
    """Nothing is left running."""
    store = SqlKeyStore(database)
    heard = []
    end = store.channel.subscribe(heard.append)
    assert wait_until(lambda: heard)
    thread = store.channel._thread
    end()
    thread.join(10)
    assert not thread.is_alive()
    store.close()


def test_a_store_of_an_asynchronous_driver_that_is_closed_has_no_thread(database):
    """The loop of its own ends with it, and begins again when it is used again."""
    store = SqlKeyStore(database.replace("+psycopg", "+asyncpg"))
    add(store)
    loop = store._database._door._loop
    store.close()
    assert wait_until(loop.is_closed)
    assert store.find([KEY.digest]) == KEY
    store.close()


# the event loop


def test_an_event_loop_goes_on_while_keys_are_looked_up(told, database):
    """Nothing that blocks is called in its thread; with blockbuster as the judge."""
    blockbuster = pytest.importorskip("blockbuster")
    manager = ApiKeyManager(database, pepper=PEPPER)
    issued = [manager.issue("alice") for _ in range(8)]

    async def main():
        with blockbuster.blockbuster_ctx():
            return await asyncio.gather(*(manager.verify_async(one.secret) for one in issued))

    assert [key.id for key in asyncio.run(main())] == [one.key.id for one in issued]
    manager.close()


def test_a_server_that_hangs_takes_no_thread_from_others(told, fragile):
    """The store has threads of its own."""
    store = SqlKeyStore(with_options(fragile.database(), timeout=1, pool_size=2))
    add(store)

    async def main():
        with fragile.frozen():
            waiting = [asyncio.ensure_future(store.run(lambda: store.find([KEY.digest]))) for _ in range(50)]
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 5) == 5
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} <= {DatabaseTimeout, DatabaseUnreachable, DatabaseBusy}

    asyncio.run(main())
    store.close()


def test_a_wrong_secret_is_wrong_and_not_unavailable(told, database):
    """The store answers: nobody has it."""
    manager = ApiKeyManager(database, pepper=PEPPER)
    other = ApiKeyManager("memory://", pepper=PEPPER)
    with pytest.raises(InvalidApiKey):
        manager.verify(other.issue("alice").secret)
    manager.close()


def test_a_manager_that_nobody_closed_leaves_no_connection_and_no_thread(database):
    """It is dropped with its cache warm and its listener at the server; the collector ends both."""

    def use() -> tuple[Any, Any]:
        manager = ApiKeyManager(database, pepper=PEPPER)
        manager.verify(manager.issue("alice").secret)
        pool, channel = manager.store._database.engine.pool, manager.store.channel
        assert wait_until(lambda: channel._connection is not None)
        assert pool.checkedin() == 1
        return channel._connection, pool

    connection, pool = use()
    assert wait_until(lambda: gc.collect() >= 0 and connection.closed)
    assert wait_until(lambda: gc.collect() >= 0 and pool.checkedin() == 0)
