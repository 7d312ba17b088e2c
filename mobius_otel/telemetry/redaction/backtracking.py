"""How long Python's engine may take for a regular expression.

It goes back over what it took. A repetition inside a repetition, two that can share characters, or one that can be
begun again inside of what it takes, lets a hostile line make that take time with the square of its length, or worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mobius_otel import compat

__all__ = ["refusal"]

#: A repetition of more characters than these counts as one without an end.
_UNBOUNDED = 512
#: How many steps one place of a text may cost.
_MOST_STEPS = 4096
_MOST_PATHS = 256
#: A repetition of exactly so many turns is read as if its parts were written out.
_WRITTEN_OUT = 16
_ENDLESS = 1 << 62
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_SINGLE = frozenset({"LITERAL", "NOT_LITERAL", "IN", "ANY"})
# One bit for each of the first 256 characters, and one for each sort of all the others.
_OTHER_DIGIT, _OTHER_WORD, _OTHER_SPACE, _OTHER = (1 << bit for bit in range(256, 260))
_OTHERS = _OTHER_DIGIT | _OTHER_WORD | _OTHER_SPACE | _OTHER
_ALL = (1 << 260) - 1


def _bits(test: Callable[[str], bool]) -> int:
    return sum(1 << code for code in range(256) if test(chr(code)))


_DIGITS = _bits(str.isdecimal) | _OTHER_DIGIT
_SPACES = _bits(str.isspace) | _OTHER_SPACE
_LETTERS = _bits(str.isalpha)
_WORDS = _bits(lambda character: character.isalnum() or character == "_") | _OTHER_DIGIT | _OTHER_WORD
_NEWLINE = 1 << 10
_INNER_FLAGS = re.compile(r"\(\?[aiLmsux]*([aiLmsux])[aiLmsux]*(?:-[imsx]+)?[:)]")


class _Refused(Exception):
    """The pattern breaks the rule that the text says."""


def refusal(pattern: str, flags: int, *, whole: bool = False) -> str:
    """Return what the pattern must not have, or nothing where it has none of it.

    Args:
        pattern: The regular expression.
        flags: What it was compiled with.
        whole: Whether it is tried at the beginning of a text alone and has to reach its end.
    """
    inner = {found.group(1) for found in _INNER_FLAGS.finditer(pattern)}
    if flags & re.ASCII or "a" in inner:
        return "the flag a; write [0-9] or [A-Za-z0-9_]"
    reading = _Reading(
        fold=bool(flags & re.IGNORECASE) or ("(?" in pattern and _has_flag(pattern, "i")),
        lines=bool(flags & re.MULTILINE) or _has_flag(pattern, "m"),
        dots=bool(flags & re.DOTALL) or _has_flag(pattern, "s"),
    )
    try:
        ways = reading.paths(compat.parsed_pattern(pattern), fails=whole)  # the end of the text may not be reached
        begin = [_Part("edge", ((0,),))] if whole else []
        steps = sum(_steps([*begin, *way], _State()) for way in ways)
    except _Refused as refused:
        return str(refused)
    return "" if steps <= _MOST_STEPS else "repetitions that make so much work together"


def _has_flag(pattern: str, flag: str) -> bool:
    return any(flag in found.group() for found in _INNER_FLAGS.finditer(pattern))


@dataclass(slots=True)
class _Part:
    """One part of one way through a pattern.

    Args:
        sort: ``one`` (a fixed number of characters), ``some`` (a repetition), ``edge`` (no character, only a
            place) or ``look`` (what is looked for ahead).
        alternatives: For ``one`` and ``edge``: the characters, position by position, of each alternative.
        first: The characters that it can begin with.
        holds: The characters that it can hold.
        least: How often a repetition must come.
        width: By how many characters a repetition may vary.
        fails: Whether what stands behind it can fail, so that the engine comes back to it.
        ahead: The ways through what is looked for ahead.
        length: How many characters it holds at the most, where that is fixed.
    """

    sort: str
    alternatives: tuple[tuple[int, ...], ...] = ()
    first: int = 0
    holds: int = 0
    least: int = 0
    width: int = 0
    fails: bool = False
    kept: bool = False
    ahead: list[list[_Part]] = field(default_factory=list)
    length: int = 1


def _can_fail(name: str, argument: Any) -> bool:
    """Return whether a part can fail to match, wherever it is tried."""
    if name in _REPEATS:
        return argument[0] > 0 and any(_can_fail(str(op), part) for op, part in argument[2])
    if name == "SUBPATTERN":
        return any(_can_fail(str(op), part) for op, part in argument[-1])
    if name == "ATOMIC_GROUP":
        return any(_can_fail(str(op), part) for op, part in argument)
    if name == "BRANCH":
        return all(any(_can_fail(str(op), part) for op, part in branch) for branch in argument[1])
    return True


@dataclass(frozen=True, slots=True)
class _Reading:
    """Takes a parsed pattern apart into every way that leads through it.

    Args:
        fold: Whether letters stand for both their cases.
        lines: Whether ``^`` holds at every line.
        dots: Whether ``.`` takes the end of a line too.
    """

    fold: bool
    lines: bool
    dots: bool

    def paths(self, items: Iterable[Any], *, fails: bool) -> list[list[_Part]]:
        """Return the ways through a sequence.

        Args:
            items: Its parsed parts.
            fails: Whether what stands behind the sequence can fail.
        """
        ways: list[list[_Part]] = [[]]
        for op, argument in reversed(list(items)):
            name = str(op)
            ways = [before + after for before in self._part(name, argument, fails) for after in ways]
            if len(ways) > _MOST_PATHS:
                raise _Refused("so many choices")
            fails = fails or _can_fail(name, argument)
        return ways

    def _part(self, name: str, argument: Any, fails: bool) -> list[list[_Part]]:
        if name in _SINGLE:
            return [[self._one(((self.characters(name, argument),),))]]
        if name == "SUBPATTERN":
            return self.paths(argument[-1], fails=fails)
        if name == "ATOMIC_GROUP":
            return self.paths(argument, fails=fails)
        if name == "BRANCH":
            return self._branches(argument[1], fails)
        if name in _REPEATS:
            return self._repeat(name, argument, fails)
        if name == "AT":
            return [[self._edge(str(argument))]]
        if name in {"ASSERT", "ASSERT_NOT"}:
            return self._look(name, argument)
        raise _Refused("a reference back to a group")

    @staticmethod
    def _one(alternatives: tuple[tuple[int, ...], ...], length: int = 1) -> _Part:
        first = 0
        holds = 0
        for alternative in alternatives:
            first |= alternative[0]
            for mask in alternative:
                holds |= mask
        return _Part("one", alternatives, first, holds, length=length)

    def _branches(self, branches: Iterable[Any], fails: bool) -> list[list[_Part]]:
        ways = [way for branch in branches for way in self.paths(branch, fails=fails)]
        plain = [self._fixed(way) for way in ways]
        if all(plain):
            return [[self._one(tuple(found[0] for found in plain))]]
        return ways

    @staticmethod
    def _fixed(way: Sequence[_Part]) -> list[tuple[int, ...]]:
        """Return the characters of a way, position by position, where it holds nothing else."""
        found: list[int] = []
        for part in way:
            if part.sort != "one" or len(part.alternatives) != 1:
                return []
            found += part.alternatives[0]
        return [tuple(found)] if found else []

    def _repeat(self, name: str, argument: Any, fails: bool) -> list[list[_Part]]:
        least, most, body = int(argument[0]), int(argument[1]), argument[2]
        low, high = (int(number) for number in body.getwidth())
        if high == 0:
            raise _Refused("a repetition of what takes no character")
        single = len(body) == 1 and str(body[0][0]) in _SINGLE
        if most == 1 and not single:  # an optional group: with it, and without
            ways = self.paths(body, fails=fails)
            return [*ways, []] if least == 0 else ways
        ways = self.paths(body, fails=True)
        plain = self._fixed(ways[0]) if len(ways) == 1 else []
        if least == most and plain and least * high <= _UNBOUNDED:
            return [[self._one((plain[0] * min(least, 2),), least * high)]] if least else [[]]
        if len(ways) != 1:
            raise _Refused("a choice inside a repetition")
        way = ways[0]
        if least == most <= _WRITTEN_OUT:
            return [way * least]
        _settled(way)
        # A turn that is begun and fails costs what it went over, also where nothing behind the repetition can fail.
        turns = self.paths(body, fails=False)[0]
        fails = fails or any(part.width == _ENDLESS and part.fails for part in turns)
        width = high * most - low * least
        holds = 0
        for part in way:
            holds |= part.holds
        first = _first(way)
        return [
            [
                _Part(
                    "some",
                    (),
                    first,
                    holds,
                    least if low else 0,
                    width if width <= _UNBOUNDED and high * most <= _UNBOUNDED else _ENDLESS,
                    fails,
                    name == "POSSESSIVE_REPEAT",
                )
            ]
        ]

    def _edge(self, name: str) -> _Part:
        if name in {"AT_BEGINNING", "AT_BEGINNING_STRING"}:
            mask = _NEWLINE if self.lines and name == "AT_BEGINNING" else 0
        else:
            mask = _ALL & ~_WORDS | _OTHERS if name == "AT_BOUNDARY" else _ALL
        return _Part("edge", ((mask,),))

    def _look(self, name: str, argument: Any) -> list[list[_Part]]:
        direction, body = argument
        if direction > 0:
            return [[_Part("look", ahead=self.paths(body, fails=True))]]
        ways = self.paths(body, fails=True) if name == "ASSERT" else [[]]
        if len(ways) == 1 and (masks := self._fixed(ways[0])):
            return [[_Part("edge", (masks[0],))]]
        return [[_Part("edge", ((_ALL,),))]]

    def characters(self, name: str, argument: Any) -> int:
        """Return which characters one parsed part can hold, as bits; rather too many than too few."""
        if name == "ANY":
            return _ALL if self.dots else _ALL & ~_NEWLINE
        if name == "LITERAL":
            return self._both(_literal(argument))
        if name == "NOT_LITERAL":
            return _ALL & ~self._both(_literal(argument)) | _OTHERS
        bits, negated = 0, False
        for op, part in argument:
            sort = str(op)
            if sort == "NEGATE":
                negated = True
            elif sort == "LITERAL":
                bits |= _literal(part)
            elif sort == "RANGE":
                for code in range(part[0], min(part[1], 255) + 1):
                    bits |= 1 << code
                bits |= _OTHERS if part[1] > 255 else 0
            else:
                bits |= _category(str(part))
        bits = self._both(bits)
        return _ALL & ~bits | _OTHERS if negated else bits

    def _both(self, bits: int) -> int:
        """Add the other case of every letter, where case does not count."""
        if not self.fold:
            return bits
        found = bits
        for code in range(256):
            if bits >> code & 1:
                character = chr(code)
                for other in (character.lower(), character.upper()):
                    found |= _literal(ord(other)) if len(other) == 1 else 0
        if bits & _LETTERS:
            found |= _OTHER_WORD  # the Kelvin sign is a k
        return found | _LETTERS if bits & _OTHER_WORD else found


def _first(way: Sequence[_Part]) -> int:
    """Return the characters that a way can begin with; all that it holds where it may begin with nothing."""
    found = 0
    for part in way:
        found |= part.first
        if part.sort == "one" or (part.sort == "some" and part.least):
            break
    return found


def _settled(way: Sequence[_Part]) -> None:
    """Refuse what stands in a repetition and can match one text in two ways.

    Something of a fixed length cannot; what varies cannot when each turn begins or ends with a character that
    nothing else in it can take.
    """
    for part in way:
        if part.sort == "one" and _overlap(part):
            raise _Refused("a choice inside a repetition")
        for ahead in part.ahead:
            if any(inner.sort == "some" for inner in ahead):
                raise _Refused("a repetition inside a repetition")
    if not any(part.sort == "some" for part in way):
        return
    if not any(_separates(way, place) for place in (0, len(way) - 1)):
        raise _Refused("a repetition inside a repetition")
    if _steps(way, _State(inside=True)) > _UNBOUNDED:
        raise _Refused("a repetition inside a repetition")


def _separates(way: Sequence[_Part], place: int) -> bool:
    part = way[place]
    rest = [other for n, other in enumerate(way) if n != place]
    return part.sort == "one" and part.length == 1 and not any(part.holds & other.holds for other in rest)


def _overlap(part: _Part) -> bool:
    """Return whether two alternatives can begin alike."""
    seen = 0
    for alternative in part.alternatives:
        if seen & alternative[0]:
            return True
        seen |= alternative[0]
    return False


@dataclass(slots=True)
class _Open:
    """A repetition whose end nothing has settled yet."""

    holds: int
    width: int
    stuck: bool = False


@dataclass(slots=True)
class _State:
    """What is known at one place of a way.

    Args:
        inside: Whether a repetition stands around it: then nothing may be found in two ways.
        before: What must have come, to see whether a search can begin again inside of a repetition.
        open: The repetitions whose end nothing has settled yet.
        ways: In how many ways one text can lead here.
        reach: By how many places the beginning of what leads here may vary.
        widest: The most that one part may vary or hold.
    """

    inside: bool = False
    looking: bool = False
    before: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    ways: int = 1
    reach: int = 1
    widest: int = 1


def _steps(way: Sequence[_Part], state: _State) -> int:
    """Return about how many steps one place of a text may cost on this way, or refuse it."""
    most = 1
    for part in way:
        if part.sort == "edge":
            state.before.append(part.alternatives)
        elif part.sort == "one":
            _one(part, state)
        elif part.sort == "some":
            _some(part, state)
        for ahead in part.ahead:
            inner = _State(state.inside, True, [*state.before], [], state.ways, state.reach, state.widest)
            most = max(most, _steps(ahead, inner))
        most = max(most, state.ways * max(state.widest, state.reach))
    return most


def _one(part: _Part, state: _State) -> None:
    if _overlap(part):
        state.ways *= len(part.alternatives)
    state.before.append(part.alternatives)
    state.widest = max(state.widest, part.length)
    _settle(part, state)


def _settle(part: _Part, state: _State) -> None:
    """Close what the next character settles; keep what it may or may not be a part of."""
    still: list[_Open] = []
    for repetition in state.open:
        if not part.first & repetition.holds and not repetition.stuck:
            continue
        repetition.stuck = repetition.stuck or bool(part.sort == "one" and part.holds & ~repetition.holds)
        still.append(repetition)
    state.open = still


def _some(part: _Part, state: _State) -> None:
    endless = part.width == _ENDLESS
    if endless and (part.fails or state.looking) and not state.inside and _begins_again(part, state):
        raise _Refused(
            "an unbounded repetition that a search can begin again inside of what it takes"
            if state.before
            else "an unbounded repetition at its beginning"
        )
    if part.least:
        _settle(part, state)
    for repetition in state.open:
        if not repetition.holds & part.holds:
            continue
        if state.inside or (endless and repetition.width == _ENDLESS):
            raise _Refused("two repetitions next to each other that can share characters")
        if part.fails:
            state.ways *= min(part.width, repetition.width) + 1
    if not part.kept:
        state.open.append(_Open(part.holds, part.width))
    if part.least:
        state.before.append(((part.first,),))
    if not endless:
        state.reach += part.width
        state.widest = max(state.widest, part.width)


def _begins_again(part: _Part, state: _State) -> bool:
    """Return whether all that must stand before a repetition can stand inside of what it takes."""
    return all(
        any(all(mask & part.holds for mask in alternative) for alternative in alternatives)
        for alternatives in state.before
    )


def _category(name: str) -> int:
    for word, bits in (("DIGIT", _DIGITS), ("SPACE", _SPACES), ("WORD", _WORDS)):
        if name.endswith(word):
            return _ALL & ~bits if "NOT" in name else bits
    return _ALL


def _literal(code: int) -> int:
    if code < 256:
        return 1 << code
    character = chr(code)
    if character.isdecimal():
        return _OTHER_DIGIT
    return _OTHER_WORD if character.isalnum() else (_OTHER_SPACE if character.isspace() else _OTHER)
