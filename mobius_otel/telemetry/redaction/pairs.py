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
from typing import NamedTuple

from mobius_otel.telemetry.redaction.hits import MARKER, Hits, each, marker, replace_spans
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
_MARKED = re.compile(rf"{MARKER}(?::x-oauth-basic|:x|:)?@")
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
        user, colon, password = rest[:at].replace("[redacted:", "[redacted;").partition(":")
        if colon and password not in _SAFE_PASSWORDS:
            if not keeps("url_credential", password.replace("[redacted;", "[redacted:")):
                yield start + len(user) + 1, start + at, "url_credential"
        elif user and not keeps("url_credential", user.replace("[redacted;", "[redacted:")) and (colon or web):
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
_DIGIT = re.compile(r"[0-9]")
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

# Over the text turned around: a separator is found quickly, and the name that stands before it is read from there.
# Read forwards it is => := = : or >, and no == :: :// >= or >>.
_TURNED_PAIR = re.compile(
    r"(>=|=:|=(?<!==)|:(?<!::)(?<!//:)|>(?<![=>\s]>))[ \t]{0,8}+([\"'`]?\\{0,128}+)([\w.\-%\[\]$]{1,256}+)", re.ASCII
)
# The same, but for the parts of it; what begins with a digit is no name, unless a bracket stands in it.
_TURNED_RUN = re.compile(
    r"(?:>=|=:|=(?<!==)|:(?<!::)(?<!//:)|>(?<![=>\s]>))[ \t]{0,8}+[\"'`]?\\{0,128}+"
    r"([\w.\-%\]$]{1,256}+(?:\[[\w.\-%\[\]$]{0,256}+|(?<![0-9.%\]]))|\[[\w.\-%\[\]$]{0,256}+)",
    re.ASCII,
)
_LONGEST_RUN = 256
_BLANKS = re.compile(r"[ \t]{0,8}+")
_NAME = re.compile(r"-{0,2}+([A-Za-z_$].*)")
_LEARNED = 8192
#: What a name says depends on what stands around it.
_DEPENDS = "?"


class _Pair(NamedTuple):
    """A name and its separator in a text.

    Args:
        start: Where the name or the dashes before it begin.
        name_start: Where the name begins.
        name: The name.
        quote: The quote behind the name, with its backslashes.
        separator: What stands between the name and the value.
        end: Where the value begins.
    """

    start: int
    name_start: int
    name: str
    quote: str
    separator: str
    end: int


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
# A place for a value that is filled in elsewhere.
_TEMPLATE = re.compile(
    r"\$\{[^}\s]{1,100}\}|\{\{[^}]{1,100}\}\}|\$\([^)]{1,100}\)|%\([\w.]{1,40}\)s|\$[A-Z_][A-Z0-9_]{0,60}(?!\w)",
    re.ASCII,
)
_CODE = re.compile(
    r"(?:await|new|yield)\b|(?:self|os|cls|settings|config|conf|request|req|args|kwargs|options|opts|process|env|environ|data|form|payload)"
    r"[.\[(]|(?:str|repr|len|int|bytes|getenv|SecretStr|get_secret|getpass|quote|hash)\("
    r"|[a-z_]+\.?[a-z_]*\([a-z_., ]*\)?(?:[;,]|\Z)"
)
_PROSE = word_set(
    "a an and are as at be been by can cannot could did do does expected expired failed field for from had has have if"
    " in incorrect invalid is it its malformed may mismatch missing must no not of on or please rejected required"
    " revoked should than that the their them this to too unable unexpected unknown unsupported use valid verification"
    " was were when which will with within would wrong your you denied ok accepted created updated rotated changed"
    " deleted"
    " generated issued refreshed validated verified see ask use enabled disabled new closed active inactive set unset"
    " present absent str int bytes bool float any object string text number dict list tuple secretstr type none null"
    " true false optional default example abc files compat systemd"
)


def _first_name(run: str, start: int) -> tuple[str, int]:
    """Return the name that ends a run of a name's characters, and where it begins; empty where it is none.

    Args:
        run: The whole run: ``--api-key``, ``user[pin]``, ``1abc``.
        start: Where it begins in its text.
    """
    at = 0
    while at >= 0:
        if found := _NAME.match(run, at):
            return found.group(1), start + found.start(1)
        at = run.find("[", at) + 1 or -1  # "[user=ann]": a name may stand behind a bracket
    return "", start


