"""Secrets in a text that the name before them tells: pairs, headers, URLs, command lines.

``password=…``, ``"apiKey": "…"``, ``Authorization: Bearer …``, ``Cookie: …``, ``postgres://user:…@host``,
``--token …``, ``<password>…</password>``, ``IDENTIFIED BY '…'``, ``the PIN is …``. Only the secret itself is
taken out; the rest of the text stays.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.detectors import Hits, marker, replace_spans
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, NameRules, keeps, word_set

__all__ = ["HALF_NAMES", "PAIR_KINDS", "PairScanner", "mask_header"]

_Span = tuple[int, int, str]
PAIR_KINDS = frozenset({"url_credential", "authorization", "cookie"})

# --- URLs ---------------------------------------------------------------------------------------------------

_URL = re.compile(r"//([^\s\"'<>`\\]{1,2048}+)", re.ASCII)
_BARE_DSN = re.compile(
    r"(?<![\w.+/@:\-])([A-Za-z][\w.\-]{0,63}+):([^\s:@/\"'<>]{1,256}+)@(?:[\w.\-]{1,253}+[:/]|[a-z]{2,5}\()",
    re.ASCII,
)
_SAFE_PASSWORDS = frozenset({"", "x-oauth-basic", "x", "@"})
_MARKED = re.compile(r"\[redacted:[a-z0-9_]{1,40}\](?::x-oauth-basic|:x|:)?@")
_DIGITS_ONLY = re.compile(r"[0-9]{0,5}(?:/|$)")


def _userinfo_end(rest: str, web: bool) -> int:
    """Return where the user part of ``//rest`` ends (its ``@``), or -1."""
    # A DSN's password may hold a raw slash; behind the host of a web address an @ is a part of the path.
    ends = "/?#" if web or rest.find("@") > rest.find("/") >= 0 else "?#"
    stop = min((at for at in map(rest.find, ends) if at >= 0), default=len(rest))
    at = rest.rfind("@", 0, stop)
    if at >= 0:
        return at
    # A password with a raw slash in it: user:pa/ss@host. With a port before the slash it is a path.
    colon = rest.find(":", 0, stop)
    if colon < 0 or stop == len(rest) or _DIGITS_ONLY.match(rest, colon + 1):
        return -1
    return rest.rfind("@", stop, stop + 256)


def _url_spans(text: str) -> Iterator[_Span]:
    for found in _URL.finditer(text):
        rest = found.group(1)
        web = _is_web(text, found.start())
        at = _userinfo_end(rest, web) if "@" in rest else -1
        if at <= 0 or _MARKED.match(rest):
            continue
        start = found.start(1)
        user, colon, password = rest[:at].partition(":")
        if colon and password not in _SAFE_PASSWORDS:
            if not keeps("url_credential", password):
                yield start + len(user) + 1, start + at, "url_credential"
        elif user and not keeps("url_credential", user) and (colon or web):
            yield start, start + len(user), "url_credential"


def _is_web(text: str, at: int) -> bool:
    scheme = text[max(0, at - 6) : at].lower()
    return scheme.endswith(("http:", "https:"))


def _in_marker(text: str, at: int) -> bool:
    """Return whether what begins at `at` is a part of a marker, which looks like a pair."""
    return text.startswith("[redacted:", at - 1) or text.startswith("[redacted:", at - 10)


def _dsn_spans(text: str) -> Iterator[_Span]:
    for found in _BARE_DSN.finditer(text):
        if not _in_marker(text, found.start()) and not keeps("url_credential", found.group(2)):
            yield *found.span(2), "url_credential"


def url_credentials(text: str, hits: Hits) -> str:
    """Find the password, or the token that stands for both, in any URL or DSN."""
    if "@" not in text:
        return text
    if "//" in text:
        text = replace_spans(text, _url_spans(text), hits)
    return replace_spans(text, _dsn_spans(text), hits) if ":" in text else text


# --- authorization ------------------------------------------------------------------------------------------

_SCHEME = re.compile(
    r"(?:bearer|basic|token|apikey|api-key|negotiate|ntlm|dpop|key|privatetoken|digest|hawk|signature|hmac"
    r"|aws4-hmac-sha256|mutual|gnap|oauth)(?:[ \t]+|(?=$))",
    re.IGNORECASE | re.ASCII,
)
_WHOLE_LINE = ("digest", "hawk", "signature", "aws4", "oauth", "hmac", "mutual", "gnap")
_LOOSE = re.compile(r"\b(bearer|basic)[ \t]+([A-Za-z0-9+/=_\-.~]{8,4096}+)", re.IGNORECASE | re.ASCII)
_MIXED = re.compile(r"[0-9_=+/]|[a-z][A-Z]")


