"""Trying a user's own examples: what a policy must leave of a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.redactor import Redactor

__all__ = ["FailedExample", "failed_examples"]

_ABSENT = "(nothing)"


@dataclass(frozen=True, slots=True)
class FailedExample:
    """One place where an example is not what was expected.

    Args:
        example: The number of the example, from 0.
        path: Where in the value; empty for the value itself.
        expected: What was asked for.
        got: What the policy left.
    """

    example: int
    path: str
    expected: str
    got: str


def failed_examples(policy: RedactionPolicy, examples: Iterable[tuple[Any, Any]]) -> list[FailedExample]:
    """Return where examples are not what was expected.

    Args:
        policy: The policy that is tried.
        examples: Pairs of a value and what must be left of it.

    Example:
        >>> failed_examples(RedactionPolicy.default(), [("pin=1234", "pin=[redacted:pin]")])
        []
        >>> failed_examples(RedactionPolicy.default(), [({"badge": "B-123456"}, {"badge": "[redacted:badge]"})])
        [FailedExample(example=0, path='badge', expected="'[redacted:badge]'", got="'B-123456'")]
    """
    redactor = Redactor(policy)
    return [
        FailedExample(number, *place)
        for number, (value, expect) in enumerate(examples)
        for place in _differences(expect, redactor.redact(value).value, "")
    ]


def _differences(expected: Any, got: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in dict.fromkeys((*expected, *got)):
            inner = f"{path}.{key}" if path else str(key)
            if key in expected and key in got:
                yield from _differences(expected[key], got[key], inner)
            else:
                yield inner, _shown(expected, key), _shown(got, key)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif type(expected) is not type(got) or expected != got:
        yield path, repr(expected), repr(got)


def _shown(value: dict[Any, Any], key: Any) -> str:
    return repr(value[key]) if key in value else _ABSENT
