"""Numbers that a rule of whoever gives them out tells: payment cards, bank accounts, US social security numbers.

What can be checked is checked: issuer, length, check digits, country.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mobius_otel.telemetry.redaction.hits import Hits, each, is_alnum, replace_spans
from mobius_otel.telemetry.redaction.names import word_set

__all__ = [
    "IBAN_BEGIN",
    "IN_GROUPS",
    "NUMBERS",
    "cards",
    "ibans",
    "is_card",
    "may_be_card",
    "may_be_iban",
    "may_be_ssn",
    "ssns",
]

# --- payment cards ------------------------------------------------------------------------------------------

_COMPACT = re.compile(r"[0-9]{14,}+")
_GROUPED = re.compile(
    r"[2-6][0-9]{3}([ \-.+\u00a0])(?:[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3}(?![0-9]))?|[0-9]{6}\1[0-9]{4,5})"
    r"(?![0-9])"
)
_NOT_DIGITS = re.compile(r"[^0-9]+")
_HEX = re.compile(r"[0-9a-fA-F]*+")
# First digits (as a range of six), lengths.
_ISSUERS = (
    (400000, 499999, (16, 19)), (510000, 559999, (16,)), (222100, 272099, (16,)), (340000, 349999, (15,)),
    (370000, 379999, (15,)), (601100, 601199, (16,)), (644000, 659999, (16,)), (300000, 305999, (14,)),
    (309500, 309599, (14,)), (360000, 369999, (14,)), (380000, 399999, (14,)), (352800, 358999, (16,)),
    (620000, 629999, (16, 17, 18, 19)), (676770, 676774, (16,)),
    (501800, 501899, (16, 18, 19)), (502000, 502099, (16, 18, 19)),
    (503800, 503899, (16, 18, 19)), (589300, 589399, (16, 18, 19)), (630400, 630499, (16, 18, 19)),
    (675900, 675999, (16, 18, 19)), (676100, 676399, (16, 18, 19)), (650000, 650999, (16,)),
)  # fmt: skip
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def is_card(digits: str) -> bool:
    """Return whether `digits` have the issuer, the exact length and the check digit of a payment card.

    Example:
        >>> is_card("4111111111111111"), is_card("4111111111111112"), is_card("9" * 16)
        (True, False, False)
    """
    numbers, length = digits.encode(), len(digits)
    if (sum(numbers[-1::-2]) + sum(numbers[-2::-2].translate(_DOUBLED)) - 48 * length) % 10:
        return False  # first, for it spares nine of ten the search
    head = int(digits[:6])
    return any(low <= head <= high and length in lengths for low, high, lengths in _ISSUERS)


def _inside_hash(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 64) : start], _HEX.match(text, end, end + 64)
    left = len(before) - len(before.rstrip("0123456789abcdefABCDEF"))
    return left + (after.end() - after.start() if after else 0) + end - start >= 32


def _compact_cards(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _COMPACT.finditer(text):
        start, end = found.span()
        if end - start > 19 or not is_card(found.group()):
            continue
        if text[start - 1 : start] == "." and text[max(0, start - 2) : start - 1].isdigit():
            continue  # the digits behind a decimal point
        if end - start > 16 and text[start - 1 : start] == "_":
            continue  # an id: "blk_4568377692254637284"
        if not _inside_hash(text, start, end):
            yield start, end, "card"


def _grouped_cards(text: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    while found := _GROUPED.search(text, at):
        start, end = found.span()
        at = start + 5  # when it is none, one may begin at the next group
        if start and text[start - 1].isdigit():
            continue
        digits = _NOT_DIGITS.sub("", found.group())
        if is_card(digits):
            at = end
        elif len(digits) == 19 and is_card(digits[:16]):
            end = at = end - 4  # a card and a number behind it
        else:
            continue
        yield start, end, "card"


def cards(text: str, hits: Hits) -> str:
    """Find payment cards, written in one piece or in their usual groups; a longer run of digits is none."""
    return replace_spans(replace_spans(text, _grouped_cards(text), hits), _compact_cards(text), hits)


# --- bank accounts and social security numbers --------------------------------------------------------------

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
#: Of these all that follows the country is digits (the registry of ISO 13616); one in a hundred of other texts of their
#: length would pass the check.
_DIGITS_ALONE = word_set(
    "AE AT BA BE BI CR CZ DE DJ DK EE EG ES FI FO GL HR HU IL IS LT LY ME MN MR NO PL PT RS SD SE SI SK SO ST TL TN"
    " VA XK"
)
# Digits first: the engine looks for them quickly, and few stand behind two letters.
_IBAN = re.compile(
    r"[0-9]{2}(?<=[A-Za-z][A-Za-z][0-9][0-9])(?<![0-9A-Za-z][A-Za-z]{2}[0-9]{2})[ \-\u00a0]?[0-9A-Za-z]{4}"
)
_UUID_BEGIN = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-")
_SSN = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")


def _mod97(iban: str) -> bool:
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _iban_end(text: str, start: int, length: int) -> int:
    """Return where an IBAN of `length` characters that begins at `start` ends, or -1."""
    seen, at = 0, start
    while at < len(text) and seen < length:
        character = text[at]
        if character.isascii() and character.isalnum():
            seen += 1
        elif character not in " -\u00a0" or text[at - 1] == character:
            return -1
        at += 1
    ends = seen == length and not (at < len(text) and is_alnum(text[at]))
    return at if ends else -1


def _iban_at(text: str, start: int) -> int:
    """Return where an IBAN that begins at a place ends, or -1 where there is none."""
    country = text[start : start + 2].upper()
    length = _IBAN_LENGTHS.get(country)
    if length is None or (start and is_alnum(text[start - 1])):
        return -1
    if _UUID_BEGIN.match(text, start):
        return -1  # one in a hundred that begin like a country's pass the check
    end = _iban_end(text, start, length)
    compact = "".join(filter(str.isalnum, text[start:end])) if end > 0 else ""
    if not compact or (country in _DIGITS_ALONE and not compact[2:].isdigit()):
        return -1
    return end if (compact.isupper() or compact.islower()) and _mod97(compact.upper()) else -1


def _iban_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IBAN.finditer(text):
        start = found.start() - 2
        end = _iban_at(text, start) if start >= 0 else -1
        if end > 0:
            yield start, end, "iban"


def ibans(text: str, hits: Hits) -> str:
    """Find international bank account numbers by country, exact length and check digits."""
    return replace_spans(text, _iban_spans(text), hits) if len(text) >= 15 else text


def _ssn_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _SSN.finditer(text):
        start, end = found.span()
        number = found.group()
        around = text[max(0, start - 1) : start] + text[end : end + 1]
        if any(is_alnum(character) or character in "-_" for character in around):
            continue
        if number[:3] in {"000", "666"} or number[0] == "9" or number[4:6] == "00" or number[7:] == "0000":
            continue  # was never given out
        yield start, end, "ssn"


def ssns(text: str, hits: Hits) -> str:
    """Find US social security numbers; those that were never given out stay."""
    return replace_spans(text, _ssn_spans(text), hits) if text.count("-") > 1 else text


# --- places at which one of these may stand -----------------------------------------------------------------
# For the screen, over texts in lines of their own. Each looks for more than its detector finds, never for less.

_FOURTEEN = b"0" * 14
#: Digits as 0, what may stand between digits of one number as a hyphen, everything else as a letter.
NUMBERS = bytes(48 if 48 <= n <= 57 else (45 if n in b" .-()/+\xa0" else 97) for n in range(256))
#: The groups that cards, social security numbers and telephone numbers of America are written in.
IN_GROUPS = re.compile(rb"000(?:0{11}|0-0000-0000-|0-000000-0000|-00-0000|--?000-0000)")
_CARD_GROUPS = (b"0000-0000-0000-", b"0000-000000-0000")
#: Two letters and two digits, in the shape of texts.
IBAN_BEGIN = re.compile(rb"-aa00(?=-?[a0]{4})")


def may_be_card(text: str, numbers: bytes) -> list[int]:
    """Return where a payment card may stand.

    Args:
        text: The texts.
        numbers: Their :data:`NUMBERS`.
    """
    places = []
    at = numbers.find(_FOURTEEN)
    while at >= 0 and (found := _COMPACT.match(text, at)):
        if len(found.group()) < 20 and is_card(found.group()):
            places.append(at)
        at = numbers.find(_FOURTEEN, found.end())
    for group in _CARD_GROUPS:
        for at in each(numbers, group) if group in numbers else ():
            grouped = _GROUPED.match(text, at)
            digits = _NOT_DIGITS.sub("", grouped.group()) if grouped else ""
            if digits and (is_card(digits) or is_card(digits[:16])):
                places.append(at)
    return places


def may_be_iban(text: str, shape: bytes) -> list[int]:
    """Return where an account number may begin.

    Args:
        text: The texts.
        shape: Their digits as 0, their letters as a, everything else as a hyphen.
    """
    begins = [found.start() + 1 for found in IBAN_BEGIN.finditer(shape)]
    return [at for at in begins if _iban_at(text, at) > 0]


def may_be_ssn(text: str, numbers: bytes) -> list[int]:
    """Return where a social security number may stand; see :func:`may_be_card`."""
    return [at for at in each(numbers, b"000-00-0000") if _SSN.match(text, at)]
