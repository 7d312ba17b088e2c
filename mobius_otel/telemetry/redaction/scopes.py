"""What is named by a word that tells, a colon and another word, with no blank between them, and holds no secret.

A permission (``secret:read``, ``secrets:GetSecretValue``), an event (``password:reset``), a key of a cache
(``session:17``), an image (``acme/token:latest``), a task (``npm run token:generate``), a selector (``.token:hover``).
What is none of the words known here is the value of a pair.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ACTIONS", "RIGHTS", "is_scope"]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What is done with a thing, or has been; nobody's token and nobody's password.
ACTIONS: Final = _set("""
    create created read write update updated delete deleted list get set put patch view viewed edit remove removed add
    added watch describe reset rotate rotated revoke revoked refresh refreshed renew renewed issue issued verify
    verified validate validated generate generated change changed expire expired introspect exchange encrypt decrypt
    sign invalidate invalidated destroy destroyed restore prune clear clean purge sync import export upload download
    approve reject assign unassign enable disable enabled disabled inherit impersonate
    send sent resend resent request requested show store index hash compare check use used lookup
    grant granted deny denied login logout start started end ended close closed open opened touch extend
    copy copied rename renamed unseal unlock lock locked deletecollection escalate bind
""")
#: Of these, what one may do with secrets: {"secrets": "read"}, "secrets: inherit".
RIGHTS: Final = _set("read write inherit create delete update get list")
#: The same of all but a password and a secret that a person may have made up.
_ROLES = _set("admin manage owner user users all any own self count total length size ttl type status id ids consent"
              " accept default info metrics errors events config cache store data policy rules strength"
              " history")  # fmt: skip
#: The texts of a form by their keys.
_TEXTS = _set("label placeholder title hint description help required invalid missing mismatch too_short too_long"
              " tooshort toolong weak too_weak min max pattern forgot forgotten incorrect wrong blank")  # fmt: skip
#: A state of an element of a page.
_STATES_OF_ELEMENTS = _set("hover focus active visited focus-visible focus-within disabled enabled checked valid"
                           " invalid required optional read-only read-write placeholder-shown autofill"
                           " -webkit-autofill first-child last-child before after not")  # fmt: skip
#: Words behind an action: "delete_any", "list_own".
_WHICH = _set("any own all only self one many mine other others me")
_MADE_UP = frozenset({"password", "secret"})
_NUMBERED = frozenset({"token", "secret", "session", "credential", "cookie", "signature", "private_key", "api_key"})
_KEPT_AS_KEYS = frozenset({"token", "session"})
_LONGEST_NUMBER, _LONGEST_ID = 4, 9
_RUN = re.compile(r"[\w.\-*{},/|:+]{1,128}+(?=[\s\"'`)\]};&<>(\\]|\Z)", re.ASCII)
_PORT = re.compile(r"[0-9]{2,5}(?=[/?#\s\"'\])>]|\Z)")  # "http://token:8080/"
_SPLIT = re.compile(r"[:,/|.]")
_WORD = re.compile(r"[a-z]{1,20}(?:[_\-][a-z]{1,20}){0,3}|\*|\{[a-z_.]{1,40}\}", re.IGNORECASE)
_OPERATION = re.compile(
    r"(?:Get|List|Create|Put|Delete|Update|Describe|Rotate|Revoke|Validate|Refresh|Tag|Untag|Restore|Read|Write)"
    r"(?:[A-Z][a-z]{2,20}){1,5}"
)
_VERSION = re.compile(r"v?[0-9]{1,4}(?:\.[0-9]{1,5}){1,3}(?:[.\-+][A-Za-z]{0,10}[0-9]{0,4}){0,3}")
_TAG = re.compile(
    r"v?[0-9]{1,4}(?:\.[0-9]{1,5}){0,3}(?:[.\-+][a-z]{0,10}[0-9]{0,4}){0,3}|sha-[0-9a-f]{7,40}"
    r"|(?:latest|stable|edge|nightly|main|master|develop|dev|prod|production|staging|test|canary|alpine|slim|debian)"
    r"(?:-(?:alpine|slim|amd64|arm64|[0-9a-f]{7,12}))?|20[0-9]{2}-[01][0-9]-[0-3][0-9]"
)


def is_scope(text: str, start: int, at: int, kind: str) -> bool:
    """Return whether a word behind a colon goes on the name before it, and is no secret.

    Args:
        text: The text.
        start: Where the name begins.
        at: Where the word begins, right behind the colon.
        kind: What the name tells.
    """
    if text.startswith("//", start - 2) and _PORT.match(text, at):
        return True
    run = _RUN.match(text, at)
    if run is None:
        return False
    word = run.group().rstrip(".:,(")
    if text[start - 1 : start] == "/" and _TAG.fullmatch(word):
        return True
    if word.isdigit():
        return kind in _NUMBERED and len(word) <= _LONGEST_NUMBER + (kind == "session")
    if kind not in _MADE_UP and (_VERSION.fullmatch(word) or _OPERATION.fullmatch(word)):
        return True
    if kind == "secret" and _OPERATION.fullmatch(word) and "Secret" in word:
        return True
    first, *rest = _SPLIT.split(word)
    if not all(_WORD.fullmatch(part) or (part.isdigit() and len(part) <= _LONGEST_ID) for part in rest):
        return False
    if kind in _KEPT_AS_KEYS and word.startswith(f"{first}:") and _WORD.fullmatch(first):
        return True  # "session:user:17"
    if kind == "authorization" and rest:
        return _is_action(rest[0], kind)  # "auth:token:read"
    return _is_action(first, kind)


def _is_action(word: str, kind: str) -> bool:
    if word in ACTIONS or word in _TEXTS or word in _STATES_OF_ELEMENTS or word == "*":
        return True
    if kind not in _MADE_UP and word in _ROLES:
        return True
    action, _, which = word.replace("-", "_").partition("_")
    return action in ACTIONS and (which in ACTIONS or which in _WHICH)
