"""A key's life, over every store."""

import asyncio
import copy
import io
import json
import logging
import math
import pickle
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest

from mobius_otel.errors import (
    ConfigurationError,
    InsufficientScope,
    InvalidApiKey,
    KeyNotFound,
    KeyThrottled,
    RotationConflict,
)
from mobius_otel.security import ApiKeyManager, KeyState
from mobius_otel.security.api_keys import MemoryKeyStore
from mobius_otel.security.api_keys.secret import generate
from tests.security.api_keys.conftest import PEPPER


def reason(manager, secret, **more):
    """Why a secret is refused; None: it is not."""
    try:
        manager.verify(secret, **more)
    except InvalidApiKey as error:
        return error.reason
    return None


def test_an_issued_key_opens_and_keeps_what_was_said(manager, clock):
    """Every field, through the store and back."""
    issued = manager.issue(
        "svc-ä", scopes={"read", "write"}, name="nightly", ttl=timedelta(seconds=50), tenant="t-1",
        issued_by="root", metadata={"team": "pay", "n": [1, {"x": None}]},
    )  # fmt: skip
    key = manager.verify(issued.secret, scopes={"read"})
    assert key == issued.key
    assert manager.get(issued.key.id) == replace(key, last_used_at=clock())
    assert (key.owner, key.name, key.tenant, key.issued_by) == ("svc-ä", "nightly", "t-1", "root")
    assert key.scopes == frozenset({"read", "write"})
    assert key.metadata == {"team": "pay", "n": [1, {"x": None}]}
    assert (key.created_at, key.expires_at) == (clock(), clock() + 50)
    assert (key.state, key.generation, key.lineage_id, key.environment) == (KeyState.ACTIVE, 1, key.id, "live")


def test_a_caller_cannot_change_what_is_stored(manager):
    """The metadata it gets is its own."""
    issued = manager.issue("alice", metadata={"team": "pay"})
    issued.key.metadata["team"] = "evil"
    manager.get(issued.key.id).metadata["team"] = "evil"
    assert manager.get(issued.key.id).metadata == {"team": "pay"}


def test_a_key_ends_at_exactly_its_expiry(manager, clock):
    """A moment before, it opens."""
    issued = manager.issue("alice")
    clock.advance(999.99)
    manager.verify(issued.secret)
    clock.advance(0.01)
    assert reason(manager, issued.secret) == "expired"
    assert manager.get(issued.key.id).state is KeyState.EXPIRED


def test_a_key_without_ttl_never_ends(told, clock, url):
    """By the manager or by the call."""
    manager = ApiKeyManager(url, ttl=None, pepper=PEPPER, clock=clock)
    issued = [manager.issue("alice"), manager.issue("bob", ttl=math.inf)]
    clock.advance(1e9)
    assert [manager.verify(key.secret).expires_at for key in issued] == [None, None]


@pytest.mark.parametrize(
    ("held", "required", "good"),
    [
        ({"read"}, {"read"}, True),
        ({"read"}, set(), True),
        ({"read"}, {"read", "write"}, False),
        (set(), {"read"}, False),
        ({"*"}, {"read", "anything:at:all"}, True),
        ({"refund:*"}, {"refund:create"}, True),
        ({"refund:*"}, {"refund:eu:create"}, True),
        ({"refund:*"}, {"refund"}, False),
        ({"refund:*"}, {"refunds:create"}, False),
        ({"refund:*"}, {"*"}, False),
        ({"refund:eu:*"}, {"refund:us:create"}, False),
        ({"refund:create"}, {"refund:*"}, False),
    ],
)
def test_all_required_scopes_must_be_held(manager, held, required, good):
    """With wildcards that cover what begins alike."""
    issued = manager.issue("alice", scopes=held)
    if good:
        assert manager.verify(issued.secret, scopes=required).id == issued.key.id
    else:
        with pytest.raises(InsufficientScope) as caught:
            manager.verify(issued.secret, scopes=required)
        assert caught.value.required == frozenset(required)


