"""Secrets in a text that the name before them tells: pairs, headers, elements, flags of a command line.

``password=…``, ``"apiKey": "…"``, ``Authorization: Bearer …``, ``Cookie: …``, ``--token …``,
``<password>…</password>``. Only the secret itself is taken out; the rest of the text stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from mobius_otel.telemetry.redaction.commands import command_spans, may_be_command
from mobius_otel.telemetry.redaction.hits import MARKER, Hits, each, marker, replace_spans
from mobius_otel.telemetry.redaction.logins import in_marker, url_credentials
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, NameRules, keeps
from mobius_otel.telemetry.redaction.sentences import PROSE, inserted, loose_credentials, said
from mobius_otel.telemetry.redaction.siblings import VALUE_NAMES, may_be_sibling, named_before, sibling_spans

__all__ = ["HALF_NAMES", "PAIR_KINDS", "PairScanner", "mask_header"]

_Span = tuple[int, int, str]
PAIR_KINDS = frozenset({"url_credential", "authorization", "cookie"})

# --- authorization ------------------------------------------------------------------------------------------

_SCHEME = re.compile(
    r"(?:bearer|basic|token|apikey|api-key|negotiate|ntlm|dpop|key|privatetoken|digest|hawk|signature|hmac"
    r"|aws4-hmac-sha256|mutual|gnap|oauth|ssws|geniekey|splunk)(?:[ \t]+|(?=$))",
    re.IGNORECASE | re.ASCII,
)
_WHOLE_LINE = ("digest", "hawk", "signature", "aws4", "oauth", "hmac", "mutual", "gnap")
_DIGIT = re.compile(r"[0-9]")


def mask_header(kind: str, value: str) -> str:
    """Return the marker for a whole value; the scheme of an authorization header stays."""
    scheme = _SCHEME.match(value.lstrip()) if kind == "authorization" else None
    return scheme.group() + marker(kind) if scheme and scheme.end() < len(value) else marker(kind)


# --- pairs --------------------------------------------------------------------------------------------------

# Over the text turned around: a separator is found quickly, and the name that stands before it is read from there.
# Read forwards it is => := = : or >, and no == :: :// >= or >>.
_TURNED_PAIR = re.compile(
    r"(>=|=:|=(?<!==)|:(?<!::)(?<!//:)|>(?<![=>\s]>))[ \t]{0,8}+((?:\](?=[\"']))?+[\"'`]?\\{0,128}+)"
    r"([\w.\-%\[\]$]{1,256}+)",
    re.ASCII,
)
# The same, but for the parts of it, and for more separators: what stands before them tells something or nothing all
# the same. What begins with a digit is no name, unless a bracket stands in it.
_TURNED_RUN = re.compile(
    r"[:=>][:=]?+[ \t]{0,8}+(?:\](?=[\"']))?+[\"'`]?+\\{0,128}+"
    r"([\w.\-%\]$]{1,256}+(?:\[[\w.\-%\[\]$]{0,256}+|(?<![0-9.%\]]))|\[[\w.\-%\[\]$]{0,256}+)",
    re.ASCII,
)
_LONGEST_RUN = 256
_SEPARATED = re.compile(r"\\{0,128}+(?:[\"']\]?|`)?+[ \t]{0,8}+[:=>]")
_BLANKS = re.compile(r"[ \t]{0,8}+(?:\*{1,2}+[ \t]{1,4}+)?")  # "**Password:** …"
_NAME = re.compile(r"(?:-D(?=[A-Za-z_])|-{0,2}+)([A-Za-z_$].*)")  # "-Ddb.password=…"
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
#: What they tell depends on what stands before them in a text.
_HALF = HALF_NAMES | VALUE_NAMES
_BLANKED_BRACES = frozenset({"cookie", "credential", "secret", "password", "api_key"})
# A place for a value that is filled in elsewhere.
_TEMPLATE = re.compile(
    r"\$\{\{[^}]{1,100}\}\}|\$\{[^}\s]{1,100}\}|\{\{[^}]{1,100}\}\}|\$\([^)]{1,100}\)|%\([\w.]{1,40}\)s|\$[A-Z_][A-Z0-9_]{0,60}(?!\w)",
    re.ASCII,
)
_CODE = re.compile(
    r"(?:await|new|yield)\b|(?:self|os|cls|settings|config|conf|request|req|args|kwargs|options|opts|process|env|environ|data|form|payload)"
    r"[.\[(]|(?:str|repr|len|int|bytes|getenv|SecretStr|get_secret|getpass|quote|hash)\("
    r"|!(?:Ref|Sub|GetAtt|ImportValue|vault|secret|env_var|include)\b"
    r"|(?:var|vars|local|module|each|secrets|props|steps|needs|inputs|params|outputs)\.[A-Za-z_][\w.\[\]\-]*\Z"
    r"|[a-z_]+\.?[a-z_]*\([a-z_., ]*\)?(?:[;,]|\Z)"
)

# What a literal is wrapped in: Some("…"), SecretStr('…'), MD5('…').
_CALL = re.compile(
    r"(?:(?:new|await) )?([A-Za-z_][\w.:]{0,60}+)!?\([ \t]{0,4}+[bBuUrRfFnN]{0,2}+(\\{0,128}+[\"'`])", re.ASCII
)
# A literal in one of these is the name of something.
_ASKS = re.compile(
    r"(?:^|[._:])(?:get|fetch|load|read|find|lookup|require|resolve|param|has|is)\w*\Z"
    r"|(?:^|[._:])(?:env|environ|getenv|config|settings|vars?|t|tr|_|gettext|translate|input|prompt|getpass|ask|open"
    r"|field|column|mapped_column|charfield|header|cookie|form|query|body|label|secret_from|format)\Z",
    re.IGNORECASE,
)
_DUMPED = re.compile(r"\s{0,32}string\([0-9]{1,9}\) \"", re.ASCII)  # PHP's var_dump
# A change as Terraform and others print it: password = "old" -> "new".
_ARROW = re.compile(r"[\"'][ \t]{0,8}+(?:->|=>|→)[ \t]{0,8}+([\"'])")
#: In brackets these say that something is not shown, or not known yet.
_NOT_SHOWN = frozenset({
    "sensitive value", "sensitive", "known after apply", "protected", "not shown", "encrypted", "private",
})  # fmt: skip
#: States of things with a telling name: "cookie: enabled", "signature=ok".
_STATES = frozenset({
    "ok", "valid", "invalid", "enabled", "disabled", "missing", "expired", "present", "absent", "required", "unset",
    "started", "ended", "active", "inactive", "accepted", "rejected", "verified", "revoked", "done",
})  # fmt: skip
_COOKIE_STATE = re.compile(rf"(?:[0-9]{{1,4}}|{'|'.join(sorted(_STATES))})(?![\w=;.])")
_COUNT = re.compile(r"[0-9]{1,9}(?:/[0-9]{1,9})?")
_PIN_OF_A_BOARD = re.compile(r"[0-9]{1,2}|[A-Z]{1,5}[0-9]{1,2}")
# An address in which "code" is what logs somebody in.
_LOGIN_URL = re.compile(
    r"state=|(?:reset|verif|confirm|activat|invit|magic|callback|oauth|login|signin|sso)[\w\-./]{0,64}+\?",
    re.IGNORECASE,
)
_LONG_VALUE = re.compile(r"=(?=[A-Za-z_\-]{0,200}+[0-9])[\w\-]{20,}+", re.ASCII)
_SHORTEST_IBAN = 15
_LONGEST_ARN = 256


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
            text = replace_spans(text, self._pair_spans(text), hits)
        if spans := sibling_spans(text, self._of):
            text = replace_spans(text, iter(spans), hits)
        return text

    def flags(self, text: str, hits: Hits) -> str:
        """Return `text` without the secrets of its command lines."""
        if " " in text:
            spans = command_spans(text, self._of, logins="url_credential" not in self._off)
            return replace_spans(text, iter(spans), hits)
        return text

    def sentences(self, text: str, hits: Hits) -> str:
        """Return `text` without what its sentences tell: "Bearer …", "insert into … values", "the PIN is …"."""
        low = text.lower()
        if "authorization" not in self._off and ("bearer" in low or "basic" in low):
            text = replace_spans(text, loose_credentials(text), hits)
        if "values" in low and "into" in low:
            text = replace_spans(text, inserted(text, self._of), hits)
        if _DIGIT.search(text) or "my " in low or "pass" in low or "pwd" in low or "identified" in low:
            # Mostly, a word that a sentence tells has a digit in it.
            text = replace_spans(text, said(text, self._of), hits)
        return text

    def suspect(self, text: str) -> list[int]:
        """Return the places of pairs whose name may tell something.

        Args:
            text: Texts in lines of their own.
        """
        places = may_be_sibling(text, self._of)
        if not (":" in text or "=" in text or ">" in text):
            return places
        runs = _TURNED_RUN.findall(text[::-1])
        if self._harmless.issuperset(runs):
            return places
        for run in set(runs):
            if run in self._harmless or self._is_harmless(run):
                continue
            name = run[::-1]
            if _first_name(name, 0)[0].lower() in _HALF:  # what it says depends on the word before it
                places += self._suspect_half(text, name)
            else:
                places += [at for at in each(text, name) if _SEPARATED.match(text, at + len(name))]
        return places

    def _suspect_half(self, text: str, run: str) -> list[int]:
        name, shift = _first_name(run, 0)
        places = []
        for at in each(text, run):
            start = at + shift
            pair = (name.lower() in VALUE_NAMES or text[start - 1] in _BEFORE_HALF) and _SEPARATED.match(
                text, at + len(run)
            )
            if pair and self._kind(text, name, start, login=True):
                places.append(start)
        return places

    def _is_harmless(self, turned: str) -> bool:
        """Return whether a run of a name's characters, turned around, never tells anything; remember it then."""
        if len(turned) >= _LONGEST_RUN or (self._learned.get(turned) or self._learn(turned)) is _DEPENDS:
            return False
        if len(self._harmless) >= _LEARNED:
            self._harmless.clear()
        self._harmless.add(turned)
        return True

    def suspect_flags(self, text: str, words: AbstractSet[bytes]) -> list[int]:
        """Return the places of command lines that may tell something; see :func:`may_be_command`."""
        return may_be_command(text, self._of, words)

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
            if kind == SCAN and name.lower() in VALUE_NAMES:
                kind = named_before(text, start, self._of)
            if kind == SCAN and text[start - 1 : start] in {"?", "&"}:
                if name == "code" and login:
                    kind = SCAN if "token" in self._off else "token"
                elif name == "key" and _LONG_VALUE.match(text, start + 3):
                    kind = SCAN if "api_key" in self._off else "api_key"
        elif name.lower() == "pass" and text[start - 1 : start] == " ":
            word = text[max(0, start - 24) : start - 1].rpartition("\n")[2].rpartition(" ")[2]
            kind = self._of(f"{word} pass") if word.isalpha() else kind  # "boarding pass: …"
        return kind if kind != TRUST else SCAN

    def _learn(self, turned: str) -> str:
        """Return SCAN where the name in a run of a name's characters, turned around, never tells anything."""
        name, _ = _first_name(turned[::-1], 0)
        harmless = not name or (name.lower() not in _HALF and self._of(name) in (SCAN, TRUST))
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
        login = ("?code" in text or "&code" in text) and _LOGIN_URL.search(text) is not None
        for found in reversed(telling):
            if length - found.end(1) < done:
                continue  # a part of the value before it
            run_start = length - found.end()
            name, name_start = _first_name(found.group(3)[::-1], run_start)
            if name_start < done:
                continue
            kind = self._kind(text, name, name_start, login)
            if kind and not in_marker(text, name_start) and not _in_arn(text, name_start):
                blanks = _BLANKS.match(text, length - found.start())
                end = blanks.end() if blanks else length - found.start()
                pair = _Pair(run_start, name_start, name, found.group(2)[::-1], found.group(1)[::-1], end)
                start, end = self._value(text, pair, kind)
                if start < end:
                    done = end
                    yield start, end, kind
                    while arrow := _ARROW.match(text, done):
                        start, done = arrow.end(), _quoted_end(text, arrow.end(), arrow.group(1))
                        if not keeps(kind, text[start:done]):
                            yield start, done, kind

    def _value(self, text: str, pair: _Pair, kind: str) -> tuple[int, int]:
        """Return where the secret behind a name stands; equal bounds mean that there is none."""
        at, separator = pair.end, pair.separator
        if separator == ">":
            return self._element(text, pair, kind)
        if text.startswith("[redacted:", at) and (marked := _MARKED_LOGIN.match(text, at)):
            return marked.end(), marked.end()  # "https://x-access-token:[redacted:url_credential]@host/path"
        if (
            kind != "cookie" and text[at - 1] in " \t" and self._is_name(text, at)
        ):  # nothing stands here: "password= --token …", "password: token: …"
            return at, at
        if kind == "cookie" and separator == ":" and not pair.quote:
            if _COOKIE_STATE.match(text, at):
                return at, at
            return _checked(text, at, _line_end(text, pair), kind)  # a header line, whatever stands in it
        if separator == "=>" and (dumped := _DUMPED.match(text, at)):
            return _checked(text, dumped.end(), _quoted_end(text, dumped.end(), '"'), kind)
        if opened := _OPEN.match(text, at):
            start = opened.end()
            if _closes(text, start, opened.group(1)):
                return at, at
            end = _quoted_end(text, start, opened.group(1))
            return _checked(text, start, end, kind, quoted=True)
        if _TEMPLATE.match(text, at):
            return at, at
        if call := _CALL.match(text, at):
            start = call.end()
            asks = _ASKS.search(call.group(1)) is not None
            return (start, start) if asks else _checked(text, start, _quoted_end(text, start, call.group(2)), kind)
        if at < len(text) and text[at] in "[({" and not text.startswith("[redacted", at):
            return _bracket(text, at, kind)
        end = _bare_end(text, at)
        value = text[at:end]
        name = pair.name.lower()
        if _says_no_secret(name, value, kind):
            return at, at
        if kind in {"authorization", "cookie"}:
            return _header_value(text, pair, kind)
        if (
            _CODE.match(value)
            or value == name.rpartition(".")[2]
            or (separator == ":" and name.startswith(value + "_"))
        ):
            return at, at
        if separator == ":" and value.isalpha() and (value.lower() in PROSE or self._of(value) not in (SCAN, TRUST)):
            return at, at  # the rest of a sentence: "passwd: password updated"
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
        end = text.find("<", pair.end)
        if text[pair.start - 1 : pair.start] != "<" and not (
            text.startswith("</", end) and _ELEMENT.search(text[max(0, pair.start - 64) : pair.start])
        ):  # "/users/<int:pin>/cards" is a template
            return 0, 0
        return _checked(text, pair.end, end if end >= 0 else len(text), kind, quoted=True)


