"""What a path and a route of the policy look like, and what to write in place of what is none.

A policy whose paths match nothing is worse than none: it looks as if it guarded. So what could never match a request,
because it is a framework's template, is written encoded, or has a letter that nobody sees, is refused.
"""

from __future__ import annotations

import difflib
import re
from urllib.parse import unquote

__all__ = ["ENDPOINT_PATTERN", "PATH_PATTERN", "ROUTE_PATTERN", "instead_of_path", "instead_of_route"]

#: RFC 9110, PATCH (5789), QUERY, WebDAV (4918, 3253, 3648, 3744, 5323, 5842, 4791, 4437), and what caches know.
METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "CONNECT", "TRACE",
    "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "ACL", "VERSION-CONTROL",
    "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKWORKSPACE", "UPDATE", "LABEL", "MERGE", "BASELINE-CONTROL", "MKACTIVITY",
    "ORDERPATCH", "BIND", "REBIND", "UNBIND", "MKCALENDAR", "MKREDIRECTREF", "UPDATEREDIRECTREF", "LINK", "UNLINK",
    "PURGE",
)  # fmt: skip

# Unicode's Default_Ignorable_Code_Point, and control characters: written as themselves, for the JSON Schema.
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_OTHER_BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_NEVER = rf"?#{{}}<>{_INVISIBLE}{_OTHER_BLANKS}"
# No segment begins with a colon, none begins or ends with a blank, and nothing is percent-encoded.
_LOOK = r"(?!.*/:)(?!.*%[0-9A-Fa-f]{2})(?!.*(?:/ | /| $))"

ENDPOINT_PATTERN = rf"{_LOOK}/[^*{_NEVER}]*"
PATH_PATTERN = rf"{_LOOK}(?:/(?:[^*{_NEVER}]*[^*{_NEVER}/])?(?:/\*)?|/\*|/[^*{_NEVER}]*/)"
ROUTE_PATTERN = rf"(?:{'|'.join(METHODS)}|\*) (?:{PATH_PATTERN})"

_TEMPLATE = re.compile(r"/[^/]*[{<]|/:")
_UNSEEN = re.compile(f"[{_INVISIBLE}{_OTHER_BLANKS}]")
_EVERY = {"ANY", "ALL"}
_HANDSHAKE = {"WEBSOCKET", "WS"}


def instead_of_path(path: object) -> str:
    """Return the end of an error's text that says what to write instead, or nothing.

    Example:
        >>> instead_of_path("/v1/items/{id}")
        '; did you mean "/v1/items/*"? It stands for what a framework writes as a template'
        >>> instead_of_path("/caf%C3%A9/*")
        '; did you mean "/café/*"? Paths are judged decoded'
    """
    text = str(path)
    if found := _UNSEEN.search(text):
        return f"; it holds U+{ord(found[0]):04X}, which nobody sees"
    if found := _TEMPLATE.search(text):
        return f'; did you mean "{text[: found.start()]}/*"? It stands for what a framework writes as a template'
    decoded = unquote(text, errors="strict") if _decodes(text) else text
    if decoded != text and re.fullmatch(PATH_PATTERN, decoded):
        return f'; did you mean "{decoded}"? Paths are judged decoded'
    return ""


def instead_of_route(route: object) -> str:
    """Return the same for a route.

    Example:
        >>> instead_of_route("GETT /admin"), instead_of_route("ANY /admin")
        ('; did you mean "GET /admin"?', '; did you mean "* /admin"?')
    """
    method, blank, path = str(route).partition(" ")
    if not blank:
        return instead_of_path(route)
    upper = method.upper()
    if method in METHODS or method == "*":
        return instead_of_path(path)
    if upper in _EVERY:
        near = ["*"]
    elif upper in _HANDSHAKE:
        near = ["GET"]  # a handshake is one
    else:
        near = [upper] if upper in METHODS else difflib.get_close_matches(upper, METHODS, 1)
    return (f'; did you mean "{near[0]} {path}"?' if near else "") + instead_of_path(path)


def _decodes(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
