"""Numbers and addresses of people: e-mail, cards, bank accounts, social security, telephone, network.

What can be checked is checked: issuer, length, check digits, country.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from mobius_otel.telemetry.redaction.hits import Hits, each, replace_spans

__all__ = [
    "FEWEST_COLONS",
    "IBAN_BEGIN",
    "IN_GROUPS",
    "NATIONAL_BEGIN",
    "NUMBERS",
    "THREE_NUMBERS",
    "cards",
    "email",
    "ibans",
    "ipv4_addresses",
    "ipv6_addresses",
    "is_card",
    "may_be_american",
    "may_be_card",
    "may_be_iban",
    "may_be_ipv4",
    "may_be_ipv6",
    "may_be_login_or_email",
    "may_be_phone",
    "may_be_ssn",
    "phones",
    "ssns",
]

# --- e-mail -------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+\-])([\w.+\-]{1,64}+)(?:@|%40)([A-Za-z0-9][A-Za-z0-9\-]{0,62}+(?:\.[A-Za-z0-9\-]{1,63}+){1,8}+)",
    re.ASCII,
)
_NO_DOMAIN = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "ts", "tsx", "jsx", "py", "html", "htm",
     "json", "map", "service", "socket", "timer", "mount", "target"}
)  # fmt: skip


def _is_domain(name: str) -> bool:
    last = name.rpartition(".")[2]
    return len(last) > 1 and last.isalpha() and last.lower() not in _NO_DOMAIN


def _email_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _EMAIL.finditer(text):
        if not _is_domain(found.group(2)):
            continue
        if found.group(1) == "git" and text[found.end() : found.end() + 1] in {":", "/"}:
            continue  # git@github.com:… is an address of code
        if found.group(1) == "x-oauth-basic":
            continue  # what stands for no password beside a token
        yield found.start(), found.end(), "email"


def email(text: str, hits: Hits) -> str:
    """Find e-mail addresses; addresses of repositories and file names such as ``icon@2x.png`` stay."""
    return replace_spans(text, _email_spans(text), hits) if "@" in text or "%40" in text else text


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
    ends = seen == length and not (at < len(text) and text[at].isalnum())
    return at if ends else -1


def _iban_at(text: str, start: int) -> int:
    """Return where an IBAN that begins at a place ends, or -1 where there is none."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None or (start and text[start - 1].isalnum()):
        return -1
    if _UUID_BEGIN.match(text, start):
        return -1  # one in a hundred that begin like a country's pass the check
    end = _iban_end(text, start, length)
    compact = "".join(filter(str.isalnum, text[start:end])) if end > 0 else ""
    return end if compact and (compact.isupper() or compact.islower()) and _mod97(compact.upper()) else -1


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
        if any(character.isalnum() or character in "-_" for character in around):
            continue
        if number[:3] in {"000", "666"} or number[0] == "9" or number[4:6] == "00" or number[7:] == "0000":
            continue  # was never given out
        yield start, end, "ssn"


def ssns(text: str, hits: Hits) -> str:
    """Find US social security numbers; those that were never given out stay."""
    return replace_spans(text, _ssn_spans(text), hits) if text.count("-") > 1 else text


# --- telephone numbers and addresses of the network ---------------------------------------------------------

# ITU-T E.164: a plus, a country code, 8 to 15 digits in all; and the national forms that people write with blanks,
# hyphens or brackets. Digits in one piece without a plus are no telephone number: a name has to say so.
_E164 = re.compile(r"\+[1-9][0-9]{0,2}(?:[ \-.\u00a0]?\(?[0-9]{1,5}\)?){1,6}(?![0-9])")
_AMERICAN = re.compile(
    r"(?:1[ \-.])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?P<by>[\-. ]))[2-9][0-9]{2}"
    r"(?(by)(?P=by)|[\-. ])[0-9]{4}(?![0-9])"
)
_NATIONAL = re.compile(
    r"\(?0(?:[1-9](?:[ .\-][0-9]{2}){4}|[1-9][0-9]{1,4}\)?"
    r"(?:[ /\-][0-9]{3,4}[ \-][0-9]{3,4}|[ /\-]{1,3}[0-9]{5,9}))(?![0-9])"
)
_GLUE_BEFORE = frozenset("_+&#$-/:.")
_FEWEST_DIGITS = 8
_GLUE_AFTER = frozenset("_:%")


