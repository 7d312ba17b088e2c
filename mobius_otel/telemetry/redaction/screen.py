"""Tells of many texts at once which of them may hold a secret, and of what sort, so that the others need no look.

A record has dozens of short texts, and looking at each costs more for the calls than for the characters. So they are
joined, and every question is asked once for all: is there an at sign, a name before a colon that tells something, a
run of fourteen digits, a long word? Whatever answers yes is a place in one of the texts, and that text is scanned for
what the question was about.

The questions are wider than the detectors that they stand for: what a detector would find is always suspected. Tests
hold the two together.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import reduce
from itertools import accumulate
from operator import or_

from mobius_otel.telemetry.redaction.checked_numbers import (
    IBAN_BEGIN,
    IN_GROUPS,
    NUMBERS,
    is_card,
    may_be_card,
    may_be_iban,
    may_be_ssn,
)
from mobius_otel.telemetry.redaction.commands import FLAG_BEGIN, SETTING_WORDS
from mobius_otel.telemetry.redaction.escapes import MOST_TIMES, escaped_runs, read, without_colours
from mobius_otel.telemetry.redaction.gate import gate
from mobius_otel.telemetry.redaction.hits import SHAPE, WORDS
from mobius_otel.telemetry.redaction.pairs import PairScanner
from mobius_otel.telemetry.redaction.personal import (
    FEWEST_COLONS,
    NATIONAL_BEGIN,
    THREE_NUMBERS,
    may_be_american,
    may_be_ipv4,
    may_be_ipv6,
    may_be_login_or_email,
    may_be_phone,
)
from mobius_otel.telemetry.redaction.sentences import TELLING_WORDS
from mobius_otel.telemetry.redaction.sorts import (
    ADDRESS,
    ANYTHING,
    AT,
    CARD,
    COLOUR,
    ESCAPED,
    FLAG,
    HEAD,
    IBAN,
    INNER,
    JWT,
    OWN,
    PAIR,
    PEM,
    PHONE,
    SENTENCE,
    SIBLING,
    SSN,
    TOKEN,
)
from mobius_otel.telemetry.redaction.tokens import OWN_BEGIN, TokenScreen, may_be_jwt, may_be_own, pem_begins

__all__ = ["IDS", "Screen", "holds_for_all", "is_id", "templates"]

_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_HEX_ZEROS = bytes.maketrans(b"abcdef", b"0" * 6)
#: The forms of ids and digests, which are never the same again, also as entity tags; and whether one is never a number,
#: whatever its digits are: it has too many characters, or too few.
IDS = {
    around % form: not 14 <= len(form) < 32
    for form in (b"00000000-0000-0000-0000-000000000000", *(b"0" * length for length in range(8, 129)))
    for around in (b"%b", b'"%b"', b'W/"%b"')
}
#: Two countries' accounts are as long as the first four groups of a UUID.
_ACCOUNTS = frozenset({"ba", "ee"})
#: A character that is no letter and no digit, three bytes at most; and a blank or the like in a telephone number.
_GAP, _BLANK = r"[^0-9A-Za-z]{1,3}", r"(?:[ .\-/]|\xc2\xa0)"
#: What the digits themselves decide, all of them made the same.
_DIGITS_DECIDE = re.compile(
    "|".join((
        rf"0{{14}}|0000{_GAP}0000{_GAP}0000{_GAP}|0000{_GAP}000000{_GAP}0000",  # a card
        rf"000{_GAP}00{_GAP}0000|000{_GAP}{_GAP}?000{_GAP}0000",  # a number of a person, an American telephone number
        r"\+0",  # any other
        rf"(?<![0-9A-Za-z_+&#$\-/:.])\(?00(?:{_BLANK}00){{4}}",
        rf"(?<![0-9A-Za-z_+&#$\-/:.])\(?000{{0,4}}\)?(?:{_BLANK}0{{3,4}}{_BLANK}0{{3,4}}|{_BLANK}{{1,3}}0{{5,9}})",
        r"0\.0{1,3}\.0{1,3}\.0|::|(?::[0-9A-Fa-f]{1,4}){6}",  # an address
        rf"(?<![0-9A-Za-z])[A-Za-z]{{2}}00(?:{_GAP})?[0-9A-Za-z]{{4}}",  # an account
        r"%0",  # what is escaped
        # a digit of a rule's own: "7z", "sq0atp-", "$2b$", "pat-na1-", "Basic …"
        r"(?<![0-9A-Za-z])0za?[ \t]|sq0(?:at|cs)p-|pat-[a-z]{2}0-|AT[AC]TT0|ya00\.|sk-or-v0-|webhookb0",
        r"0//0|(?<![0-9A-Za-z])A0-|sha000~|fo0_|fm0[ar]?_|k0s-aws-v0\.",
        r"\$(?:0[abxy]?|argon0[a-z]{0,2})\$|pbkdf0|[bB][aA][sS][iI][cC][ \t]",
    )).encode("latin-1")
)  # fmt: skip
_MANY = 100
_FOURTEEN = b"0" * 14  # digits, of the shortest card
_UNBROKEN = _FOURTEEN  # letters and digits; no token of a vendor has fewer in one piece
_ALNUM = bytes(48 if shown != 45 else 45 for shown in SHAPE)


def templates(texts: Sequence[str]) -> list[bytes]:
    """Return texts with all digits made the same; two texts of one template say the same of different things."""
    if len(texts) == 1:  # the rest was seen before, and this is an id
        return [texts[0].encode("utf-8", "surrogatepass").translate(_ZEROS)]
    joined = "\0".join(texts).encode("utf-8", "surrogatepass").translate(_ZEROS)
    forms = joined.split(b"\0")
    if len(forms) != len(texts):  # there is a zero in one of them
        return [text.encode("utf-8", "surrogatepass").translate(_ZEROS) for text in texts]
    return forms


def is_id(text: str, form: bytes) -> bool:
    """Return whether a text is a UUID, a digest, an entity tag or a number as a whole, and no card and no account.

    Args:
        text: The text.
        form: Its template.
    """
    sure = IDS.get(form.translate(_HEX_ZEROS))
    if sure is None or text[:2] in _ACCOUNTS:
        return False
    return sure or _FOURTEEN not in form or (text.isdigit() and not is_card(text))


def holds_for_all(form: bytes) -> bool:
    """Return whether all texts of a template are clean when one of them is: no digit in it decides anything."""
    return _UNBROKEN not in form.translate(_ALNUM) and _DIGITS_DECIDE.search(form) is None


class Screen:
    """Suspects texts under one policy.

    Args:
        pairs: What names in texts tell.
        off: Kinds that are not looked for.
        everything: Whether every text is to be scanned: a user's own patterns may find something anywhere.
    """

    __slots__ = ("_everything", "_gate", "_pairs", "_tokens", "_words")

    def __init__(self, pairs: PairScanner, off: frozenset[str] = frozenset(), *, everything: bool = False) -> None:
        self._pairs = pairs
        self._tokens = TokenScreen(off)
        self._words = self._tokens.words | TELLING_WORDS | SETTING_WORDS
        self._everything = everything
        self._gate = gate(off)

    def suspects(self, texts: Sequence[str], times: int = 0) -> dict[int, int]:
        """Return what each text may hold: the sorts, as bits, by the index of the text; none for a clean one.

        Args:
            texts: The texts.
            times: Out of how many texts, one in the other, they were read.
        """
        joined = "\n" + "\n".join(texts)
        low = joined if joined.isascii() else joined.lower()
        # A letter whose lower case is two: the places would not be the same.
        if self._everything or (low is not joined and len(low) != len(joined)):
            return dict.fromkeys(range(len(texts)), ANYTHING)
        if ("}" in joined or "]" in joined or '"' in joined) and (documents := _documents(texts)):
            rest = [index for index in range(len(texts)) if index not in documents]
            others = self.suspects([texts[index] for index in rest], times) if rest else {}
            return documents | {rest[index]: sorts for index, sorts in others.items()}
        found = self._places(texts, joined, low, times)
        suspects: dict[int, int] = {}
        if "\x1b[" in joined:  # a name or a value may be cut in two by a colour
            plain = [without_colours(text) for text in texts]
            coloured = [index for index, text in enumerate(texts) if plain[index] != text]
            shown = self.suspects([plain[index] for index in coloured], times) if coloured else {}
            suspects = dict.fromkeys([coloured[index] for index in shown], COLOUR)
        if found and len(texts) == 1:
            suspects[0] = reduce(or_, [sort for sort, _ in found], suspects.get(0, 0))
        elif found:
            ends = list(accumulate([len(text) + 1 for text in texts]))
            for sort, places in found:
                for place in places:
                    index = bisect_right(ends, place - 1)
                    suspects[index] = suspects.get(index, 0) | sort
            if len(suspects) > 1:  # words come in any order; what was found is told in the order of the texts
                suspects = dict(sorted(suspects.items()))
        return suspects

    def says_nothing(self, line: str) -> bool:
        """Return whether a line holds nothing, and no name of what stands in the lines before it or behind it.

        Args:
            line: One that no digit decides anything in; see :func:`holds_for_all`.
        """
        low = line.lower()
        return not (
            not line.isascii()
            or self.suspects([line])
            or FLAG_BEGIN.search(line)  # of a command tells what follows, also in the next line, and is no name
            or "into" in low  # columns may be of many words
            or "copy" in low
            or "\x1b" in line  # a colour may cut anything
            or self._pairs.tells(line)
        )

    def _places(self, texts: Sequence[str], text: str, low: str, times: int) -> list[tuple[int, list[int]]]:
        """Return the places of each sort of suspicion in texts that stand in lines of their own.

        Args:
            texts: The texts.
            text: All of them, each behind a line break.
            low: The same where they are ASCII, else in lower case.
            times: As for :meth:`suspects`.
        """
        raw = text.encode("latin-1", "replace")
        asked, words = self._asked(raw, text, low)
        found: list[tuple[int, list[int]]] = []
        # Each question stands behind what answers it with no for most texts, and is here, for a call takes as long.
        if (":" in text or "=" in text or ">" in text) and (places := self._pairs.suspect(text)):
            found.append((PAIR, places))
        if (
            asked & SIBLING
            and (
                "'" in text
                or '"' in text
                or ">" in text
                or "|" in text
                or "Secret" in text or "  " in text or "\t" in text
                or ("=" in text and ")=(" in text)
            )
            and (places := self._pairs.suspect_siblings(text))
        ):  # fmt: skip
            found.append((SIBLING, places))
        if "%" in text and (runs := escaped_runs(text)):
            # Of many, whoever scans them finds out, and once is enough; what is escaped too often is blanked.
            few = len(runs) < _MANY and times < MOST_TIMES
            escaped = self.suspects([read(run.group()) for run in runs], times + 1) if few else range(len(runs))
            found.append((ESCAPED, [runs[index].start() for index in escaped]))
        if asked & AT and ("@" in text or ("%" in text and "%40" in text)) and (places := may_be_login_or_email(text)):
            found.append((AT, places))
        if asked & PEM and "-----BEGIN" in text and (places := pem_begins(text)):
            found.append((PEM, places))
        if (
            asked & FLAG
            and (FLAG_BEGIN.search(text) or not words.isdisjoint(SETTING_WORDS))
            and (places := self._pairs.suspect_flags(text, words))
        ):
            found.append((FLAG, places))
        if asked & SENTENCE:
            telling = words & TELLING_WORDS
            if (telling or low is not text) and (places := self._pairs.suspect_sentences(text, telling)):
                found.append((SENTENCE, places))
        # Of texts of one line each, none holds what stands below a head.
        if asked & HEAD and text.count("\n") > len(texts) and (places := self._heads(texts)):
            found.append((HEAD, places))
        if asked & TOKEN and (places := self._tokens.vendors(text, words)):
            found.append((TOKEN, places))
        if asked & INNER and (places := self._tokens.inner(text, words)):
            found.append((INNER, places))
        if asked & JWT and "J" in text and "eyJ" in text and (places := may_be_jwt(text)):
            found.append((JWT, places))
        if asked & OWN and OWN_BEGIN.search(text):
            found.append((OWN, may_be_own(text)))
        if asked & ADDRESS:
            if ":" in text and ("::" in text or text.count(":") > FEWEST_COLONS) and (places := may_be_ipv6(text)):
                found.append((ADDRESS, places))
            if THREE_NUMBERS.search(raw) and (places := may_be_ipv4(text, raw)):
                found.append((ADDRESS, places))
        if asked & IBAN and IBAN_BEGIN.search(shape := raw.translate(SHAPE)) and (places := may_be_iban(text, shape)):
            found.append((IBAN, places))
        if asked & CARD and IN_GROUPS.search(numbers := raw.translate(NUMBERS)):
            if places := may_be_card(text, numbers):
                found.append((CARD, places))
            if places := may_be_ssn(text, numbers):
                found.append((SSN, places))
            if places := may_be_american(numbers):
                found.append((PHONE, places))
        if asked & PHONE and ("+" in text or NATIONAL_BEGIN.search(text)) and (places := may_be_phone(text)):
            found.append((PHONE, places))
        return found

    def _heads(self, texts: Sequence[str]) -> list[int]:
        """Return the places of texts of several lines in which a head may tell something."""
        places, at = [], 1
        for text in texts:
            if "\n" in text and self._pairs.suspect_heads(text):
                places.append(at)
            at += len(text) + 1
        return places

    def _asked(self, raw: bytes, text: str, low: str) -> tuple[int, AbstractSet[bytes]]:
        """Return which questions are to be asked, as sorts, and the words that are to be searched for."""
        asked, words = (ANYTHING, None) if self._gate is None else self._gate(raw)
        if words is not None and low is text:
            return asked, words
        lower = raw if low is text else low.encode("latin-1", "replace")
        words = self._words.intersection(lower.translate(WORDS).split())
        return asked | SENTENCE, words  # a Kelvin sign is a k in lower case


_DOCUMENTS, _ENDS = frozenset({"{}", "[]"}), frozenset('}]"')


def _documents(texts: Sequence[str]) -> dict[int, int]:
    """Suspect what may be JSON of anything: it is parsed, and what is in it is looked at then.

    A text in quotes is the same without them, unless something in it is escaped.
    """
    suspects = {}
    for index, text in enumerate(texts):
        last = text.rstrip()[-1:]  # most that holds a bracket or a quote ends with something else
        if last in _ENDS:
            ends = text.lstrip()[:1] + last
            if ends in _DOCUMENTS or (ends == '""' and "\\" in text):
                suspects[index] = ANYTHING
    return suspects
