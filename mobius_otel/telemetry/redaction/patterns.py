r"""User's patterns: compiled, and refused where a hostile line could make one run for minutes.

What Python's engine can run in a time in proportion to the text, it runs: RE2 knows ASCII alone in ``\d``,
``\w``, ``\s`` and ``\b``, and to install an extra must not change what a pattern finds. What it cannot is handed to
RE2, which never goes back, where the extra ``re2`` is installed; else it is refused, with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mobius_otel import compat
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction.backtracking import refusal

__all__ = ["Found", "Pattern", "check_whole_pattern", "checked_pattern"]

_LONGEST = 1000
_WAY_OUT = (
    "Bound it ({1,20}), begin it with a character that it cannot take, or write its parts so that they share none"
)
_EXTRA = "; or install the engine that needs no such rule: pip install 'mobius_otel[re2]'"


class Found(Protocol):
    """What a pattern found."""

    def span(self) -> tuple[int, int]:
        """Return where it begins and ends."""
        ...


class Pattern(Protocol):
    """A compiled pattern, of Python's engine or of RE2."""

    def finditer(self, text: str, start: int, end: int, /) -> Iterator[Found]:
        """Yield what it finds between two places of a text."""
        ...


def checked_pattern(setting: str, pattern: object) -> Pattern:
    """Compile a user's regular expression, or say why it cannot be used.

    Args:
        setting: What the error calls it.
        pattern: The regular expression.

    Raises:
        ConfigurationError: It is no regular expression, matches nothing at all (the empty text), or could
            take more than a time in proportion to the text and RE2 is not installed or cannot run it.

    Example:
        >>> [found.span() for found in checked_pattern("badge", r"B-[0-9]{6}").finditer("is B-123456", 0, 11)]
        [(3, 11)]
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= _LONGEST:
        raise ConfigurationError(setting, pattern, f"a regular expression of 1 to {_LONGEST} characters")
    try:
        compiled = re.compile(pattern)
        empty = compiled.match("") is not None
        refused = "" if empty else refusal(pattern, compiled.flags)
    except (re.error, OverflowError, RecursionError) as error:
        if (other := compat.linear_pattern(pattern)) is not None:
            return _found_with(setting, pattern, other)
        raise ConfigurationError(setting, pattern, f"a regular expression ({error})") from None
    if empty:
        raise ConfigurationError(setting, pattern, "a regular expression that does not match the empty text")
    if not refused:
        return compiled
    if (other := compat.linear_pattern(pattern)) is not None:
        return _found_with(setting, pattern, other)
    hint = _WAY_OUT + ("." if compat.has_linear_patterns() else _EXTRA)
    raise ConfigurationError(setting, pattern, f"a regular expression without {refused}", hint)


def check_whole_pattern(setting: str, pattern: str, flags: int) -> None:
    """Refuse a regular expression for a whole text that a hostile one could make run for minutes.

    Args:
        setting: What the error calls it.
        pattern: A regular expression that compiles.
        flags: What it was compiled with.

    Raises:
        ConfigurationError: It could take more than a time in proportion to the text.
    """
    if refused := refusal(pattern, flags, whole=True):
        raise ConfigurationError(setting, pattern, f"a regular expression without {refused}", f"{_WAY_OUT}.")


def _found_with(setting: str, pattern: str, compiled: Any) -> Pattern:
    if compiled.match("") is not None:
        raise ConfigurationError(setting, pattern, "a regular expression that does not match the empty text")
    return _Linear(compiled)


class _Linear:
    """A pattern that RE2 runs.

    One search takes a time in proportion to the text, but a text may ask for a search at every place: after
    so many finds the rest of it counts as found.
    """

    __slots__ = ("_compiled",)

    _MOST_FINDS = 1000
    _SURROGATES = re.compile("[\ud800-\udfff]")  # RE2 reads UTF-8, which has none

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def finditer(self, text: str, start: int, end: int, /) -> Iterator[Found]:
        """Yield what it finds between two places of a text."""
        if not text.isascii():
            text = self._SURROGATES.sub("\ufffd", text)
        for number, found in enumerate(self._compiled.finditer(text, start, end)):
            if number == self._MOST_FINDS:
                yield _Rest(found.start(), end)
                return
            yield found


@dataclass(frozen=True, slots=True)
class _Rest:
    start: int
    end: int

    def span(self) -> tuple[int, int]:
        return self.start, self.end
