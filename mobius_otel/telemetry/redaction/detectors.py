"""Secrets that tell themselves by their value, wherever they stand in a text: which detector is for which suspicion.

Each detector takes a text and a list, returns the text with its finds replaced and appends the kind of each to the
list.
"""

from __future__ import annotations

from mobius_otel.telemetry.redaction.checked_numbers import cards, ibans, ssns
from mobius_otel.telemetry.redaction.hits import Detector
from mobius_otel.telemetry.redaction.personal import email, ipv4_addresses, ipv6_addresses, phones
from mobius_otel.telemetry.redaction.sorts import ADDRESS, AT, CARD, IBAN, INNER, JWT, OWN, PHONE, SSN, TOKEN
from mobius_otel.telemetry.redaction.tokens import VENDOR_KINDS, jwt, own_keys, vendor_tokens

__all__ = ["VALUE_KINDS", "value_detectors"]


def value_detectors(off: frozenset[str] = frozenset()) -> tuple[tuple[int, Detector], ...]:
    """Return what finds the secrets that tell themselves by their value, each with the suspicion that it is for.

    Args:
        off: Kinds that are not looked for.
    """
    by_beginning, by_inside = vendor_tokens(off)
    wanted: tuple[tuple[int, str, Detector], ...] = (
        (JWT, "jwt", jwt),
        (TOKEN, "", by_beginning),
        (OWN, "mobius_key", own_keys),  # what looks like one may be the middle of what stands above
        (INNER, "", by_inside),
        (AT, "email", email),
        (IBAN, "iban", ibans),
        (CARD, "card", cards),
        (SSN, "ssn", ssns),
        (PHONE, "phone", phones),
        (ADDRESS, "ipv4", ipv4_addresses),
        (ADDRESS, "ipv6", ipv6_addresses),
    )
    return tuple((sort, detect) for sort, kind, detect in wanted if kind not in off)


#: Every kind that a value tells by itself.
VALUE_KINDS = VENDOR_KINDS | {
    "private_key", "mobius_key", "jwt", "email", "card", "iban", "ssn", "phone", "ipv4", "ipv6",
}  # fmt: skip