def mask_header(kind: str, value: str) -> str:
    """Return the marker for a whole value; the scheme of an authorization header stays."""
    scheme = _SCHEME.match(value.lstrip()) if kind == "authorization" else None
    return scheme.group() + marker(kind) if scheme and scheme.end() < len(value) else marker(kind)


def _is_basic(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False


def _loose_spans(text: str) -> Iterator[_Span]:
    for found in _LOOSE.finditer(text):
        scheme, value = found.group(1).lower(), found.group(2)
        if _is_basic(value) if scheme == "basic" else _MIXED.search(value):
            yield *found.span(2), "authorization"


# --- pairs --------------------------------------------------------------------------------------------------

_PAIR = re.compile(
    r"(?<![\w.\-%$\]])(?:-{1,2}+)?([A-Za-z_$][\w.\-%\[\]$]{0,255}+)(\\{0,128}+[\"'`]?+)[ \t]{0,8}+"
    r"(=>|:=|=(?!=)|:(?!:|//)|>(?![=>\s]))[ \t]{0,8}+",
    re.ASCII,
)
_NEXT_NAME = re.compile(
    r"\\{0,128}+[\"']?(-{1,2}+)?([A-Za-z_][\w.\-]{0,80}+)\\{0,128}+[\"']?[ \t]{0,8}+([:=])?", re.ASCII
)
_OPEN = re.compile(r"(?:[bBuUrRfFnN]{0,2}+)(\\{0,128}+[\"'`])")
_CLOSE = {quote: re.compile(rf"(?:[^{quote}\\]++|\\.)*+", re.DOTALL) for quote in "\"'`"}
_BARE = re.compile(
    r"(?:[^\s,;&|)\]}\"'<>\\`]|[,;&)\]}](?![\s\"',;&)\]}]|$|[\w.\-\[\]]{1,40}+[=:])|\\(?![nrt\"']))*+", re.ASCII
)
_AFTER_STRING = frozenset({"", " ", "+", ")", ",", "%", ".", ";", "]", "}", "\n"})
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![nr]))*+")
_TOKEN_RUN = re.compile(r"[^\s\"',;<>\\]*+")
HALF_NAMES = frozenset({"key", "keys", "code", "codes", "number", "id", "phrase", "no", "value", "num", "hash"})
_BLANKED_BRACES = frozenset({"cookie", "credential", "secret", "password", "api_key"})
_CODE = re.compile(
    r"(?:self|os|cls|settings|config|conf|request|req|args|kwargs|options|opts|process|env|environ|data|form|payload)"
    r"[.\[(]|(?:str|repr|len|int|bytes|getenv|SecretStr|get_secret|getpass|quote|hash)\("
)
_PROSE = word_set(
    "a an and are as at be been by can cannot could did do does expected expired failed field for from had has have if"
    " in incorrect invalid is it its malformed may mismatch missing must no not of on or please rejected required"
    " revoked should than that the their them this to too unable unexpected unknown unsupported use valid verification"
    " was were when which will with within would wrong your you denied ok accepted created updated rotated changed"
    " deleted"
    " generated issued refreshed validated verified see ask use enabled disabled new closed active inactive set unset"
    " present absent str int bytes bool float any object string text number dict list tuple secretstr type none null"
    " true false optional default example abc"
)


def _may_tell(low: str) -> bool:
    """Return whether a text in lower case can hold a telling name: quick, and often the last that is asked."""
    return (
        "pass" in low or "key" in low or "token" in low or "secret" in low or "auth" in low or "pwd" in low
        or "sig" in low or "cookie" in low or "cred" in low or "sess" in low or "pin" in low or "code" in low
        or "sid" in low or "jwt" in low or "bearer" in low or "basic" in low or "srf" in low or "otp" in low
        or "cv" in low or "csc" in low or "iban" in low or "pan" in low or "card" in low or "ssn" in low
        or "social" in low or "itin" in low or "pepper" in low or "salt" in low or "phrase" in low or "%" in low
        or "mnemonic" in low or "psw" in low or "identified" in low or "ccn" in low or "cc" in low or "accessid" in low
        or "-u" in low or "user" in low
    )  # fmt: skip


