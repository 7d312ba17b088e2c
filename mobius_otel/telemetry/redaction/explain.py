"""Why something is taken out: each find with its rule and its place, never what it was.

It looks at the redacted value alone, so that nothing of a secret can get into an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mobius_otel.telemetry.redaction.detectors import VALUE_KINDS
from mobius_otel.telemetry.redaction.hits import MARKER
from mobius_otel.telemetry.redaction.names import NameRules
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.redactor import Match, Redactor

__all__ = ["Explainer", "Finding", "explain"]

_MARKER = re.compile(MARKER)
#: The name before a marker in a text: ``password=``, ``"password": "``, ``--token ``, ``the password is ``.
_NAME_BEFORE = re.compile(
    r"([A-Za-z][\w.\-]{0,63})(?:\]|\\{0,4}[\"'])?\s{0,4}(?:[=:]|=>|\bis|>)?\s{0,4}(?:[A-Za-z]{1,16}\s)?[\[({]?\\{0,4}[\"'`]?\Z"
)
_NEAR = 160
_LIMITS = {
    "unreadable": "limit: what cannot be read, or that a detector of your own failed at",
    "depth": "limit max_depth",
    "items": "limit max_items",
    "length": "limit max_length",
    "cycle": "limit: what holds itself",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is taken out; never what it was.

    Args:
        kind: The kind of secret.
        path: Where in the value it stands, for example ``changes[0].after``; empty for the value itself.
        rule: Which rule found it: ``name 'password'``, ``detector 'card'``, ``pattern 'badge'``, a limit.
        where: ``the whole value``, or the character at which its marker stands in the redacted text (of a text
            that held a marker of the same kind before, the first one).
        becomes: What stands in its place.
    """

    kind: str
    path: str
    rule: str
    where: str
    becomes: str


class Explainer:
    """Redacts, and tells why; what it learns of names it keeps for the next value.

    Args:
        policy: What counts as a secret.
    """

    __slots__ = ("_finders", "_patterns", "_rules", "redactor")

    def __init__(self, policy: RedactionPolicy) -> None:
        self.redactor = Redactor(policy)
        self._rules = NameRules(policy.names, policy.trusted, policy.kinds_off)
        self._patterns = {kind for kind, _ in policy.patterns}
        self._finders = set(dict(policy.detectors))

    def explain(self, value: Any) -> tuple[Any, list[Finding]]:
        """Return the redacted value and what was found."""
        result = self.redactor.redact(value)
        return result.value, self.findings(result.value, result.matches)

    def findings(self, clean: Any, matches: tuple[Match, ...]) -> list[Finding]:
        """Say of each match by which rule it was found.

        Args:
            clean: The redacted value.
            matches: What was taken out of it.
        """
        if not matches:
            return []
        left = Counter((match.kind, match.path) for match in matches)
        paths = {match.path for match in matches}
        found: list[Finding] = []
        for path, name, text in _texts(clean, "", "", paths):
            for marker in _MARKER.finditer(text):
                kind = marker.group().strip("[]").split(":")[1]
                if left[kind, path] > 0:  # a marker that stood there before is no find
                    left[kind, path] -= 1
                    found.append(self._finding(kind, path, name, text, marker))
        rest = ((kind, path) for kind, path in left.elements())
        return found + [Finding(kind, path, self._rule(kind, ""), "in it", f"[redacted:{kind}]") for kind, path in rest]

    def _finding(self, kind: str, path: str, name: str, text: str, marker: re.Match[str]) -> Finding:
        whole = marker.group() == text
        if not whole or not self._tells(name, kind):
            before = _NAME_BEFORE.search(text[max(0, marker.start() - _NEAR) : marker.start()])
            name = before.group(1) if before and self._tells(before.group(1), kind) else ""
        where = "the whole value" if whole else f"character {marker.start() + 1} of the redacted text"
        return Finding(kind, path, self._rule(kind, name), where, marker.group())

    def _tells(self, name: str, kind: str) -> bool:
        """Return whether a name, or the end of a path, announces a secret of this kind."""
        return bool(name) and kind in {self._rules.of(name), self._rules.of(name.rpartition(".")[2])}

    def _rule(self, kind: str, name: str) -> str:
        if kind in _LIMITS:
            return _LIMITS[kind]
        if name:
            return f"name {name.rpartition('.')[2]!r}"
        if kind in self._patterns:
            return f"pattern {kind!r}"
        if kind in self._finders or kind in VALUE_KINDS:
            return f"detector {kind!r}"
        return f"a name that tells {kind!r}"


def _texts(value: Any, path: str, name: str, wanted: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield path, names and text of every text in a redacted value, and of its keys.

    Args:
        value: Plain data.
        path: Where it stands, as a match has it.
        name: The names that it stands under, with dots.
        wanted: The paths that matter.
    """
    if isinstance(value, str):
        if path in wanted:
            yield path, name, value
    elif isinstance(value, bytes):
        if path in wanted:
            yield path, name, value.decode("latin-1")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = f"{path}.{key}" if path else str(key)
            if inner in wanted and isinstance(key, str):
                yield inner, "", key
            yield from _texts(item, inner, f"{name}.{key}" if name else str(key), wanted)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]", name, wanted)


def explain(policy: RedactionPolicy, value: Any) -> list[Finding]:
    """Return what a policy finds in a value; see :meth:`RedactionPolicy.explain`."""
    return Explainer(policy).explain(value)[1]
