"""Takes the secrets out of one text: what a user asked for, what names tell, what values tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mobius_otel.telemetry.redaction.detectors import value_scanner
from mobius_otel.telemetry.redaction.hits import LONG, WORDS, Hits, marker
from mobius_otel.telemetry.redaction.names import NameRules
from mobius_otel.telemetry.redaction.own import own_detectors
from mobius_otel.telemetry.redaction.pairs import PairScanner
from mobius_otel.telemetry.redaction.personal import IBAN, may_hold_number
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.tokens import known_tokens, pem

__all__ = ["TextScanner", "cut"]

# Digits, letters, blanks, full stops, hyphens and harmless signs; whatever else there is stands as an x.
_MADE_OF = bytes(
    48 if 48 <= n <= 57
    else 32 if n in b" \n\t\r\x0b\x0c\xa0"
    else 97 if 65 <= n <= 90 or 97 <= n <= 122 or n >= 128
    else n if n in b".-/"
    else 95 if n in b"_,;!?#*&$^~|`'"
    else 120
    for n in range(256)
)  # fmt: skip
#: Ids and digests: a bank account, a card or a telephone number may still be in them, a token cannot.
_HEX = re.compile(r"[0-9a-f\-]+")
_SHORTEST = 5  # "pin=1"
_WORD_BREAK = 256

#: Redacts what was parsed out of a text, and says what it found by appending to the list.
Walk = Callable[[Any, Hits], Any]


class TextScanner:
    """Finds the secrets of one policy in texts.

    Args:
        policy: What is looked for.
        rules: What names say under this policy.
    """

    __slots__ = ("_own", "_pairs", "_pem", "_tokens", "_values")

    def __init__(self, policy: RedactionPolicy, rules: NameRules) -> None:
        self._own = own_detectors(policy.patterns, dict(policy.detectors).items())
        self._pem = "private_key" not in policy.kinds_off
        self._pairs = PairScanner(rules, policy.kinds_off)
        self._values = value_scanner(policy.kinds_off)
        self._tokens, _ = known_tokens(policy.kinds_off)

    def is_plain(self, text: str) -> bool:
        """Return whether a short text certainly holds no secret, by what it is made of; no pattern is tried.

        True for most of what telemetry says: words, names, small numbers. Each line stands for what the scan
        would look for.
        """
        if self._own:
            return False
        raw = text.encode("latin-1", "replace")
        made_of = raw.translate(_MADE_OF)
        if b"x" in made_of or b"-----" in made_of:  # pairs, URLs, addresses, JSON, tables, PEM
            return False
        if LONG in raw.translate(WORDS) and not _HEX.fullmatch(text) and self._may_hold_token(text):
            return False
        digits = b"0" in made_of
        if digits and (
            (b"aa00" in made_of and IBAN.search(text))
            or (b"0000000" in made_of.translate(None, b" -./") and may_hold_number(text, raw))
            or made_of.count(b".") > 2  # addresses
        ):
            return False
        if b" " not in made_of:
            return True
        low = text.lower()
        if b" -" in made_of or made_of[:1] == b"-" or "bearer" in low or "basic" in low:  # flags, credentials
            return False
        if not digits and "my " not in low:
            return True
        return not (  # "the PIN is 1234"
            "pass" in low or "token" in low or "secret" in low or "code" in low or "pin" in low or "pwd" in low
            or "otp" in low or "api key" in low or "cv" in low or "identified" in low or "ssn" in low or "cookie" in low
        )  # fmt: skip

    def _may_hold_token(self, text: str) -> bool:
        return (
            "_" in text or "~" in text or "eyJ" in text or "-us" in text
            or (self._tokens is not None and self._tokens.search(text) is not None)
        )  # fmt: skip

    def scan(self, text: str, hits: Hits, walk: Walk | None = None) -> str:
        """Return `text` without its secrets.

        Args:
            text: The text; its length is the caller's business.
            hits: Gets the kind of each find.
            walk: What redacts a JSON document when the text is one; None: it is read as a text.
        """
        if len(text) < _SHORTEST:
            return text
        for detect in self._own:
            text = detect(text, hits)
        if self._pem:
            text = pem(text, hits)
        if walk is not None and (document := _document(text)) is not None:
            return _redacted_json(text, document, hits, walk)
        text = self._pairs.scan(text, hits)
        return self._values(text, hits)


class _Twice(ValueError):
    """A JSON object names something twice; the first of the two would be overlooked."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _document(text: str) -> Any:
    """Return what the text encodes when it is a JSON object, list or (encoded twice) text; else None."""
    ends = text.strip()[:1] + text.strip()[-1:]
    if ends not in {"{}", "[]", '""'}:
        return None
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _redacted_json(text: str, document: Any, hits: Hits, walk: Walk) -> str:
    before = len(hits)
    clean = walk(document, hits)
    if len(hits) == before:
        return text
    separators = None if '": ' in text or "\n" in text else (",", ":")
    indent = 2 if "\n" in text.strip() else None
    return json.dumps(clean, ensure_ascii=text.isascii(), separators=separators, indent=indent)


def cut(text: str, length: int) -> str:
    """Cut a text that is too long, at the end of a word where one is near, and say so with a marker.

    Args:
        text: The text.
        length: How many characters the result may have, the marker among them.
    """
    sign = marker("length")
    end = max(0, length - len(sign))
    for at in range(end, max(0, end - _WORD_BREAK), -1):
        if text[at].isspace():
            end = at
            break
    half = text.rfind("[redacted:", max(0, end - 60), end)
    if half >= 0 and text.find("]", half, end) < 0:
        end = half  # never the half of a marker
    return text[:end] + sign
