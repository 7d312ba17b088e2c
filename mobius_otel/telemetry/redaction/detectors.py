"""Secrets that tell themselves by their value, wherever they stand in a text.

Each detector takes a text and a list, returns the text with its finds replaced and appends the kind of each
to the list. What can be checked is checked (checksum, issuer, decodable header); every quantifier is bounded
or possessive and every search moves on behind what it looked at, so that time grows with the length alone.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Iterator

__all__ = [
    "IBAN",
    "LONG",
    "MARKER",
    "VALUE_KINDS",
    "WORDS",
    "Detector",
    "Hits",
    "is_card",
    "known_tokens",
    "marker",
    "may_hold_number",
    "pem",
    "replace_spans",
    "value_scanner",
]


class Hits(list[str]):
    """The kinds of what was found in a text, in order, and what decides about each find.

    Args:
        show: Returns what stands in the place of a secret, given its kind and itself; None: it stays. Without
            it everything is masked.
    """

    __slots__ = ("passed", "show")

    def __init__(self, show: Callable[[str, str], str | None] | None = None) -> None:
        super().__init__()
        self.show = show
        #: Whether something stayed that another name or place would not have let through.
        self.passed = False


#: A marker, as a part of a regular expression: also one with the end of the secret, or its pseudonym.
MARKER = r"\[redacted:[a-z0-9_]{1,40}(?::(?:[0-9A-Z]{4}|[a-z0-9_]{1,16}\.[a-z2-7]{16}))?\]"


#: What a text is made of, found out by quick operations on its bytes; most texts then need no pattern at all.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CLASSES = bytes.maketrans(_LETTERS + b"0123456789", b"a" * 52 + b"0" * 10)
WORDS = bytes.maketrans(_LETTERS + b"0123456789_-", b"a" * 64)
LONG = b"a" * 16
_BETWEEN_DIGITS = b" -./()\xa0"
# Digits as 0, everything that is no letter and no digit as a hyphen.
_SHAPE = bytes(48 if chr(n).isdigit() and n < 128 else (97 if n in _LETTERS else 45) for n in range(256))
# The same, with 1 for every digit but 0.
_ZEROS = bytes(49 if 49 <= n <= 57 else shown for n, shown in enumerate(_SHAPE))
Detector = Callable[[str, Hits], str]


def marker(kind: str) -> str:
    """Return what stands in the place of a secret of this kind."""
    return f"[redacted:{kind}]"


def replace_spans(text: str, spans: Iterator[tuple[int, int, str]], hits: Hits) -> str:
    """Put a marker in the place of each span; the spans come in order."""
    parts: list[str] = []
    done = 0
    for start, end, kind in spans:
        if end <= done or end <= start:
            continue
        if hits.show is None:
            shown: str | None = marker(kind)
        else:
            shown = hits.show(kind, text[max(start, done) : end])
        if shown is None:
            hits.passed = True
            continue
        parts += (text[done : max(start, done)], shown)
        hits.append(kind)
        done = end
    return "".join((*parts, text[done:])) if parts else text


# --- keys in PEM form ---------------------------------------------------------------------------------------

_PEM_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40}+)-----")
_IN_NAMES = frozenset("_.[]%$'\"")
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s:,\-]|\\{1,4}+[nrt])*+")


def _whole_words(text: str, start: int, end: int) -> int:
    """Move `end` back before a word that it has cut in two: the name of something that follows the key."""
    if text[end : end + 1] not in _IN_NAMES and text[end - 1 : end] != "=":
        return end
    while end > start and not text[end - 1].isspace():
        end -= 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _pem_spans(text: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    while found := _PEM_BEGIN.search(text, at):
        label = found.group(1)
        at = found.end()
        close = f"-----END {label}-----"
        end = text.find(close, at)
        if "CERTIFICATE" in label or "PUBLIC" in label:
            at = end + len(close) if end >= 0 else at
            continue
        if end >= 0 and end - at < 20_000:
            at = end + len(close)
        else:  # cut off: as far as the characters of a key go
            body = _PEM_BODY.match(text, at)
            at = _whole_words(text, at, body.end()) if body else at
        yield found.start(), at, "private_key"


def pem(text: str, hits: Hits) -> str:
    """Find private keys in PEM form, also when their end is missing."""
    return replace_spans(text, _pem_spans(text), hits) if "-----BEGIN" in text else text


# --- our own keys -------------------------------------------------------------------------------------------

_OWN_BODY = re.compile(r"_[0-9A-Za-z]{43,56}(?![0-9A-Za-z])")
_OWN_HEAD = re.compile(r"[a-z0-9]{1,64}_[a-z0-9]{1,64}\Z")


def _own_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for body in _OWN_BODY.finditer(text):
        start = max(0, body.start() - 129)
        head = _OWN_HEAD.search(text[start : body.start()])
        if head:
            yield start + head.start(), body.end(), "mobius_key"


def own_keys(text: str, hits: Hits) -> str:
    """Find keys of :class:`ApiKeyManager`: any prefix and environment; also a mistyped one is worth hiding."""
    return replace_spans(text, _own_spans(text), hits) if text.count("_") > 1 else text


# --- JSON web tokens ----------------------------------------------------------------------------------------

_JWT = re.compile(r"(eyJ[A-Za-z0-9_\-]*+)(\.[A-Za-z0-9_\-]*+){0,4}+")


def _is_header(part: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        header = json.loads(raw)
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(header, dict) and ("alg" in header or "typ" in header)


def _jwt_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _JWT.finditer(text):
        head = found.group(1)
        if found.end() > found.end(1) and len(head) < 4096 and _is_header(head):
            full_stop = text[found.end() - 1] == "." and found.group().count(".") > 2
            yield found.start(), found.end() - full_stop, "jwt"


def jwt(text: str, hits: Hits) -> str:
    """Find JSON web tokens: a header that decodes to JSON with an algorithm, and at least one part more."""
    return replace_spans(text, _jwt_spans(text), hits) if "eyJ" in text else text


# --- tokens of vendors, by their published shapes -----------------------------------------------------------

# Kind, what a token begins with, and the rest of it. Prefixes of one first letter become one branch of the pattern,
# so that a text is searched once, quickly, and not once for every vendor.
_VENDORS = (
    ("aws", "AKIA ASIA ABIA ACCA", r"[A-Z2-7]{16}(?![A-Z0-9])"),
    ("gcp", "AIza", r"[0-9A-Za-z_\-]{35}"),
    ("gcp", "GOCSPX-", r"[0-9A-Za-z_\-]{20,40}+"),
    ("gcp", "ya29.", r"[0-9A-Za-z_\-.]{20,2000}+"),
    ("github", "ghp_ gho_ ghu_ ghs_ ghr_", r"[0-9A-Za-z]{30,255}+"),
    ("github", "github_pat_", r"[0-9A-Za-z_]{22,255}+"),
    ("gitlab", ("glpat- gldt- glrt- glrtr- glsoat- glcbt- glptt- glimt- glagent- glft- gloas- glffct- glwt-"),
     r"[0-9A-Za-z_\-.]{20,300}+"),
    ("slack", "xoxa xoxb xoxe xoxo xoxp xoxr xoxs xoxc", r"(?:\.xox[bp])?-[0-9A-Za-z\-]{10,300}+"),
    ("slack", "xapp-", r"[0-9]-[0-9A-Za-z\-]{20,300}+"),
    ("slack", "hooks.slack.com/", r"(?:services|workflows|triggers)/[0-9A-Za-z/_\-]{20,200}+"),
    ("stripe", "sk_live_ sk_test_ rk_live_ rk_test_", r"[0-9A-Za-z]{10,255}+"),
    ("stripe", "whsec_", r"[0-9A-Za-z+/=]{20,255}+"),
    ("anthropic", "sk-ant-", r"[0-9A-Za-z_\-]{20,255}+"),
    ("openai", "sk-proj- sk-svcacct- sk-admin- sk-None- sk-or-v1-", r"[0-9A-Za-z_\-]{20,255}+"),
    ("openai", "sk-", r"[0-9A-Za-z]{32,255}+"),
    ("huggingface", "hf_ api_org_", r"[0-9A-Za-z]{30,255}+"),
    ("npm", "npm_", r"[0-9A-Za-z]{36}"),
    ("pypi", "pypi-", r"[0-9A-Za-z_\-]{50,1000}+"),
    ("twilio", "SK AC", r"[0-9a-f]{32}(?![0-9A-Za-z])"),
    ("sendgrid", "SG.", r"[0-9A-Za-z_\-]{16,64}+\.[0-9A-Za-z_\-]{16,100}+"),
    ("vendor_token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),
    ("vendor_token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    ("vendor_token", "sq0atp- sq0csp-", r"[0-9A-Za-z_\-]{22,64}+"),
    ("vendor_token", "EAAA", r"[0-9A-Za-z_\-]{60}"),
    ("vendor_token", "key-", r"[0-9a-f]{32}(?![0-9a-z])"),
    ("vendor_token", "lin_api_", r"[0-9A-Za-z]{32,64}+"),
    ("vendor_token", "ntn_", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "secret_", r"[0-9A-Za-z]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "hvs. hvb. hvr.", r"[0-9A-Za-z_\-]{24,300}+"),
    ("vendor_token", "dp.st. dp.pt. dp.ct. dp.sa. dp.scim. dp.audit.", r"[0-9A-Za-z_\-.]{32,120}+"),
    ("vendor_token", "figd_", r"[0-9A-Za-z_\-]{30,64}+"),
    ("vendor_token", "glsa_", r"[0-9A-Za-z]{32}_[0-9a-f]{8}"),
    ("vendor_token", "glc_", r"[0-9A-Za-z+/=]{32,300}+"),
    ("vendor_token", "sntrys_ sntryu_", r"[0-9A-Za-z_+/=]{32,300}+"),
    ("vendor_token", "dckr_pat_", r"[0-9A-Za-z_\-]{20,64}+"),
    ("vendor_token", "rubygems_", r"[0-9a-f]{48}"),
    ("vendor_token", "xkeysib-", r"[0-9a-f]{64}-[0-9A-Za-z]{16}"),
    ("vendor_token", "AGE-SECRET-KEY-1", r"[0-9A-Z]{58}"),
    ("vendor_token", "gsk_", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "r8_", r"[0-9A-Za-z]{37}"),
    ("vendor_token", "pplx-", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "nvapi-", r"[0-9A-Za-z_\-]{60,80}+"),
    ("vendor_token", "tskey-", r"[0-9A-Za-z\-]{20,100}+"),
    ("vendor_token", "xai-", r"[0-9A-Za-z]{70,90}+"),
    ("vendor_token", "ATATT3", r"[0-9A-Za-z_\-=]{100,255}+"),
    ("vendor_token", "dapi", r"[0-9a-f]{32}"),
    ("vendor_token", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    ("vendor_token", "NRAK-", r"[0-9A-Z]{27}"),
    ("vendor_token", "sbp_", r"[0-9a-f]{40}"),
    ("vendor_token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[0-9A-Za-z_\-.=]{32,64}+"),
    ("vendor_token", "pat", r"[0-9A-Za-z]{14}\.[0-9a-f]{64}"),
    ("vendor_token", "M N O", r"[0-9A-Za-z_\-]{23,27}\.[0-9A-Za-z_\-]{6}\.[0-9A-Za-z_\-]{27,40}+"),
    ("vendor_token", "discord.com/api/webhooks/ discordapp.com/api/webhooks/",
     r"[0-9]{10,25}/[0-9A-Za-z_\-]{40,100}+"),
)  # fmt: skip
# Shapes that begin with anything: looked for only where what stands inside of them does.
_INNER = (
    ("azure", ("Q~",), r"[0-9A-Za-z_.~]{3}[0-9]Q~[0-9A-Za-z_.~\-]{31,34}+"),
    ("telegram", (":AA",), r"[0-9]{8,10}+:AA[0-9A-Za-z_\-]{32,33}(?![0-9A-Za-z_\-])"),
    ("vendor_token", ("-us",), r"[0-9a-f]{32}-us[0-9]{1,2}(?![0-9a-z])"),
    ("api_key", ("_live_", "_test_", "_prod_", "_production_", "_staging_", "_sandbox_", "_dev_"),
     (r"(?!pk_)[A-Za-z][A-Za-z0-9]{1,15}_(?:live|test|prod|production|staging|sandbox|dev)_"
      r"[0-9A-Za-z_]{16,255}+")),
)  # fmt: skip

_DIGIT = re.compile(r"[0-9]")


def known_tokens(off: frozenset[str]) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """Return one pattern for all tokens with a known beginning, and the kind of each of its groups."""
    branches: dict[str, list[tuple[str, str, str]]] = {}
    for kind, prefixes, rest in _VENDORS:
        if kind not in off:
            for prefix in prefixes.split():
                branches.setdefault(prefix[0], []).append((kind, prefix[1:], rest))
    kinds = tuple(kind for lines in branches.values() for kind, _, _ in lines)
    # The group stands behind the letters: the engine passes over a branch whose first letter differs.
    parts = [
        f"{letter}(?<![0-9A-Za-z]{letter})(?:{'|'.join(f'{re.escape(after)}({rest})' for _, after, rest in lines)})"
        for letter, lines in branches.items()
    ]
    return (re.compile("|".join(parts)) if parts else None), kinds


def vendor_tokens(off: frozenset[str] = frozenset()) -> Detector:
    """Return the detector for the tokens of vendors, by the shapes they publish.

    Args:
        off: Kinds that are not looked for.
    """
    known, kinds = known_tokens(off)
    inner = tuple(
        (kind, inside, re.compile(f"(?<![0-9A-Za-z]){shape}")) for kind, inside, shape in _INNER if kind not in off
    )

    def spans(text: str) -> Iterator[tuple[int, int, str]]:
        for found in known.finditer(text) if known else ():
            yield found.start(), _without_full_stop(text, found.end()), kinds[(found.lastindex or 1) - 1]

    def inner_spans(text: str, kind: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
        for found in pattern.finditer(text):
            # A name such as my_test_something_long_written has no digit; a key of that length always has one.
            if kind != "api_key" or _DIGIT.search(found.group()):
                yield found.start(), _without_full_stop(text, found.end()), kind

    def detect(text: str, hits: Hits) -> str:
        if known and known.search(text):
            text = replace_spans(text, spans(text), hits)
        for kind, inside, pattern in inner:
            for part in inside:
                if part in text:
                    text = replace_spans(text, inner_spans(text, kind, pattern), hits)
                    break
        return text

    return detect


def _without_full_stop(text: str, end: int) -> int:
    return end - 1 if text[end - 1] == "." else end  # the end of a sentence


# --- e-mail -------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+\-])([\w.+\-]{1,64}+)(?:@|%40)([A-Za-z0-9][A-Za-z0-9\-]{0,62}+(?:\.[A-Za-z0-9\-]{1,63}+){1,8}+)",
    re.ASCII,
)
_NO_DOMAIN = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "ts", "tsx", "jsx", "py", "html", "htm",
     "json", "map", "service", "socket", "timer", "mount", "target"}
)  # fmt: skip


def _email_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _EMAIL.finditer(text):
        last = found.group(2).rpartition(".")[2]
        if len(last) < 2 or not last.isalpha() or last.lower() in _NO_DOMAIN:
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
    r"[2-6][0-9]{3}([ \-.\u00a0])(?:[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3}(?![0-9]))?|[0-9]{6}\1[0-9]{4,5})(?![0-9])"
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
    head, length = int(digits[:6]), len(digits)
    if not any(low <= head <= high and length in lengths for low, high, lengths in _ISSUERS):
        return False
    numbers = digits.encode()
    return (sum(numbers[-1::-2]) + sum(numbers[-2::-2].translate(_DOUBLED)) - 48 * length) % 10 == 0


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
IBAN = re.compile(
    r"[0-9]{2}(?<=[A-Za-z][A-Za-z][0-9][0-9])(?<![0-9A-Za-z][A-Za-z]{2}[0-9]{2})[ \-\u00a0]?[0-9A-Za-z]{4}"
)
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


def _iban_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in IBAN.finditer(text):
        start = found.start() - 2
        length = _IBAN_LENGTHS.get(text[start : start + 2].upper()) if start >= 0 else None
        if length is None or (start and text[start - 1].isalnum()):
            continue
        end = _iban_end(text, start, length)
        compact = "".join(filter(str.isalnum, text[start:end])) if end > 0 else ""
        if compact and (compact.isupper() or compact.islower()) and _mod97(compact.upper()):
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
_GLUE_AFTER = frozenset("_:%")


def _phone_spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    for found in pattern.finditer(text):
        start, end = found.span()
        digits = len(_NOT_DIGITS.sub("", found.group()))
        before, after = text[start - 1 : start], text[end : end + 2]
        if not 8 <= digits <= 15 or before.isalnum() or before in _GLUE_BEFORE:
            continue
        if after[:1].isalnum() or after[:1] in _GLUE_AFTER or (after[:1] in {"-", "."} and after[1:].isdigit()):
            continue
        yield start, end, "phone"


def _phones(text: str, pattern: re.Pattern[str], hits: Hits) -> str:
    return replace_spans(text, _phone_spans(text, pattern), hits) if pattern.search(text) else text


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![0-9])")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:._])(?:[0-9A-Fa-f]{0,4}+:){2,7}+[0-9A-Fa-f]{0,4}+(?![0-9A-Za-z:])")
# What stands before a host, which is no person's, and around a version, which looks like an address.
_NO_ADDRESS = re.compile(r"[0-9A-Za-z_.$\-/@]\Z|[~^<>=]= ?\Z")
_VERSION_NEAR = re.compile(r"\bv(?:er)?[0-9 .:]", re.ASCII)


def _is_version(near: str) -> bool:
    """Return whether what stands around four numbers, in lower case, speaks of a version."""
    return (
        "version" in near or "releas" in near or "upgrad" in near or "downgrad" in near or "build" in near
        or "install" in near or "package" in near or "bump" in near or "patch" in near
        or _VERSION_NEAR.search(near) is not None
    )  # fmt: skip


def _ipv4_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV4.finditer(text):
        start, end = found.span()
        after = text[end : end + 2]
        if after[:1].isalnum() or after[:1] in {"_", "-"} or (after[:1] == "." and after[1:].isdigit()):
            continue
        if _NO_ADDRESS.search(text[max(0, start - 3) : start]):
            continue
        octets = [int(part) for part in found.group().split(".")]
        if octets[0] in {0, 127, 255} or (after[:1] == "/" and octets[3] == 0):
            continue  # this host, no host, every host, a network
        if max(octets) < 30 and octets[0] != 10:
            continue  # a version: people number low
        if _is_version(text[max(0, start - 32) : end + 16].lower()):
            continue
        yield start, end, "ipv4"


def _ipv6_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _IPV6.finditer(text):
        start, end = found.span()
        value = found.group()
        if sum(map(str.isdigit, value)) < 2 or len(value) < 6:
            continue  # a name of C++, a time, ::1
        try:
            ipaddress.IPv6Address(value)
        except ValueError:
            continue
        yield start, end, "ipv6"


def may_hold_number(text: str, raw: bytes) -> bool:
    """Return whether digits of a text may be a card, a social security or a telephone number.

    Args:
        text: The text.
        raw: The same in latin-1.
    """
    shape = raw.translate(_SHAPE)
    if (
        b"00000000000000" in shape
        or b"0000-0000-0000-" in shape
        or b"0000-000000-0000" in shape
        or b"000-00-0000" in shape
        or b"000-000-0000" in shape
        or b"000--000-0000" in shape
        or b"+" in raw
    ):
        return True
    zeros = raw.translate(_ZEROS)
    return (b"-0" in zeros or zeros[:1] == b"0") and _NATIONAL.search(text) is not None


def value_scanner(off: frozenset[str] = frozenset()) -> Detector:
    """Return what finds all secrets that tell themselves by their value.

    Args:
        off: Kinds that are not looked for.
    """
    tokens: tuple[Detector, ...] = (
        *(detect for kind, detect in (("mobius_key", own_keys), ("jwt", jwt)) if kind not in off), vendor_tokens(off),
    )  # fmt: skip
    wants_email, wants_iban, wants_phone = "email" not in off, "iban" not in off, "phone" not in off
    wants_card, wants_ssn = "card" not in off, "ssn" not in off
    wants_ipv4, wants_ipv6 = "ipv4" not in off, "ipv6" not in off

    def numbers(text: str, hits: Hits) -> str:
        shape = text.encode("latin-1", "replace").translate(_SHAPE)
        grouped = b"0000-0000-0000-" in shape or b"0000-000000-0000" in shape
        if wants_card and (grouped or b"00000000000000" in shape):
            text = cards(text, hits)
        if wants_ssn and b"000-00-0000" in shape:
            text = ssns(text, hits)
        if wants_phone:
            if "+" in text:
                text = _phones(text, _E164, hits)
            if b"000-000-0000" in shape or b"000--000-0000" in shape:
                text = _phones(text, _AMERICAN, hits)
            zeros = text.encode("latin-1", "replace").translate(_ZEROS)
            if b"-0" in zeros or zeros[:1] == b"0":
                text = _phones(text, _NATIONAL, hits)
        return text

    def detect(text: str, hits: Hits) -> str:
        raw = text.encode("latin-1", "replace")
        if LONG in raw.translate(WORDS) or ":AA" in text:
            for each in tokens:
                text = each(text, hits)
        if wants_email and ("@" in text or "%40" in text):
            text = email(text, hits)
        classes = raw.translate(_CLASSES)
        if b"0" in classes:
            if wants_iban and b"aa00" in classes:
                text = ibans(text, hits)
            if b"0000000" in classes.translate(None, _BETWEEN_DIGITS):
                text = numbers(text, hits)
            if wants_ipv4 and text.count(".") > 2 and _IPV4.search(text):
                text = replace_spans(text, _ipv4_spans(text), hits)
        if wants_ipv6 and ("::" in text or text.count(":") > 6) and _IPV6.search(text):
            text = replace_spans(text, _ipv6_spans(text), hits)
        return text

    return detect


_VENDOR_KINDS = frozenset(kind for kind, _, _ in (*_VENDORS, *_INNER))
#: Every kind that a value tells by itself.
VALUE_KINDS = _VENDOR_KINDS | {
    "private_key", "mobius_key", "jwt", "email", "card", "iban", "ssn", "phone", "ipv4", "ipv6",
}  # fmt: skip
