"""Secrets on a command line: ``--token …``, ``curl -u ann:…``, ``mysql -p…``, ``docker login -p …``.

As it is typed, as a list of its words (:func:`argument_spans`), and as such a list is printed: ``['mysql', '-p…']``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate

from mobius_otel.telemetry.redaction.idioms import (
    IDIOM_WORDS,
    idiom_spans,
    is_literal,
    is_variable,
    may_be_idiom,
    may_be_piped,
    quoted,
)
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.statements import LITERAL

__all__ = ["FLAG_BEGIN", "SETTING_WORDS", "argument_spans", "command_spans", "may_be_command"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
_FLAG = re.compile(r"-(?<!\S-)-?+([A-Za-z][\w\-]{0,60}+)[ \t]{1,4}+[\"']?+(?!-)([^\s\"']{1,1024}+)", re.ASCII)
#: What every flag of a command line begins with, also as a word of a list that is printed.
FLAG_BEGIN = re.compile(r"-(?<![^\s\"']-)[A-Za-z\-]")
_SETS_NAME = "pulumi config set "
# The word of a scheme before what is told: "--token Bearer …".
_SCHEMES = frozenset({"bearer", "basic", "token"})
_NEXT_WORD = re.compile(r"[ \t]{1,4}+([^\s\"']{1,1024}+)")
# The list of a command's words, as Python and JSON print it: where one begins, and each of its items.
_LIST_BEGIN = re.compile(r"[(\[][ \t\n]{0,16}+(?=[bBuU]?\\{0,4}[\"'])")
_ITEM = re.compile(
    r"[ \t\n]{0,16}+(?:[bBuU]?+(\\{0,4}+[\"'])((?:(?!\1)(?:[^\\\n]|\\.)){0,4096}+)\1|([\w.\-/]{1,256}+))"
    r"[ \t\n]{0,16}+(,?)"
)
_QUOTES = frozenset("\"'")
# The same as Java prints it: [mysql, --password, …]
_BARE_LIST = re.compile(r"\[([\w./\-]{1,256}+(?:, [^\[\],\n]{1,1024}+){1,256}+)\]")
_CALLED = re.compile(r"\ba0=\"[^\"\n]{0,1024}+\"(?: a[0-9]{1,3}=(?:\"[^\"\n]{0,1024}+\"|[0-9A-F]{2,1024}+)){1,256}+")
_CALLED_WITH = re.compile(r"a[0-9]{1,3}=\"?([^\"\s]{0,1024}+|(?<=\")[^\"\n]{0,1024}+)")
_NO_WORD = re.compile(r"[\s\"'|;]")
_LOGINS = frozenset(
    {"u", "user", "proxy-user", "U", "su", "sSu", "sku", "ksu", "fsSLu", "fsu", "iu", "vu", "Lu", "sLu"}
)
_JOINED_LOGIN = re.compile(r"-(?<!\S-)(?:-(?:proxy-)?user=|u=?)[\"']?+([^\s\"':=]{1,256}+:[^\s\"']{1,1024}+)", re.ASCII)
# Commands that take a password behind a flag of one letter: their name, the flag, and what has to stand between.
_SHORT = re.compile(
    r"(?<![\w.\-])(?:(?P<p>mysql\w{0,10}+|mariadb[\w\-]{0,10}+|mongo\w{0,8}+|sshpass"
    r"|(?:docker|podman|helm|nerdctl|oc|az|cf|cosign|az acr|crane auth)(?: registry)? login"
    r"|az sql [a-z]{2,10} [a-z]{2,10}"
    r"|(?:twine|poetry) (?:upload|publish)|7za?|rar|useradd|usermod|cqlsh|rabbitmqadmin|beeline|ncftp(?:put|get)"
    r"|psexec|rdesktop|security unlock-keychain)"
    r"|(?P<a>redis-cli|valkey-cli|keydb-cli)"
    r"|(?P<P>sqlcmd|bcp|osql|isql|tsql|unzip|zip|mosquitto_[a-z]{2,3}|ipmitool|security import)"
    r"|(?P<s>ldappasswd)|(?P<w>ldap[a-z]{3,8}+)|(?P<k>openssl [a-z0-9\-]{2,20}+)|(?P<N>ssh-keygen)"
    r"|(?P<A>snmp[a-z]{3,8}+)|(?P<E>curl))(?=[ \t])",
    re.ASCII,
)
#: Flags of it, and what stands in a text where few commands have them.
_SHORT_FLAGS = (
    (" -p", ""), (" -a", ""), (" -P", ""), (" -w", ""), (" -s", "ldappasswd"), (" -k", "openssl"),
    (" -N", "ssh-keygen"), (" -A", "snmp"), (" -E", "curl"),
)  # fmt: skip
_AFTER_FLAG = re.compile(r"[ \t]{0,2}+[\"']?+((?!-)[^\s\"']{1,1024}+)", re.ASCII)
_JOINED_ONLY = ("mysql", "mariadb", "7z", "rar")  # "-p shop" names a database
_MAYBE_JOINED = (
    *_JOINED_ONLY, "sshpass", "redis-cli", "valkey-cli", "keydb-cli", "sqlcmd", "bcp", "osql", "isql", "tsql",
)  # fmt: skip
#: Of a command that takes two.
_MORE_FLAGS = {"A": ("X",), "N": ("P",)}
_COMMAND_END, _FARTHEST = re.compile(r"[\n|;]"), 256
# aws configure set NAME VALUE, npm config set NAME VALUE, ENV NAME VALUE, setx NAME VALUE
_SET = re.compile(
    r"(?<![\w.\-])(?:config(?:ure)? set|ENV|setx|[sS]et[eE]nv|(?:fastcgi|uwsgi|scgi)_param|proxy_set_header|add_header)"
    r"[ \t]{1,16}+[\"']?(?!--)([\w.\-/:@]{2,128}+)[\"']?[ \t]{1,4}+[\"']?"
    r"([^\s\"'=]{4,1024}+)",
    re.ASCII,
)
# SET NAME TO 'VALUE' of SQL
_SET_TO = re.compile(
    r"\b[sS][eE][tT][ \t]{1,4}+(?:(?:session|local|global)[ \t]{1,4}+)?([\w.\"]{2,128}+)[ \t]{1,4}+[tT][oO][ \t]{1,4}+"
    rf"'({LITERAL}{{1,1024}}+)'",
    re.ASCII | re.IGNORECASE,
)
# What Redis and Valkey read and print: requirepass …, "AUTH" "…"
_PLAIN = re.compile(
    r"(?:(?<![0-9A-Za-z])(?:requirepass|masterauth)\"?[ \t]{1,4}|\"(?:AUTH|auth)\" (?:\"[^\"\s]{1,64}\" )?)"
    r"\"?([^\s\"]{4,512}+)"
    r"|\b(?:storePassword|keyPassword)[ \t]{1,4}['\"]([^\s'\"]{4,512}+)"  # of Gradle
)
_PLAINS = ("storePassword", "keyPassword", "requirepass", "masterauth", '"AUTH"', '"auth"')
_SETS = (
    "config set ", "configure set ", "ENV ", "setx ", "setenv ", "SetEnv ", "_param ", "_header ",
)  # fmt: skip
#: Words, in lower case, of which one stands in a text that sets something.
SETTING_WORDS = frozenset({
    b"set", b"env", b"setx", b"setenv", b"param", b"header", b"requirepass", b"masterauth", b"auth",
    b"storepassword", b"keypassword", *IDIOM_WORDS,
})  # fmt: skip
_SET_WORDS = SETTING_WORDS - IDIOM_WORDS | {b"auth"}


def command_spans(text: str, of: _Of, *, logins: bool = True) -> list[tuple[int, int, str]]:
    """Return the secrets of the command lines in a text, in order.

    Args:
        text: The text.
        of: What a name tells.
        logins: Whether ``-u ann:…`` is looked for.
    """
    spans = [*_flag_spans(text, of, logins), *_printed(text, of, logins)]
    if any(word in text for word in (*_SETS, *_PLAINS)) or _SET_TO.search(text):
        spans += _set_spans(text, of)
    if FLAG_BEGIN.search(text):
        spans += _short_spans(text, of)
    return sorted((*spans, *idiom_spans(text, of)))


def may_be_command(text: str, of: _Of, words: AbstractSet[bytes] = SETTING_WORDS) -> list[int]:
    """Return the places of what :func:`command_spans` may find, in texts that stand in lines of their own.

    Args:
        text: The texts.
        of: What a name tells.
        words: Those of :data:`SETTING_WORDS` that stand in them, or more.
    """
    places = []
    if FLAG_BEGIN.search(text):
        places += [
            found.start()
            for found in _FLAG.finditer(text)
            if found.group(1) in _LOGINS or of(found.group(1)) not in (SCAN, TRUST)
        ]
        places += [found.start() for found in _JOINED_LOGIN.finditer(text)]
        if "'-" in text or '"-' in text or ", -" in text:
            places += [start for start, _, _ in _printed(text, of)]
        if [flag for flag, command in _SHORT_FLAGS if flag in text and command in text]:
            places += [found.start() for found in _SHORT.finditer(text)]
        places += may_be_piped(text, of)
    if not words.isdisjoint(_SET_WORDS):
        places += [start for start, _, _ in _set_spans(text, of)]
    if not words.isdisjoint(IDIOM_WORDS):
        places += may_be_idiom(text, of, words)
    return places


def argument_spans(items: Sequence[str], of: _Of, *, logins: bool = True) -> list[tuple[int, int, int, str]]:
    """Return the secrets in the words of a command, ``["curl", "-u", "ann:…"]``, by their number and place.

    Args:
        items: The words.
        of: What a name tells.
        logins: As for :func:`command_spans`.
    """
    # One blank between two words and none in any, so that each is one word to whoever reads it as a line.
    line = " ".join([_NO_WORD.sub("_", item) for item in items])
    ends = list(accumulate([len(item) + 1 for item in items]))
    found = []
    for start, end, kind in sorted((*_flag_spans(line, of, logins), *_short_spans(line, of), *idiom_spans(line, of))):
        number = bisect_right(ends, start)
        begin = ends[number] - len(items[number]) - 1
        found.append((number, start - begin, end - begin, kind))
    return found


def _printed(text: str, of: _Of, logins: bool = True) -> _Spans:
    """Find the secrets in lists of words that are printed in a text."""
    if ", -" in text and "[" in text:
        for bare in _BARE_LIST.finditer(text):
            items = bare.group(1).split(", ")
            begins = [bare.start(1) + at - len(item) for item, at in _ends(items)]
            for number, start, end, kind in argument_spans(items, of, logins=logins):
                yield begins[number] + start, begins[number] + end, kind
    if "'-" not in text and '"-' not in text:
        return
    if ' a1="' in text:  # a call of the system, as auditd writes it
        for called in _CALLED.finditer(text):
            places = [item.span(1) for item in _CALLED_WITH.finditer(called.group())]
            words = [called.group()[a:b] for a, b in places]
            for number, start, end, kind in argument_spans(words, of, logins=logins):
                begin = called.start() + places[number][0]
                yield begin + start, begin + end, kind
    done = 0
    for opened in _LIST_BEGIN.finditer(text):
        if opened.start() < done:
            continue
        done, places, flagged = opened.end(), [], False
        while item := _ITEM.match(text, done):
            done = item.end()
            place = item.span(2) if item.group(1) else item.span(3)
            flagged = flagged or text[place[0] : place[0] + 1] == "-"
            places.append(place)
            if not item.group(4) and text[done : done + 1] not in _QUOTES:  # Go prints no comma
                break
        if flagged:
            for number, start, end, kind in argument_spans([text[a:b] for a, b in places], of, logins=logins):
                yield places[number][0] + start, places[number][0] + end, kind


def _ends(items: Sequence[str]) -> Iterator[tuple[str, int]]:
    at = -2
    for item in items:
        at += len(item) + 2  # what stands between two of them
        yield item, at


def _flag_spans(text: str, of: _Of, logins: bool) -> _Spans:
    for found in _FLAG.finditer(text):
        name = found.group(1)
        start, end = found.span(2)
        if name in _LOGINS:
            if logins:
                yield from _login(text, start, end, "%" if name == "U" and ":" not in text[start:end] else ":")
        elif (kind := of(name)) not in (SCAN, TRUST):
            if name == "secret" and text.endswith(_SETS_NAME, 0, found.start()):
                continue  # what follows is a name
            if text[start:end].lower() in _SCHEMES and (word := _NEXT_WORD.match(text, end)):
                start, end = word.span(1)
            else:
                end = quoted(text, start, end)
            if is_literal(text, start, text[start:end]) or not keeps(kind, text[start:end]):
                yield start, end, kind
    if logins:
        for found in _JOINED_LOGIN.finditer(text):
            yield from _login(text, *found.span(1))


def _login(text: str, start: int, end: int, by: str = ":") -> _Spans:
    colon = text.find(by, start, end)  # "-U ann%…" of Samba
    while colon > 0 and text.startswith("[redacted:", colon - 9):
        colon = text.find(":", colon + 1, end)
    if colon <= 0 or text.startswith("//", colon + 1):
        return
    end = quoted(text, start, end)
    password = text[colon + 1 : end]
    if text[start] == "<" and keeps("url_credential", text[start:end]):
        return  # "--user <user:password>"
    literal = password[:1] == "$" and text[start - 1] == "'" and is_literal(f"'{password}", 1, password)
    if literal or not (keeps("url_credential", password) or is_variable(text, start, password)):
        yield colon + 1, end, "url_credential"


def _set_spans(text: str, of: _Of) -> _Spans:
    if of("password") != SCAN and any(word in text for word in _PLAINS):
        for found in _PLAIN.finditer(text):
            group = found.lastindex or 0
            if not keeps("password", found.group(group)):
                yield *found.span(group), "password"
    for found in (*_SET.finditer(text), *_SET_TO.finditer(text)):
        kind = of(found.group(1).rpartition(":")[2].strip('"'))
        if kind not in (SCAN, TRUST) and not keeps(kind, found.group(2)):
            yield *found.span(2), kind


def _short_spans(text: str, of: _Of) -> _Spans:
    if of("password") == SCAN:  # nobody wants passwords to be found
        return
    for command in _SHORT.finditer(text):
        name, flag = command.group(), command.lastgroup or ""
        at = command.end()
        end = _COMMAND_END.search(text, at, at + _FARTHEST)
        stop = end.start() if end else min(len(text), at + _FARTHEST)
        for letter in (flag, *_MORE_FLAGS.get(flag, ())):
            if span := _after(text, name, letter, at, stop):
                yield *span, "password"


def _after(text: str, name: str, flag: str, at: int, stop: int) -> tuple[int, int] | None:
    """Return the secret behind a flag of one letter, between two places of a text."""
    while (at := text.find(f" -{flag}", at, stop)) >= 0:
        at += 3
        value = _AFTER_FLAG.match(text, at)
        if value is None or value.start(1) >= stop:
            continue
        joined = value.start(1) == at or text[at] in "\"'"
        if (name.startswith(_JOINED_ONLY) and not joined) or (joined and not name.startswith(_MAYBE_JOINED)):
            continue
        start, end = value.start(1), quoted(text, *value.span(1))
        if flag == "E":  # "cert.pem:…"
            colon = text.find(":", start, end)
            if colon < 0 or text[colon + 1] in "/\\":
                return None
            start = colon + 1
        secret = text[start:end]
        if start < end and (
            is_literal(text, start, secret) or not (keeps("password", secret) or is_variable(text, start, secret))
        ):
            return start, end
        return None
    return None
