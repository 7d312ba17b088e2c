"""Keys that were made elsewhere."""

import asyncio
import base64
import hashlib
import logging
import secrets
import time

import argon2
import bcrypt
import pytest

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys.imported import entropy_bits
from mobius_otel.security.api_keys.secret import generate
from tests.security.api_keys.conftest import PEPPER
from tests.security.api_keys.test_manager import reason

FORMS = [
    r"(?P<id>[A-Za-z0-9]{8})\.[A-Za-z0-9]{32}",
    r"sk-[A-Za-z0-9_-]{20,64}",
    r"(?P<id>pin[0-9])-(?P<secret>.{4,80})",
]
FAST = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def importer(told, clock, url):
    """A manager that knows foreign forms."""
    return ApiKeyManager(url, ttl=None, pepper=PEPPER, clock=clock, imported=FORMS)


def prefixed():
    """A key as djangorestframework-api-key makes them: a part to be found by, a dot, a secret."""
    return secrets.token_hex(4) + "." + secrets.token_hex(16)


def stored_text(manager, key):
    """Everything that the store keeps of a key, as text."""
    with manager.store.changing() as change:
        if hasattr(change, "stored"):
            stored = change.stored[key.id]
            return stored.digest, stored.verifier
        if hasattr(change, "_do"):
            query = "SELECT digest, verifier FROM mobius_api_keys WHERE id = %s"
            return change._do(lambda connection: tuple(connection.exec_driver_sql(query, (key.id,)).fetchone()))
        return change._connection.execute("SELECT digest, verifier FROM api_keys WHERE id = ?", (key.id,)).fetchone()


