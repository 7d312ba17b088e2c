"""A labelled corpus of what services log: secrets by kind, carrier and place, and what only looks like one.

Every record is made from a seed by templates; no value in it was ever valid. What counts as a secret:

- credentials of any kind, and the names and shapes under which the vendors document them;
- data of payment and of identity: cards, CVV, PIN, IBAN, social security numbers;
- **personal data that identifies a person by itself: e-mail addresses, phone numbers, IP addresses.** They are
  labelled as such wherever they stand in text or under a neutral name. An IP address under a name that says that
  it is the address of a network peer (``client.address``, ``server.address``) is an attribute of the telemetry
  conventions that operators rely on, and has to stay.

What may go with a secret or stay counts neither way: the user before a password in a URL, the scheme before a
credential, the attributes of a cookie.

Look-alikes are far denser than in life, and clean texts speak of passwords and tokens all the time: a share of
damaged records tells how redactors compare, not what a service would see.

Two parts: ``tuning``, for looking at what is missed while detectors are written, and ``held_out``, which is only
ever counted. They share the vendors' formats (there is one of each) and nothing else: sentences, names of keys,
carriers, families of records and seeds are different.
"""

from __future__ import annotations

from random import Random

from . import held_out, held_out_words, tuning, tuning_words
from .envelopes import ENVELOPES
from .kit import Kit
from .model import CARRIERS, Path, Record, Secret, settle

__all__ = ["CARRIERS", "PARTS", "Path", "Record", "Secret", "generate"]

PARTS = {"tuning": (tuning.FAMILIES, tuning_words.WORDS), "held_out": (held_out.FAMILIES, held_out_words.WORDS)}


def generate(part: str, n: int, seed: int = 1, *, whole: bool = False) -> list[Record]:
    """Return `n` labelled records.

    Args:
        part: ``tuning`` or ``held_out``.
        n: How many.
        seed: The same seed gives the same records.
        whole: Whether each stands in what a service would write around it, about a kilobyte; every third of them
            is then one without a secret, beside those that the part has anyway.

    Raises:
        KeyError: There is no such part.
    """
    families, words = PARTS[part]
    rng = Random(f"{part}:{seed}:whole" if whole else f"{part}:{seed}")
    kit = Kit(rng, words)
    chosen = rng.choices(list(families), weights=list(families.values()), k=n)
    if not whole:
        return [settle(family.__name__, family(kit)) for family in chosen]
    clean = [family for family in families if family.__name__.startswith("clean")]
    around = ENVELOPES[part]
    records = []
    for number, family in enumerate(chosen):
        inside = kit.of(clean) if number % 3 == 0 else family
        records.append(settle(inside.__name__, kit.of(around)(kit, inside(kit))))
    return records
