"""The secret's form, its checksum and its digest."""

import hashlib
import random
import re
import zlib

import pytest

from mobius_otel.errors import ConfigurationError, InvalidApiKey
from mobius_otel.security.api_keys import PATTERN
from mobius_otel.security.api_keys.digests import Peppers
from mobius_otel.security.api_keys.secret import LONGEST, generate, parse

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def checksum(front):
    """The checksum as the documentation words it, worked out another way."""
    number, digits = zlib.crc32(front.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits.rjust(6, "0")


def made_up(body="A" * 43, prefix="mob", environment="live"):
    """A secret that nobody issued."""
    front = f"{prefix}_{environment}_{body}"
    return front + checksum(front)


def test_the_form_is_the_published_one():
    """Prefix, environment, 43 digits of randomness, 6 of checksum."""
    for _ in range(200):
        secret = generate("mob", "live")
        assert re.fullmatch(PATTERN, secret)
        assert len(secret) == len("mob_live_") + 43 + 6
        assert secret[-6:] == checksum(secret[:-6])
        assert parse(secret) == secret.encode()
        assert parse(secret.encode()) == secret.encode()


def test_no_two_secrets_are_alike():
    """And all of the alphabet is used."""
    made = {generate("mob", "live") for _ in range(2000)}
    assert len(made) == 2000
    assert set("".join(made)) >= set(ALPHABET)


def test_a_checksum_with_leading_zeros_is_padded():
    """Found by trying."""
    bodies = (f"{number:043d}" for number in range(100_000))
    body = next(body for body in bodies if checksum(f"mob_live_{body}").startswith("00"))
    assert parse(made_up(body))


def test_every_mistyped_character_is_noticed():
    """Each place, each with another digit of the alphabet."""
    secret = made_up()
    for place in range(len(secret)):
        other = ALPHABET[(ALPHABET.find(secret[place]) + 1) % 62]
        with pytest.raises(InvalidApiKey):
            parse(secret[:place] + other + secret[place + 1 :])


HOSTILE = [
    None, 5, 1.5, object(), [], {}, (), True, "", b"", " ", "\0", "é" * 58, "\ud800" * 58, "a" * 65536, b"\xff" * 65536,
    "१" * 58, "mob_live_", "mob__live_" + "A" * 49,
    made_up() + "\n", " " + made_up(), made_up().upper(), made_up() + "\0",
    "Bearer " + made_up(), made_up()[:-1], made_up() + "A", made_up(prefix="9ob"), made_up(prefix="MOB"),
    made_up().replace("A", "\uff21"), memoryview(b"mob_live_"), made_up() + "," + made_up(), "mob-live-" + "A" * 49,
]  # fmt: skip


@pytest.mark.parametrize("presented", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_malformed(presented):
    """Whatever it is, and whatever type it has."""
    with pytest.raises(InvalidApiKey) as caught:
        parse(presented)
    assert caught.value.reason == "malformed"


def test_ten_thousand_random_inputs_raise_nothing_else():
    """Bytes, text, and secrets with a few characters changed."""
    chance = random.Random(11)
    good = made_up()
    for _ in range(10_000):
        kind = chance.randrange(4)
        length = chance.choice([0, 1, 52, 53, 58, 83, 84, 300])
        if kind == 0:
            presented = chance.randbytes(length)
        elif kind == 1:
            presented = "".join(chr(chance.randrange(0x11_0000)) for _ in range(length))
        elif kind == 2:
            presented = "".join(chance.choice(ALPHABET + "_") for _ in range(length))
        else:
            changed = list(good)
            for _ in range(chance.randint(1, 3)):
                changed[chance.randrange(len(changed))] = chr(chance.randrange(0x250))
            presented = "".join(changed)
            if presented == good:
                continue
        with pytest.raises(InvalidApiKey):
            parse(presented)


def test_the_longest_prefix_and_environment_fit():
    """Sixteen characters each."""
    secret = generate("a" * 16, "b" * 16)
    assert len(secret) == LONGEST
    assert parse(secret)


@pytest.mark.parametrize("short", ["hunter2-hunter2", b"hunter2-hunter2", "ä" * 7])
def test_a_short_pepper_is_refused_with_the_command_that_makes_a_good_one(short):
    """Who can guess it tests a stolen store. A former one may be short: it has to be replaced somehow."""
    for given in (short, [short, "an old made-up pepper"]):
        with pytest.raises(ConfigurationError, match=r"at least 16 bytes .*token_urlsafe\(32\)") as caught:
            Peppers(given)
        assert f"'{len(short.encode() if isinstance(short, str) else short)} bytes'" in str(caught.value)
        assert "hunter2" not in str(caught.value)
    assert Peppers(["a new made-up pepper", short]).keyed
    assert Peppers("sixteen bytes ok").keyed


def test_the_digest_is_keyed_blake2b_over_the_whole_secret():
    """32 bytes; text is taken as UTF-8; a long pepper is hashed first; no pepper: no key."""
    raw = made_up().encode()
    expected = hashlib.blake2b(raw, key="pfeffer-ä-erdacht".encode(), digest_size=32).digest()
    assert Peppers("pfeffer-ä-erdacht").digest(raw) == Peppers("pfeffer-ä-erdacht".encode()).digest(raw) == expected
    long = b"p" * 200
    assert (
        Peppers(long).digest(raw)
        == hashlib.blake2b(raw, key=hashlib.blake2b(long).digest(), digest_size=32).digest()
        != Peppers(b"p" * 201).digest(raw)
    )
    assert Peppers(None).digest(raw) == hashlib.blake2b(raw, digest_size=32).digest()
    peppers = Peppers("x" * 16)
    assert peppers.digest(raw) == peppers.digest(raw) != peppers.digest(raw + b"A")


@pytest.mark.parametrize("pepper", ["", b"", 5, bytearray(b"x")])
def test_a_pepper_that_is_none_is_refused(pepper):
    """Empty, or of another type; its value is not shown."""
    with pytest.raises(ConfigurationError):
        Peppers(pepper)
