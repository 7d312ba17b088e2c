"""What a key store has to do, as tests: inherit from the kit, make a store, and run pytest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mobius_otel.security.api_keys import ApiKey, KeyState, KeyStore
from mobius_otel.security.api_keys.stores import Selection, StoredKey
from mobius_otel.security.api_keys.stores.protocol import take_census

__all__ = ["KeyStoreKit"]

_HOSTILE = (
    "", "key_\0", "key_\ud800", "key_' OR '1'='1", 'key_"; DROP TABLE api_keys; --', "%", "key__", "ключ", "k" * 65536,
    "key_1 ", " key_1", "KEY_1",
)  # fmt: skip
_HEARD_SECONDS = 5.0


class KeyStoreKit:
    """Tests that every key store passes.

    Inherit from it in a test module, and say how an empty store is made. Beside the methods of
    :class:`~mobius_otel.security.api_keys.KeyStore` the kit tries ``run`` and ``channel`` where there are some.

    Example::

        class TestMyStore(KeyStoreKit):
            def make_store(self, folder):
                return MyStore(folder / "keys")
    """

    #: How many threads try the same at once.
    threads = 50

    def make_store(self, folder: Path) -> KeyStore:
        """Return an empty store; `folder` is an empty folder for this test alone."""
        raise NotImplementedError("say how an empty store is made")

    @contextmanager
    def opened(self, folder: Path) -> Iterator[KeyStore]:
        """Make a store and close it when the block ends."""
        store = self.make_store(folder)
        try:
            yield store
        finally:
            store.close()

    # what is kept

    def test_a_key_comes_back_as_it_was(self, tmp_path: Path) -> None:
        """Every field of it, and what is stored beside it."""
        plain = StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1))
        full = StoredKey(_full_record(), _digest(2), "pepper-2", "$argon2id$v=19$made-up")
        with self.opened(tmp_path) as store:
            _add(store, plain, full)
            assert store.find([_digest(1)]) == plain
            assert store.find([_digest(2)]) == full
            assert store.get("key_full") == full.key
            assert list(store.list(Selection())) == [plain.key, full.key]
            found = store.find([_digest(2)])
            assert found is not None
            assert type(found.digest) is bytes

    def test_a_key_is_found_by_its_digest_alone(self, tmp_path: Path) -> None:
        """Byte for byte, and by any of several."""
        digest = b"aA" * 16
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), digest))
            _add(store, StoredKey(ApiKey(id="key_2", owner="bob"), b"\0" * 32))
            assert store.find([digest]) is not None
            assert [
                store.find([_digest(9), other]) for other in (digest.lower(), digest[:-1], digest + b"\0", b"")
            ] == ([None] * 4)
            found = store.find([_digest(9), b"\0" * 32, _digest(8)])
            assert found is not None
            assert found.key.id == "key_2"

    def test_ids_are_told_apart_by_case(self, tmp_path: Path) -> None:
        """They are base 62."""
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(ApiKey(id=f"key_{one}", owner=one), _digest(ord(one))) for one in "aA"))
            owners = [key.owner if (key := store.get(key_id)) else None for key_id in ("key_a", "key_A")]
            assert owners == ["a", "A"]
            assert [key.owner for key in store.list(Selection(owner="a"))] == ["a"]

    def test_what_no_key_is_called_is_not_there(self, tmp_path: Path) -> None:
        """Whatever somebody asks for: no error, and nobody else's key."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1)))
            for text in _HOSTILE:
                assert store.get(text) is None
                assert list(store.list(Selection(owner=text))) == []
                assert list(store.list(Selection(tenant=text, lineage=text))) == []
                with store.changing() as change:
                    assert change.get(text) is None
                    assert not change.change(text, {"revoked_at": 1.0})
            store.touch(dict.fromkeys(_HOSTILE, 5.0))
            assert [key.revoked_at or key.last_used_at for key in store.list(Selection())] == [None]

    def test_its_name_shows_no_content(self, tmp_path: Path) -> None:
        """Logs hold the names of objects."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="somebody-secret"), b"some-secret-digest" + bytes(14)))
            assert "secret" not in repr(store).replace(str(tmp_path), "")

    # lists

    def test_a_selection_means_what_it_says(self, tmp_path: Path) -> None:
        """Each condition, alone and together, in order, and in pages."""
        records = list(_many_records())
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(record, _digest(number)) for number, record in enumerate(records)))
            expected = sorted(records, key=lambda record: (record.created_at, record.id))
            assert list(store.list(Selection())) == expected
            middle = (expected[20].created_at, expected[20].id)
            for selection in (
                Selection(owner="a"), Selection(tenant="x"), Selection(lineage="key_003"), Selection(after=middle),
                Selection(expires_by=130.0), Selection(owner="b", tenant="y"), Selection(owner="a", after=middle),
                *(Selection(state=state, now=now) for state in KeyState for now in (100.0, 125.0)),
            ):  # fmt: skip
                meant = [record for record in expected if selection.matches(record)]
                assert list(store.list(selection)) == meant, selection
                assert list(store.list(replace(selection, most=2))) == meant[:2], selection
            assert list(_paged(store, 7)) == expected

    # changes

    def test_a_change_is_kept_as_a_whole_or_not_at_all(self, tmp_path: Path) -> None:
        """And what was raised in it comes out of it."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1)))
            failure = LookupError("made up")
            try:
                with store.changing() as change:
                    change.change("key_1", {"revoked_at": 5.0})
                    change.add(StoredKey(ApiKey(id="key_2", owner="bob"), _digest(2)))
                    change.purge(10.0, 10)
                    raise failure
            except LookupError as error:
                assert error is failure  # noqa: PT017 - pytest need not be installed for this module
            assert [(key.id, key.revoked_at) for key in store.list(Selection())] == [("key_1", None)]
            assert store.find([_digest(2)]) is None

    def test_a_change_sees_itself(self, tmp_path: Path) -> None:
        """What was written before is there after it."""
        with self.opened(tmp_path) as store, store.changing() as change:
            change.add(StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1)))
            assert change.change("key_1", {"retire_at": 7.0})
            assert (change.get("key_1") or ApiKey(id="", owner="")).retire_at == 7.0
            assert [key.retire_at for key in change.list(Selection(owner="alice"))] == [7.0]

    def test_a_change_compares_before_it_sets(self, tmp_path: Path) -> None:
        """With every kind of value, None among them."""
        full = _full_record()
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(replace(full, revoked_at=None), _digest(1)))
            wrongs: tuple[dict[str, Any], ...] = (
                {"generation": 2}, {"rotated_to": None}, {"request_id": "other"}, {"limit": ()}, {"expires_at": None},
                {"scopes": frozenset()}, {"revoked_at": 1.0}, {"generation": full.generation, "overlap_until": None},
            )  # fmt: skip
            for wrong in wrongs:
                with store.changing() as change:
                    assert not change.change(full.id, {"unused_since": 1.0}, wrong)
            right = {
                name: getattr(full, name)
                for name in ("generation", "rotated_to", "request_id", "limit", "expires_at", "scopes", "tenant")
            }
            with store.changing() as change:
                assert change.change(full.id, {"revoked_at": 3.5, "rotated_to": None}, {**right, "revoked_at": None})
                assert not change.change(full.id, {"revoked_at": 4.5}, {"revoked_at": None})
            changed = store.get(full.id)
            assert changed == replace(full, revoked_at=3.5, rotated_to=None)

    def test_a_key_can_be_digested_anew(self, tmp_path: Path) -> None:
        """Under a new pepper: the old digest finds nothing any more."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1), "", "$slow"))
            with store.changing() as change:
                assert change.change("key_1", {"digest": _digest(2), "pepper": "new", "verifier": None})
            assert store.find([_digest(1)]) is None
            found = store.find([_digest(1), _digest(2)])
            assert found == StoredKey(ApiKey(id="key_1", owner="alice"), _digest(2), "new", None)
            assert dict(store.peppers()) == {"new": 1}

    def test_an_id_and_a_digest_are_there_once(self, tmp_path: Path) -> None:
        """Two keys with one secret would be a riddle."""
        first = StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1))
        with self.opened(tmp_path) as store:
            _add(store, first)
            for other in (StoredKey(first.key, _digest(2)), StoredKey(ApiKey(id="key_2", owner="bob"), _digest(1))):
                assert isinstance(_tried(partial(_add, store, other)), Exception)
            assert store.find([_digest(1)]) == first
            assert len(store.list(Selection())) == 1

    def test_of_many_rotations_at_once_one_wins(self, tmp_path: Path) -> None:
        """Each reads, decides and writes; the others see what the first one did."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_old", owner="alice"), _digest(0)))
            results = _at_once(self.threads, lambda number: _rotated(store, number))
            assert results.count(True) == 1, results
            assert results.count(False) == self.threads - 1, results
            keys = store.list(Selection())
            assert len(keys) == 2
            assert keys[0].rotated_to == keys[1].id or keys[1].rotated_to == keys[0].id

    def test_of_many_comparisons_at_once_one_wins(self, tmp_path: Path) -> None:
        """Compare and set alone is enough, also for those who read nothing before."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_old", owner="alice"), _digest(0)))

            def compared(number: int) -> bool:
                with store.changing() as change:
                    return change.change("key_old", {"rotated_to": f"key_{number}"}, {"rotated_to": None})

            results = _at_once(self.threads, compared)
            assert results.count(True) == 1, results
            assert results.count(False) == self.threads - 1, results

    # the last use

    def test_the_last_use_goes_forward_only(self, tmp_path: Path) -> None:
        """And an unknown id is no error."""
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(ApiKey(id=f"key_{n}", owner="alice"), _digest(n)) for n in range(3)))
            store.touch({"key_0": 10.0, "key_1": 20.5, "key_9": 5.0})
            store.touch({"key_0": 9.0, "key_1": 30.25})
            store.touch({})
            assert [key.last_used_at for key in store.list(Selection())] == [10.0, 30.25, None]

    def test_the_last_use_of_many_keys_is_noted_at_once(self, tmp_path: Path) -> None:
        """As a busy process does it every minute."""
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(ApiKey(id=f"key_{n:04}", owner="alice"), _digest(n)) for n in range(1200)))
            store.touch({f"key_{n:04}": float(n + 1) for n in range(1200)})
            assert [key.last_used_at for key in store.list(Selection())] == [float(n + 1) for n in range(1200)]

    def test_noting_the_last_use_brings_no_key_back(self, tmp_path: Path) -> None:
        """While others revoke."""
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(ApiKey(id=f"key_{n}", owner="alice"), _digest(n)) for n in range(8)))

            def work(number: int) -> None:
                for turn in range(10):
                    if number % 2:
                        store.touch({f"key_{n}": number + turn / 100 for n in range(8)})
                    else:
                        with store.changing() as change:
                            change.change(f"key_{number}", {"revoked_at": 1.0 + turn})

            assert _at_once(8, work) == [None] * 8
            keys = {key.id: key for key in store.list(Selection())}
            assert [keys[f"key_{n}"].revoked_at for n in range(8)] == [10.0, None] * 4
            assert {key.last_used_at for key in keys.values()} == {7.09}

    # counting and removing

    def test_what_has_been_dead_long_enough_is_removed(self, tmp_path: Path) -> None:
        """At exactly its time, in batches, and nothing else."""
        deadlines = {"expires_at": 50.0, "retire_at": 60.0, "revoked_at": 70.0}
        with self.opened(tmp_path) as store:
            _add(store, *(
                StoredKey(ApiKey(id=f"key_{name}", owner="alice", **{name: at}), _digest(number))  # type: ignore[arg-type]
                for number, (name, at) in enumerate(deadlines.items())
            ), StoredKey(ApiKey(id="key_alive", owner="alice"), _digest(9)))  # fmt: skip
            assert [store.count_dead(at) for at in (49.9, 50.0, 60.0, 70.0)] == [0, 1, 2, 3]
            with store.changing() as change:
                assert change.purge(49.9, 10) == 0
            with store.changing() as change:
                assert change.purge(70.0, 2) == 2
            with store.changing() as change:
                assert change.purge(70.0, 2) == 1
            assert [key.id for key in store.list(Selection())] == ["key_alive"]
            assert [store.find([_digest(number)]) for number in range(3)] == [None] * 3
            _add(store, StoredKey(ApiKey(id="key_new", owner="alice"), _digest(0)))  # its digest is free again

    def test_a_census_agrees_with_the_records(self, tmp_path: Path) -> None:
        """State by state, at many times."""
        records = list(_many_records())
        with self.opened(tmp_path) as store:
            _add(store, *(StoredKey(record, _digest(number)) for number, record in enumerate(records)))
            for now in (0.0, 100.0, 115.0, 125.0, 130.0, 1e9):
                assert store.census(now, [5.0, 60.0]) == take_census(records, now, [5.0, 60.0])
        with self.opened(tmp_path) as empty:
            assert empty.census(0.0, [1.0]).states.keys() == set(KeyState)

    def test_keys_are_counted_by_their_pepper(self, tmp_path: Path) -> None:
        """So that somebody knows when an old one may go."""
        with self.opened(tmp_path) as store:
            assert dict(store.peppers()) == {}
            for number, pepper in enumerate(["", "a", "a"]):
                _add(store, StoredKey(ApiKey(id=f"key_{number}", owner="alice"), _digest(number), pepper))
            assert dict(store.peppers()) == {"": 1, "a": 2}

    # jobs

    def test_a_period_of_a_job_is_taken_once(self, tmp_path: Path) -> None:
        """Whoever asks, and however many; a clock that ran ahead keeps nobody out for ever."""
        with self.opened(tmp_path) as store:
            claim = store.claim
            assert [claim("rotate", 7, "a"), claim("rotate", 7, "b"), claim("purge", 7, "b")] == [True, False, True]
            assert [claim("rotate", 6, "b"), claim("rotate", 8, "b"), claim("rotate", 7, "a")] == [False, True, False]
            assert _at_once(self.threads, lambda _: claim("rotate", 9, "x")).count(True) == 1
            assert _at_once(self.threads, lambda _: claim("new", 1, "x")).count(True) == 1
            assert [claim("rotate", 10**9, "mad"), claim("rotate", 10, "a"), claim("rotate", 10, "b")] == [
                True, True, False,
            ]  # fmt: skip

    # the rest

    def test_a_closed_store_can_be_used_again(self, tmp_path: Path) -> None:
        """Closing lets go of what is open; it ends nothing. A second time does nothing."""
        with self.opened(tmp_path) as store:
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1)))
            store.close()
            store.close()
            assert store.get("key_1") is not None
            assert store.find([_digest(1)]) is not None

    def test_work_for_the_event_loop_is_done_elsewhere(self, tmp_path: Path) -> None:
        """Where the store has ``run``: not in the loop's thread, and its errors come out."""
        with self.opened(tmp_path) as store:
            run: Callable[[Callable[[], Any]], Any] | None = getattr(store, "run", None)
            if run is None:
                return
            _add(store, StoredKey(ApiKey(id="key_1", owner="alice"), _digest(1)))

            async def asked() -> None:
                assert run is not None
                found = await asyncio.gather(*(run(lambda: store.find([_digest(1)])) for _ in range(20)))
                assert [one.key.id for one in found] == ["key_1"] * 20
                try:
                    await run(lambda: 1 / 0)
                except ZeroDivisionError:
                    return
                raise AssertionError("the error was lost")

            asyncio.run(asked())

    def test_a_change_is_heard_of(self, tmp_path: Path) -> None:
        """Where the store has a ``channel``."""
        with self.opened(tmp_path) as store:
            channel = getattr(store, "channel", None)
            if channel is None:
                return
            heard: set[str | None] = set()
            ready, told = threading.Event(), threading.Event()

            def listen(key_ids: Any) -> None:
                ready.set()
                heard.update(key_ids or ())
                if {f"key_{n}" for n in range(500)} <= heard:
                    told.set()

            end = channel.subscribe(listen)
            ready.wait(_HEARD_SECONDS)
            channel.publish({f"key_{n}" for n in range(500)})
            assert told.wait(_HEARD_SECONDS), len(heard)
            end()