def _phone_spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    for found in pattern.finditer(text):
        start, end = found.span()
        digits = len(_NOT_DIGITS.sub("", found.group()))
        before, after = text[start - 1 : start], text[end : end + 2]
        if not _FEWEST_DIGITS <= digits <= 15 or before.isalnum() or before in _GLUE_BEFORE:
            continue
        if after[:1].isalnum() or after[:1] in _GLUE_AFTER or (after[:1] in {"-", "."} and after[1:].isdigit()):
            continue
        yield start, end, "phone"


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![0-9])")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:._])(?:[0-9A-Fa-f]{0,4}+:){2,7}+[0-9A-Fa-f]{0,4}+(?![0-9A-Za-z:])")
# What stands before a host, which is no person's, and around a version, which looks like an address.
_NO_ADDRESS = re.compile(r"[0-9A-Za-z_.$\-/@]\Z|[~^<>=]= ?\Z")
_VERSION_NEAR = re.compile(r"(?<![\w/])v(?:er)?[0-9 .:]", re.ASCII)
_VERSION_BEHIND = re.compile(r"[ ,(]{1,2}(?:version|release|patch|build[ .#]?[0-9])")
_MANY = 100  # no version counts two of its parts so far


def _is_version(near: str) -> bool:
    """Return whether what stands before four numbers, in lower case, speaks of a version."""
    return (
        "version" in near or "releas" in near or "upgrad" in near or "downgrad" in near or "build" in near
        or "install" in near or "package" in near or "bump" in near or "patch" in near
        or _VERSION_NEAR.search(near) is not None
    )  # fmt: skip


def _octets(address: str) -> list[int]:
    """Return the parts of an address of IPv4; none where it is this host, no host, every host or a version."""
    octets = [int(part) for part in address.split(".")]
    if octets[0] in {0, 127, 255} or (max(octets) < 30 and octets[0] != 10):  # people number low
        return []
    return octets


def _ipv4_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV4.finditer(text):
        start, end = found.span()
        after = text[end : end + 2]
        if after[:1].isalnum() or after[:1] in {"_", "-"} or (after[:1] == "." and after[1:].isdigit()):
            continue
        if _NO_ADDRESS.search(text[max(0, start - 3) : start]):
            continue
        octets = _octets(found.group())
        if not octets or (after[:1] == "/" and octets[3] == 0):
            continue  # a network
        if sum(octet >= _MANY for octet in octets) < 2 and (
            _is_version(text[max(0, start - 32) : start].lower()) or _VERSION_BEHIND.match(text[end : end + 16].lower())
        ):
            continue
        yield start, end, "ipv4"


def _is_ipv6(value: str) -> bool:
    if sum(map(str.isdigit, value)) < 2 or len(value) < 6:
        return False  # a name of C++, a time, ::1
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def _ipv6_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV6.finditer(text):
        start, end = found.span()
        if _is_ipv6(found.group()):
            yield start, end, "ipv6"


def phones(text: str, hits: Hits) -> str:
    """Find telephone numbers in the forms that people write; a run of digits alone is none."""
    for pattern in (_E164, _AMERICAN, _NATIONAL):
        text = replace_spans(text, _phone_spans(text, pattern), hits)
    return text


def ipv4_addresses(text: str, hits: Hits) -> str:
    """Find IPv4 addresses; versions, networks, hosts of URLs and this host stay."""
    return replace_spans(text, _ipv4_spans(text), hits)


def ipv6_addresses(text: str, hits: Hits) -> str:
    """Find IPv6 addresses."""
    return replace_spans(text, _ipv6_spans(text), hits) if "::" in text or text.count(":") > 6 else text


# --- places at which one of these may stand -----------------------------------------------------------------
# For the screen, over texts in lines of their own. Each looks for more than its detector finds, never for less.