KINDS = {
    "plain": lambda secret: secret,
    "sha256": lambda secret: hashlib.sha256(secret.encode()).hexdigest(),
    "sha256 in base64": lambda secret: base64.b64encode(hashlib.sha256(secret.encode()).digest()).decode(),
    "sha256 in urlsafe base64": lambda secret: (
        base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode().rstrip("=")
    ),
    "sha512": lambda secret: hashlib.sha512(secret.encode()).hexdigest(),
    "sha512 of djangorestframework-api-key": lambda secret: "sha512$$" + hashlib.sha512(secret.encode()).hexdigest(),
    "bcrypt": lambda secret: bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode(),
    "argon2": FAST.hash,
    "argon2 of Django": lambda secret: "argon2" + FAST.hash(secret),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_opens_under_its_old_secret_and_is_ours_from_then_on(importer, kind):
    """With our digest and no trace of the old hash, whatever it was kept as."""
    secret = prefixed()
    key = importer.import_key(
        KINDS[kind](secret), "alice", {"read"}, kind=kind.split()[0], found_by=secret[:8], tenant="t", limit="5/second"
    )
    assert (key.prefix, key.tenant, key.limit) == ("", "t", ("5/second",))
    for wrong in (secret[:-1] + "!", secret[:-1] + ("0" if secret[-1] != "0" else "1"), prefixed()):
        assert reason(importer, wrong) in {"unknown", "malformed"}
    assert importer.verify(secret, {"read"}).id == key.id
    assert stored_text(importer, key) == (importer._peppers.digest(secret.encode()), None)
    for _ in range(2):
        assert importer.verify(secret).id == key.id
    later = ApiKeyManager(
        importer.store, pepper=["another made-up pepper", PEPPER], clock=importer.clock, imported=FORMS
    )
    assert later.verify(secret).id == key.id
    new = importer.rotate(key.id)
    assert importer.verify(new.secret).prefix == "mob"
    later.revoke(key.id)
    assert reason(later, secret) == "revoked"


def test_the_slow_hash_is_asked_again_after_a_wrong_secret(importer):
    """Of the same id; and the wrong one is not remembered as right."""
    secret = prefixed()
    wrong = secret[:9] + "0" * 32
    key = importer.import_key(KINDS["bcrypt"](secret), "alice", kind="bcrypt", found_by=secret[:8])
    for _ in range(2):
        assert reason(importer, wrong) == "unknown"
    assert importer.verify(secret).id == key.id
    assert reason(importer, wrong) == "unknown"


def test_bcrypt_saw_72_bytes_alone(importer):
    """As its libraries cut in silence before version 5."""
    secret = "pin1-" + secrets.token_urlsafe(64)[:75]
    key = importer.import_key(
        bcrypt.hashpw(secret[5:].encode()[:72], bcrypt.gensalt(4)).decode(), "alice", kind="bcrypt", found_by="pin1"
    )
    assert importer.verify(secret).id == key.id


def test_a_secret_that_can_be_guessed_stays_under_a_slow_hash(importer):
    """Found by its id, compared by scrypt, for good."""
    key = importer.import_key("pin7-hunter2", "alice")
    assert stored_text(importer, key)[1].startswith("$scrypt$")
    assert importer.verify("pin7-hunter2").id == key.id
    assert stored_text(importer, key)[1].startswith("$scrypt$")
    assert reason(importer, "pin7-hunter3") == "unknown"
    begin = time.perf_counter()
    assert reason(importer, "pin8-hunter3") == "unknown"  # an id that nobody has takes as long
    assert time.perf_counter() - begin > 0.005
    hashed = importer.import_key(hashlib.sha256(b"sesame").hexdigest(), "bob", kind="sha256")
    assert importer.verify("pin3-sesame").id == hashed.id
    assert stored_text(importer, hashed)[1].startswith("$scrypt$")
    importer.clock.advance(5)
    assert importer.verify("pin3-sesame").id == hashed.id
    both = ApiKeyManager(importer.store, pepper=["a new made-up pepper", PEPPER], clock=importer.clock, imported=FORMS)
    for secret, one in (("pin7-hunter2", key), ("pin3-sesame", hashed)):
        assert both.verify(secret).id == one.id
    after = ApiKeyManager(importer.store, pepper="a new made-up pepper", clock=importer.clock, imported=FORMS)
    assert after.verify("pin7-hunter2").id == key.id


def test_a_secret_that_can_be_guessed_and_not_be_found_by_an_id_is_refused(importer, caplog):
    """At the import where it is known, at its first use where only a hash was."""
    with pytest.raises(ConfigurationError, match="112 bits"):
        importer.import_key("sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "alice")
    weak = "sk-passwordpasswordpassword"
    importer.import_key(hashlib.sha256(weak.encode()).hexdigest(), "alice", kind="sha256")
    caplog.set_level(logging.WARNING, "mobius_otel")
    assert reason(importer, weak) == "malformed"
    assert "could be guessed" in caplog.text
    assert weak not in caplog.text


def test_the_throttle_comes_before_the_cache_where_a_secret_can_be_guessed(told, clock, url):
    """Else the cache would say which guess was right."""
    wait = {}
    manager = ApiKeyManager(
        url, pepper=PEPPER, clock=clock, imported=FORMS, throttle=lambda source: wait.get(source, 0.0)
    )
    manager.import_key("pin7-hunter2", "alice")
    manager.verify("pin7-hunter2", source="192.0.2.1")
    wait["192.0.2.1"] = 5.0
    from mobius_otel.errors import KeyThrottled

    with pytest.raises(KeyThrottled):
        manager.verify("pin7-hunter2", source="192.0.2.1")


@pytest.mark.parametrize(
    ("secret", "more", "said"),
    [
        ("no such form", {}, "imported"),
        ("é", {}, "ASCII"),
        ("x" * 600, {}, "ASCII"),
        (5, {}, "ASCII"),
        ("xyz", {"kind": "sha256"}, "sha256 digest"),
        (b"xyz", {"kind": "sha512"}, "sha512 digest"),
        ("$2b$04$" + "x" * 53, {"kind": "bcrypt"}, "found_by"),
        ("hello", {"kind": "bcrypt", "found_by": "a"}, "as bcrypt writes it"),
        ("$argon2id$v=19$x", {"kind": "argon2"}, "found_by"),
        ("x", {"kind": "md5"}, "kind"),
    ],
)
def test_what_could_never_open_is_refused_at_once_without_being_shown(importer, secret, more, said):
    """And nothing is stored."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        importer.import_key(secret, "alice", **more)
    assert "xyz" not in str(caught.value)
    assert importer.list() == []


def test_a_key_is_imported_once(importer):
    """The second time says which one it is."""
    secret = prefixed()
    key = importer.import_key(secret, "alice")
    with pytest.raises(ConfigurationError, match=key.id):
        importer.import_key(secret, "bob")
    assert len(importer.list()) == 1


def test_keys_of_our_own_form_need_no_pattern(manager):
    """From one store to another; those of another environment would never open."""
    secret = generate("acme", "live")
    assert manager.verify(secret) if manager.import_key(secret, "alice") else False
    with pytest.raises(ConfigurationError, match="environment"):
        manager.import_key(generate("acme", "test"), "alice")
    with pytest.raises(ConfigurationError, match="imported"):
        manager.import_key("a" * 64, "alice", kind="sha256")


@pytest.mark.parametrize("forms", [["("], [".*"], "sk-.*", [5], ["é"], [""]], ids=repr)
def test_a_form_that_cannot_be_is_refused(forms):
    """At construction."""
    with pytest.raises(ConfigurationError, match="imported"):
        ApiKeyManager("memory://", pepper=PEPPER, imported=forms)


def test_a_library_that_is_missing_is_named_at_the_import(importer, monkeypatch):
    """With the line that installs it, and nobody is let in without it."""
    secret = prefixed()
    key = importer.import_key(KINDS["bcrypt"](secret), "alice", kind="bcrypt", found_by=secret[:8])
    monkeypatch.setitem(__import__("sys").modules, "bcrypt", None)
    with pytest.raises(MissingExtra, match=r"mobius_otel\[imports\]"):
        importer.import_key("$2b$04$" + "x" * 53, "bob", kind="bcrypt", found_by="abcd1234")
    from mobius_otel.telemetry import safety

    before = safety.raise_errors(False)
    try:
        assert reason(importer, secret) == "unknown"
    finally:
        safety.raise_errors(before)
    assert importer.get(key.id).last_used_at is None


def test_the_event_loop_goes_on_while_a_slow_hash_is_worked_out(importer):
    """It is done in a thread, for a store that never waits too."""
    importer.import_key("pin7-hunter2", "alice")

    async def live():
        ticks = 0
        task = asyncio.create_task(importer.verify_async("pin7-hunter2"))
        while not task.done():
            await asyncio.sleep(0)
            ticks += 1
        assert (await task).owner == "alice"
        assert ticks > 3
        return await importer.import_key_async("pin6-abcde", "bob")

    assert asyncio.run(live()).owner == "bob"


def test_what_is_random_is_taken_for_random_and_words_are_not():
    """The estimate, for secrets as they are made and as people make them."""
    for make in (lambda: secrets.token_hex(20), lambda: secrets.token_urlsafe(32), lambda: secrets.token_hex(32)):
        assert min(entropy_bits(make()) for _ in range(300)) > 112
    for weak in ("", "a", "a" * 100, "1234567890" * 10, "hunter2", "correct-horse-battery-staple", "Password123!" * 4):
        assert entropy_bits(weak) < 112


@pytest.mark.parametrize("form", ["sk-([A-Za-z0-9]+-?)+", "[a-z]*[a-z0-9]*!", "(a|a)*b", r"(\w+)\1", "[a-z]+[a-z0-9]+"])
def test_a_form_that_a_hostile_key_could_keep_busy_is_refused(told, form):
    """It is tried on whatever a client sends, before anything else knows about that."""
    with pytest.raises(ConfigurationError, match="a regular expression without"):
        ApiKeyManager("memory://", pepper=PEPPER, imported=[form])


@pytest.mark.parametrize(
    "form",
    [
        "[A-Za-z0-9_-]{20,}",
        r"[a-z]+_[A-Za-z0-9]+",
        r"(?P<id>\w{4,20})\.(?P<secret>\S+)",
        "(?i)tok_[0-9a-f]{40}",
        "[!-~]+",
    ],
)
def test_a_form_with_one_way_to_read_a_key_is_taken(told, form):
    """A whole key is compared from its beginning, so that a repetition may stand there."""
    assert ApiKeyManager("memory://", pepper=PEPPER, imported=[form]).list() == []