def _digest(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


def _add(store: KeyStore, *stored: StoredKey) -> None:
    with store.changing() as change:
        for one in stored:
            change.add(one)


def _full_record() -> ApiKey:
    return ApiKey(
        id="key_full", owner='o\'wn"er; --', name="name \\ %s :x ü 🗝", scopes=frozenset({"*", "a:b", "ü"}),
        environment="test", prefix="acme", created_at=1.1, expires_at=1e18, retire_at=2.000000001, revoked_at=0.1,
        last_used_at=1795667297.223459, lineage_id="key_first", generation=12, rotated_from="key_0",
        rotated_to="key_2", overlap_until=5.5, grace_on_first_use=0.0, unused_since=7.25, request_id="r-1",
        tenant="t", networks=("10.0.0.0/8", "::1/128"), limit=("5/second", "100/hour"), issued_by="admin",
        metadata={"a": [1, None, {"b": "\0 ü \ud800"}], "": 0.5},
    )  # fmt: skip


def _many_records() -> Iterator[ApiKey]:
    for number in range(40):
        yield ApiKey(
            id=f"key_{'aAbBzZ09'[number % 8]}{number:02}",
            owner="ab"[number % 2],
            tenant=(None, "x", "y")[number % 3],
            lineage_id=f"key_00{number % 5}",
            created_at=float(number // 4),
            expires_at=None if number % 4 == 0 else 110.0 + number,
            retire_at=100.0 + number if number % 5 == 0 else None,
            unused_since=200.0 if number % 10 == 0 else None,
            revoked_at=90.0 if number % 7 == 0 else None,
            last_used_at=50.0 if number % 6 else None,
        )


def _paged(store: KeyStore, size: int) -> Iterator[ApiKey]:
    after = None
    while page := store.list(Selection(after=after, most=size)):
        yield from page
        after = (page[-1].created_at, page[-1].id)


def _rotated(store: KeyStore, number: int) -> bool:
    with store.changing() as change:
        old = change.get("key_old")
        if old is None or old.rotated_to is not None:
            return False
        new = ApiKey(id=f"key_{number}", owner="alice", created_at=1.0, generation=old.generation + 1)
        change.add(StoredKey(new, _digest(number + 1)))
        return change.change("key_old", {"rotated_to": new.id}, {"generation": old.generation, "rotated_to": None})


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return error


def _at_once(count: int, work: Callable[[int], Any]) -> Sequence[Any]:
    """Do `work` in so many threads that begin together; return what each of them gave or raised."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        results[number] = _tried(lambda: work(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
