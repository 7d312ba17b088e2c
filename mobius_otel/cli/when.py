"""Points in time as a person types them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mobius_otel.errors import ConfigurationError

__all__ = ["moment"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


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
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return ((now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})).timestamp()
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            option, text, "a time ago (90m, 24h, 7d) or a date and time (2026-01-31, 2026-01-31T08:00:00+01:00)"
        ) from None
