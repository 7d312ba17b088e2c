"""Where the value ends that a name in a text tells: a quoted one, a header's line, what is in a call or in brackets.

What only stands in the place of a secret is none: a template, a reference, a state, a count, the next name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mobius_otel.telemetry.redaction.braces import is_empty_field, span_in_braces
from mobius_otel.telemetry.redaction.counted import is_counted
from mobius_otel.telemetry.redaction.hits import MARKER, marker
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.scopes import ACTIONS, is_scope
from mobius_otel.telemetry.redaction.sentences import PROSE
from mobius_otel.telemetry.redaction.sources import CALL, TYPED, asks, in_frame, is_code, is_field, names_alone
from mobius_otel.telemetry.redaction.values import is_message, is_statement_id

__all__ = ["Pair", "behind_scheme", "mask_header", "quoted_end", "value_span"]

# --- authorization ------------------------------------------------------------------------------------------

_SCHEME = re.compile(
    r"(?:bearer|basic|token|apikey|api-key|negotiate|ntlm|dpop|key|privatetoken|digest|hawk|signature|hmac"
    r"|aws4-hmac-sha256|mutual|gnap|oauth|ssws|geniekey|splunk)(?:[ \t]+|(?=$))",
    re.IGNORECASE | re.ASCII,
)
# A scheme that is not known: a word, and something behind it that is none.
_ANY_SCHEME = re.compile(
    r"[A-Za-z][A-Za-z\-]{1,30}+[ \t]{1,4}+(?=\[redacted:|[^\s\"',;]{0,256}?[0-9][^\s\"',;]{7})", re.ASCII
)
# "token=Bearer …": what is told is not the scheme, but what stands behind it, which is no word of a sentence.
_TOLD_SCHEME = re.compile(
    r"(?i:bearer|basic|token|apikey|api-key|dpop|ssws|jwt)[ \t]{1,4}+"
    r"(?=[^\s\"',;]{1,256}?[0-9A-Z]|[0-9]|[^\s\"',;]{16})",
    re.ASCII,
)
_WHOLE_LINE = ("digest", "hawk", "signature", "aws4", "oauth", "hmac", "mutual", "gnap")


def behind_scheme(kind: str, value: str) -> int:
    """Return where the credentials begin in the value of a header: behind its scheme."""
    scheme = _SCHEME.match(value) if kind == "authorization" else None
    return scheme.end() if scheme and scheme.end() < len(value) else 0


def mask_header(kind: str, value: str) -> str:
    """Return the marker for a whole value; the scheme of an authorization header stays."""
    scheme = _SCHEME.match(value.lstrip()) if kind == "authorization" else None
    return scheme.group() + marker(kind) if scheme and scheme.end() < len(value) else marker(kind)


# --- values ---------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
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
    r"\\{0,128}+[\"']?(-{1,2}+)?([A-Za-z_][\w.\-]{0,80}+)\\{0,128}+[\"']?[ \t]{0,64}+([:=])?", re.ASCII
)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_OPENING = {")": "(", "]": "["}
_BLOCKS, _TEMPLATES, _SCHEME_BEGINS = frozenset("|>"), frozenset("${%"), frozenset("bBtTaAdDsSjJ")
_CALL_BEGINS = frozenset("ABCHNUhnra")
_LINE_ENDS, _QUOTES = frozenset("\r\n"), frozenset("\"'")
#: How a password is kept, before itself: "{SSHA}…" of LDAP, "{noop}…" and "{cipher}…" of Spring.
_KEPT_AS = re.compile(
    r"\{(?:s?sha[0-9\-]{0,5}|s?md[45]|crypt|bcrypt|noop|cipher|pbkdf2[\w\-]{0,20}|scrypt|argon2\w{0,2}|pkcs5s2|cleartext"
    r"|plain|ldap|(?:pbkdf2|scrypt|argon2)?@SpringSecurity_v[0-9_]{1,8})\}(?=[^\s\"'`,;&)\]}])",
    re.IGNORECASE | re.ASCII,
)
# Items of which none is a word or a sentence.
_ITEM = r"- [\"']?(?=[^\s\"']{0,1024}?[0-9])[^\s\"'{}\[\]:]{6,1024}+[\"']?[ \t]{0,8}"
_ITEMS = re.compile(rf"\r?\n[ \t]{{0,32}}+({_ITEM}(?:\r?\n[ \t]{{0,32}}+{_ITEM}){{0,100}})(?=\r?\n|\Z)", re.ASCII)
_VISIBLE_BEGINS = frozenset('pPABCDEFGHIJKLMNOQRSTUVWXYZ"')
_VISIBILITY = re.compile(r"(?:protected|private|\"?[\w\\]{1,128}+\"?:private)\]", re.ASCII)
_SIGNED = re.compile(r"[a-z][a-z0-9]{0,9}+=[^\s\"'<>;]++(?:;[ \t]?+[a-z]{1,3}=[^\s\"'<>;]++){0,16}+", re.ASCII)
_SCHEMED = frozenset({"authorization", "cookie"})
_BEFORE_QUOTES = frozenset("bBuUrRfFnNeExX")
_OPEN = re.compile(r"(?:[bBuUrRfFnNeExX]{0,2}+)(\\{0,128}+[\"'`])")
# What stands before an opening quote; or stood there, before it became a marker.
_OPENS = re.compile(rf"[\w\]\"'][ \t]{{0,8}}+[=:][ \t]{{0,8}}+(?:{MARKER}|[bBrRuUfF]{{0,2}}+)\Z", re.ASCII)
_FARTHEST_OPENING = 64
# In a statement a quote is written twice.
_CLOSE = {
    quote: re.compile(rf"(?:[^{quote}\\]++|\\.{twice})*+", re.DOTALL)
    for quote, twice in (('"', ""), ("'", r"|''(?=[^\s',;)\]}][^'\n]{0,512}+')"), ("`", ""))
}
#: As nginx, .NET and CSV write one.
_NO_QUOTES = frozenset({"", '"]', "']"})  # "input[type='password']:hover"
_CODED_QUOTES = frozenset({"\\x22", "\\x27", "\\u0022", "\\u0027", '""'})
# A quote as it is written in HTML.
_QUOTE = r"quot|apos|\#0?3[49]|\#[xX]2[27]"
_HTML_OPEN = re.compile(rf"&(?:{_QUOTE});")
# It goes on over what may end one, unless another name stands behind that.
_BARE = re.compile(
    r"(?:[^\s,;&|)\]}\"'<>\\`\x1b\0]++|\\(?![nrt\"'])"
    r"|[,;&)\]}](?![\s\"'`,;&)\]}]|$|:(?:\s|$)|(?:amp;)?[\w.\-\[\]]{1,40}+[=:]|\\(?:x|u00)2[27]"
    rf"|(?<=[^\s=:]&)(?:lt;/|(?:{_QUOTE}|gt);(?=[\s,;&<)\]}}]|$))"
    r"|(?:User|Data|Initial|Integrated|Persist|Trust|Connect|Connection|Application) [A-Z][A-Za-z ]{1,40}=)"
    # A token of two parts: "7|QNWK…", "123|…"; else it is where a row of a log goes on.
    r"|\|(?=[A-Za-z_\-]{0,64}[0-9])(?=[0-9_\-]{0,64}[A-Za-z])(?=[\w\-]{8,256}+(?![\w\-=:.@]))"
    # In an environment or a command line of /proc, the next variable or flag comes behind a NUL.
    r"|\0(?!\Z|[A-Za-z_]\w{0,60}+=|--?[A-Za-z]))*+",
    re.ASCII,
)
_AFTER_STRING = frozenset({"", " ", "+", ")", ",", "%", ".", ";", "]", "}", "\n"})
_LINE = re.compile(r"(?:[^\r\n\\]++|\\(?![nr]))*+")
_TOKEN_RUN = re.compile(r"[^\s\"',;<>\\]*+")
_BLANKED_BRACES = frozenset({"cookie", "credential", "secret", "password", "api_key"})
# A place for a value that is filled in elsewhere.
_TEMPLATE = re.compile(
    r"\$\{\{[^}]{1,100}\}\}|\$\{[^}\s]{1,100}\}|\{\{[^}]{1,100}\}\}|\$\([^)]{1,100}\)|%\([\w.]{1,40}\)s|\$[A-Z_][A-Z0-9_]{0,60}(?!\w)",
    re.ASCII,
)
_TAG = re.compile(r"!{1,2}(?:str|binary|string|python/str)[ \t]{1,4}+")
_BLOCK = re.compile(r"[|>][+\-]?[ \t]{0,8}+(?:\r?\n|\\n)[ \t]{1,32}+([^\s\\][^\r\n\\]{0,1024}+)")
#: A bracket that ends its line, and how far in the next line begins with something that is no literal.
_OPENS_LINE = re.compile(r"[(\[{][ \t]{0,8}+\r?\n(?:[ \t]{0,256}+[\^~]{1,512}+\r?\n)?+([ \t]{0,256}+)(?=[^\s\"'\-])")
# Source code without a literal or a number.
_NO_LITERAL = re.compile(r"[(\[{][^\"'0-9\n]{0,512}+")
_DUMPED = re.compile(r"\s{0,32}string\([0-9]{1,9}\) \"", re.ASCII)  # PHP's var_dump
_SPEWED = re.compile(r"\([\w.\[\]]{1,80}+\) (?:\(len=[0-9]{1,9}(?: cap=[0-9]{1,9})?\) )?(?=\")", re.ASCII)  # of Go
_OPTIONAL = re.compile(  # of Java
    r"Optional\[(?!(?:u?int|float|U?Int|Float)[0-9]{2}\])(?=[^\]\s0-9]{0,256}+[0-9])"
    r"([^\]\s\"'\[,]{3,1024}+)(?=\])",
    re.ASCII,
)
# A login as two literals, or a command with one: others find what of it is the secret.
_LOGIN_CALL = re.compile(
    r"(?:new )?[\w.]{0,60}(?:Auth|Credentials?)\([ \t]{0,8}[bu]?[\"'][^\"'\n]{0,128}[\"'],|ConvertTo-SecureString"
)
#: In brackets these say that something is not shown, or not known yet.
_NOT_SHOWN = frozenset({
    "sensitive value", "sensitive", "known after apply", "protected", "not shown", "encrypted", "private",
    "self", "write-only attribute",
})  # fmt: skip
_KEY_SIZE = re.compile(r"[0-9]{3,5} bit(?:, [0-9] primes)?")  # as OpenSSL prints it
#: States of things with a telling name: "cookie: enabled", "signature=ok".
_STATES = frozenset({
    "ok", "valid", "invalid", "enabled", "disabled", "missing", "expired", "present", "absent", "required", "unset",
    "started", "ended", "active", "inactive", "accepted", "rejected", "verified", "revoked", "done",
    "match", "mismatch", "include", "omit",
})  # fmt: skip
_COOKIE_STATE = re.compile(rf"(?:[0-9]{{1,4}}|{'|'.join(sorted(_STATES))})(?![\w=.]|;[ \t]*[\w\-]+=)")
_JAR = re.compile(r"<\w{0,40}CookieJar\[")  # "<RequestsCookieJar[<Cookie sid=… for h/>]>"
_GO_COOKIE = re.compile(r"\[([^\]\r\n]{0,4096}+)\](?=\]| [A-Z][\w\-]{0,60}+:\[)", re.ASCII)  # "map[Cookie:[sid=…]]"
_ROLE = re.compile(r":?[a-z]{2,20}:")
_PARAM = re.compile(r":(?:param|type|keyword|ivar|var)(?: [\w.\[\]]{1,40})?[ \t]\Z")
_ARCHITECTURES = frozenset({"all", "amd64", "arm64", "armhf", "i386"})
_PLAIN_LINK = re.compile(r"https?://[a-z.\-]{1,64}(?:/[A-Za-z.\-_]{0,32}){0,8}")
_NEXT_WORD = re.compile(r" [a-z]{1,20}(?:[ .,:]|\Z)")
_TABLE = re.compile(r"\{ ?(?:version|path|git|workspace) ?= ?[\"'t]")  # of Cargo
_HOW = re.compile(r"(?:method|type|provider|mode|scheme|mechanism|mech|realm)=[a-z0-9\-]{2,20}(?![\w=+/.])")
_LOG_LEVEL = re.compile(r"(?:Debug|Info|Warning|Error|Fatal|Panic|Notice): ")
_COUNT = re.compile(r"[0-9]{1,9}(?:/[0-9]{1,9})?")
_PIN_OF_A_BOARD = re.compile(r"[0-9]{1,2}|[A-Z]{1,5}[0-9]{1,2}")
_SHORTEST_IBAN, _LONGEST_MESSAGE = 15, 160
_PLACEHOLDERS = frozenset({"=<", ":<"})
_MASKED_LOGIN = re.compile(r"[*\u2022xX]{2,64}+@")
# Where a process stands: "PWD='/srv/app'".
_DIRECTORY = re.compile(r"/(?:[\w.\-@+]{1,64}+/?)*+", re.ASCII)
_MARKED_LOGIN = re.compile(rf"{MARKER}(?=@)")
# What opens the element of a name: <password>, <ns:password>, <entry key="password">.
_ELEMENT = re.compile(r"<(?:[\w.\-]{1,32}:)?\Z|<[\w.:\-]{1,32}[ \t]{1,4}(?:key|name|id)=\\{0,4}[\"']\Z", re.ASCII)


def value_span(text: str, pair: Pair, kind: str, of: Callable[[str], str]) -> tuple[int, int]:
    """Return where the secret behind a name stands; equal bounds mean that there is none.

    Args:
        text: The text.
        pair: The name and its separator.
        kind: What the name tells.
        of: What any name tells.
    """
    at, separator = pair.end, pair.separator
    if separator == ">":
        return _element(text, pair, kind)
    begin = text[at : at + 1]
    if separator == ":" and text[at - 1] == ":" and pair.quote in _NO_QUOTES and is_scope(text, pair.start, at, kind):
        return at, at
    if text.endswith("xmlns:", 0, pair.start):
        return at, at  # the name of a namespace
    if pair.quote in _CODED_QUOTES and text.startswith(pair.quote, at):
        start = at + len(pair.quote)
        end = text.find(pair.quote, start)
        return _checked(text, start, end if end >= 0 else len(text), kind, quoted=True)
    if begin == "[" and text.startswith("[redacted:", at) and (marked := _MARKED_LOGIN.match(text, at)):
        return marked.end(), marked.end()  # "https://x-access-token:[redacted:url_credential]@host/path"
    if separator == ":" and text.startswith("//", pair.start - 2) and (masked := _MASKED_LOGIN.match(text, at)):
        return masked.end(), masked.end()  # "https://__token__:****@host/path"
    if kind != "cookie" and text[at - 1] in " \t" and _is_name(text, pair, of):
        return at, at  # nothing stands here: "password= --token …", "password: token: …"
    if separator == ":" and begin in _VISIBLE_BEGINS and _VISIBILITY.match(text, at):
        return at, at  # "[password:protected] => …" of PHP
    if kind == "signature" and separator == ":" and "-" in pair.name and (signed := _SIGNED.match(text, at)):
        return _checked(text, *signed.span(), kind)  # "Stripe-Signature: t=…,v1=…"
    if begin == "<" and kind == "cookie" and (jar := _JAR.match(text, at)):
        end = text.find("]>", jar.end())
        return _checked(text, jar.end(), end if end >= 0 else len(text), kind)
    if kind == "cookie" and separator == ":" and not pair.quote:
        if _COOKIE_STATE.match(text, at):
            return at, at
        if begin == "[" and (listed := _GO_COOKIE.match(text, at)):
            return _checked(text, *listed.span(1), kind)
        return _checked(text, at, _line_end(text, pair), kind)  # a header line, whatever stands in it
    if separator == "=>" and (dumped := _DUMPED.match(text, at)):
        return _checked(text, dumped.end(), quoted_end(text, dumped.end(), '"'), kind)
    if begin in _LINE_ENDS and separator == ":" and (items := _ITEMS.match(text, at)):
        return _checked(text, *items.span(1), kind)  # a list of YAML
    if begin == "!" and (tag := _TAG.match(text, at)):  # "!str …" of YAML
        at = tag.end()
        begin = text[at : at + 1]
    if begin == "(" and (spewed := _SPEWED.match(text, at)):
        at = spewed.end()
        begin = '"'
    if separator == ":" and "=" in text and (typed := TYPED.match(text, at)):
        at = typed.end()
        begin = text[at : at + 1]
    word = begin.isalnum()
    if not word:
        if begin in _BLOCKS and (block := _BLOCK.match(text, at)):  # "|" of YAML: what is in the next line
            return _checked(text, *block.span(1), kind)
        if begin in _TEMPLATES and _TEMPLATE.match(text, at):
            return at, at
        if begin == "&" and (opened := _HTML_OPEN.match(text, at)):
            end = text.find(opened.group(), opened.end())
            return _checked(text, opened.end(), end if end >= 0 else len(text), kind)
        if begin == "{" and _KEPT_AS.match(text, at):
            return _checked(text, at, _bare_end(text, at), kind)
        if begin in _BRACKETS and not text.startswith("[redacted", at):
            return _bracket(text, at, kind, of)
    if (not word or begin in _BEFORE_QUOTES) and (opened := _OPEN.match(text, at)):
        start = opened.end()
        if _closes(text, start, opened.group(1)):
            return at, at
        end = quoted_end(text, start, opened.group(1))
        if text[start : start + 1] == "/" and pair.name in {"PWD", "OLDPWD"} and _DIRECTORY.fullmatch(text, start, end):
            return start, start
        if kind == "session" and is_statement_id(pair.name, text[start:end]):
            return start, start
        return _checked(text, start, end, kind, quoted=True)
    if begin in _CALL_BEGINS and _LOGIN_CALL.match(text, at):
        return at, at
    if begin == "O" and text.startswith("Optional[", at):
        held = _OPTIONAL.match(text, at)
        return _checked(text, *held.span(1), kind) if held else (at, at)  # else it is a type
    if "(" in text and (call := CALL.match(text, at)):
        start = call.end()
        return (start, start) if asks(call) else _checked(text, start, quoted_end(text, start, call.group(2)), kind)
    if begin in _SCHEME_BEGINS and kind not in _SCHEMED and (scheme := _TOLD_SCHEME.match(text, at)):
        at = scheme.end()
    found = _BARE.match(text, at)
    end = found.end() if found else at
    if text.startswith("]", end) and "[redacted:" in text[at:end]:
        end += 1
    value = text[at:end]
    name = pair.name.lower()
    if _says_no_secret(name, value, kind) or is_counted(text, pair.name_start, (at, end), separator, kind):
        return at, at
    if (
        value
        and (kind != "authorization" or separator == "=" or pair.quote)
        and is_code(text, (at, end), name, kind, of)
    ):
        return at, at
    if kind in _SCHEMED:
        if name == "auth" and (_LOG_LEVEL.match(text, at) or _HOW.match(text, at)):
            return at, at
        return _header_value(text, pair, kind)
    if separator == ":" and (name.startswith(value + "_") or _documents(text, pair, value, end)):
        return at, at
    if separator == ":" and value.isalpha() and _goes_on(text, at, value, of):
        return at, at
    if kind == "password" and begin == "/" and name in {"pwd", "oldpwd"}:
        return at, at
    opening = _OPENING.get(text[end : end + 1])
    if opening and value.count(opening) > value.count(text[end]):
        end += 1  # "pw=ENC(…)"
    return _checked(text, at, end, kind)


def _is_name(text: str, pair: Pair, of: Callable[[str], str]) -> bool:
    """Return whether what stands in the place of a value is the next name, a telling one or a field of a struct."""
    found = _NEXT_NAME.match(text, pair.end)
    if not found or not (found.group(1) or found.group(3)) or any(map(str.isdigit, found.group(2))):
        return False
    if of(found.group(2)) not in (SCAN, TRUST):
        return True
    return pair.separator == found.group(3) == ":" and is_empty_field(text, pair.name_start, pair.end)


def _documents(text: str, pair: Pair, value: str, end: int) -> bool:
    """Return whether a line describes a name, links it, or goes on: ":param token: What to send", "pass :meth:`x`"."""
    if value[:4] == "http" and _PLAIN_LINK.fullmatch(value):
        return text[pair.end - 3 : pair.end] == "]: " or text.startswith(".. _", pair.start - 3)
    if text.startswith("`", end) and _ROLE.fullmatch(value):
        return True
    if value in _ARCHITECTURES:
        return text[pair.end - 1] == ":"  # "status installed python3-jwt:all 2.6.0-1"
    if value == "calling":
        return text.startswith(" handler", end)  # "Event before-call.iam.CreateAccessKey: calling handler …"
    if pair.name == "id-token":
        return value in {"read", "write"}  # what a workflow may do
    return value.isalpha() and _PARAM.search(text[max(0, pair.start - 64) : pair.start]) is not None


def _goes_on(text: str, at: int, word: str, of: Callable[[str], str]) -> bool:
    """Return whether a word begins the rest of a sentence: "passwd: password updated", "Input should be …"."""
    if word.lower() in PROSE or of(word) not in (SCAN, TRUST):
        return True
    if word in ACTIONS and _NEXT_WORD.match(text, at + len(word)):
        return True  # "password: reset by admin"
    line = _LINE.match(text, at, at + _LONGEST_MESSAGE)
    return line is not None and line.group().count(" ") > 2 and is_message(line.group().strip())


def _element(text: str, pair: Pair, kind: str) -> tuple[int, int]:
    if text[pair.start - 2 : pair.start] in _PLACEHOLDERS:
        return 0, 0  # "password=<password>; …"
    if text[pair.start - 2 : pair.start] == text[pair.end : pair.end + 1] + "<":
        return 0, 0  # "--token \"<access-token>\""
    if text.startswith("<![CDATA[", pair.end):
        return _checked(text, pair.end + 9, max(text.find("]]>", pair.end), pair.end + 9), kind, quoted=True)
    end = text.find("<", pair.end)
    if 0 < end - pair.end < 3 and text[end + 1 : end + 2] != "/" and not text[pair.end : end].isalnum():
        return 0, 0  # "<api-key>:<api-secret>"
    if text[pair.end : pair.end + 1] in _QUOTES and not text.startswith("</", end):
        return 0, 0  # "invalid value for '--password <PASSWORD>': …"
    if text[pair.start - 1 : pair.start] != "<" and not (
        text.startswith("</", end) and _ELEMENT.search(text[max(0, pair.start - 64) : pair.start])
    ):  # "/users/<int:pin>/cards" is a template
        return 0, 0
    value = text[pair.end : end if end >= 0 else len(text)]  # it may stand in a line of its own
    start = pair.end + len(value) - len(value.lstrip())
    return _checked(text, start, start + len(value.strip()), kind, quoted=True)


def _says_no_secret(name: str, value: str, kind: str) -> bool:
    """Return whether a bare value counts things, names a state, or is a part of what its kind has."""
    if (name.endswith("s") or name == "pass") and _COUNT.fullmatch(value):
        return name == "pass" or not name.endswith("pass")  # "tokens=512", "pass: 12"
    if value.lower() in _STATES:
        return True
    if kind == "pin":
        return value.isalpha() or _PIN_OF_A_BOARD.fullmatch(value) is not None
    if kind == "cookie":
        return value.isdigit() and len(value) <= 4
    if kind == "api_key" and value.isdigit():
        return len(value) <= 2  # a member of an enumeration
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


def quoted_end(text: str, start: int, opening: str) -> int:
    """Return where a quoted value ends; one that is never closed goes on to the end of its line."""
    if len(opening) == 1:
        found = _CLOSE[opening].match(text, start)
        end = found.end() if found else len(text)
    else:
        end = text.find(opening, start)
        while end > 0 and text[end - 1] == "\\":
            end = text.find(opening, end + 1)
    line = text.find("\n", start)
    if 0 <= end < len(text):
        # A quote in a later line may open what stands there, where the value was cut off with its line.
        cut_off = 0 <= line < end and _OPENS.search(text, max(line, end - _FARTHEST_OPENING), end) is not None
        return line if cut_off else end
    return line if line >= 0 else len(text)


def _bare_end(text: str, at: int) -> int:
    found = _BARE.match(text, at)
    return found.end() if found else at


def _bracket(text: str, at: int, kind: str, of: Callable[[str], str]) -> tuple[int, int]:
    """Return the contents of a list, a call or a mapping that stands behind a secret name."""
    if text[at] == "{":
        if kind not in _BLANKED_BRACES or is_field(text, at, kind, of) or _TABLE.match(text, at):
            return at, at
        if kind != "cookie" and (one := span_in_braces(text, at, of)):
            return _checked(text, *one, kind)
    if text.startswith("[]string{", at):  # a header as Go prints it
        at += 8
    if (opened := _OPENS_LINE.match(text, at)) and len(opened.group(1)) <= _indent(text, at):
        return at, at  # the line of a traceback alone, without those that it goes on with
    end = text.find(_BRACKETS[text[at]], at)
    if end < 0:
        end = len(text)
    if in_frame(text, at) and _NO_LITERAL.fullmatch(text, at, end):
        return at, at
    inside = text[at + 1 : end].strip("\"' ")
    if (
        keeps(kind, inside)
        or inside.lower() in _NOT_SHOWN
        or _KEY_SIZE.fullmatch(inside)
        or inside.replace(",", "").replace(" ", "").isdigit()
    ):
        return at, at
    if end < len(text) and names_alone(inside, of):
        return at, at
    return at + 1, end


def _indent(text: str, at: int) -> int:
    """Return how far in the line begins that holds a place."""
    start = text.rfind("\n", max(0, at - 512), at) + 1
    return len(text[start:at]) - len(text[start:at].lstrip(" \t"))


def _header_value(text: str, pair: Pair, kind: str) -> tuple[int, int]:
    """Return the contents of a header line: a cookie to the end of its line, credentials behind their scheme."""
    at, colon = pair.end, pair.separator == ":"
    if kind == "cookie":
        return _checked(text, at, _line_end(text, pair) if colon else _bare_end(text, at), kind)
    scheme = _SCHEME.match(text, at) or _ANY_SCHEME.match(text, at)
    start = scheme.end() if scheme else at
    if scheme and scheme.group().lower().startswith(_WHOLE_LINE):
        end = _line_end(text, pair)
    else:
        run = _TOKEN_RUN.match(text, start) if colon else _BARE.match(text, start)  # "?auth=…&page=3"
        end = run.end() if run else start
        if text.startswith("]", end) and "[redacted:" in text[start:end]:
            end += 1
        elif pair.quote or text[pair.start - 1 : pair.start] == "(":  # the end of a mapping, "(auth:…)"
            end = start + len(text[start:end].rstrip(")}]"))
    value = text[start:end]
    if colon and value.isalpha() and (value.lower() in PROSE or not scheme):
        return start, start
    return _checked(text, start, end, kind)


def _line_end(text: str, pair: Pair) -> int:
    """Return where the line of a header ends, or the quotes around it: ``-H 'Cookie: …'``."""
    quote = text[pair.start - 1 : pair.start]
    close = text.find(quote, pair.end) if quote in {'"', "'", "`"} else -1
    stop = close if close >= 0 else len(text)
    line = _LINE.match(text, pair.end, stop)
    end = line.end() if line else stop
    return end - 1 if quote == "<" and text[end - 1] == ">" else end  # "<SimpleCookie: sid='…'>"
