"""What is asked about a subject, and what the answer means: one way to count, for given limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

from mobius_otel.security.rate_limit.backends.valkey.keys import SCHEMA
from mobius_otel.security.rate_limit.backends.valkey.scripts import Script, command, script
from mobius_otel.security.rate_limit.facts import NEVER, Facts, ticks
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = [
    "Draw",
    "Drawn",
    "Form",
    "GcraForm",
    "LogForm",
    "Plain",
    "Question",
    "ScriptCall",
    "forget",
    "form",
    "probe_call",
]

Heirs = tuple[bytes, ...]
_MOST_QUESTIONS = 64


class ScriptCall:
    """A call of a script.

    Args:
        asked: The script, and what it is told beside the subject.
        stem: The subject's name.
        known: The call as it goes over the wire, for a server that has seen the script already.
    """

    __slots__ = ("_asked", "_stem", "known")

    def __init__(self, asked: Question, stem: bytes, known: bytes) -> None:
        self._asked = asked
        self._stem = stem
        self.known = known

    def whole(self) -> bytes:
        """Return the call with the script's text."""
        return self._asked.whole(self._stem)


class Question:
    """A call that lacks a subject yet: the same about everybody.

    Args:
        script: The script.
        windows: The ends of the names that it reads and writes.
        args: What else it is told.
        length: How long the name of a subject is.
    """

    __slots__ = ("_args", "_pieces", "_script", "_windows")

    def __init__(self, script: Script, windows: Heirs, args: Sequence[bytes], length: int) -> None:
        self._script = script
        self._windows = windows
        self._args = args
        mark = b"\0" * length  # in place of a subject, so that the lengths on the wire are right
        self._pieces = script.known([mark + window for window in windows], args).split(mark)

    def about(self, stem: bytes) -> ScriptCall:
        """Return the call about a subject."""
        return ScriptCall(self, stem, stem.join(self._pieces))

    def whole(self, stem: bytes) -> bytes:
        """Return the call about a subject with the script's text."""
        return self._script.whole([stem + window for window in self._windows], self._args)


class Plain:
    """A command that is no script."""

    __slots__ = ("known",)

    def __init__(self, known: bytes) -> None:
        self.known = known

    def whole(self) -> bytes:
        """Return the command."""
        return self.known


class Draw(NamedTuple):
    """What a process asks for beside a decision.

    Args:
        cost: Units of the decision.
        want: Units to spend later.
        age: Ticks for which they may be spent.
        back: What was not spent of an earlier lease, and is given back.
        back_at: The tick of that lease.
        settled: The units of that lease, all of which are spent or given back now.
        turn: The turn of that lease.
    """

    cost: int
    want: int
    age: int
    back: int
    back_at: int
    settled: int
    turn: int


class Drawn(NamedTuple):
    """A decision, and what was lent with it.

    Args:
        facts: The decision; what is lent counts as used.
        granted: Units that were lent.
        turn: The turn in which.
    """

    facts: Facts
    granted: int
    turn: int


class Form(Protocol):
    """Asks in the form of one algorithm, for given limits."""

    #: The limits, one for each window: of two for the same window the lower one alone can ever deny.
    limits: tuple[RateLimit, ...]
    #: Their windows as the ends of names.
    windows: Heirs

    def take(self, stem: bytes, cost: int, *, charge: bool, heirs: Heirs = ()) -> ScriptCall:
        """Return the call that decides, and charges where `charge` says so.

        Args:
            stem: The subject's name.
            cost: Units.
            charge: Whether to charge what may pass.
            heirs: The windows of earlier limits, whose counts go on under these.
        """
        ...

    def facts(self, answer: bytes, cost: int) -> Facts:
        """Return what the answer of :meth:`take` means."""
        ...

    def refund(self, stem: bytes, cost: int, at: int) -> ScriptCall:
        """Return the call that gives back what was charged; its answer is 1, or 0 where nothing was left of it."""
        ...


class _Limits(ABC):
    """The limits of a form, and what is the same for every algorithm."""

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        lowest: dict[int, RateLimit] = {}
        for limit in limits:
            window = ticks(limit)
            if window not in lowest or limit.limit < lowest[window].limit:
                lowest[window] = limit
        self.limits = tuple(lowest.values())
        self._pairs = [(limit.limit, window) for window, limit in lowest.items()]
        self.windows = tuple(b"%d" % window for window in lowest)
        self._questions: dict[tuple[int, bool, int], Question] = {}

    def take(self, stem: bytes, cost: int, *, charge: bool, heirs: Heirs = ()) -> ScriptCall:
        """Return the call that decides."""
        length = len(stem)
        question = None if heirs else self._questions.get((cost, charge, length))
        if question is None:
            question = self._question(cost, charge, heirs, length)
            if not heirs and len(self._questions) < _MOST_QUESTIONS:
                self._questions[cost, charge, length] = question
        return question.about(stem)

    @abstractmethod
    def _question(self, cost: int, charge: bool, heirs: Heirs, length: int) -> Question: ...

    def _chosen(self, allowed: bool, at: int, found: list[tuple[int, int, int]]) -> Facts:
        """Choose the limit that shows: the denying one with the longest wait, else the one with the fewest left."""
        if len(found) == 1:
            index = 0
        elif allowed:
            index = min(range(len(found)), key=lambda i: self._pairs[i][0] - found[i][0])
        else:
            index = max(range(len(found)), key=lambda i: found[i][2] if found[i][2] >= 0 else NEVER)
        used, reset, wait = found[index]
        return allowed, self.limits[index], used, reset, NEVER if wait < 0 else wait, at, "remote"


