"""A limit: how many units in which time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from mobius_otel.errors import ConfigurationError

__all__ = ["RateLimit"]

_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_FORM = re.compile(
    r"([1-9][0-9]{0,8})/(?:(second|minute|hour|day)|([1-9][0-9]{0,6}) (second|minute|hour|day)s?)", re.ASCII
)
_MOST_UNITS = 999_999_999
_LONGEST = 366 * 86400.0 * 30


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` units in any `per` seconds.

    Args:
        limit: Units, from 1 to 999,999,999.
        per: The window in seconds, a microsecond or more.

    Raises:
        ConfigurationError: A number breaks its rule.

    Example:
        >>> RateLimit.parse("100/minute")
        RateLimit(limit=100, per=60.0)
        >>> RateLimit(100, per=60.0) == RateLimit.parse("100/60 seconds")
        True
    """

    limit: int
    per: float

    def __post_init__(self) -> None:
        if type(self.limit) is not int or not 1 <= self.limit <= _MOST_UNITS:
            raise ConfigurationError("limit", self.limit, f"a whole number from 1 to {_MOST_UNITS:,}")
        if isinstance(self.per, bool) or not isinstance(self.per, int | float) or not math.isfinite(self.per):
            raise ConfigurationError("per", self.per, "a finite number of seconds")
        if not 1e-6 <= self.per <= _LONGEST:
            raise ConfigurationError("per", self.per, "a window from one microsecond to 30 years, in seconds")
        object.__setattr__(self, "per", float(self.per))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the limit that `text` says.

        Args:
            text: ``"N/second"`` (or ``minute``, ``hour``, ``day``), or ``"N/M seconds"`` (or ``minutes`` ...).

        Raises:
            ConfigurationError: It says something else; the error shows both forms.

        Example:
            >>> RateLimit.parse("5/10 seconds").per
            10.0
        """
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigurationError(
                "limit", text, '"N/second", "N/minute", "N/hour" or "N/day", or "N/M seconds" (minutes, hours, days)',
                'For example: "100/minute" or "5/10 seconds"',
            )  # fmt: skip
        units, unit, many, of = found.groups()
        return cls(int(units), _UNITS[unit] if unit else int(many) * _UNITS[of])
