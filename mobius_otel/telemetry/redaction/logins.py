"""Logins in the URLs and DSNs of a text: ``postgres://user:…@host``, ``https://token@host``, ``user:…@host/db``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mobius_otel.telemetry.redaction.hits import MARKER, Hits, replace_spans
from mobius_otel.telemetry.redaction.names import keeps

__all__ = ["in_marker", "url_credentials"]

_URL = re.compile(r"//([^\s\"'<>`\\]{1,2048}+)", re.ASCII)
_BARE_DSN = re.compile(
    r"(?<![\w.+/@:\-])([A-Za-z][\w.\-]{0,63}+):([^\s:@/\"'<>]{1,256}+)@(?:[\w.\-]{1,253}+[:/]|[a-z]{2,5}\()",
    re.ASCII,
)
_SAFE_PASSWORDS = frozenset({"", "x-oauth-basic", "x", "@"})
_MARKED = re.compile(rf"{MARKER}(?::x-oauth-basic|:x|:)?@")
#: What is no name of a user: "nats://…@host".
_TOKEN = re.compile(r"(?=[A-Za-z_\-]{0,64}[0-9])(?=[0-9_\-]{0,64}[A-Za-z])[\w\-]{16,512}", re.ASCII)
#: "jdbc:oracle:thin:ann/…@//host"
_ORACLE = re.compile(r"(?<=thin:)[A-Za-z][\w$#]{0,30}+/([^\s/@\"']{3,128}+)@", re.ASCII)
#: A port, and behind it what is no part of the address: the properties of a connection, the next cell.
_PORT_ENDS = re.compile(
    r"[^:/?#@]{1,255}+:[0-9]{1,5}[;,](?=[A-Za-z ]{1,40}=|[a-z][a-z0-9+]{1,20}://)"
    r"|[^:/?#@.]{1,64}+\.[^:/?#@]{1,255}+:[0-9]{1,5}[;,]",
    re.ASCII,
)
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


def _url_spans(text: str) -> Iterator[tuple[int, int, str]]:
    behind = 0
    while found := _URL.search(text, behind):
        rest, behind = found.group(1), found.end()
        if "@" in rest and (port := _PORT_ENDS.match(rest)):
            behind = found.start(1) + port.end()  # there may be another address
            continue
        web = _is_web(text, found.start())
        at = _userinfo_end(rest, web) if "@" in rest else -1
        if at <= 0 or _MARKED.match(rest):
            continue
        start = found.start(1)
        user, colon, password = rest[:at].replace("[redacted:", "[redacted;").partition(":")
        if colon and password not in _SAFE_PASSWORDS:
            if not keeps("url_credential", password.replace("[redacted;", "[redacted:")):
                yield start + len(user) + 1, start + at, "url_credential"
        elif (
            user
            and not keeps("url_credential", user.replace("[redacted;", "[redacted:"))
            and (colon or web or _TOKEN.fullmatch(user))
        ):
            yield start, start + len(user), "url_credential"


def _is_web(text: str, at: int) -> bool:
    scheme = text[max(0, at - 6) : at].lower()
    return scheme.endswith(("http:", "https:"))


def in_marker(text: str, at: int) -> bool:
    """Return whether what begins at `at` is a part of a marker, which looks like a pair."""
    return text.startswith("[redacted:", at - 1) or text.startswith("[redacted:", at - 10)


def _dsn_spans(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _BARE_DSN.finditer(text):
        if not in_marker(text, found.start()) and not keeps("url_credential", found.group(2)):
            yield *found.span(2), "url_credential"


def url_credentials(text: str, hits: Hits) -> str:
    """Find the password, or the token that stands for both, in any URL or DSN."""
    if "@" not in text:
        return text
    if "//" in text:
        text = replace_spans(text, _url_spans(text), hits)
    if ":thin:" in text:
        text = replace_spans(text, ((*found.span(1), "url_credential") for found in _ORACLE.finditer(text)), hits)
    return replace_spans(text, _dsn_spans(text), hits) if ":" in text else text
