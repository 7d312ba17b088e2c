"""What a limiter is given, checked: one clear error that names the value and the rule."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = [
    "Limits", "checked_clock", "checked_cost", "checked_limits", "checked_max_keys", "checked_name", "checked_timeout",
    "one_of", "part",
]  # fmt: skip

Limits = str | RateLimit | Iterable[str | RateLimit]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def checked_limits(given: Limits) -> tuple[RateLimit, ...]:
    """Return one limit or several as a tuple.

    Example:
        >>> checked_limits("100/minute")
        (RateLimit(limit=100, per=60.0),)
    """
    several = [given] if isinstance(given, str | RateLimit) else given
    if not isinstance(several, Iterable):
        raise ConfigurationError("limits", given, "a limit or a list of limits", 'For example: "100/minute"')
    limits = tuple(limit if isinstance(limit, RateLimit) else RateLimit.parse(limit) for limit in several)
    if not limits:
        raise ConfigurationError("limits", given, "one limit or more", 'For example: ["10/second", "1000/hour"]')
    return limits


def checked_cost(cost: int) -> int:
    """Return the units of a call."""
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise ConfigurationError("cost", cost, "a whole number, zero or more")
    return int(cost)


def checked_name(name: str) -> str:
    """Return a limiter's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError("name", name, "1 to 64 letters, digits, '_', '.' or '-'", 'For example: "api"')
    return name


def checked_clock(clock: Clock | None) -> Clock | None:
    """Return a clock, or None."""
    if clock is not None and not callable(clock):
        raise ConfigurationError("clock", clock, "a callable that returns seconds", "For example: time.monotonic")
    return clock


def checked_max_keys(max_keys: int | None) -> int | None:
    """Return how many keys may be remembered, or None."""
    if max_keys is not None and (type(max_keys) is not int or max_keys < 1):
        raise ConfigurationError("max_keys", max_keys, "a whole number above zero, or None")
    return max_keys


def checked_timeout(timeout: float | None) -> float | None:
    """Return seconds to wait at most, or None."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigurationError("timeout", timeout, "a number of seconds, zero or more, or None")
    return timeout


def one_of(setting: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of `choices`."""
    if value not in choices:
        supported = ", ".join(f'"{choice}"' for choice in choices)
        raise ConfigurationError(setting, value, f"one of {supported}" if len(choices) > 1 else supported)


def part(setting: str, value: float, *, least: float, most: float) -> None:
    """Refuse a value that is no part between `least` and `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigurationError(setting, value, f"a number {'above 0' if least else 'from 0'} and up to {most:g}")
