"""The rules of OpenTelemetry for instruments: names, units, bucket boundaries, amounts.

Sources: the OpenTelemetry specification ("Instrument name syntax", "Instrument unit") and its semantic
conventions ("Instrument units": UCUM, ``{…}`` for what is counted).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from numbers import Real
from typing import Any, Final, Literal

from mobius_otel.conventions import FAST_SECONDS, HTTP_SECONDS
from mobius_otel.errors import ConfigurationError

__all__ = ["LARGEST", "Buckets", "bounds_of", "check_name", "check_unit", "number_of"]

Buckets = Literal["http", "fast"] | Sequence[float]

#: The largest amount that is counted exactly; a larger whole number becomes a float, since OTLP has 64 bits.
LARGEST: Final = 2**53
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
# UCUM terms: atoms, prefixes, exponents, "." and "/", with annotations in braces; no blank outside of braces.
_UNIT: Final = re.compile(r"(?:[!-z|~]|\{[ -z|~]*\})*")
_LONGEST_UNIT: Final = 63
_BUCKETS: Final = {"http": HTTP_SECONDS, "fast": FAST_SECONDS}
#: What people write, and what UCUM calls it.
_MEANT: Final = {
    "bit": "bit", "bits": "bit", "byte": "By", "bytes": "By", "celsius": "Cel", "count": "{item}", "day": "d",
    "days": "d", "error": "{error}", "errors": "{error}", "event": "{event}", "events": "{event}", "hour": "h",
    "hours": "h", "item": "{item}", "items": "{item}", "kb": "kBy", "mb": "MBy", "gb": "GBy", "kib": "KiBy",
    "mib": "MiBy", "gib": "GiBy", "microsecond": "us", "microseconds": "us", "millisecond": "ms",
    "milliseconds": "ms", "millis": "ms", "minute": "min", "minutes": "min", "nanosecond": "ns",
    "nanoseconds": "ns", "percent": "%", "request": "{request}", "requests": "{request}", "second": "s",
    "seconds": "s", "sec": "s", "secs": "s",
}  # fmt: skip


def check_name(name: object) -> str:
    """Return the name of an instrument.

    Raises:
        ConfigurationError: It is no letter followed by at most 254 letters, digits and ``_.-/``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "name", name, "a letter followed by at most 254 letters, digits, '_', '.', '-' or '/'",
            'For example: "orders.placed"',
        )  # fmt: skip
    return name


def check_unit(unit: object) -> str:
    """Return the unit of an instrument.

    Raises:
        ConfigurationError: It is no UCUM unit, or an English word for one.
    """
    if not isinstance(unit, str) or len(unit) > _LONGEST_UNIT or not _UNIT.fullmatch(unit):
        raise ConfigurationError(
            "unit", unit, f"a UCUM unit of at most {_LONGEST_UNIT} ASCII characters",
            'For example: "s", "By", "1" for a ratio, "{order}" for what is counted',
        )  # fmt: skip
    meant = _MEANT.get(unit.lower(), unit)
    if meant != unit and unit not in {"d", "h", "s"}:
        raise ConfigurationError("unit", unit, "a UCUM unit", f'Write "{meant}".')
    return unit


def bounds_of(buckets: Any) -> tuple[float, ...]:
    """Return the upper bounds of a histogram's buckets.

    Args:
        buckets: ``"fast"``, ``"http"`` or the bounds.

    Raises:
        ConfigurationError: They are no finite numbers that rise.
    """
    found = _BUCKETS.get(buckets, ()) if isinstance(buckets, str) else buckets
    try:
        bounds = tuple(found)
        good = bounds and all(type(b) in {int, float} and math.isfinite(b) for b in bounds)
    except TypeError:
        bounds, good = (), False
    if not good or any(low >= high for low, high in pairwise(bounds)):
        raise ConfigurationError("buckets", buckets, '"fast", "http" or finite numbers that rise')
    return tuple(map(float, bounds))


def number_of(amount: object, *, signed: bool) -> float | None:
    """Return `amount` as the int or float that is recorded, None where it breaks the rule of its kind.

    Args:
        amount: What the caller gave; numbers of other libraries are converted.
        signed: Whether it may be negative.
    """
    if isinstance(amount, bool) or not isinstance(amount, Real | Decimal | Fraction):
        return None
    try:
        number: float = operator.index(amount)  # type: ignore[arg-type]
        if abs(number) > LARGEST:
            number = float(number)
    except (TypeError, OverflowError):
        try:
            number = float(amount)
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            return None
    if not math.isfinite(number) or (number < 0 and not signed):
        return None
    return number
