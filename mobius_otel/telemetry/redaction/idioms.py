"""Commands that take a secret where no flag tells it: ``echo … | sudo -S``, ``htpasswd -b f ann …``.

And what programs read line by line: ``AUTH …`` of Redis, ``userPassword:: …`` of LDIF, ``::add-mask::…`` of a workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps

__all__ = [
    "IDIOM_WORDS", "WIDE_IDIOMS", "idiom_spans", "is_literal", "is_variable", "may_be_idiom", "may_be_piped", "quoted",
]  # fmt: skip

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
#: Words, in lower case, of which one stands in a text that holds one of the idioms that have no flag; and what tells
#: that it is more than the word.
_MARKS_OF = {
    b"chpasswd": ("chpasswd",), b"htpasswd": ("htpasswd ",), b"rabbitmqctl": ("rabbitmqctl ",),
    b"securestring": ("SecureString", "securestring"), b"sqlplus": ("sqlplus ",), b"sqlldr": ("sqlldr ",),
    b"expdp": ("expdp ",), b"impdp": ("impdp ",), b"net": ("net use",), b"vault": ("vault login ",),
    b"cargo": ("cargo login ",), b"ngrok": ("authtoken ",), b"wpa": ("wpa_passphrase ",), b"mask": ("::add-mask::",),
    b"setvariable": ("task.setvariable ",), b"setuser": ("SETUSER ", "setuser "), b"userpassword": ("assword::",),
    b"unicodepwd": ("Pwd::", "pwd::"), b"auth": ("AUTH ", "AUTH\r", ".auth("), b"nauth": ("AUTH\\r",),
    **dict.fromkeys((b"httpbasicauth", b"httpdigestauth", b"basicauth"), ("Auth(",)),
    b"networkcredential": ("Credential(",), b"basicawscredentials": ("Credentials(",),
    b"pdo": ("PDO(", "PDO->__construct("), b"mysqli": ("mysqli(", "mysqli->", "mysqli_"),
}  # fmt: skip
IDIOM_WORDS = frozenset(_MARKS_OF)
#: Patterns that RE2 can run, too; one of them matches wherever :func:`may_be_idiom` has a place for its word.
WIDE_IDIOMS = [(word, "|".join(map(re.escape, marks))) for word, marks in _MARKS_OF.items()]
_VARIABLE = re.compile(r"\$(?:\w{1,16}:)?\{?\w{1,64}\}?|%\w{1,64}%", re.ASCII)
_LONGEST = 1024
# A word of a command: in quotes, or as far as it goes.
_VALUE = r"(?:'([^'\n]{1,512}+)'|\"([^\"\n]{1,512}+)\"|((?![\-/\"'<>|&])[^\s\"'|;&<>()]{3,512}+))"
_WORD = r"(?:'[^'\n]{1,128}+'|\"[^\"\n]{1,128}+\"|(?![\-\"'])[^\s\"'|;&<>()]{1,128}+)[ \t]{1,4}+"
_LITERAL = r"[ \t]{0,4}+(?:[bu]?\"[^\"\n]{0,256}+\"|[bu]?'[^'\n]{0,256}+')"
# The end of a line is none behind a backslash.
_REST = r"(?:[^\n|;&\\]|\\\n|\\.)"
_STDIN = (
    r"(?:--password-stdin|--passwd-on-stdin|passwd[ \t]+--stdin|--with-token|\bchpasswd"
    r"|sudo[ \t]{1,4}+(?:-\w{1,8}+[ \t]{1,4}+){0,2}-S)"
)
_FLAG = r"(?:-[A-Za-z]{1,8}+[ \t]{1,4}+(?:[0-9]{1,2}[ \t]{1,4}+)?)"
# As a word, also behind a line break written as two characters.
_AUTH = r"(?:(?<![0-9A-Za-z])|(?<=\\n))AUTH"
_PIPED = ("-stdin", "chpasswd", "--with-token", " -S")
#: What stands in a text that holds it, the pattern, and whether a word alone is a secret there, too: it may be the
#: rest of a sentence, "vault login failed".
_IDIOMS: tuple[tuple[tuple[str, ...], re.Pattern[str], bool], ...] = tuple(
    (marks, re.compile(pattern, re.ASCII | re.IGNORECASE), sure)
    for marks, pattern, sure in (
        (
            _PIPED,
            (
                rf"\b(?:echo|printf)[ \t]{{1,4}}+(?:-[neE]{{1,3}}[ \t]{{1,4}}+)?(?:[\"']%s(?:\\n)?[\"'][ \t]{{1,4}}+)?"
                rf"{_VALUE}[ \t]{{0,4}}+\|(?={_REST}{{0,256}}{_STDIN}(?!\w))"
            ),
            True,
        ),
        (("<<<",), rf"{_STDIN}(?!\w){_REST}{{0,128}}?<<<[ \t]{{0,4}}+{_VALUE}", True),
        (
            ("rabbitmqctl",),
            (
                rf"\brabbitmqctl[ \t]{_REST}{{0,64}}?(?:add_user|change_password|authenticate_user)[ \t]{{1,4}}+"
                rf"{_WORD}{_VALUE}"
            ),
            True,
        ),
        (
            ("htpasswd",),
            (
                rf"\bhtpasswd[ \t]{{1,4}}+(?={_FLAG}{{0,4}}-[A-Za-z]{{0,8}}b){_FLAG}{{1,5}}+"
                rf"(?:{_WORD})?{_WORD}{_VALUE}(?=[ \t]*(?:$|[\n|;&>)\"'`]))"
            ),
            True,
        ),
        (
            ("SecureString", "securestring"),
            rf"\bConvertTo-SecureString(?:[ \t]{{1,4}}+-(?:String|AsPlainText|Force)){{0,3}}[ \t]{{1,4}}+{_VALUE}",
            True,
        ),
        (
            ("sqlplus", "sqlldr", "expdp", "impdp"),
            (
                rf"\b(?:sqlplus|sqlldr|expdp|impdp)[ \t]{_REST}{{0,64}}?(?<=[ \t=\"'])[A-Za-z][\w$#]{{0,30}}/"
                r"(?!/|[A-Za-z]{3,128}+(?:[\s\"']|$))([^\s/@\"'|;]{3,128}+)(?=@|[\s\"']|$)"
            ),
            True,
        ),
        (("net user",), rf"\bnet user[ \t]{{1,4}}+{_WORD}{_VALUE}", False),
        (
            ("net use ",),
            (
                rf"\bnet use[ \t]{_REST}{{0,32}}?\\\\[\w.\-\\$]{{1,128}}+(?:[ \t]{{1,4}}+/user:[^\s]{{1,64}}+)?"
                rf"[ \t]{{1,4}}+{_VALUE}"
            ),
            False,
        ),
        (
            ("vault login", "cargo login", "authtoken", "wpa_passphrase"),
            (
                r"\b(?:(?:vault login|cargo login|ngrok (?:config add-)?authtoken)[ \t]{1,4}+"
                rf"|wpa_passphrase[ \t]{{1,4}}+{_WORD})(?!\w{{1,32}}=){_VALUE}"
            ),
            False,
        ),
        (("::add-mask::",), r"::add-mask::([^\r\n]{3,512}+)", True),
        (("setvariable",), r"\[task\.setvariable [^\]\n]{0,128}issecret=true[^\]\n]{0,64}\]([^\r\n]{3,512}+)", True),
        (
            ("AUTH ",),
            r"\bAUTH (?:PLAIN|LOGIN|XOAUTH2|OAUTHBEARER) ([A-Za-z0-9+/]{8,1024}+={0,2})(?![\w\-])",
            False,
        ),
        (
            ("Auth(", "Credential(", "Credentials("),
            (
                rf"\b(?:HTTP(?:Basic|Digest)Auth|BasicAuth|NetworkCredential|BasicAWSCredentials)\({_LITERAL},"
                r"[ \t]{0,4}+[bu]?[\"']([^\"'\n]{3,512}+)[\"']"
            ),
            True,
        ),
        (
            ("PDO", "mysqli"),
            (
                rf"\b(?:PDO(?:->__construct)?|mysqli(?:->__construct|_connect)?)\({_LITERAL},{_LITERAL},"
                r"[ \t]{0,4}+['\"]([^\"'\n]{3,512}+)[\"']"
            ),
            True,
        ),
        (("SETUSER", "setuser"), r"\bsetuser [^\s]{1,64}[^\n\"]{0,64}? >([^\s\"]{3,128}+)", True),
        (
            ("Password::", "password::", "Pwd::", "pwd::"),
            r"(?:^|\n)(?:userPassword|unicodePwd)::[ \t]{1,4}+([A-Za-z0-9+/=]{4,512}+)",
            True,
        ),
        (("auth(",), r"\.auth\([ \t]{0,4}[\"'][^\"'\n]{1,64}[\"'],[ \t]{0,4}[\"']([^\"'\n]{3,128}+)[\"']", True),
        (
            ("AUTH\r", "AUTH\\r"),
            (
                rf"{_AUTH}"
                r"(\r\n|\\r\\n)(?:\$[0-9]{1,4}\1[^\s\\]{1,64}\1)??\$[0-9]{1,4}\1([^\s\\]{3,512}+)"
                r"(?=\1\*|\1[^$]|(?:\1)?$)"
            ),
            True,
        ),
        (
            ("AUTH ",),
            (
                r"(?:^|\n|> ?)(?:HELLO [0-9] )?AUTH (?:[^\s\"]{1,64} )?"
                r"(?!(?:CRAM|DIGEST|SCRAM|XOAUTH|TLS|NTLM)[\w\-]*(?:\s|$))([^\s\"]{3,512}+)(?=[ \t\r]*(?:\n|$))"
            ),
            False,
        ),
    )
)
# Commands whose flags tell a secret together: the name of what is set, and its value.
_SETS = re.compile(
    r"\b(put-parameter|gh secret set|keyvault secret set|create secret|pulumi config set)(?=[ \t])"
    r"((?:'[^'\n]{0,512}+'|\"[^\"\n]{0,512}+\"|[^\n|;&\\'\"]|\\\n|\\.|[\"']){1,512}+)",
    re.ASCII,
)
_SET_MARKS = ("put-parameter", "secret set", "create secret", "pulumi config set")
_NAME = re.compile(r"--name[ \t=]{1,4}+[\"']?([\w./\-]{1,128}+)", re.ASCII)
_SET_VALUE = re.compile(
    rf"(?<=[ \t\n])(?:--value|--body|-b|--from-literal(?:=|[ \t])[\"']?[\w.\-]{{1,64}}+(?==))[ \t=]{{1,4}}+{_VALUE}",
    re.ASCII,
)
_PULUMI = re.compile(
    rf"(?=[^\n]{{0,256}}--secret\b)[ \t]{{1,4}}+(?:--secret[ \t]{{1,4}}+)?([\w.:\-]{{1,64}}+)[ \t]{{1,4}}+{_VALUE}",
    re.ASCII,
)
# What Redis prints where its password is a line of its own.
_AUTH_LINE = re.compile(rf"{_AUTH}(?:\r|\\r)")


def quoted(text: str, start: int, end: int) -> int:
    """Return where a word of a command ends that begins at `start`: behind its blanks, where it stands in quotes."""
    quote = text[start - 1 : start]
    if quote not in {"'", '"'} or text[end : end + 1] == quote:
        return end
    line = text.find("\n", end, start + _LONGEST)
    close = text.find(quote, end, start + _LONGEST if line < 0 else line)
    while quote == '"' and close > 0 and text[close - 1] == "\\":
        close = text.find(quote, close + 1, start + _LONGEST if line < 0 else line)
    return close if close >= 0 else end


def is_variable(text: str, start: int, value: str) -> bool:
    """Return whether a word of a command stands for what a variable holds; in single quotes it is the word itself."""
    return _VARIABLE.fullmatch(value) is not None and not is_literal(text, start, value)


def is_literal(text: str, start: int, value: str) -> bool:
    """Return whether a word that begins like a variable is none: ``'$ecret77'``, but ``'$DB_PASS'``, ``'${PASS}'``."""
    return value[0] == "$" and text[start - 1 : start] == "'" and value[1:2] not in "{(" and not value.isupper()


def idiom_spans(text: str, of: _Of) -> _Spans:
    """Find the secrets of idioms.

    Args:
        text: The text.
        of: What a name tells.
    """
    if of("password") == SCAN:  # nobody wants passwords to be found
        return
    for marks, pattern, sure in _IDIOMS:
        if not [mark for mark in marks if mark in text]:
            continue
        for found in pattern.finditer(text):
            start, end = found.span(found.lastindex or 0)
            if marks in (_PIPED, ("<<<",)):  # "ann:…"
                colon = text.find(":", start, end) if "chpasswd" in text[found.start() : found.end() + 256] else -1
                start = colon + 1 if colon > 0 else start
            value = text[start:end]
            if sure or (len(value) > 5 and any(map(str.isdigit, value)) and ":" not in value):
                yield from _told(text, start, value, "password")
    if any(mark in text for mark in _SET_MARKS):
        yield from _set(text, of)


def may_be_idiom(text: str, of: _Of, words: AbstractSet[bytes]) -> list[int]:
    """Return the places of what :func:`idiom_spans` may find, and of lines that tell what the next ones are.

    Args:
        text: Texts in lines of their own.
        of: What a name tells.
        words: Those of :data:`IDIOM_WORDS` that stand in them, or more.
    """
    for word in IDIOM_WORDS.intersection(words):
        if [mark for mark in _MARKS_OF[word] if mark in text]:
            lines = [found.start() for found in _AUTH_LINE.finditer(text)]
            return lines + [start for start, _, _ in idiom_spans(text, of)]
    return []


def may_be_piped(text: str, of: _Of) -> list[int]:
    """Return the places of what :func:`idiom_spans` may find in texts that hold a flag."""
    piped = "|" in text and [mark for mark in _PIPED if mark in text]
    if piped or "<<<" in text or [mark for mark in _SET_MARKS if mark in text]:
        return [start for start, _, _ in idiom_spans(text, of)]
    return []


def _set(text: str, of: _Of) -> _Spans:
    for command in _SETS.finditer(text):
        what, rest = command.groups()
        if what == "pulumi config set":
            value = _PULUMI.match(text, command.start(2), command.end())
            name = value.group(1) if value else ""
        else:
            value = None
            named = _NAME.search(rest) if what != "gh secret set" else re.match(r"[ \t]+([\w.\-]+)", rest)
            name = named.group(1).rpartition("/")[2] if named else ""
        kind = of(name) if name else SCAN
        if kind in (SCAN, TRUST):
            if what == "put-parameter" and "SecureString" not in rest:
                continue
            kind = of("secret")
        if kind == SCAN:
            continue
        for found in [value] if value else _SET_VALUE.finditer(text, command.start(2), command.end()):
            start, end = found.span(found.lastindex or 0)
            yield from _told(text, start, text[start:end], kind)


def _told(text: str, start: int, value: str, kind: str) -> _Spans:
    if value.startswith(("file://", "fileb://")):
        return
    if is_literal(text, start, value) or not (keeps(kind, value) or is_variable(text, start, value)):
        yield start, start + len(value), kind
