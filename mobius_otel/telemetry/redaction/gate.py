"""What RE2, where it is installed, says before the screen asks anything: which of its questions need no answer.

RE2 finds many patterns in one pass. Each of these is found wherever the question of the screen that it stands for has
an answer: it is that question in the words of RE2, without what only narrows it. So the screen says the same with it
and without it, and the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from mobius_otel.compat import linear_set
from mobius_otel.telemetry.redaction.sentences import WIDE_PATTERN
from mobius_otel.telemetry.redaction.sorts import (
    ADDRESS,
    ANYTHING,
    AT,
    CARD,
    FLAG,
    IBAN,
    JWT,
    PEM,
    PHONE,
    SENTENCE,
    TOKEN,
)
from mobius_otel.telemetry.redaction.tokens import wide_pattern

__all__ = ["gate"]

# What is no character of latin-1 stands as a question mark in the text: it may be a blank, and is no letter here.
_BLANK = r"[\s\x0b\x1c-\x1f\x85\xa0?]"
_BETWEEN = r"[ .\-()/\xa0]"  # digits of one number
_QUESTIONS = (
    (AT, r"@|%40"),
    (PEM, r"-----BEGIN"),
    (FLAG, rf"{_BLANK}-[A-Za-z\-]|config(?:ure)? set |ENV |setx |requirepass|masterauth|\"(?:AUTH|auth)\""),
    (SENTENCE, WIDE_PATTERN),
    (JWT, r"eyJ"),
    (ADDRESS, r"::|:(?:[0-9A-Fa-f]{1,4}:){6}|\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    (IBAN, r"[^0-9A-Za-z][A-Za-z]{2}[0-9]{2}[^0-9A-Za-z]?[0-9A-Za-z]{4}"),
    (CARD, r"[0-9]{14}|[0-9]{4}J[0-9]{4}J[0-9]{4}J|[0-9]{4}J[0-9]{6}J[0-9]{4}".replace("J", _BETWEEN)),
    (CARD, r"[0-9]{3}J[0-9]{2}J[0-9]{4}|[0-9]{3}JJ?[0-9]{3}J[0-9]{4}".replace("J", _BETWEEN)),
    (PHONE, r"\+[1-9][0-9 \-.()\xa0]{7}"),
    (PHONE, r"[^0-9A-Za-z_+&#$\-/:.]0[1-9](?:[ .\-][0-9]{2}[ .\-]|[0-9]{1,4}\)?[ /\-]{1,3}[0-9]{3})"),
)
#: Found in all texts, each of which begins with one: where it is not, RE2 had no memory, and everything is asked.
_ALWAYS = r"\n"


@lru_cache(maxsize=8)
def gate(off: frozenset[str]) -> Callable[[bytes], int] | None:
    """Return what says which sorts of suspicion texts may give, as bits; None where RE2 is not installed.

    Args:
        off: Kinds that are not looked for.
    """
    questions = (*_QUESTIONS, (TOKEN, wide_pattern(off)))
    match = linear_set((*(pattern for _, pattern in questions), _ALWAYS))
    if match is None:
        return None
    sorts, last = [*(sort for sort, _ in questions), 0], len(questions)

    def asked(raw: bytes) -> int:
        found = match(raw)
        if not found or last not in found:
            return ANYTHING
        bits = 0
        for number in found:
            bits |= sorts[number]
        return bits

    return asked
