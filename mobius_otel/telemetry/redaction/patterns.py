"""The check that a user's regular expression cannot be made to run for minutes.

Python's engine goes back over what it took. A repetition inside a repetition, or two next to each other that
can share characters, lets a hostile line make that take time with the square of its length, or worse. Such a
pattern is refused when the policy is read, with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mobius_otel import compat
from mobius_otel.errors import ConfigurationError

__all__ = ["checked_pattern"]

_LONGEST = 1000
_UNBOUNDED = 512
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT"})
# One bit for each of the first 256 characters, and one for each sort of all the others.
_OTHER_DIGIT, _OTHER_WORD, _OTHER_SPACE, _OTHER = (1 << bit for bit in range(256, 260))
_OTHERS = _OTHER_DIGIT | _OTHER_WORD | _OTHER_SPACE | _OTHER
_ALL = (1 << 260) - 1


def _bits(test: Callable[[str], bool]) -> int:
    return sum(1 << code for code in range(256) if test(chr(code)))


_DIGITS = _bits(str.isdigit) | _OTHER_DIGIT
_SPACES = _bits(str.isspace) | _OTHER_SPACE
_WORDS = _bits(lambda character: character.isalnum() or character == "_") | _OTHER_DIGIT | _OTHER_WORD
_WAY_OUT = "Bound it ({1,20}), make it possessive (*+, ++, {1,20}+), or write the parts out."


class _Refused(Exception):
    """The pattern breaks the rule that the text says."""


def checked_pattern(setting: str, pattern: object) -> re.Pattern[str]:
    """Compile a user's regular expression, or say why it cannot be used.

    Args:
        setting: What the error calls it.
        pattern: The regular expression.

    Raises:
        ConfigurationError: It is no regular expression, matches nothing at all (the empty text), or could
            take more than a time in proportion to the text.

    Example:
        >>> checked_pattern("badge", r"B-[0-9]{6}").pattern
        'B-[0-9]{6}'
        >>> checked_pattern("bad", r"(a+)+b")
        Traceback (most recent call last):
        mobius_otel.errors.ConfigurationError: bad = '(a+)+b': it must be a regular expression without a ...
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= _LONGEST:
        raise ConfigurationError(setting, pattern, f"a regular expression of 1 to {_LONGEST} characters")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(setting, pattern, f"a regular expression ({error})") from None
    if compiled.match(""):
        raise ConfigurationError(setting, pattern, "a regular expression that does not match the empty text")
    try:
        _sequence(compat.parsed_pattern(pattern), inside=False, leading=True)
    except _Refused as refused:
        raise ConfigurationError(setting, pattern, f"a regular expression without {refused}", _WAY_OUT) from None
    return compiled


def _flat(items: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a sequence, those of groups among them."""
    for op, argument in items:
        name = str(op)
        if name == "SUBPATTERN":
            yield from _flat(argument[-1])
        else:
            yield name, argument


def _varies(items: Iterable[Any]) -> bool:
    """Return whether any part can match more than one length."""
    return any(
        (name in _REPEATS and (argument[0] != argument[1] or _varies(argument[2]))) or name == "BRANCH"
        for name, argument in _flat(items)
    )


def _sequence(items: Iterable[Any], *, inside: bool, leading: bool) -> None:
    """Check a sequence of parsed parts.

    Args:
        items: The parts.
        inside: Whether a repetition stands around it: then nothing in it may vary.
        leading: Whether the search can try it at every place of a text.
    """
    open_ends: list[int] = []  # the characters of unbounded repetitions that nothing has closed yet
    near = 0  # the characters of the variable repetitions directly before
    for name, argument in _flat(items):
        if name in _REPEATS:
            near = _repeat(argument, inside, leading, open_ends, near)
            leading = leading and argument[0] == 0
        elif name in {"POSSESSIVE_REPEAT", "ATOMIC_GROUP"}:
            _sequence(argument[2] if name == "POSSESSIVE_REPEAT" else argument, inside=False, leading=False)
            near = 0
        elif name == "BRANCH":
            _branches(argument[1], inside, leading, near)
            near = _ALL if any(map(_varies, argument[1])) else 0
            leading = False
        elif name in {"GROUPREF", "GROUPREF_EXISTS"}:
            raise _Refused("a reference back to a group")
        elif name in {"ASSERT", "ASSERT_NOT"}:
            _sequence(argument[1], inside=inside, leading=leading)
        elif name != "AT":
            characters = _characters(name, argument)
            open_ends = [end for end in open_ends if end & characters]
            near, leading = 0, False


def _branches(branches: Iterable[Any], inside: bool, leading: bool, near: int) -> None:
    if inside:
        raise _Refused("a choice inside a repetition")
    for branch in branches:
        if near and _varies(branch):
            raise _Refused("two repetitions next to each other that can share characters")
        _sequence(branch, inside=inside, leading=leading)


def _repeat(argument: Any, inside: bool, leading: bool, open_ends: list[int], near: int) -> int:
    """Check one repetition; return the characters that a repetition directly behind it must not share."""
    least, most, body = argument[0], argument[1], list(argument[2])
    varies = least != most
    if inside and varies:
        raise _Refused("a repetition inside a repetition")
    _sequence(body, inside=inside or most > 1, leading=leading)
    characters = 0
    for name, part in _flat(body):
        characters |= _characters(name, part)
    if near & characters and varies:
        raise _Refused("two repetitions next to each other that can share characters")
    if int(most) > _UNBOUNDED and varies:
        if leading:
            raise _Refused("an unbounded repetition at its beginning")
        if any(end & characters for end in open_ends):
            raise _Refused("two unbounded repetitions that can share characters")
        open_ends.append(characters)
    elif least:
        open_ends[:] = [end for end in open_ends if end & characters]
    if not varies:
        return 0
    return near | characters if least == 0 else characters


def _characters(name: str, argument: Any) -> int:
    """Return which characters one parsed part can begin with or hold, as bits; all of them where unsure."""
    if name == "LITERAL":
        return _literal(argument)
    if name == "IN":
        bits, negated = 0, False
        for op, part in argument:
            if str(op) == "NEGATE":
                negated = True
            elif str(op) == "LITERAL":
                bits |= _literal(part)
            elif str(op) == "RANGE":
                for code in range(part[0], min(part[1], 255) + 1):
                    bits |= 1 << code
                bits |= _OTHERS if part[1] > 255 else 0
            else:
                bits |= _category(str(part))
        return (_ALL & ~bits) | _OTHERS if negated else bits
    return _ALL


def _category(name: str) -> int:
    for word, bits in (("DIGIT", _DIGITS), ("SPACE", _SPACES), ("WORD", _WORDS)):
        if name.endswith(word):
            return _ALL & ~bits if "NOT" in name else bits
    return _ALL


def _literal(code: int) -> int:
    if code < 256:
        return 1 << code
    character = chr(code)
    if character.isdigit():
        return _OTHER_DIGIT
    return _OTHER_WORD if character.isalnum() else (_OTHER_SPACE if character.isspace() else _OTHER)