_MARKED_LOGIN = re.compile(rf"{MARKER}(?=@)")
# What opens the element of a name: <password>, <ns:password>, <entry key="password">.
_ELEMENT = re.compile(r"<(?:[\w.\-]{1,32}:)?\Z|<[\w.:\-]{1,32}[ \t]{1,4}(?:key|name|id)=\\{0,4}[\"']\Z", re.ASCII)
#: What stands before a name whose word before it counts: "card number", "?code", "\\nkey".
_BEFORE_HALF = frozenset(" ?&\\")


def _in_arn(text: str, at: int) -> bool:
    """Return whether what begins at `at` is a part of an ARN: ``arn:aws:secretsmanager:…:secret:prod/db``."""
    if text[at - 1 : at] != ":":
        return False
    before = text[max(0, at - _LONGEST_ARN) : at]
    begin = before.rfind("arn:aws")
    return begin >= 0 and before[begin:].isprintable() and " " not in before[begin:]


def _says_no_secret(name: str, value: str, kind: str) -> bool:
    """Return whether a bare value counts things, names a state, or is a part of what its kind has."""
    if (name.endswith("s") or name == "pass") and _COUNT.fullmatch(value):
        return name == "pass" or not name.endswith("pass")  # "tokens=512", "pass: 12"
    if value.lower() in _STATES:
        return True
    if kind == "pin":
        return _PIN_OF_A_BOARD.fullmatch(value) is not None
    if kind == "cookie":
        return value.isdigit() and len(value) <= 4
    return kind == "iban" and len(value) < _SHORTEST_IBAN  # the first of its groups: the value's own shape tells


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
    if keeps(kind, inside) or inside.lower() in _NOT_SHOWN or inside.replace(",", "").replace(" ", "").isdigit():
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
        run = _TOKEN_RUN.match(text, start) if colon else _BARE.match(text, start)  # "?auth=…&page=3"
        end = run.end() if run else start
    value = text[start:end]
    if colon and value.isalpha() and (value.lower() in PROSE or not scheme):
        return start, start
    return _checked(text, start, end, kind)


def _line_end(text: str, pair: _Pair) -> int:
    """Return where the line of a header ends, or the quotes around it: ``-H 'Cookie: …'``."""
    quote = text[pair.start - 1 : pair.start]
    close = text.find(quote, pair.end) if quote in {'"', "'", "`"} else -1
    stop = close if close >= 0 else len(text)
    line = _LINE.match(text, pair.end, stop)
    return line.end() if line else stop
