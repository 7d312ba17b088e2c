"""Secrets on a command line: ``--token …``, ``curl -u ann:…``, ``mysql -p…``, ``docker login -p …``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps

__all__ = ["FLAG_BEGIN", "SETTING_WORDS", "command_spans", "may_be_command"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
_FLAG = re.compile(r"-(?<!\S-)-?+([A-Za-z][\w\-]{0,60}+)[ \t]{1,4}+[\"']?+(?!-)([^\s\"']{1,1024}+)", re.ASCII)
#: What every flag of a command line begins with.
FLAG_BEGIN = re.compile(r"-(?<!\S-)[A-Za-z\-]")
_LOGINS = frozenset({"u", "user", "proxy-user"})
_JOINED_LOGIN = re.compile(r"-(?<!\S-)(?:-(?:proxy-)?user=|u=?)[\"']?+([^\s\"':=]{1,256}+:[^\s\"']{1,1024}+)", re.ASCII)
_VARIABLE = re.compile(r"\$\{?\w{1,64}\}?|%\w{1,64}%", re.ASCII)
# Commands that take a password behind a flag of one letter: their name, the flag, and what has to stand between.
_SHORT = re.compile(
    r"(?<![\w.\-])(?:(?P<p>mysql\w{0,10}+|mariadb[\w\-]{0,10}+|mongo\w{0,8}+|sshpass"
    r"|(?:docker|podman|helm|nerdctl|oc|az|cf)(?: registry)? login)"
    r"|(?P<a>redis-cli|valkey-cli|keydb-cli)|(?P<P>sqlcmd|bcp|osql)|(?P<w>ldap[a-z]{3,8}+))(?=[ \t])",
    re.ASCII,
)
_SHORT_FLAGS = (" -p", " -a", " -P", " -w")
_AFTER_FLAG = re.compile(r"[ \t]{0,2}+[\"']?+((?!-)[^\s\"']{1,1024}+)", re.ASCII)
_JOINED_ONLY = ("mysql", "mariadb")  # "-p shop" names a database
_NEVER_JOINED = ("mongo", "docker", "podman", "helm", "nerdctl", "oc", "az", "cf", "ldap")
_FARTHEST = 256
# aws configure set NAME VALUE, npm config set NAME VALUE, ENV NAME VALUE, setx NAME VALUE
_SET = re.compile(
    r"(?<![\w.\-])(?:config(?:ure)? set|ENV|setx)[ \t]{1,4}+[\"']?([\w.\-/:@]{2,128}+)[\"']?[ \t]{1,4}+[\"']?"
    r"([^\s\"'=]{4,1024}+)",
    re.ASCII,
)
# What Redis and Valkey read and print: requirepass …, "AUTH" "…"
_PLAIN = re.compile(
    r"(?:(?<![0-9A-Za-z])(?:requirepass|masterauth)\"?[ \t]{1,4}|\"(?:AUTH|auth)\" (?:\"[^\"\s]{1,64}\" )?)"
    r"\"?([^\s\"]{4,512}+)"
)
_PLAINS = ("requirepass", "masterauth", '"AUTH"', '"auth"')
_SETS = ("config set ", "configure set ", "ENV ", "setx ")
#: Words, in lower case, of which one stands in a text that sets something.
SETTING_WORDS = frozenset({b"set", b"env", b"setx", b"requirepass", b"masterauth", b"auth"})


def command_spans(text: str, of: _Of, *, logins: bool = True) -> list[tuple[int, int, str]]:
    """Return the secrets of the command lines in a text, in order.

    Args:
        text: The text.
        of: What a name tells.
        logins: Whether ``-u ann:…`` is looked for.
    """
    spans = [*_flag_spans(text, of, logins)]
    if any(word in text for word in (*_SETS, *_PLAINS)):
        spans += _set_spans(text, of)
    if FLAG_BEGIN.search(text):
        spans += _short_spans(text, of)
    return sorted(spans)


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
        if any(flag in text for flag in _SHORT_FLAGS):
            places += [found.start() for found in _SHORT.finditer(text)]
    if not words.isdisjoint(SETTING_WORDS):
        places += [start for start, _, _ in _set_spans(text, of)]
    return places


def _flag_spans(text: str, of: _Of, logins: bool) -> _Spans:
    for found in _FLAG.finditer(text):
        name = found.group(1)
        start, end = found.span(2)
        if name in _LOGINS:
            if logins:
                yield from _login(text, start, end)
        elif (kind := of(name)) not in (SCAN, TRUST) and not keeps(kind, text[start:end]):
            yield start, end, kind
    if logins:
        for found in _JOINED_LOGIN.finditer(text):
            yield from _login(text, *found.span(1))


def _login(text: str, start: int, end: int) -> _Spans:
    colon = text.find(":", start, end)
    while colon > 0 and text.startswith("[redacted:", colon - 9):
        colon = text.find(":", colon + 1, end)
    if colon <= 0 or text.startswith("//", colon + 1):
        return
    password = text[colon + 1 : end]
    if not keeps("url_credential", password) and not _VARIABLE.fullmatch(password):
        yield colon + 1, end, "url_credential"


def _set_spans(text: str, of: _Of) -> _Spans:
    if of("password") != SCAN and any(word in text for word in _PLAINS):
        for found in _PLAIN.finditer(text):
            if not keeps("password", found.group(1)):
                yield *found.span(1), "password"
    for found in _SET.finditer(text):
        kind = of(found.group(1).rpartition(":")[2])
        if kind not in (SCAN, TRUST) and not keeps(kind, found.group(2)):
            yield *found.span(2), kind


def _short_spans(text: str, of: _Of) -> _Spans:
    if of("password") == SCAN:  # nobody wants passwords to be found
        return
    for command in _SHORT.finditer(text):
        name, flag = command.group(), command.lastgroup or ""
        at = command.end()
        stop = min(len(text), at + _FARTHEST, *(end for end in (text.find(c, at) for c in "\n|;") if end >= 0))
        at = text.find(f" -{flag}", at, stop)
        value = _AFTER_FLAG.match(text, at + 3) if at >= 0 else None
        if value is None or value.start(1) >= stop:
            continue
        joined = value.start(1) == at + 3 or text[at + 3] in "\"'"
        if name.startswith(_JOINED_ONLY if not joined else _NEVER_JOINED):
            continue
        secret = value.group(1)
        if not keeps("password", secret) and not _VARIABLE.fullmatch(secret):
            yield *value.span(1), "password"
