"""Points and spans of time, and sizes, as a person types them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mobius_otel.errors import ConfigurationError

__all__ = ["moment", "size", "span"]

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kmgt]?)b?", re.IGNORECASE)
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _seconds(text: str) -> float | None:
    found = _SPAN.fullmatch(text.strip())
    return float(found[1]) * _SECONDS[found[2]] if found else None


def span(option: str, text: str | None) -> float | None:
    """Return a span of time in seconds.

    Args:
        option: What it is for, for the error.
        text: ``30s``, ``90m``, ``24h``, ``7d``, ``2w``; None: None.

    Raises:
        ConfigurationError: It is none.

    Example:
        >>> span("--older-than", "1.5h")
        5400.0
    """
    if text is None:
        return None
    found = _seconds(text)
    if not found:
        raise ConfigurationError(option, text, "a span of time above zero: 90m, 24h, 7d, 2w")
    return found


def moment(option: str, text: str | None, now: datetime | None = None) -> float | None:
    """Return a point in time in seconds since the epoch.

    Args:
        option: What it is for, for the error.
        text: ``90m``, ``24h``, ``7d``: so long ago; or ISO 8601, in UTC where it names no offset; None: None.
        now: Default: now.

    Raises:
        ConfigurationError: It is neither.

    Example:
        >>> moment("--since", "2026-01-02T03:04:05Z") - moment("--since", "2026-01-02")
        11045.0
        >>> moment("--since", "24h", datetime(2026, 1, 2, tzinfo=UTC)) == moment("--since", "2026-01-01")
        True
    """
    if text is None:
        return None
    ago = _seconds(text)
    if ago is not None:
        return max(0.0, (now or datetime.now(UTC)).timestamp() - ago)
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            option, text, "a time ago (90m, 24h, 7d) or a date and time (2026-01-31, 2026-01-31T08:00:00+01:00)"
        ) from None


def size(option: str, text: str | None) -> int | None:
    """Return a size in bytes.

    Args:
        option: What it is for, for the error.
        text: ``500000``, ``500M``, ``1.5GB``, in powers of ten; None: None.

    Raises:
        ConfigurationError: It is none.

    Example:
        >>> size("--max-bytes", "1.5G")
        1500000000
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    number = int(float(found[1]) * _BYTES[found[2].lower()]) if found else 0
    if number <= 0:
        raise ConfigurationError(option, text, "a size above zero: 500000, 500M, 2G")
    return number