class PairScanner:
    """Finds what names in a text tell.

    Args:
        rules: What the names say.
        off: Kinds that are not looked for.
    """

    __slots__ = ("_harmless", "_learned", "_of", "_off")

    def __init__(self, rules: NameRules, off: frozenset[str] = frozenset()) -> None:
        self._of: Callable[[str], str] = rules.of
        self._learned: dict[str, str] = {}
        self._harmless: set[str] = set()
        self._off = off

    def logins(self, text: str, hits: Hits) -> str:
        """Return `text` without the passwords in its URLs and DSNs."""
        return text if "url_credential" in self._off else url_credentials(text, hits)

    def pairs(self, text: str, hits: Hits) -> str:
        """Return `text` without the values that a name before a separator tells."""
        if ":" in text or "=" in text or ">" in text:
            return replace_spans(text, self._pair_spans(text), hits)
        return text

    def flags(self, text: str, hits: Hits) -> str:
        """Return `text` without the values of flags that tell something."""
        if "-" in text and " " in text:
            return replace_spans(text, self._flag_spans(text), hits)
        return text

    def sentences(self, text: str, hits: Hits) -> str:
        """Return `text` without what its sentences tell: "Bearer …", "insert into … values", "the PIN is …"."""
        low = text.lower()
        if "authorization" not in self._off and ("bearer" in low or "basic" in low):
            text = replace_spans(text, _loose_spans(text), hits)
        if "values" in low and "into" in low:
            text = replace_spans(text, self._insert_spans(text), hits)
        if _DIGIT.search(text) or "my " in low:  # a word that a sentence tells has a digit in it
            text = replace_spans(text, self._prose_spans(text), hits)
        return text

    def suspect(self, text: str) -> list[int]:
        """Return the places of pairs whose name may tell something.

        Args:
            text: Texts in lines of their own.
        """
        turned = text[::-1]
        runs = _TURNED_RUN.findall(turned)
        if self._harmless.issuperset(runs):
            return []
        telling = {run for run in runs if run not in self._harmless and not self._is_harmless(run)}
        if not telling:
            return []
        places = []
        for run in telling:
            name, _ = _first_name(run[::-1], 0)
            if name.lower() in HALF_NAMES:  # what it says depends on the word before it
                places += self._suspect_half(text, turned, run)
            else:
                places += each(text, run[::-1])
        return places

    def _suspect_half(self, text: str, turned: str, run: str) -> list[int]:
        places, end = [], len(text)
        for found in _TURNED_RUN.finditer(turned):
            if found.group(1) == run:
                name, start = _first_name(run[::-1], end - found.end())
                if self._kind(text, name, start, login=True):
                    places.append(start)
        return places

    def _is_harmless(self, turned: str) -> bool:
        """Return whether a run of a name's characters, turned around, never tells anything; remember it then."""
        if len(turned) >= _LONGEST_RUN or self._learn(turned) is _DEPENDS:
            return False
        if len(self._harmless) >= _LEARNED:
            self._harmless.clear()
        self._harmless.add(turned)
        return True

    def suspect_flags(self, text: str) -> list[int]:
        """Return the places of flags of a command line whose name tells something; see :meth:`suspect`."""
        return [
            found.start()
            for found in _FLAG.finditer(text)
            if found.group(1) in _LOGINS or self._of(found.group(1)) not in (SCAN, TRUST)
        ]

    def _kind(self, text: str, name: str, start: int, login: bool) -> str:
        """Return the kind that the name of a pair tells."""
        if start and text[start - 1] == "\\" and name[0] in "nrt":
            name = name[1:]  # a line break written as two characters
        kind = self._of(name) if name else SCAN
        if kind == SCAN:
            if name.lower() in HALF_NAMES:  # "API key: …", "card number: …"
                before = text[max(0, start - 24) : start]
                before = before.rpartition("\n")[2]  # not a word of the line above
                word = before[:-1].rpartition(" ")[2].strip("\"'(,.;:") if before.endswith(" ") else ""
                kind = self._of(f"{word} {name}") if word else SCAN
            if kind == SCAN and name == "code" and login and text[start - 1 : start] in {"?", "&"}:
                kind = SCAN if "token" in self._off else "token"
        return kind if kind != TRUST else SCAN

    def _learn(self, turned: str) -> str:
        """Return SCAN where the name in a run of a name's characters, turned around, never tells anything."""
        name, _ = _first_name(turned[::-1], 0)
        harmless = not name or (name.lower() not in HALF_NAMES and self._of(name) in (SCAN, TRUST))
        if harmless and name[:1] in {"n", "r", "t"} and self._of(name[1:] or "n") not in (SCAN, TRUST):
            harmless = False  # "\npassword": the first letter may belong to a line break
        if len(self._learned) >= _LEARNED:
            self._learned.clear()
        self._learned[turned] = told = SCAN if harmless else _DEPENDS
        return told

    def _pair_spans(self, text: str) -> Iterator[_Span]:
        learned = self._learned
        telling = [
            found
            for found in _TURNED_PAIR.finditer(text[::-1])
            if (known := learned.get(found.group(3))) is _DEPENDS
            or (known is None and self._learn(found.group(3)) is _DEPENDS)
        ]
        if not telling:
            return
        done, length = 0, len(text)
        login = "state=" in text  # "code" is a secret where an OAuth answer stands in the address
        for found in reversed(telling):
            if length - found.end(1) < done:
                continue  # a part of the value before it
            run_start = length - found.end()
            name, name_start = _first_name(found.group(3)[::-1], run_start)
            if name_start < done:
                continue
            kind = self._kind(text, name, name_start, login)
            if kind and not _in_marker(text, name_start):
                blanks = _BLANKS.match(text, length - found.start())
                end = blanks.end() if blanks else length - found.start()
                pair = _Pair(run_start, name_start, name, found.group(2)[::-1], found.group(1)[::-1], end)
                start, end = self._value(text, pair, kind)
                if start < end:
                    done = end
                    yield start, end, kind

    def _value(self, text: str, pair: _Pair, kind: str) -> tuple[int, int]:
        """Return where the secret behind a name stands; equal bounds mean that there is none."""
        at, separator = pair.end, pair.separator
        if separator == ">":
            return self._element(text, pair, kind)
        if (
            kind != "cookie" and text[at - 1] in " \t" and self._is_name(text, at)
        ):  # nothing stands here: "password= --token …", "password: token: …"
            return at, at
        if kind == "cookie" and separator == ":" and not pair.quote:
            return _checked(text, at, _line_end(text, pair), kind)  # a header line, whatever stands in it
        if opened := _OPEN.match(text, at):
            start = opened.end()
            if _closes(text, start, opened.group(1)):
                return at, at
            end = _quoted_end(text, start, opened.group(1))
            return _checked(text, start, end, kind, quoted=True)
        if _TEMPLATE.match(text, at):
            return at, at
        if at < len(text) and text[at] in "[({" and not text.startswith("[redacted", at):
            return _bracket(text, at, kind)
        end = _bare_end(text, at)
        value = text[at:end]
        name = pair.name.lower()
        if value.isdigit() and (_is_count(name) or name == "pass"):
            return at, at
        if kind in {"authorization", "cookie"}:
            return _header_value(text, pair, kind)
        if (
            _CODE.match(value)
            or value == name.rpartition(".")[2]
            or (separator == ":" and name.startswith(value + "_"))
        ):
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

    def _element(self, text: str, pair: _Pair, kind: str) -> tuple[int, int]:
        if text[pair.start - 1 : pair.start] != "<":
            return 0, 0
        end = text.find("<", pair.end)
        return _checked(text, pair.end, end if end >= 0 else len(text), kind, quoted=True)

    def _flag_spans(self, text: str) -> Iterator[_Span]:
        for found in _FLAG.finditer(text):
            name = found.group(1)
            start, end = found.span(2)
            if name in _LOGINS:
                colon = text.find(":", start, end)
                if (
                    colon > 0
                    and not text.startswith("//", colon + 1)
                    and not keeps("url_credential", text[colon + 1 : end])
                ):
                    yield colon + 1, end, "url_credential"
            elif (kind := self._of(name)) not in (SCAN, TRUST) and not keeps(kind, text[start:end]):
                yield start, end, kind

    def _insert_spans(self, text: str) -> Iterator[_Span]:
        """Find the values of ``INSERT INTO t (name, password) VALUES ('ann', '…'), (…)`` by their columns."""
        at = 0
        for found in _INSERT.finditer(text):
            if found.start() < at:
                continue  # a statement in a value of the one before: looking through all rows again takes too long
            kinds = [self._of(column.strip(' "`[]\n\t\\')) for column in found.group(1).split(",")]
            if all(kind in (SCAN, TRUST) for kind in kinds):
                continue
            at = found.end()
            while row := _ROW_BEGIN.match(text, at):
                at = row.end()
                for kind in kinds:
                    if (value := _SQL_VALUE.match(text, at)) is None:
                        break
                    start, end = value.span(2) if value.group(2) is not None else value.span(1)
                    if kind not in (SCAN, TRUST) and start < end and not keeps(kind, text[start:end]):
                        yield start, end, kind
                    at = value.end()

    def _prose_spans(self, text: str) -> Iterator[_Span]:
        low = text.lower()
        if len(low) != len(text):  # a letter whose lower case is two
            low = "".join(c.lower() if c.isascii() else c for c in text)
        for found in _SAID.finditer(low):
            said = found.group(1)
            kind = "password" if said == "identified by" else self._of(said)
            start, end = found.span(3)
            value = text[start:end].rstrip(".,;!?)")
            mine = bool(found.group(2)) and low.startswith("my ", max(0, found.start() - 3))
            if (
                kind in (SCAN, TRUST)
                or keeps(kind, value)
                or not (
                    _tells(kind, value, bool(found.group(2)))
                    or (
                        mine and kind == "password" and len(value) > 5 and low[start : start + len(value)] not in _PROSE
                    )
                )
            ):
                continue
            yield start, start + len(value), kind


