"""What counts as a secret: the built-in kinds, and what a user adds or leaves out."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction.detectors import VALUE_KINDS
from mobius_otel.telemetry.redaction.names import NAME_KINDS
from mobius_otel.telemetry.redaction.pairs import PAIR_KINDS
from mobius_otel.telemetry.redaction.patterns import checked_pattern

__all__ = ["KINDS", "RedactionPolicy"]

#: Every built-in kind that can be switched off.
KINDS = VALUE_KINDS | NAME_KINDS | PAIR_KINDS
#: What the redactor itself blanks; no policy switches it off and no pattern may take its name.
_OWN = frozenset({"unreadable", "depth", "items", "length", "cycle"})
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionPolicy:
    """What is taken out of telemetry. A frozen value, checked at construction.

    Args:
        names: Further secret names; each holds also as the end of a longer name (``badge_no`` finds
            ``employee.badgeNo``).
        trusted: Further names whose values are never looked into, exactly as written; a trailing ``*``
            stands for any rest. A trusted name wins over a secret one.
        patterns: Further kinds, as pairs of a kind and a regular expression. One with nested or ambiguous
            repetition is refused: it could take minutes over a hostile line.
        kinds_off: Kinds that are not looked for.
        max_depth: How many levels of nesting are walked; what lies deeper is blanked.
        max_items: How many values of one record are looked at; what lies beyond is blanked.
        max_length: How many characters of one string are looked at; the rest of it is blanked.
        version: A name for this policy; absent: made from its contents.

    Raises:
        ConfigurationError: A value breaks its rule.

    Example:
        >>> policy = RedactionPolicy(names=("badge_no",), patterns=(("badge", "B-[0-9]{6}"),))
        >>> policy.version.startswith("1-"), RedactionPolicy.default().version
        (True, '1')
    """

    names: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    kinds_off: frozenset[str] = frozenset()
    max_depth: int = 16
    max_items: int = 1000
    max_length: int = 32768
    version: str = ""

    def __post_init__(self) -> None:
        for field in ("names", "trusted"):
            object.__setattr__(self, field, _texts(field, getattr(self, field)))
        object.__setattr__(self, "kinds_off", frozenset(_texts("kinds_off", self.kinds_off)))
        object.__setattr__(self, "patterns", _patterns(self.patterns))
        for kind in sorted(self.kinds_off):
            _known(kind)
        for field, least, most in (("max_depth", 1, 64), ("max_items", 1, 1_000_000), ("max_length", 64, 1_048_576)):
            _number(f"redaction.{field}", getattr(self, field), least, most)
        if not isinstance(self.version, str) or len(self.version) > 64:
            raise ConfigurationError("redaction.version", self.version, "a text of at most 64 characters")
        object.__setattr__(self, "version", self.version or self._digest())

    def _digest(self) -> str:
        own = (self.names, self.trusted, self.patterns, tuple(sorted(self.kinds_off)))
        if not any(own):
            return "1"
        return "1-" + hashlib.sha256(repr(own).encode("utf-8", "surrogatepass")).hexdigest()[:8]

    @classmethod
    def default(cls) -> Self:
        """Return the policy that looks for every built-in kind."""
        return cls()

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Return the policy that the ``[redaction]`` section of a policy file describes.

        Args:
            section: Its keys ``names``, ``trusted`` and ``off`` (lists of text) and ``patterns`` (a table
                of kind and regular expression); any may be absent.

        Raises:
            ConfigurationError: A key is unknown, or a value breaks its rule.
        """
        known = {"names", "trusted", "patterns", "off"}
        for key in section:
            if key not in known:
                raise ConfigurationError("redaction", key, f"one of {', '.join(sorted(known))}", _nearest(key, known))
        patterns = section.get("patterns") or {}
        if not isinstance(patterns, Mapping):
            raise ConfigurationError("redaction.patterns", patterns, "a table of kind and regular expression")
        return cls(
            names=section.get("names") or (),
            trusted=section.get("trusted") or (),
            patterns=tuple(patterns.items()),
            kinds_off=section.get("off") or frozenset(),
        )


def _texts(field: str, value: Iterable[str]) -> tuple[str, ...]:
    rule = "a list of texts, none of them empty"
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigurationError(f"redaction.{field}", value, rule)
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, str) or not any(map(str.isalnum, text)):
            raise ConfigurationError(f"redaction.{field}", text, rule)
    return texts


def _patterns(value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for pair in value:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigurationError("redaction.patterns", pair, "pairs of a kind and a regular expression")
        kind, pattern = pair
        if not isinstance(kind, str) or not _KIND.fullmatch(kind) or kind in _OWN:
            rule = "lower-case letters, digits and underscores, at most 40, and none of the redactor's own markers"
            raise ConfigurationError("redaction.patterns", kind, rule)
        checked_pattern(f"redaction.patterns.{kind}", pattern)
        pairs.append((kind, pattern))
    return tuple(pairs)


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigurationError("redaction.off", kind, f"one of {', '.join(sorted(KINDS))}", _nearest(kind, KINDS))


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _number(setting: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(setting, value, f"a whole number from {least} to {most}")
