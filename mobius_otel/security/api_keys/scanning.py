"""Finding our keys in what was never meant to hold one: files, the history of a repository, a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys.secret import LONGEST, checked_part, has_checksum, pattern_of

__all__ = ["FoundKey", "Scanner", "pattern_for"]

# First what is rare, then what stands before it: in one pass, and in linear time.
_TAIL = re.compile(rb"_([0-9A-Za-z]{49})(?![0-9A-Za-z])")
_FRONT = re.compile(rb"(?<![0-9A-Za-z])[a-z][a-z0-9]{0,15}_[a-z][a-z0-9]{0,15}\Z")
_LONGEST_FRONT = 34


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that was found.

    Args:
        line: The number of its line, from 1.
        secret: The secret; take care where it goes.
    """

    line: int
    secret: bytes

    @property
    def shown(self) -> str:
        """As much of it as may be shown: enough to find it again, nothing that opens."""
        front, _, body = self.secret.decode("ascii").rpartition("_")
        return f"{front}_{body[:4]}…{body[-2:]}"

    def __repr__(self) -> str:
        return f"FoundKey(line={self.line}, {self.shown!r})"


class Scanner:
    r"""Finds the keys in bytes, however large.

    Args:
        prefix: Only keys with this prefix; None: with any.
        is_genuine: Returns whether the last six digits fit the rest; default: by the checksum.

    Example:
        >>> from mobius_otel.security.api_keys.secret import generate
        >>> text = b"all is well\nkey=" + generate("mob", "live").encode() + b"\n"
        >>> [found.line for found in Scanner().scan([text])]
        [2]
    """

    __slots__ = ("_front", "_is_genuine")

    def __init__(self, prefix: str | None = None, is_genuine: Callable[[bytes], bool] = has_checksum) -> None:
        self._front = None if prefix is None else checked_part("prefix", prefix).encode("ascii") + b"_"
        self._is_genuine = is_genuine

    def scan(self, chunks: Iterable[bytes]) -> Iterator[FoundKey]:
        """Yield every key, in order.

        Args:
            chunks: The bytes, cut anywhere.
        """
        line, data, begin = 1, b"", 0
        for chunk in chunks:
            data += chunk
            end = max(len(data) - LONGEST, begin)  # what begins later may go on in the next chunk
            line = yield from self._found(data, line, begin, end)
            data, begin = data[max(end - 1, 0) :], min(end, 1)  # one byte more, to see what stands before a key
        yield from self._found(data, line, begin, len(data))

    def _found(self, data: bytes, line: int, begin: int, end: int) -> Generator[FoundKey, None, int]:
        """Yield the keys that begin in a part of `data`; return the number of the line at its end."""
        counted = begin
        for match in _TAIL.finditer(data, begin):
            front = _FRONT.search(data, max(match.start() - _LONGEST_FRONT, 0), match.start())
            if front is None or not begin <= front.start() < end:
                continue
            secret = data[front.start() : match.end()]
            if (self._front is None or secret.startswith(self._front)) and self._is_genuine(secret):
                line += data.count(b"\n", counted, front.start())
                counted = front.start()
                yield FoundKey(line, secret)
        return line + data.count(b"\n", counted, end)


def pattern_for(tool: Literal["gitleaks", "trufflehog", "github"] | None, prefix: str) -> str:
    """Return what a secret scanner has to be told to find our keys.

    Args:
        tool: Which one; None: the bare regular expression.
        prefix: The prefix of the keys.

    Raises:
        ConfigurationError: There is no such tool, or the prefix cannot be one.

    Example:
        >>> pattern_for(None, "mob")
        'mob_[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{49}'
    """
    pattern = pattern_of(checked_part("prefix", prefix))
    if tool is None:
        return pattern
    if tool not in _RULES:
        raise ConfigurationError("for", tool, f"one of {', '.join(_RULES)}")
    return _RULES[tool].format(prefix=prefix, pattern=pattern)


_RULES = {
    "gitleaks": """\
# .gitleaks.toml
[[rules]]
id = "{prefix}-api-key"
description = "An API key of {prefix}"
regex = '''\\b({pattern})\\b'''
secretGroup = 1
keywords = ["{prefix}_"]
""",
    "trufflehog": """\
# trufflehog filesystem . --config=trufflehog.yml
detectors:
  - name: {prefix}-api-key
    keywords:
      - {prefix}_
    regex:
      key: '\\b({pattern})\\b'
""",
    "github": """\
# GitHub: Settings, Advanced Security, Custom patterns
Pattern name:   {prefix} API key
Secret format:  {pattern}
Before secret:  \\A|[^0-9A-Za-z_]
After secret:   \\z|[^0-9A-Za-z]
""",
}
