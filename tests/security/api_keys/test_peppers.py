"""Peppers that follow one another, and tags that nobody else can make."""

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys.digests import Peppers
from mobius_otel.security.api_keys.secret import generate, parse
from tests.security.api_keys.conftest import PEPPER
from tests.security.api_keys.test_manager import reason

NEW = "a newer made-up pepper"


def again(manager, **more):
    """Another manager over the same store."""
    return ApiKeyManager(manager.store, ttl=1000, clock=manager.clock, **more)


def test_a_new_pepper_takes_over_key_by_key(manager):
    """Both are accepted; what is used is digested anew; then the old one can go."""
    used, unused = manager.issue("alice"), manager.issue("bob")
    both = again(manager, pepper=[NEW, PEPPER])
    (new, old) = both.pepper_labels
    assert dict(both.census()[1]) == {old: 2}
    assert both.verify(used.secret).id == used.key.id
    assert dict(both.census()[1]) == {new: 1, old: 1}
    after = again(manager, pepper=NEW)
    assert after.verify(used.secret).id == used.key.id
    assert reason(after, unused.secret) == "unknown"
    assert reason(again(manager, pepper=PEPPER), used.secret) == "unknown"
    assert both.verify(unused.secret)
    assert dict(both.census()[1]) == {new: 2}


def test_processes_that_know_the_new_pepper_but_do_not_use_it_yet_accept_both(manager):
    """The first step in a fleet: nobody is locked out while it is rolled out."""
    first = again(manager, pepper=[PEPPER, NEW])
    second = again(manager, pepper=[NEW, PEPPER])
    issued = [manager.issue("alice"), second.issue("bob")]
    for one in issued * 3:
        assert first.verify(one.secret).id == one.key.id
        assert second.verify(one.secret).id == one.key.id


def test_a_pepper_may_come_later(told, clock, url):
    """What was digested without one is accepted where that is said, and taken over; a dead key is left as it is."""
    before = ApiKeyManager(url, clock=clock)
    issued, revoked = before.issue("alice"), before.issue("bob")
    before.revoke(revoked.key.id)
    assert before.pepper_labels == ("none",)
    assert reason(again(before, pepper=NEW), issued.secret) == "unknown"
    both = again(before, pepper=[NEW, None])
    assert both.verify(issued.secret)
    assert reason(both, revoked.secret) == "revoked"
    assert dict(both.census()[1]) == {both.pepper_labels[0]: 1, "none": 1}
    assert again(before, pepper=NEW).verify(issued.secret)


def test_a_key_of_a_file_without_labels_is_labelled_at_its_first_use(told, clock, tmp_path):
    """Version 1 of the file did not know of several peppers."""
    import sqlite3

    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER, clock=clock)
    issued = manager.issue("alice")
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute("UPDATE api_keys SET pepper = ''")
    manager.verify(issued.secret)
    assert dict(manager.census()[1]) == {manager.pepper_labels[0]: 1}


def test_a_store_that_cannot_be_written_refuses_nobody(manager, monkeypatch):
    """The digest is taken over later."""
    issued = manager.issue("alice")
    both = again(manager, pepper=[NEW, PEPPER])
    real = both.store.changing
    monkeypatch.setattr(both.store, "changing", lambda: 1 / 0)
    assert both.verify(issued.secret).id == issued.key.id
    monkeypatch.setattr(both.store, "changing", real)
    manager.clock.advance(5)
    assert both.verify(issued.secret)
    assert again(manager, pepper=NEW).verify(issued.secret)


@pytest.mark.parametrize("peppers", [[], ["a", "a"], ["a", None, None], [""], [5], ["a", bytearray(b"b")]], ids=repr)
def test_peppers_that_cannot_be_are_refused(peppers):
    """None at all, one twice, an empty one."""
    with pytest.raises(ConfigurationError, match="pepper"):
        Peppers(peppers)


def test_a_tag_keeps_forged_keys_from_the_store(manager):
    """A right checksum is not enough any more, and the tag of another pepper neither."""
    tagged = again(manager, pepper=PEPPER, mac=True)
    issued = tagged.issue("alice")
    assert tagged.verify(issued.secret).owner == "alice"
    finds = []
    real = tagged.store.find
    tagged.store.find = lambda digests: (finds.append(1), real(digests))[1]
    other = again(manager, pepper=NEW, mac=True)
    for forged in [
        *(generate("mob", "live") for _ in range(200)),
        other.issue("bob").secret,
        manager.issue("x").secret,
    ]:
        assert reason(tagged, forged) == "malformed"
    assert finds == []
    assert tagged.verify(tagged.rotate(issued.key.id).secret)


def test_tags_come_without_an_outage(manager):
    """In between both are accepted, and new keys have one."""
    plain = manager.issue("alice")
    between = again(manager, pepper=PEPPER, mac="transition")
    issued = between.issue("bob")
    for one in (plain, issued):
        assert between.verify(one.secret).id == one.key.id
    assert again(manager, pepper=PEPPER, mac=True).verify(issued.secret)
    assert again(manager, pepper=[NEW, PEPPER], mac=True).verify(issued.secret)
    assert parse(plain.secret)
    for wrong in ({"pepper": None, "mac": True}, {"pepper": PEPPER, "mac": "yes"}):
        with pytest.raises(ConfigurationError, match="mac"):
            ApiKeyManager("memory://", **wrong)