def test_every_refusal_has_the_same_text(manager, clock):
    """The reason is a field, for telemetry alone."""
    expired, revoked, retired = manager.issue("a", ttl=1), manager.issue("b"), manager.issue("c")
    manager.revoke(revoked.key.id)
    manager.rotate(retired.key.id, grace_period=0)
    clock.advance(1)
    presented = {
        "expired": expired.secret,
        "revoked": revoked.secret,
        "retired": retired.secret,
        "unknown": generate("mob", "live"),
        "malformed": "mob_live_x",
    }
    texts = set()
    for why, secret in presented.items():
        with pytest.raises(InvalidApiKey) as caught:
            manager.verify(secret)
        assert caught.value.reason == why
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_a_key_of_another_environment_opens_nothing(told, clock, url):
    """Even in the same store and with the same pepper."""
    live = ApiKeyManager(url, pepper=PEPPER, clock=clock)
    test = ApiKeyManager(live.store, pepper=PEPPER, environment="test", clock=clock)
    assert reason(live, test.issue("alice").secret) == "unknown"


def test_a_new_prefix_leaves_old_keys_working(told, clock, url):
    """A brand may be renamed."""
    before = ApiKeyManager(url, pepper=PEPPER, clock=clock)
    after = ApiKeyManager(before.store, pepper=PEPPER, prefix="acme", clock=clock)
    assert after.verify(before.issue("alice").secret).owner == "alice"
    assert after.issue("bob").secret.startswith("acme_live_")


def test_another_pepper_opens_nothing(told, clock, url):
    """What is stored is worth nothing without it."""
    manager = ApiKeyManager(url, pepper=PEPPER, clock=clock)
    issued = manager.issue("alice")
    assert (
        reason(ApiKeyManager(manager.store, pepper="another made-up pepper", clock=clock), issued.secret) == "unknown"
    )


def test_a_manager_without_pepper_says_so_once(told, caplog):
    """And one with a pepper says nothing."""
    caplog.set_level(logging.WARNING, "mobius_otel")
    ApiKeyManager("memory://", pepper=PEPPER)
    assert not caplog.records
    manager = ApiKeyManager("memory://")
    manager.verify(manager.issue("alice").secret)
    assert len(caplog.records) == 1


def test_the_old_secret_works_until_its_grace_ends(manager, clock):
    """At exactly its end it is out; the new one goes on."""
    old = manager.issue("alice", scopes={"read"}, metadata={"a": 1}, name="n", tenant="t")
    clock.advance(10)
    new = manager.rotate(old.key.id, grace_period=timedelta(seconds=20))
    assert new.secret != old.secret
    key = new.key
    assert (key.generation, key.rotated_from, key.lineage_id) == (2, old.key.id, old.key.lineage_id)
    assert (key.owner, key.scopes, key.metadata, key.name, key.tenant) == (
        "alice", frozenset({"read"}), {"a": 1}, "n", "t",
    )  # fmt: skip
    assert key.expires_at == clock() + 1000
    assert manager.verify(old.secret).state is KeyState.RETIRING
    clock.advance(19.99)
    manager.verify(old.secret)
    clock.advance(0.01)
    assert reason(manager, old.secret) == "retired"
    assert manager.verify(new.secret).state is KeyState.ACTIVE