class PairScanner:
    """Finds what names in a text tell.

    Args:
        rules: What the names say.
        off: Kinds that are not looked for.
    """

    __slots__ = ("_of", "_off", "_own_names")

    def __init__(self, rules: NameRules, off: frozenset[str] = frozenset()) -> None:
        self._of: Callable[[str], str] = rules.of
        self._own_names = rules.has_own
        self._off = off

    def scan(self, text: str, hits: Hits) -> str:
        """Return `text` without the secrets that a name before them tells."""
        if "url_credential" not in self._off:
            text = url_credentials(text, hits)
        low = text.lower()
        if not (self._own_names or _may_tell(low)):
            return text
        if "=" in text or ":" in text or ">" in text:
            text = replace_spans(text, self._pair_spans(text), hits)
        if " " not in text:
            return text
        if "--" in text or " -" in text:
            text = replace_spans(text, self._flag_spans(text), hits)
        if "authorization" not in self._off and ("bearer" in low or "basic" in low):
            text = replace_spans(text, _loose_spans(text), hits)
        return replace_spans(text, self._prose_spans(text), hits)

    def _kind(self, text: str, found: re.Match[str], login: bool) -> str:
        """Return the kind that the name of a pair tells."""
        name, start = found.group(1), found.start(1)
        if start and text[start - 1] == "\\" and name[0] in "nrt":
            name = name[1:]  # a line break written as two characters
        kind = self._of(name) if name else SCAN
        if kind == SCAN and name.lower() in HALF_NAMES:  # "API key: …", "card number: …"
            before = text[max(0, start - 24) : start]
            word = before[:-1].rpartition(" ")[2].strip("\"'(,.;:") if before.endswith(" ") else ""
            kind = self._of(f"{word} {name}") if word else SCAN
        if kind == SCAN and name == "code" and login and text[start - 1 : start] in {"?", "&"}:
            kind = SCAN if "token" in self._off else "token"
        return kind if kind != TRUST else SCAN

    def _pair_spans(self, text: str) -> Iterator[_Span]:
        done = 0
        login = "state=" in text  # "code" is a secret where an OAuth answer stands in the address
        for found in _PAIR.finditer(text):
            if found.start(1) < done:
                continue  # a part of the value before it
            kind = self._kind(text, found, login)
            if kind and not _in_marker(text, found.start(1)):
                start, end = self._value(text, found, kind)
                if start < end:
                    done = end
                    yield start, end, kind

    def _value(self, text: str, found: re.Match[str], kind: str) -> tuple[int, int]:
        """Return where the secret behind a name stands; equal bounds mean that there is none."""
        at, separator = found.end(), found.group(3)
        if separator == ">":
            return self._element(text, found, kind)
        if (
            kind != "cookie" and text[at - 1] in " \t" and self._is_name(text, at)
        ):  # nothing stands here: "password= --token …", "password: token: …"
            return at, at
        if kind == "cookie" and separator == ":" and not found.group(2):
            return _checked(text, at, _line_end(text, found), kind)  # a header line, whatever stands in it
        if opened := _OPEN.match(text, at):
            start = opened.end()
            if _closes(text, start, opened.group(1)):
                return at, at
            end = _quoted_end(text, start, opened.group(1))
            return _checked(text, start, end, kind, quoted=True)
        if at < len(text) and text[at] in "[({" and not text.startswith("[redacted", at):
            return _bracket(text, at, kind)
        end = _bare_end(text, at)
        value = text[at:end]
        name = found.group(1).lower()
        if value.isdigit() and (_is_count(name) or name == "pass"):
            return at, at
        if kind in {"authorization", "cookie"}:
            return _header_value(text, found, kind)
        if _CODE.match(value) or value == name or (separator == ":" and name.startswith(value + "_")):
            return at, at
        if separator == ":" and value.isalpha() and value.lower() in _PROSE:
            return at, at
        if kind == "password" and name in {"pwd", "oldpwd"} and value.startswith("/"):
            return at, at
        return _checked(text, at, end, kind)

    def _is_name(self, text: str, at: int) -> bool:
        """Return whether what stands at `at` is the next telling name rather than a value."""
        found = _NEXT_NAME.match(text, at)
        if not found or not (found.group(1) or found.group(3)) or any(map(str.isdigit, found.group(2))):
            return False
        return self._of(found.group(2)) not in (SCAN, TRUST)

    def _element(self, text: str, found: re.Match[str], kind: str) -> tuple[int, int]:
        if text[found.start() - 1 : found.start()] != "<":
            return 0, 0
        end = text.find("<", found.end())
        return _checked(text, found.end(), end if end >= 0 else len(text), kind, quoted=True)

    def _flag_spans(self, text: str) -> Iterator[_Span]:
        for found in _FLAG.finditer(text):
            name = found.group(1)
            start, end = found.span(2)
            if name in {"u", "user", "proxy-user"}:
                colon = text.find(":", start, end)
                if (
                    colon > 0
                    and not text.startswith("//", colon + 1)
                    and not keeps("url_credential", text[colon + 1 : end])
                ):
                    yield colon + 1, end, "url_credential"
            elif (kind := self._of(name)) not in (SCAN, TRUST) and not keeps(kind, text[start:end]):
                yield start, end, kind

    def _prose_spans(self, text: str) -> Iterator[_Span]:
        for found in _SAID.finditer(text):
            said = found.group(1).lower()
            kind = "password" if said == "identified by" else self._of(said)
            value = found.group(3).rstrip(".,;!?)")
            if kind in (SCAN, TRUST) or keeps(kind, value) or not _tells(kind, value, bool(found.group(2))):
                continue
            yield found.start(3), found.start(3) + len(value), kind