_DOMAIN = re.compile(r"[\w.+\-](?:@|%40)([A-Za-z0-9][A-Za-z0-9\-]{0,62}+(?:\.[A-Za-z0-9\-]{1,63}+){1,8}+)", re.ASCII)
_PASSWORD = re.compile(r"[^\s:@]*+@", re.ASCII)
_FOURTEEN = b"0" * 14
#: Digits as 0, what may stand between digits of one number as a hyphen, everything else as a letter.
NUMBERS = bytes(48 if 48 <= n <= 57 else (45 if n in b" .-()/+\xa0" else 97) for n in range(256))
#: The groups that cards, social security numbers and telephone numbers of America are written in.
IN_GROUPS = re.compile(rb"000(?:0{11}|0-0000-0000-|0-000000-0000|-00-0000|--?000-0000)")
_CARD_GROUPS = (b"0000-0000-0000-", b"0000-000000-0000")
#: Two letters and two digits, in the shape of texts.
IBAN_BEGIN = re.compile(rb"-aa00(?=-?[a0]{4})")
#: The zero first, which is found quickly, and nothing before it that stands before no number.
NATIONAL_BEGIN = re.compile(
    r"0(?<![0-9A-Za-z_+&#$\-/:.]0)[1-9](?:[ .\-][0-9]{2}[ .\-]|[0-9]{1,4}\)?[ /\-]{1,3}[0-9]{3})"
)
#: What follows the first number of an address of IPv4.
THREE_NUMBERS = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_LONGEST_IPV6 = 40
_IN_IPV6 = "0123456789abcdefABCDEF:"
FEWEST_COLONS = 6  # of an address in which no two stand together
_SEVEN_COLONS = re.compile(r":(?:[0-9A-Fa-f]{1,4}:){6}")


def may_be_login_or_email(text: str) -> list[int]:
    """Return where an at sign may belong to an e-mail address, or to a login in a URL or a DSN."""
    places, before = [], 0
    for at in each(text, "@"):
        if _may_be_mail(text, at) or _PASSWORD.match(text, text.rfind(":", before, at) + 1, at + 1):
            places.append(at)
        before = at
    if "%40" in text:
        places += [at for at in each(text, "%40") if _may_be_mail(text, at)]
    return places


def _may_be_mail(text: str, at: int) -> bool:
    domain = _DOMAIN.match(text, at - 1)
    return domain is not None and _is_domain(domain.group(1))


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


def may_be_american(numbers: bytes) -> list[int]:
    """Return where a telephone number of America may stand; see :func:`may_be_card`."""
    return each(numbers, b"000-000-0000") + each(numbers, b"000--000-0000")


def may_be_phone(text: str) -> list[int]:
    """Return where another telephone number may stand."""
    places: list[int] = []
    if "+" in text:
        numbers = _E164.finditer(text)
        places += [found.start() for found in numbers if len(_NOT_DIGITS.sub("", found.group())) >= _FEWEST_DIGITS]
    places += [found.start() for found in NATIONAL_BEGIN.finditer(text)]
    return places


def may_be_ipv4(text: str, raw: bytes) -> list[int]:
    """Return where an address of IPv4 may stand.

    Args:
        text: The texts.
        raw: The same in latin-1.
    """
    places = []
    for found in THREE_NUMBERS.finditer(raw):
        at = found.start()
        while 48 <= raw[at - 1] <= 57:
            at -= 1
        glued = raw[at - 1 : at].isalpha() or raw[at - 1] in b"_.$-/@"  # "Chrome/125.0.0.0"
        if not glued and (address := _IPV4.match(text, at)) and _octets(address.group()):
            places.append(at)
    return places


def may_be_ipv6(text: str) -> list[int]:
    """Return where an address of IPv6 may stand."""
    colons = each(text, "::")
    if text.count(":") > FEWEST_COLONS:
        colons += [found.start() for found in _SEVEN_COLONS.finditer(text)]
    places = []
    for at in colons:
        begin = max(0, at - _LONGEST_IPV6)
        start = begin + len(text[begin:at].rstrip(_IN_IPV6))
        if (address := _IPV6.match(text, start)) and _is_ipv6(address.group()):
            places.append(at)
    return places
