"""Secrets that tell themselves by their value, wherever they stand in a text: which detector looks at which text.

Each detector takes a text and a list, returns the text with its finds replaced and appends the kind of each to the
list. Most texts can be told by what they are made of, and then no pattern is tried.
"""

from __future__ import annotations

from mobius_otel.telemetry.redaction.hits import BETWEEN_DIGITS, CLASSES, LONG, SHAPE, WORDS, Detector, Hits
from mobius_otel.telemetry.redaction.personal import (
    cards,
    email,
    ibans,
    ipv4_addresses,
    ipv6_addresses,
    phones,
    ssns,
)
from mobius_otel.telemetry.redaction.tokens import VENDOR_KINDS, jwt, own_keys, vendor_tokens

__all__ = ["VALUE_KINDS", "value_scanner"]


def value_scanner(off: frozenset[str] = frozenset()) -> Detector:
    """Return what finds all secrets that tell themselves by their value.

    Args:
        off: Kinds that are not looked for.
    """
    tokens: tuple[Detector, ...] = (
        *(detect for kind, detect in (("mobius_key", own_keys), ("jwt", jwt)) if kind not in off), vendor_tokens(off),
    )  # fmt: skip
    wants_email, wants_iban, wants_phone = "email" not in off, "iban" not in off, "phone" not in off
    wants_card, wants_ssn = "card" not in off, "ssn" not in off
    wants_ipv4, wants_ipv6 = "ipv4" not in off, "ipv6" not in off

    def numbers(text: str, hits: Hits) -> str:
        shape = text.encode("latin-1", "replace").translate(SHAPE)
        grouped = b"0000-0000-0000-" in shape or b"0000-000000-0000" in shape
        if wants_card and (grouped or b"00000000000000" in shape):
            text = cards(text, hits)
        if wants_ssn and b"000-00-0000" in shape:
            text = ssns(text, hits)
        if wants_phone:
            text = phones(text, shape, hits)
        return text

    def detect(text: str, hits: Hits) -> str:
        raw = text.encode("latin-1", "replace")
        if LONG in raw.translate(WORDS) or ":AA" in text:
            for each in tokens:
                text = each(text, hits)
        if wants_email and ("@" in text or "%40" in text):
            text = email(text, hits)
        classes = raw.translate(CLASSES)
        if b"0" in classes:
            if wants_iban and b"aa00" in classes:
                text = ibans(text, hits)
            if b"0000000" in classes.translate(None, BETWEEN_DIGITS):
                text = numbers(text, hits)
            if wants_ipv4 and text.count(".") > 2:
                text = ipv4_addresses(text, hits)
        if wants_ipv6 and ("::" in text or text.count(":") > 6):
            text = ipv6_addresses(text, hits)
        return text

    return detect


#: Every kind that a value tells by itself.
VALUE_KINDS = VENDOR_KINDS | {
    "private_key", "mobius_key", "jwt", "email", "card", "iban", "ssn", "phone", "ipv4", "ipv6",
}  # fmt: skip
