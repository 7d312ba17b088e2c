"""How people and their machines are reached: e-mail, telephone, addresses of the network.

What cannot be one is none: a repository, a version, a host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from mobius_otel.telemetry.redaction.hits import Hits, each, is_alnum, replace_spans

__all__ = [
    "FEWEST_COLONS",
    "NATIONAL_BEGIN",
    "THREE_NUMBERS",
    "email",
    "ipv4_addresses",
    "ipv6_addresses",
    "is_message_id",
    "may_be_american",
    "may_be_ipv4",
    "may_be_ipv6",
    "may_be_login_or_email",
    "may_be_phone",
    "phones",
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


#: Programs whose nodes are called after them and the host they run on; hosts that no mail goes to.
_NODES = frozenset({"celery", "rabbit", "rabbitmq", "emqx", "ejabberd", "vernemq", "riak", "couchdb"})
_INTERNAL = (".local", ".internal", ".localdomain", ".lan", ".cluster", ".intra")
_CLUSTERS = (".cluster.local", ".ec2.internal", ".compute.internal")
#: Names that an id of a message stands under, and how it looks.
_OF_MESSAGES = frozenset({"messageid", "inreplyto", "references", "msgid", "internetmessageid"})
_IDS = re.compile(r"(?:<[\w.+\-$=]{0,64}[0-9][\w.+\-$=]{0,64}@[A-Za-z0-9.\-]{1,253}>\s{0,4}){1,16}", re.ASCII)
# What an id of a message stands behind, with nothing but others of its kind between.
_MESSAGE_ID = re.compile(
    r"(?:message[\-_.]?id|in-reply-to|references|msgid|resent-message-id)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?"
    r"(?:<[\w.+\-@$]{1,128}>\s{1,4}){0,8}<\Z",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_NAME = 160


def _is_domain(name: str) -> bool:
    last = name.rpartition(".")[2]
    return len(last) > 1 and last.isalpha() and last.lower() not in _NO_DOMAIN


def _is_node(name: str, host: str) -> bool:
    """Return whether what stands before an at sign is a program on a host: ``celery@worker-1.prod.local``."""
    return host.endswith(_CLUSTERS) or (name.lower() in _NODES and (host.endswith(_INTERNAL) or "-" in host))


def is_message_id(name: object, value: str) -> bool:
    """Return whether a value is the id of a message and stands under a name that says so."""
    return (
        value[:1] == "<"
        and type(name) is str
        and name.lower().replace("-", "").replace("_", "") in _OF_MESSAGES
        and _IDS.fullmatch(value) is not None
    )


def _is_message_id(text: str, start: int, end: int) -> bool:
    """Return whether it is the id of a message, which has a digit: ``message-id=<20240117.abc@mail.example.org>``."""
    return (
        text[start - 1 : start] == "<"
        and text[end : end + 1] == ">"
        and any(map(str.isdigit, text[start : text.find("@", start)]))
        and _MESSAGE_ID.search(text, max(0, start - _LONGEST_NAME), start) is not None
    )


def _email_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _EMAIL.finditer(text):
        if not _is_domain(found.group(2)):
            continue
        if found.group(1) == "git" and text[found.end() : found.end() + 1] in {":", "/"}:
            continue  # git@github.com:… is an address of code
        if found.group(1) == "x-oauth-basic":
            continue  # what stands for no password beside a token
        if _is_node(*found.groups()) or _is_message_id(text, *found.span()):
            continue
        yield found.start(), found.end(), "email"


def email(text: str, hits: Hits) -> str:
    """Find e-mail addresses; addresses of repositories and file names such as ``icon@2x.png`` stay."""
    return replace_spans(text, _email_spans(text), hits) if "@" in text or "%40" in text else text


# --- telephone numbers and addresses of the network ---------------------------------------------------------

# ITU-T E.164: a plus, a country code, 8 to 15 digits in all; and the national forms that people write with blanks,
# hyphens or brackets. Digits in one piece without a plus are no telephone number: a name has to say so.
_NOT_DIGITS = re.compile(r"[^0-9]+")
_E164 = re.compile(r"\+[1-9][0-9]{0,2}(?:[ \-.\u00a0]?\(?[0-9]{1,5}\)?){1,6}(?![0-9])")
_AMERICAN = re.compile(
    r"(?:1[ \-.])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?P<by>[\-. ]))[2-9][0-9]{2}"
    r"(?(by)(?P=by)|[\-. ])[0-9]{4}(?![0-9])"
)
_NATIONAL = re.compile(
    r"\(?0(?:[1-9](?:[ .\-][0-9]{2}){4}|[1-9][0-9]{1,4}\)?"
    r"(?:[ /\-][0-9]{3,4}[ \-][0-9]{3,4}|[ /\-]{1,3}[0-9]{5,9}))(?![0-9])"
)
_GLUE_BEFORE, _GLUE_AFTER, _GLUE = frozenset("_+&#$-/."), frozenset("_%"), frozenset("-.:")
_FEWEST_DIGITS = 8
# A day and a time, as some logs write them: "081109 203615".
_STAMP = re.compile(r"[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]) (?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]")
_UNIT = re.compile(
    r" ?(?:[kKMGT]?i?B|bytes?|octets?|[mun]s|\u00b5s|nanoseconds?|microseconds?|milliseconds?|seconds?|rows?|records?"
    r"|lines?|messages?|events?|requests?|cents?|tokens?|points?|items?|blocks?|pages?|samples?|cycles?|%)(?![\w@])"
)
_DUMP_BEFORE = re.compile(r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}) \Z")
_DUMP_BEHIND = re.compile(r" (?:[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})(?![0-9A-Za-z])")


def _phone_spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    for found in pattern.finditer(text):
        start, end = found.span()
        if text[end - 1] == ")" and found.group().count(")") > found.group().count("("):
            end -= 1  # "(+49 30 1234567)"
        digits = len(_NOT_DIGITS.sub("", found.group()))
        before, after = text[start - 1 : start], text[end : end + 2]
        if not _FEWEST_DIGITS <= digits <= 15 or is_alnum(before) or before in _GLUE_BEFORE:
            continue
        if before == ":" and found[0][0] != "+":
            continue  # a part of a time
        if is_alnum(after[:1]) or after[:1] in _GLUE_AFTER or (after[:1] in _GLUE and after[1:].isdigit()):
            continue
        if found[0][0] == "+" and found[0][1:].isdigit() and _UNIT.match(text, end):
            continue  # a difference
        if found[0][0] == "0" and (_STAMP.fullmatch(found[0]) or _in_dump(text, start, end)):
            continue
        yield start, end, "phone"


def _in_dump(text: str, start: int, end: int) -> bool:
    """Return whether digits stand among others of their kind: ``72 06 92 85 09 77 8a``, ``4c46 0201 0100 0000``."""
    return (_DUMP_BEFORE.search(text[max(0, start - 6) : start]) or _DUMP_BEHIND.match(text, end)) is not None


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![0-9])")
_IPV6 = re.compile(
    r"(?:(?<![0-9A-Za-z:._])|(?<=[G-Zg-z]:)(?!:))(?:[0-9A-Fa-f]{0,4}+:){2,7}+[0-9A-Fa-f]{0,4}+(?![0-9A-Za-z:])"
)
_PREFIX = re.compile(r"/[0-9]{1,3}(?![0-9])")  # "2001:db8::/32", a network
_WORLD_WIDE_NAME = re.compile(r"(?:[0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}")
# What stands before a host, which is no person's, and around a version, which looks like an address.
_NO_ADDRESS = re.compile(r"[0-9A-Za-z_.$\-/@]\Z|[~^<>=]= ?\Z")
# But Java writes "/192.0.2.1:443" for an address, and of "192.0.2.1-192.0.2.9" both are.
_JAVA_BEFORE, _JAVA_BEHIND = re.compile(r"(?:\A|[\s:(,=\[])/\Z"), re.compile(r"[\s:,;)\]]|\Z")
_RANGE_BEFORE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}-\Z")
_VERSION_NEAR = re.compile(r"(?<![\w/])v(?:er)?[0-9 .:]", re.ASCII)
_VERSION_BEHIND = re.compile(r"[ ,(]{1,2}(?:version|release|patch|build[ .#]?[0-9])")
# "from 10.4.2.1 to 10.4.3.0", "10.4.2.1 -> 10.4.3.0", "(10.4.3.0) over (10.4.2.1)".
_RANGE = re.compile(
    r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}[)\"'`]?(?: (?:to|over|->|=>|\u2192|and) |, | ?(?:->|=>|\u2192) ?)[(\"'`]?\Z"
)
_RANGE_AHEAD = re.compile(r"[0-9.]{7,15} (?:to|->|=>|\u2192) [0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9])")
_LONGEST_RANGE = 32
# As in "image: app:10.4.2.1" and "Pulling from acme/app:10.4.2.1".
_IMAGE = re.compile(r"\b(?:image|pull(?:ing|ed)?(?: from)?)\W{1,4}[a-z0-9][a-z0-9._\-/]{0,80}:\Z", re.IGNORECASE)
_MANY = 100  # no version counts two of its parts so far


def _is_version(near: str) -> bool:
    """Return whether what stands before four numbers, in lower case, speaks of a version."""
    return (
        "version" in near or "releas" in near or "upgrad" in near or "downgrad" in near or "build" in near
        or "install" in near or "package" in near or "bump" in near or "patch" in near or "firmware" in near
        or "unpack" in near or _VERSION_NEAR.search(near) is not None
    )  # fmt: skip


def _near(text: str, start: int) -> str:
    """Return what stands before four numbers, in lower case; of a range, before the first."""
    first = _RANGE.search(text, max(0, start - _LONGEST_RANGE), start)
    before = 64 if first or _RANGE_AHEAD.match(text, start) else 32
    begin = first.start() if first else start
    return text[max(0, begin - before) : begin].lower()


def _octets(address: str) -> list[int]:
    """Return the parts of an address of IPv4; none where it is this host, no host, every host or a version."""
    octets = [int(part) for part in address.split(".")]
    if octets[0] in {0, 127, 255} or (max(octets) < 30 and octets[0] != 10):  # people number low
        return []
    return octets


def _is_glued(text: str, start: int, end: int) -> bool:
    """Return whether four numbers are a part of something else, or a host."""
    before, after = text[start - 1 : start], text[end : end + 2]
    if before == ":" and _IMAGE.search(text, max(0, start - 100), start):
        return True
    if is_alnum(after[:1]) or after[:1] == "_" or (after[:1] == "." and after[1:].isdigit()):
        return True
    if after[:1] == "-" and not _IPV4.match(text, end + 1):
        return True
    if before == "/":
        return not (_JAVA_BEFORE.search(text[max(0, start - 2) : start]) and _JAVA_BEHIND.match(text, end))
    if before == "-":
        return _RANGE_BEFORE.search(text[max(0, start - 17) : start]) is None
    return _NO_ADDRESS.search(text[max(0, start - 3) : start]) is not None


def _ipv4_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV4.finditer(text):
        start, end = found.span()
        if _is_glued(text, start, end):
            continue
        octets, after = _octets(found.group()), text[end : end + 1]
        if not octets or (after == "/" and octets[3] == 0):
            continue  # a network
        if after == "=" and octets[:2] == [2, 5]:
            continue  # an attribute of X.500
        if sum(octet >= _MANY for octet in octets) < 2 and (
            _is_version(_near(text, start)) or _VERSION_BEHIND.match(text[end : end + 16].lower())
        ):
            continue
        yield start, end, "ipv4"


def _is_ipv6(value: str) -> bool:
    if sum(map(str.isdigit, value)) < 2 or len(value) < 6 or _WORLD_WIDE_NAME.fullmatch(value):
        return False  # a name of C++, a time, ::1; the name of a port, an address of hardware
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def _ipv6_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV6.finditer(text):
        start, end = found.span()
        if _is_ipv6(found.group()) and not (found.group().endswith("::") and _PREFIX.match(text, end)):
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
#: The zero first, which is found quickly, and nothing before it that stands before no number.
NATIONAL_BEGIN = re.compile(
    r"0(?<![0-9A-Za-z_+&#$\-/:.]0)[1-9](?:[ .\-][0-9]{2}[ .\-]|[0-9]{1,4}\)?[ /\-]{1,3}[0-9]{3})"
)
#: What follows the first number of an address of IPv4.
THREE_NUMBERS = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_LONGEST_IPV6 = 40
_FLOOD = 500  # of one sign: whoever scans it finds out sooner what it is than each would be asked for
_IN_IPV6 = "0123456789abcdefABCDEF:"
FEWEST_COLONS = 6  # of an address in which no two stand together
_SEVEN_COLONS = re.compile(r":(?:[0-9A-Fa-f]{1,4}:){6}")


def may_be_login_or_email(text: str) -> list[int]:
    """Return where an at sign may belong to an e-mail address, or to a login in a URL or a DSN."""
    places, before = [], 0
    signs = each(text, "@")
    if len(signs) > _FLOOD:
        return signs
    for at in signs:
        begin = max(text.rfind(":", before, at), text.rfind("//", before, at) + 1)  # "//TOKEN@host" has no colon
        if _may_be_mail(text, at) or _PASSWORD.match(text, begin + 1, at + 1):
            places.append(at)
        before = at
    if "%40" in text:
        places += [at for at in each(text, "%40") if _may_be_mail(text, at)]
    return places


def _may_be_mail(text: str, at: int) -> bool:
    domain = _DOMAIN.match(text, at - 1)
    return domain is not None and _is_domain(domain.group(1))


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
        before = raw[at - 1]
        glued = raw[at - 1 : at].isalpha() or before in b"_.$@"
        if before in b"/-":  # "Chrome/125.0.0.0", but "/192.0.2.1:443" and "192.0.2.1-192.0.2.9"
            glued = raw[at - 2 : at - 1].isalnum() if before == 47 else not raw[at - 2 : at - 1].isdigit()
        if not glued and (address := _IPV4.match(text, at)) and _octets(address.group()):
            places.append(at)
    return places


def may_be_ipv6(text: str) -> list[int]:
    """Return where an address of IPv6 may stand."""
    colons = each(text, "::")
    if text.count(":") > FEWEST_COLONS:
        colons += [found.start() for found in _SEVEN_COLONS.finditer(text)]
    if len(colons) > _FLOOD:
        return [start for start, _, _ in _ipv6_spans(text)]
    places = []
    for at in colons:
        begin = max(0, at - _LONGEST_IPV6)
        start = begin + len(text[begin:at].rstrip(_IN_IPV6))
        if text[start] == ":" != text[start + 1 : start + 2]:
            start += 1  # "ip:2001:db8::1"
        if (address := _IPV6.match(text, start)) and _is_ipv6(address.group()):
            places.append(at)
    return places