def test_no_grace_ends_the_old_secret_at_once(manager):
    """A secret that leaked."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, grace_period=0)
    assert reason(manager, old.secret) == "retired"
    manager.verify(new.secret)


def test_grace_never_outlives_the_key_itself(manager, clock):
    """Its own expiry comes first."""
    old = manager.issue("alice", ttl=30)
    manager.rotate(old.key.id)
    clock.advance(30)
    assert reason(manager, old.secret) == "expired"


def test_the_same_request_again_gives_the_same_successor_without_its_secret(manager, clock):
    """Also long after; another request is a conflict."""
    old = manager.issue("alice")
    new = manager.rotate(old.key.id, request_id="r-1")
    clock.advance(500)
    again = manager.rotate(old.key.id, request_id="r-1")
    assert (again.key, again.secret) == (manager.get(new.key.id), None)
    for other in ("r-2", None):
        with pytest.raises(RotationConflict):
            manager.rotate(old.key.id, request_id=other)
    assert len(manager.list()) == 2
    assert manager.rotate(new.key.id, request_id="r-1").secret


def test_only_an_active_key_is_rotated(manager, clock):
    """The error says what stands in the way."""
    revoked, expired = manager.issue("a"), manager.issue("b", ttl=1)
    manager.revoke(revoked.key.id)
    clock.advance(1)
    for issued, state in ((revoked, "revoked"), (expired, "expired")):
        with pytest.raises(RotationConflict, match=state):
            manager.rotate(issued.key.id)


def test_a_revocation_holds_at_once_and_for_ever(manager, clock):
    """Also when the clock goes back, also for a retiring key, and a second one changes nothing."""
    issued = manager.issue("alice")
    manager.rotate(issued.key.id)
    revoked = manager.revoke(issued.key.id, reason="leaked")
    assert revoked.state is KeyState.REVOKED
    assert reason(manager, issued.secret) == "revoked"
    clock.advance(-500)
    assert reason(manager, issued.secret) == "revoked"
    assert manager.revoke(issued.key.id).revoked_at == revoked.revoked_at


def test_purge_removes_what_has_been_dead_for_long_enough(manager, clock):
    """By whichever deadline came first; a dry run only counts."""
    expired = manager.issue("a", ttl=100)
    revoked = manager.issue("b")
    retired = manager.issue("c")
    alive = manager.issue("d", ttl=None)
    successor = manager.rotate(retired.key.id, grace_period=10)
    manager.revoke(revoked.key.id)
    clock.advance(100)
    assert manager.purge(older_than=100, dry_run=True) == 1
    assert len(manager.list()) == 5
    assert manager.purge(older_than=timedelta(seconds=100)) == 1
    assert manager.purge(older_than=0) == 2
    assert {key.id for key in manager.list()} == {alive.key.id, successor.key.id}
    assert reason(manager, expired.secret) == "unknown"
    assert manager.purge() == 0
    with pytest.raises(ConfigurationError):
        manager.purge(older_than=-1)


def test_list_is_by_owner_and_state_oldest_first(manager, clock):
    """Both or none."""
    first = manager.issue("alice")
    clock.advance(1)
    second = manager.issue("bob")
    clock.advance(1)
    third = manager.issue("alice")
    manager.revoke(third.key.id)
    assert [key.id for key in manager.list()] == [first.key.id, second.key.id, third.key.id]
    assert [key.id for key in manager.list(owner="alice", state="active")] == [first.key.id]
    assert [key.id for key in manager.list(state=KeyState.REVOKED)] == [third.key.id]
    with pytest.raises(ConfigurationError, match="retiring"):
        manager.list(state="dead")


@pytest.mark.parametrize("call", ["get", "rotate", "revoke"])
def test_an_unknown_id_is_named_and_a_secret_in_its_place_is_not(manager, call):
    """Somebody pastes the wrong thing."""
    with pytest.raises(KeyNotFound, match="key_0000"):
        getattr(manager, call)("key_0000")
    secret = manager.issue("alice").secret
    for wrong in (secret, secret[:-3], None, 5, "x" * 100_000):
        with pytest.raises(KeyNotFound) as caught:
            getattr(manager, call)(wrong)
        assert secret[:20] not in repr(caught.value) + str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "given",
    [
        {"owner": ""}, {"owner": "  "}, {"owner": None}, {"owner": "a" * 257}, {"owner": "a\nb"}, {"owner": "\ud800"},
        {"scopes": "read"}, {"scopes": {"a b"}}, {"scopes": {""}}, {"scopes": [5]}, {"scopes": 5}, {"scopes": {'"'}},
        {"ttl": 0}, {"ttl": -1}, {"ttl": "1d"}, {"ttl": math.nan}, {"ttl": True}, {"ttl": timedelta(0)},
        {"metadata": {"a": print}}, {"metadata": {1: 2}}, {"metadata": {"a": "x" * 9000}}, {"metadata": []},
        {"metadata": {"a": math.nan}}, {"name": 5}, {"tenant": "\0"}, {"issued_by": "\x1b[31m"},
    ],
    ids=str,
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_before_anything_is_stored(manager, given):
    """At issue, by name."""
    with pytest.raises(ConfigurationError):
        manager.issue(**{"owner": "alice", **given})
    assert manager.list() == []


def test_blank_names_are_no_names(manager, told):
    """And cost no audit record."""
    key = manager.issue("alice", name=" ", tenant="", issued_by=" ").key
    manager.revoke(key.id, reason=" ", revoked_by="")
    assert (key.name, key.tenant, key.issued_by) == ("", None, None)
    assert [event["audit.actor.id"] for event in told.events()] == ["mobius_otel"] * 2


@pytest.mark.parametrize(
    "given",
    [{"prefix": "Mob"}, {"prefix": ""}, {"prefix": "a_b"}, {"environment": "1a"}, {"environment": "a" * 17}, {"ttl": 0},
     {"grace_period": -1}, {"audit_success": "sometimes"}, {"pepper": ""}],
    ids=repr,
)  # fmt: skip
def test_a_manager_refuses_what_cannot_be(given):
    """At construction."""
    with pytest.raises(ConfigurationError):
        ApiKeyManager("memory://", **{"pepper": PEPPER, **given})


def test_scopes_as_one_text_are_an_error_and_not_a_refusal(manager):
    """Iterating over its letters would refuse everybody."""
    with pytest.raises(ConfigurationError):
        manager.verify(manager.issue("alice", scopes={"*"}).secret, scopes="read")


def test_a_throttled_source_is_refused_before_the_look_up(told, clock, url):
    """Refused look-ups are noted; malformed keys and missing scopes are not."""
    wait, noted = {"192.0.2.9": 7.0}, []
    manager = ApiKeyManager(
        url, pepper=PEPPER, clock=clock, throttle=lambda source: wait.get(source, 0.0), on_rejected=noted.append
    )
    issued = manager.issue("alice")
    with pytest.raises(KeyThrottled) as caught:
        manager.verify(issued.secret, source="192.0.2.9")
    assert caught.value.retry_after == 7.0
    manager.verify(issued.secret, source="192.0.2.1")
    assert reason(manager, "mob_live_x", source="192.0.2.9") == "malformed"
    assert reason(manager, generate("mob", "live"), source="192.0.2.1") == "unknown"
    with pytest.raises(InsufficientScope):
        manager.verify(issued.secret, scopes={"x"}, source="192.0.2.1")
    manager.revoke(issued.key.id)
    assert reason(manager, issued.secret, source="192.0.2.2") == "revoked"
    assert reason(manager, issued.secret) == "revoked"
    assert noted == ["192.0.2.1", "192.0.2.2"]
    get = {"mobius.api_key.operation": "get"}
    assert told.metrics.value("mobius.api_key.store.duration", get) > 0
    assert 3 <= told.metrics.count("mobius.api_key.store.duration", get) <= 4  # the rest is cached, from the channel on


def test_last_use_is_noted_once_a_minute(manager, clock, monkeypatch):
    """Never back in time, nothing else of the record, and the very last one at the end."""
    writes = []
    real = manager.store.touch
    monkeypatch.setattr(manager.store, "touch", lambda used: (writes.append(dict(used)), real(used)))
    issued = manager.issue("alice")
    begin = clock()
    for second in range(130):
        manager.verify(issued.secret)
        if second % 10 == 0:
            assert manager.get(issued.key.id).last_used_at == begin + second // 60 * 60
        clock.advance(1)
    assert [list(used.values()) for used in writes] == [[begin], [begin + 60], [begin + 120]]
    manager.store.touch({issued.key.id: begin - 5})
    manager.verify(issued.secret)
    manager.close()
    assert manager.get(issued.key.id).last_used_at == begin + 130
    manager.revoke(issued.key.id)
    manager.store.touch({issued.key.id: begin + 131})
    assert manager.get(issued.key.id).state is KeyState.REVOKED


def test_a_last_use_that_cannot_be_written_refuses_nobody(manager, monkeypatch):
    """It is no reason."""

    def fail(used):
        raise OSError("disk full")

    monkeypatch.setattr(manager.store, "touch", fail)
    assert manager.verify(manager.issue("alice").secret).owner == "alice"


def test_every_call_has_an_asynchronous_twin(manager):
    """With the same answers, and the same errors."""

    async def live():
        issued = await manager.issue_async("alice", scopes={"read"})
        assert (await manager.verify_async(issued.secret, scopes={"read"})).owner == "alice"
        assert (await manager.get_async(issued.key.id)).id == issued.key.id
        new = await manager.rotate_async(issued.key.id, grace_period=0)
        assert len(await manager.list_async(owner="alice")) == 2
        assert (await manager.revoke_async(new.key.id)).state is KeyState.REVOKED
        with pytest.raises(InvalidApiKey):
            await manager.verify_async(new.secret)
        assert await manager.purge_async(older_than=0) == 2
        await manager.close_async()

    asyncio.run(live())


def test_a_secret_is_shown_by_nothing_but_its_attribute(manager, caplog):
    """Not by repr, str, format, pickle, copy, vars, JSON, logs or tracebacks with local variables."""
    caplog.set_level(logging.DEBUG)
    issued = manager.issue("alice")
    secret = issued.secret
    shown = [repr(issued), str(issued), f"{issued}", f"{issued!r:>5}", f"{vars(type(issued))}", repr(issued.key),
             repr(manager), repr(manager.store)]  # fmt: skip
    logging.getLogger("shop").warning("issued %s %r", issued, issued)
    for fails in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars):
        with pytest.raises(TypeError):
            fails(issued)
    new = manager.rotate(issued.key.id, grace_period=0)
    manager.verify(new.secret)
    out = io.StringIO()
    for wrong in (secret, secret[:-1] + "!"):
        with pytest.raises(InvalidApiKey) as caught:
            manager.verify(wrong)
        # Frames of this test hold the secret rightly; none of the package's may.
        stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        frames = [frame for frame in stack if "/security/api_keys/manager.py" in frame.filename]
        assert frames
        out.write("".join(repr(frame.locals) for frame in stack if "/tests/" not in frame.filename))
        assert caught.value.__context__ is None
    for text in [*shown, caplog.text, out.getvalue()]:
        for hidden in (secret, new.secret):
            assert hidden[9:40] not in text


def frames_with(text, call):
    """Return the frames of the error that a call raises, and of those that led to it, in which a text stands."""
    found, error = [], None
    try:
        call()
    except BaseException as raised:
        error = raised
    assert error is not None
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                names = [name for name, value in frame.f_locals.items() if text in repr(value)]
                found += [f"{frame.f_code.co_filename}:{frame.f_code.co_name}:{name}" for name in names]
        error = error.__cause__ or error.__context__
    return found


class Gone(MemoryKeyStore):
    """A store that does not answer."""

    blocking = True

    def find(self, digests):
        raise OSError("gone")


@pytest.mark.parametrize(
    "call",
    [
        lambda manager, secret: manager.verify(secret),
        lambda manager, secret: manager.verify(secret, scopes="read"),
        lambda manager, secret: asyncio.run(manager.verify_async(secret, scopes="read")),
        lambda manager, secret: manager.verify(secret, source="192.0.2.9"),
        lambda manager, secret: manager.identify(secret),
        lambda manager, secret: asyncio.run(manager.identify_async(secret)),
        lambda manager, secret: manager.import_key(secret, ""),
        lambda manager, secret: manager.import_key(secret, "alice"),
        lambda manager, secret: manager.import_key(secret + "!", "alice"),
        lambda manager, secret: manager.import_key(f"sk-{secret}", "alice"),
        lambda manager, secret: manager.import_key(secret, "alice", kind="sha256"),
        lambda manager, secret: manager.import_key(secret, "alice", kind="bcrypt"),
        lambda manager, secret: asyncio.run(manager.import_key_async(secret + "!", "alice")),
        lambda manager, secret: ApiKeyManager("memory://", pepper=secret[:12]),
        lambda manager, secret: ApiKeyManager("memory://", pepper={"pepper": secret}),
        lambda manager, secret: ApiKeyManager("memory://", pepper=secret, prefix="?"),
        lambda manager, secret: ApiKeyManager("nowhere://", pepper=[secret, secret]),
    ],
)
def test_the_frames_of_an_error_hold_no_secret(told, call):
    """Error trackers show the variables of each."""
    manager = ApiKeyManager(Gone(), pepper=PEPPER, imported=["sk-[a-z_A-Z0-9]+"], throttle=lambda source: None)
    secret = generate("mob", "live")
    assert frames_with(secret[:12], lambda: call(manager, secret)) == []


def test_a_manager_that_was_refused_can_be_printed():
    """By whoever prints the variables of the error's frames."""
    manager = ApiKeyManager.__new__(ApiKeyManager)
    for given in ({"pepper": "short"}, {"pepper": PEPPER, "store": "nowhere://"}):
        with pytest.raises(ConfigurationError):
            manager.__init__(**{"store": "memory://", **given})
        assert repr(manager) == "ApiKeyManager()"


def test_the_store_holds_no_secret(told, clock, tmp_path):
    """Not in any of its files, not in part."""
    manager = ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", pepper=PEPPER, clock=clock)
    secrets = [manager.issue("alice").secret]
    secrets.append(manager.rotate(manager.list()[0].id).secret)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("keys.db*"))
    assert len(raw) > 4096
    for secret in secrets:
        assert secret.encode()[9:21] not in raw
        assert PEPPER.encode() not in raw


def test_a_store_object_is_taken_as_it_is():
    """And one that lacks methods is refused by their names."""
    store = MemoryKeyStore()
    assert ApiKeyManager(store, pepper=PEPPER).store is store
    with pytest.raises(ConfigurationError, match="changing"):
        ApiKeyManager(object(), pepper=PEPPER)
