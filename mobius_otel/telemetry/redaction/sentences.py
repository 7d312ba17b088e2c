"""What sentences of a text tell: "Bearer …", ``INSERT INTO t (password) VALUES ('…')``, "the PIN is 1234"."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator

from mobius_otel.telemetry.redaction.hits import each
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps, word_set

__all__ = ["PROSE", "TELLING_WORDS", "inserted", "loose_credentials", "may_tell", "said"]

_Spans = Iterator[tuple[int, int, str]]
#: What a name tells.
_Of = Callable[[str], str]
#: Words that go on with a sentence, and are no secret that a name before them tells.
PROSE = word_set(
    "a an and are as at be been by can cannot could did do does expected expired failed field for from had has have if"
    " in incorrect invalid is it its malformed may mismatch missing must no not of on or please rejected required"
    " revoked should than that the their them this to too unable unexpected unknown unsupported use valid verification"
    " was were when which will with within would wrong your you denied ok accepted created updated rotated changed"
    " deleted"
    " generated issued refreshed validated verified see ask use enabled disabled new closed active inactive set unset"
    " present absent str int bytes bool float any object string text number dict list tuple secretstr type none null"
    " true false optional default example abc files compat systemd"
)

# --- credentials without a name before them ------------------------------------------------------------------

_LOOSE = re.compile(r"\b(bearer|basic)[ \t]+([A-Za-z0-9+/=_\-.~]{8,4096}+)", re.IGNORECASE | re.ASCII)
_MIXED = re.compile(r"[0-9_=+/]|[a-z][A-Z]")


def _is_basic(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False


def loose_credentials(text: str) -> _Spans:
    """Find credentials behind "Bearer" or "Basic"."""
    for found in _LOOSE.finditer(text):
        scheme, value = found.group(1).lower(), found.group(2)
        if _is_basic(value) if scheme == "basic" else _MIXED.search(value):
            yield *found.span(2), "authorization"


# --- statements ---------------------------------------------------------------------------------------------

_INSERT = re.compile(
    r"\b(?:insert|replace)\s{1,8}+into\s{1,8}+[\w.\"`\[\]\\]{1,200}+\s{0,8}+\(([^()]{1,4000}+)\)\s{0,8}+values\s{0,8}+",
    re.IGNORECASE,
)
_ROW_BEGIN = re.compile(r"[\s,)]{0,16}+\(")
_SQL_VALUE = re.compile(
    r"\s{0,8}+([nNeExX]?\\{0,4}+'((?:[^'\\]++|''|\\[^'])*+)\\{0,4}+'|\"((?:[^\"\\]++|\\.)*+)\"|[^,()'\"]{0,500}+(?:\([^()]{0,500}+\))?+)"
    r"\s{0,8}+,?+"
)


def inserted(text: str, of: _Of) -> _Spans:
    """Find the values of ``INSERT INTO t (name, password) VALUES ('ann', '…'), (…)`` by their columns."""
    at = 0
    for found in _INSERT.finditer(text):
        if found.start() < at:
            continue  # a statement in a value of the one before: looking through all rows again takes too long
        kinds = [of(column.strip(' "`[]\n\t\\')) for column in found.group(1).split(",")]
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


# --- prose --------------------------------------------------------------------------------------------------

_SAID = re.compile(
    r"\b(pass(?:word|phrase|code|wd)|pwd|pin(?: code)?|otp|secret|token|api key|cvv|cvc|ssn|cookie"
    r"|(?:access|security|verification|sms|mfa|recovery) code|(?:access|refresh|bearer|auth) token"
    r"|identified by|(?:with|alter) password)"
    r"( (?:is|was|of|to|as|now|=))?[ \t]{1,2}[\"'`]?+([^\s\"'`]{3,512}+)",
    re.ASCII,
)
_BEHIND = r"(?: (?:is|was|of|to|as|now|=))?[ \t]{1,2}[\"'`]?+"
_WITH_DIGIT, _LONG_ENOUGH = r"[^\s\"'`0-9]{0,512}+[0-9]", r"[^\s\"'`]{3}"
_LAST_WORDS = {word: word for word in word_set(
    "password passphrase passcode passwd pwd pin code otp secret token cvv cvc ssn cookie"
)} | {"key": "(?<=api )key", "identified": "identified by"}  # fmt: skip
#: What a sentence tells ends with one of these words, and a digit is in the word behind it, unless it is "my" one: the
#: first pattern of each, and the second.
_TOLD = {
    word.encode(): (
        re.compile(f"{said}{_BEHIND}(?={_WITH_DIGIT})", re.ASCII),
        re.compile(f"{said}{_BEHIND}(?={_LONG_ENOUGH}|{_WITH_DIGIT})", re.ASCII),
    )
    for word, said in _LAST_WORDS.items()
}
#: What a text holds one of, in lower case and as a whole word, where a sentence in it tells something.
TELLING_WORDS = frozenset((*_TOLD, b"bearer", b"basic", b"into"))


def may_tell(low: str, words: Iterable[bytes]) -> list[int]:
    """Suspect what a sentence may tell: "the PIN is 1234", "Bearer …", "insert into … values".

    Args:
        low: Texts in lines of their own, in lower case.
        words: Those of :data:`TELLING_WORDS` that stand in them.
    """
    places: list[int] = []
    mine = "my " in low
    for word in words:
        if tells := _TOLD.get(word):
            if tells[mine].search(low):
                places += [found.start() for found in tells[mine].finditer(low)]
        elif word != b"into":
            places += [found.start() for found in _LOOSE.finditer(low)]
        elif "values" in low:
            places += each(low, "into")
    return places


def said(text: str, of: _Of) -> _Spans:
    """Find what a sentence tells: "the PIN is 1234", "my password: …"."""
    low = text.lower()
    if len(low) != len(text):  # a letter whose lower case is two
        low = "".join(c.lower() if c.isascii() else c for c in text)
    for found in _SAID.finditer(low):
        what = found.group(1)
        kind = "password" if what == "identified by" else of(what)
        start, end = found.span(3)
        value = text[start:end].rstrip(".,;!?)")
        mine = bool(found.group(2)) and low.startswith("my ", max(0, found.start() - 3))
        if (
            kind in (SCAN, TRUST)
            or keeps(kind, value)
            or not (
                _tells(kind, value, bool(found.group(2)))
                or (mine and kind == "password" and len(value) > 5 and low[start : start + len(value)] not in PROSE)
            )
        ):
            continue
        yield start, start + len(value), kind


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