class LogForm(_Limits):
    """Asks for the sliding window log.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        super().__init__(limits)
        self._take, self._refund = script("log", "log_take"), script("log", "log_refund")
        self._draw = script("log", "lease_take")

    def _question(self, cost: int, charge: bool, heirs: Heirs, length: int) -> Question:
        numbers = (cost, len(self.limits), int(charge), *(number for pair in self._pairs for number in pair))
        return Question(self._take, self.windows + heirs, _words(numbers), length)

    def facts(self, answer: bytes, cost: int) -> Facts:  # noqa: ARG002
        """Return what the answer means."""
        allowed, at, *numbers = map(int, answer.split())
        found = [(numbers[i], numbers[i + 1], numbers[i + 2]) for i in range(0, len(numbers), 3)]
        return self._chosen(allowed == 1, at, found)

    def refund(self, stem: bytes, cost: int, at: int) -> ScriptCall:
        """Return the call that gives back what was charged."""
        return Question(self._refund, self.windows, (*_words((cost, at)), *self.windows), len(stem)).about(stem)

    def budgets(self, part: float) -> list[int]:
        """Return for each limit the units that may be lent and not settled."""
        return [int(amount * part) for amount, _ in self._pairs]

    def draw(self, stem: bytes, draw: Draw, budgets: Sequence[int]) -> ScriptCall:
        """Return the call that decides and lends.

        Args:
            stem: The subject's name.
            draw: What is wanted, and what became of an earlier lease.
            budgets: For each limit, what may be lent and not settled.
        """
        each = [number for pair, budget in zip(self._pairs, budgets, strict=True) for number in (*pair, budget)]
        words = _words((draw.cost, len(self.limits), *draw[1:], *each))
        return Question(self._draw, self.windows, words, len(stem)).about(stem)

    def drawn(self, answer: bytes) -> Drawn:
        """Return what the answer of :meth:`draw` means."""
        allowed, at, granted, turn, *numbers = map(int, answer.split())
        found = [(numbers[i], numbers[i + 1], numbers[i + 2]) for i in range(0, len(numbers), 3)]
        return Drawn(self._chosen(allowed == 1, at, found), granted, turn)


class GcraForm(_Limits):
    """Asks for the generic cell rate algorithm.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        super().__init__(limits)
        self._take, self._refund = script("gcra", "gcra_take"), script("gcra", "gcra_refund")

    def _worth(self, cost: int) -> list[int]:
        """Return for each limit its amount, window, and the ticks that `cost` is worth: whole ones and the rest."""
        numbers: list[int] = []
        for amount, window in self._pairs:
            whole, rest = divmod(cost * window, amount) if cost <= amount else (-1, 0)
            numbers += (amount, window, whole, rest)
        return numbers

    def _question(self, cost: int, charge: bool, heirs: Heirs, length: int) -> Question:
        numbers = (cost, len(self.limits), int(charge), *self._worth(cost))
        return Question(self._take, self.windows + heirs, _words(numbers), length)

    def facts(self, answer: bytes, cost: int) -> Facts:  # noqa: ARG002
        """Return what the answer means."""
        allowed, at, *numbers = map(int, answer.split())
        found = []
        for index, (amount, window) in enumerate(self._pairs):
            ahead, rest, wait = numbers[3 * index : 3 * index + 3]
            used = -(-(ahead * amount + rest) // window)  # a unit that has begun to come back is not back
            found.append((used, ahead + (rest > 0), wait))
        return self._chosen(allowed == 1, at, found)

    def refund(self, stem: bytes, cost: int, at: int) -> ScriptCall:  # noqa: ARG002
        """Return the call that gives back what was charged."""
        return Question(self._refund, self.windows, _words(self._worth(cost)), len(stem)).about(stem)


def _words(numbers: Iterable[int]) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def form(algorithm: str, limits: tuple[RateLimit, ...]) -> Form:
    """Return the form of an algorithm."""
    return GcraForm(limits) if algorithm == "gcra" else LogForm(limits)


def forget(stem: bytes, windows: Heirs) -> Plain:
    """Return the call that forgets a subject."""
    return Plain(command(b"DEL", *[stem + window for window in windows]))


def probe_call(slot: int) -> ScriptCall:
    """Return a call that shows whether the owner of a slot can decide: it runs the script, and it writes."""
    asked = LogForm((RateLimit(999_999_999, per=0.001),))
    return asked.take(b"mobius:rl:%d:probe:{%b}:" % (SCHEMA, _tag(slot)), 1, charge=True)


@cache
def _tag(slot: int) -> bytes:
    """Return a hash tag that falls into a slot (any, where the package that knows slots is not there)."""
    from importlib import import_module
    from itertools import count

    key_slot = import_module("valkey.crc").key_slot
    return next(tag for number in count() if key_slot(tag := b"%d" % number) == slot)