_INSERT = re.compile(
    r"\b(?:insert|replace)\s{1,8}+into\s{1,8}+[\w.\"`\[\]\\]{1,200}+\s{0,8}+\(([^()]{1,4000}+)\)\s{0,8}+values\s{0,8}+",
    re.IGNORECASE,
)
_ROW_BEGIN = re.compile(r"[\s,)]{0,16}+\(")
_SQL_VALUE = re.compile(
    r"\s{0,8}+([nNeExX]?\\{0,4}+'((?:[^'\\]++|''|\\[^'])*+)\\{0,4}+'|\"((?:[^\"\\]++|\\.)*+)\"|[^,()'\"]{0,500}+(?:\([^()]{0,500}+\))?+)"
    r"\s{0,8}+,?+"
)
_FLAG = re.compile(r"-(?<!\S-)-?+([A-Za-z][\w\-]{0,60}+)[ \t]{1,4}+[\"']?+(?!-)([^\s\"']{1,1024}+)", re.ASCII)
_LOGINS = frozenset({"u", "user", "proxy-user"})
_SAID = re.compile(
    r"\b(pass(?:word|phrase|code|wd)|pwd|pin(?: code)?|otp|secret|token|api key|cvv|cvc|ssn|cookie"
    r"|(?:access|security|verification|sms|mfa|recovery) code|(?:access|refresh|bearer|auth) token"
    r"|identified by|(?:with|alter) password)"
    r"( (?:is|was|of|to|as|now|=))?[ \t]{1,2}[\"'`]?+([^\s\"'`]{3,512}+)",
    re.ASCII,
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


def _header_value(text: str, pair: _Pair, kind: str) -> tuple[int, int]:
    """Return the contents of a header line: a cookie to the end of its line, credentials behind their scheme."""
    at, colon = pair.end, pair.separator == ":"
    if kind == "cookie":
        return _checked(text, at, _line_end(text, pair) if colon else _bare_end(text, at), kind)
    scheme = _SCHEME.match(text, at)
    start = scheme.end() if scheme else at
    if scheme and scheme.group().lower().startswith(_WHOLE_LINE):
        end = _line_end(text, pair)
    else:
        run = _TOKEN_RUN.match(text, start)
        end = run.end() if run else start
    value = text[start:end]
    if colon and value.isalpha() and (value.lower() in _PROSE or not scheme):
        return start, start
    return _checked(text, start, end, kind)


def _line_end(text: str, pair: _Pair) -> int:
    """Return where the line of a header ends, or the quotes around it: ``-H 'Cookie: …'``."""
    quote = text[pair.start - 1 : pair.start]
    close = text.find(quote, pair.end) if quote in {'"', "'", "`"} else -1
    stop = close if close >= 0 else len(text)
    line = _LINE.match(text, pair.end, stop)
    return line.end() if line else stop
