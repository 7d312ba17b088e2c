"""Every store of ours, and one that a reader would write, pass the kit."""

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mobius_otel.security.api_keys import MemoryKeyStore, SqliteKeyStore, SqlKeyStore
from mobius_otel.security.api_keys.stores.protocol import take_census
from mobius_otel.testing import KeyStoreKit


def engine_url(postgres):
    """The URL of an empty database as SQLAlchemy itself knows it."""
    return postgres.database().partition("&timeout=")[0]


class TestMemory(KeyStoreKit):
    """In the memory of the process."""

    def make_store(self, folder):
        return MemoryKeyStore()


class TestSqlite(KeyStoreKit):
    """In a file."""

    def make_store(self, folder):
        return SqliteKeyStore(folder / f"{len(list(folder.iterdir()))}.db")


class TestPostgres(KeyStoreKit):
    """In a database, past SQLAlchemy's layers where it matters."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.postgres = postgres

    def make_store(self, folder):
        return SqlKeyStore(self.postgres.database())


class TestPostgresByCore(TestPostgres):
    """With an engine of one's own."""

    def make_store(self, folder):
        sa = pytest.importorskip("sqlalchemy")
        return SqlKeyStore(sa.create_engine(engine_url(self.postgres), pool_size=5), timeout=30)


class TestPostgresByAsyncEngine(TestPostgres):
    """With an asynchronous engine of one's own, and the event loop that the store has for it."""

    def make_store(self, folder):
        create_async_engine = pytest.importorskip("sqlalchemy.ext.asyncio").create_async_engine
        return SqlKeyStore(create_async_engine(engine_url(self.postgres)), timeout=30)


class TestPostgresByAsyncpg(TestPostgres):
    """With another driver, by URL."""

    def make_store(self, folder):
        pytest.importorskip("asyncpg")
        return SqlKeyStore(self.postgres.database().replace("+psycopg", "+asyncpg"))


class TestSqliteBySqlalchemy(KeyStoreKit):
    """What is said to PostgreSQL is understood elsewhere."""

    def make_store(self, folder):
        pytest.importorskip("sqlalchemy")
        return SqlKeyStore(f"sqlite+pysqlite:///{folder / str(len(list(folder.iterdir())))}.db?timeout=20")


class DictionaryStore:
    """A store as somebody would write it: a dictionary and a lock."""

    blocking = False

    def __init__(self):
        self._stored = {}
        self._jobs = {}
        self._lock = threading.RLock()

    def find(self, digests):
        return next((one for one in self._stored.values() if one.digest in digests), None)

    def get(self, key_id):
        return self._stored[key_id].key if key_id in self._stored else None

    def list(self, selection):
        found = [one.key for one in self._stored.values() if selection.matches(one.key)]
        return sorted(found, key=lambda key: (key.created_at, key.id))[: selection.most]

    @contextmanager
    def changing(self):
        with self._lock:
            before = dict(self._stored)
            try:
                yield self
            except BaseException:
                self._stored = before
                raise

    def add(self, stored):
        if stored.key.id in self._stored or self.find([stored.digest]):
            raise ValueError("it is there already")
        self._stored[stored.key.id] = stored

    def change(self, key_id, values, expect=None):
        stored = self._stored.get(key_id)
        if stored is None or any(getattr(stored.key, name) != value for name, value in (expect or {}).items()):
            return False
        beside = {name: values[name] for name in ("digest", "pepper", "verifier") if name in values}
        of_key = {name: value for name, value in values.items() if name not in beside}
        self._stored[key_id] = replace(stored, key=replace(stored.key, **of_key), **beside)
        return True

    def purge(self, dead_by, most):
        dead = self._dead(dead_by)[:most]
        for key_id in dead:
            del self._stored[key_id]
        return len(dead)

    def _dead(self, by):
        since = {key_id: stored.key.dead_since for key_id, stored in self._stored.items()}
        return [key_id for key_id, at in since.items() if at is not None and at <= by]

    def touch(self, used):
        with self._lock:
            for key_id, at in used.items():
                key = self.get(key_id)
                if key is not None and (key.last_used_at is None or key.last_used_at < at):
                    self._stored[key_id] = replace(self._stored[key_id], key=replace(key, last_used_at=at))

    def count_dead(self, dead_by):
        return len(self._dead(dead_by))

    def census(self, now, within):
        return take_census([one.key for one in self._stored.values()], now, within)

    def peppers(self):
        return Counter(one.pepper for one in self._stored.values())

    def claim(self, job, period, holder):
        with self._lock:
            last = self._jobs.get(job)
            if last is not None and last - 1 <= period <= last:
                return False
            self._jobs[job] = period
            return True

    def close(self):
        pass


class TestDictionary(KeyStoreKit):
    """As the page about stores shows it."""

    def make_store(self, folder):
        return DictionaryStore()


def test_the_kit_says_what_it_needs(tmp_path):
    """A class that forgets make_store fails."""
    with pytest.raises(NotImplementedError):
        KeyStoreKit().test_keys_are_counted_by_their_pepper(tmp_path)


BROKEN = {
    "test_a_key_is_found_by_its_digest_alone": ("find", lambda self, digests: next(
        (one for one in self._stored.values() if one.digest.lower() in [digest.lower() for digest in digests]), None
    )),
    "test_noting_the_last_use_brings_no_key_back": ("touch", lambda self, used: [
        self._stored.__setitem__(one, replace(
            self._stored[one], key=replace(self._stored[one].key, last_used_at=at, revoked_at=None)
        )) for one, at in used.items()
    ]),
    "test_a_change_compares_before_it_sets": ("change", lambda self, key_id, values, expect=None: True),
    "test_a_period_of_a_job_is_taken_once": ("claim", lambda self, job, period, holder: True),
    "test_what_has_been_dead_long_enough_is_removed": ("count_dead", lambda self, dead_by: 0),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_the_kit_finds_what_is_wrong(tmp_path, name):
    """A kit that cannot fail proves nothing."""
    method, wrong = BROKEN[name]
    broken = type("Broken", (DictionaryStore,), {method: wrong})
    kit = KeyStoreKit()
    kit.make_store = lambda folder: broken()
    with pytest.raises(AssertionError):
        getattr(kit, name)(tmp_path)


def test_an_engine_of_the_loop_is_used_there(postgres):
    """The store that is made inside of a loop uses it; it never waits for the loop it stands on."""
    from sqlalchemy.ext.asyncio import create_async_engine

    from mobius_otel.errors import KeyStoreUnavailable
    from mobius_otel.security import ApiKeyManager

    async def main():
        engine = create_async_engine(engine_url(postgres).replace("+psycopg", "+asyncpg"))
        async with engine.connect():  # its pool belongs to this loop now
            pass
        store = SqlKeyStore(engine)
        manager = ApiKeyManager(store, pepper="a made-up pepper")
        issued = await manager.issue_async("alice")
        keys = await asyncio.gather(*(manager.verify_async(issued.secret) for _ in range(8)))
        assert {key.owner for key in keys} == {"alice"}
        with pytest.raises(KeyStoreUnavailable):
            manager.list()
        await engine.dispose()

    asyncio.run(main())