_FLAG = re.compile(r"(?<!\S)-{1,2}+([A-Za-z][\w\-]{0,60}+)[ \t]{1,4}+[\"']?+(?!-)([^\s\"']{1,1024}+)", re.ASCII)
_SAID = re.compile(
    r"\b(pass(?:word|phrase|code|wd)|pwd|pin(?: code)?|otp|secret|token|api key|cvv|cvc|ssn|cookie"
    r"|(?:access|security|verification|sms|mfa|recovery) code|(?:access|refresh|bearer|auth) token"
    r"|identified by|(?:with|alter) password)"
    r"( (?:is|was|of|to|as|now|=))?[ \t]{1,2}[\"'`]?+([^\s\"'`]{3,512}+)",
    re.IGNORECASE | re.ASCII,
)


def _tells(kind: str, value: str, said: bool) -> bool:
    """Return whether the word behind "the password" looks like one, and not like the rest of a sentence.

    Args:
        kind: What the name tells.
        value: The word.
        said: Whether "is" or the like stands before it.
    """
    digits = sum(map(str.isdigit, value))
    if kind in {"pin", "cvv", "otp"}:
        return value.isdigit() and 3 <= digits <= 8
    if kind == "password":
        return bool(digits) and len(value) >= 5 and digits < len(value)
    return digits > 1 and len(value) >= (10 if said else 16) and digits < len(value)


def _is_count(name: str) -> bool:
    """Return whether a number behind this name counts things: ``tokens=512``."""
    return name.endswith("s") and not name.endswith("pass")


def _checked(text: str, start: int, end: int, kind: str, *, quoted: bool = False) -> tuple[int, int]:
    value = text[start:end]
    if keeps(kind, value):
        return start, start
    if kind == "authorization" and quoted and (scheme := _SCHEME.match(value)):
        start += scheme.end()
        return (start, start) if keeps(kind, text[start:end]) else (start, end)
    return start, end


def _closes(text: str, start: int, quote: str) -> bool:
    """Return whether the quote before `start` closes a string: ``"password=" + value`` in a line of code."""
    if len(quote) > 1 or text[start : start + 1] not in _AFTER_STRING:
        return False
    line = max(text.rfind("\n", max(0, start - 512), start), start - 512, 0)
    return text.count(quote, line, start - 1) % 2 == 1


def _quoted_end(text: str, start: int, opening: str) -> int:
    """Return where a quoted value ends; one that is never closed goes on to the end of its line."""
    if len(opening) == 1:
        found = _CLOSE[opening].match(text, start)
        end = found.end() if found else len(text)
    else:
        end = text.find(opening, start)
        while end > 0 and text[end - 1] == "\\":
            end = text.find(opening, end + 1)
    if 0 <= end < len(text):
        return end
    line = text.find("\n", start)
    return line if line >= 0 else len(text)


def _bare_end(text: str, at: int) -> int:
    found = _BARE.match(text, at)
    return found.end() if found else at


def _bracket(text: str, at: int, kind: str) -> tuple[int, int]:
    """Return the contents of a list, a call or a mapping that stands behind a secret name."""
    if text[at] == "{" and kind not in _BLANKED_BRACES:
        return at, at
    end = text.find({"[": "]", "(": ")", "{": "}"}[text[at]], at)
    if end < 0:
        end = len(text)
    inside = text[at + 1 : end].strip("\"' ")
    if keeps(kind, inside) or inside.replace(",", "").replace(" ", "").isdigit():
        return at, at
    return at + 1, end


def _header_value(text: str, found: re.Match[str], kind: str) -> tuple[int, int]:
    """Return the contents of a header line: a cookie to the end of its line, credentials behind their scheme."""
    at, colon = found.end(), found.group(3) == ":"
    if kind == "cookie":
        return _checked(text, at, _line_end(text, found) if colon else _bare_end(text, at), kind)
    scheme = _SCHEME.match(text, at)
    start = scheme.end() if scheme else at
    if scheme and scheme.group().lower().startswith(_WHOLE_LINE):
        end = _line_end(text, found)
    else:
        run = _TOKEN_RUN.match(text, start)
        end = run.end() if run else start
    value = text[start:end]
    if colon and value.isalpha() and (value.lower() in _PROSE or not scheme):
        return start, start
    return _checked(text, start, end, kind)


def _line_end(text: str, found: re.Match[str]) -> int:
    """Return where the line of a header ends, or the quotes around it: ``-H 'Cookie: …'``."""
    quote = text[found.start() - 1 : found.start()]
    close = text.find(quote, found.end()) if quote in {'"', "'", "`"} else -1
    stop = close if close >= 0 else len(text)
    line = _LINE.match(text, found.end(), stop)
    return line.end() if line else stop
