"""One look at plain data: which of its texts may hold a secret, which names tell that their value is one, and where.

Most records are dictionaries, lists, texts and numbers, most of what they say was said before, and most of it is
clean. A look goes through such a record once, level by level, leaves out what is known, and has all the rest screened
together. What it cannot judge, an object, a key that is no text, a list of headers, it leaves to the walk: one spot
among others, where it stands in a container.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeAlias

from mobius_otel.telemetry.redaction.checked_numbers import is_card
from mobius_otel.telemetry.redaction.memory import DEPENDS, MOST_SCREENED, NAMERS, Memory
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, is_setting
from mobius_otel.telemetry.redaction.sorts import ANYTHING
from mobius_otel.telemetry.safety import STRANGE, of_handler

__all__ = ["Look", "Place", "changed", "depth_of", "way"]

#: Where a container stands: itself, the name that it or the list around it stands under, what that name tells, the
#: place of the container that it is in (None: it is the value that is looked at) and what it stands under there.
Place: TypeAlias = tuple[Any, str, str, Any, Any]
_SMALL = 10**13  # no card has as few digits
_MOST_CARD_DIGITS = 10**20
#: Stands for the key of a text that is a key itself.
_A_KEY: Final = object()
_NOWHERE: Final[tuple[Any, Any]] = (None, None)
_CONTAINERS: Final = frozenset({dict, list, tuple})


class Look:
    """What one look at one value found.

    Args:
        memory: What is known.
        depth: How many containers the value stands in.
    """

    __slots__ = ("_depth", "_memory", "_new", "_places", "_texts", "_wholes", "left", "plain", "spots", "suspects")

    def __init__(self, memory: Memory, depth: int = 0) -> None:
        self._memory = memory
        self._depth = memory.policy.max_depth - depth
        self._texts: list[str] = []
        self._places: list[tuple[Place, Any]] = []
        self._new: list[tuple[str, str]] = []
        self._wholes: list[Place] = []
        #: How many more values may be looked at.
        self.left = memory.policy.max_items
        #: Whether the spots are all there is to be done about.
        self.plain = True
        #: The container, the key or the index in it, and what its name tells, of each value to be walked.
        self.spots: list[tuple[Place, Any, str]] = []
        #: What each text is suspected of that was looked at.
        self.suspects: dict[str, int] = {}

    def at_all(self, value: dict[str, Any], beside: Collection[str]) -> bool:
        """Look at a dictionary and at texts beside it, under no name; return whether all of it is clean."""
        clean = self._memory.clean
        self.left -= len(beside)
        if not clean.issuperset(beside):
            self._texts += [text for text in beside if text not in clean]
            self._places += [_NOWHERE] * len(self._texts)
        self._inside((value, "", SCAN, None, None))
        if self._texts:
            self._screen()
        return self.plain and not self.spots and not self._wholes

    def at(self, value: Any, name: str = "") -> bool:
        """Look at a value; return whether it is clean as a whole.

        Args:
            value: Anything.
            name: The name that it stands under, which tells nothing.
        """
        sort = type(value)
        try:
            if sort is str:
                if value in self._memory.clean:
                    return True
                if len(value) > self._memory.policy.max_length:
                    return False
                self._texts.append(value)
                self._screen()
                return not self.suspects
            if sort is dict or sort is list or sort is tuple:
                self._inside((value, name, SCAN, None, None))
            elif not _is_plain(value):
                self.plain = False
            if self._texts:
                self._screen()
            if self._wholes:
                self._settle()
            return self.plain and not self.spots
        except STRANGE as error:  # the walk finds out which of the values cannot be read
            if of_handler(error):
                raise
            self.plain = False
            return False

    def _inside(self, outermost: Place) -> None:
        memory, texts, places, spots, left = self._memory, self._texts, self._places, self.spots, self.left
        names, beside, clean, longest = memory.names, memory.beside, memory.clean, memory.policy.max_length
        said = memory.rules.known
        level = [outermost]
        for _ in range(self._depth):
            below: list[Place] = []
            for place in level:
                value, owner, _, _, _ = place
                left -= len(value)
                if left < 0:
                    self.plain = False
                    return
                if type(value) is not dict:
                    self._sequence(place, below)
                    continue
                names_another = False
                for key, item in value.items():
                    try:
                        told = names[key]
                    except Exception:  # not known, or a key of a sort that cannot be compared
                        if type(key) is not str:
                            self._under_no_text(place, key, item, below)
                            continue
                        told = self._of_new(place, key)
                        names_another = names_another or key in NAMERS
                    else:
                        if told is DEPENDS:
                            # Mostly it names what tells nothing.
                            if key in NAMERS and not (type(item) is str and said.get(item) == SCAN):
                                names_another = True
                            known = beside.get((owner, key))
                            told = self._of_new(place, key) if known is None else known
                    sort = type(item)
                    if sort is str:
                        if not told:
                            if item not in clean:
                                texts.append(item)
                                places.append((place, key))
                        elif told != TRUST or len(item) > longest:
                            spots.append((place, key, told))
                    elif sort is int or sort is float:
                        if told:
                            if told != TRUST:
                                spots.append((place, key, told))
                        elif sort is int and not 0 <= item < _SMALL and not _is_no_card(item):
                            spots.append((place, key, told))
                    elif sort is dict or sort is list or sort is tuple:
                        inner = (item, key, told, place, key)
                        below.append(inner)
                        if told and told != TRUST:
                            self._wholes.append(inner)
                    elif item is not None and sort is not bool:
                        spots.append((place, key, told))
                if names_another and memory.told(value) != SCAN:
                    self._wholes.append(place)
            if not below:
                self.left = left
                return
            level = below
        self.plain = False  # too deep, or without an end: a matter for the walk

    def _sequence(self, place: Place, below: list[Place]) -> None:
        value, name, told, above, _ = place
        memory = self._memory
        clean, longest = memory.clean, memory.policy.max_length
        pair = above is not None and type(above[0]) is not dict and len(value) == 2
        index = -1
        flagged = False
        for item in value:
            index += 1
            sort = type(item)
            if sort is str:
                if pair or item[:1] == "-":
                    flagged = True
                    if memory.tells_next(item, index, pairs=pair) != SCAN:
                        self._wholes.append(place)
                if not told:
                    if item not in clean:
                        self._texts.append(item)
                        self._places.append((place, index))
                elif len(item) > longest:
                    self.spots.append((place, index, told))
            elif sort is dict or sort is list or sort is tuple:
                below.append((item, name, SCAN, place, index))
            elif sort is int:
                if not 0 <= item < _SMALL and not _is_no_card(item):
                    self.spots.append((place, index, SCAN))
            elif item is not None and sort is not bool and sort is not float:
                if sort is bytes and memory.tells_next(item, index, pairs=pair) != SCAN:
                    self._wholes.append(place)
                self.spots.append((place, index, SCAN))
        if flagged and memory.arguments(value):
            self._wholes.append(place)

    def _under_no_text(self, place: Place, key: Any, item: Any, below: list[Place]) -> None:
        """Look at what stands under the number of something, which is no name; all else is a matter for the walk."""
        if type(key) is not int or not _is_no_card(key):
            self._wholes.append(place)
        elif type(item) in _CONTAINERS:
            below.append((item, "", SCAN, place, key))
        elif type(item) is str:
            if item not in self._memory.clean:
                self._texts.append(item)
                self._places.append((place, key))
        elif not _is_plain(item):
            self.spots.append((place, key, SCAN))

    def _of_new(self, place: Place, name: str) -> str:
        """Return what a name tells that is not known; it is a text that may hold a secret itself."""
        memory = self._memory
        told, alone = memory.tells(place[1], name)
        if name not in memory.clean and not (":" in name and is_setting(name)):
            self._texts.append(name)
            self._places.append((place, _A_KEY))
        self._new.append((name, told if alone else DEPENDS))
        return told

    def _screen(self) -> None:
        memory, suspects = self._memory, self.suspects
        unknown = memory.unknown(self._texts)
        if memory.masked:
            for text in [text for text in unknown if hash(text) in memory.masked]:
                suspects[text] = ANYTHING  # it was dirty before
                del unknown[text]
        if unknown and (sum(map(len, unknown)) <= memory.most or self._is_little(unknown)):
            texts = list(unknown)
            for index, sorts in self._suspected(texts).items():
                suspects[texts[index]] = sorts
                del unknown[texts[index]]
            if self._wholes:  # what stands there may be told by what stands beside it: no text is remembered from there
                wholes = {id(place) for place in self._wholes}
                for text, (place, _) in zip(self._texts, self._places, strict=True):
                    if id(place) in wholes:
                        unknown.pop(text, None)
            if unknown:
                memory.remember(unknown)
        if suspects and self._places:
            self._spot()
        for name, told in self._new:
            if name not in suspects:
                memory.remember_name(name, told)

    def _suspected(self, texts: list[str]) -> dict[int, int]:
        """Return what each text may hold; where that cannot be said, anything: each is scanned by itself then."""
        try:
            return self._memory.scanner.suspects(texts)
        except STRANGE as error:
            if of_handler(error):
                raise
            return dict.fromkeys(range(len(texts)), ANYTHING)

    def _is_little(self, unknown: dict[str, bytes]) -> bool:
        """Return whether texts of many characters are screened all the same; one that will be cut is suspected."""
        longest = self._memory.policy.max_length
        for text in [text for text in unknown if len(text) > longest]:
            self.suspects[text] = ANYTHING
            del unknown[text]
        self.plain = self.plain and (len(unknown) <= 1 or sum(map(len, unknown)) <= MOST_SCREENED)
        return self.plain

    def _spot(self) -> None:
        texts = self._texts
        for text in self.suspects:
            at = texts.index(text)
            for _ in range(texts.count(text) - 1):
                self._spot_at(at)
                at = texts.index(text, at + 1)
            self._spot_at(at)

    def _spot_at(self, number: int) -> None:
        place, key = self._places[number]
        if key is _A_KEY:
            self._wholes.append(place)
        else:
            self.spots.append((place, key, SCAN))

    def _settle(self) -> None:
        """Make one spot of each container that is to be walked as a whole, and of all that is in it."""
        wholes = {id(place): place for place in self._wholes}

        def covered(place: Place | None) -> bool:
            while place is not None:
                if id(place) in wholes:
                    return True
                place = place[3]
            return False

        self.spots = [spot for spot in self.spots if not covered(spot[0])]
        for _, _, told, above, key in wholes.values():
            if above is None:
                self.plain = False
            elif not covered(above):
                self.spots.append((above, key, told))


def way(place: Place, key: Any) -> str:
    """Return the way to what stands under a key as it is written: ``changes[0].after``."""
    text = ""
    above: Place | None = place
    while above is not None:
        container, _, _, above, at = above
        text = f".{key}{text}" if type(container) is dict else f"[{key}]{text}"
        key = at
    return text[1:] if text[0] == "." else text


def depth_of(place: Place | None) -> int:
    """Return how many containers there are on the way to what stands in one."""
    depth = 0
    while place is not None:
        place = place[3]
        depth += 1
    return depth


def changed(value: Any, changes: list[tuple[Place, Any, Any]]) -> Any:
    """Return a value with other leaves; what did not change is shared with it.

    Args:
        value: The value that was looked at.
        changes: The place of each container in which something changes, the key in it, and what stands there now.
    """
    if len(changes) == 1:
        return _changed_once(*changes[0])
    copies: dict[int, Any] = {}
    tuples: list[Place] = []
    for place, key, new in changes:
        while (copy := copies.get(id(place))) is None:
            container, _, _, above, above_key = place
            if type(container) is dict:
                copy = container.copy()
            else:
                copy = [*container]
                if type(container) is tuple:
                    tuples.append(place)
            copies[id(place)] = copy
            copy[key] = new
            if above is None:
                value = copy
                break
            place, key, new = above, above_key, copy  # noqa: PLW2901 - up the way
        else:
            copy[key] = new
    for place in sorted(tuples, key=depth_of, reverse=True):  # what is in one before itself
        value = _frozen(place, copies, value)
    return value


def _changed_once(place: Place, key: Any, value: Any) -> Any:
    step: Place | None = place
    while step is not None:
        container, _, _, step, at = step
        copy: Any = container.copy() if type(container) is dict else [*container]
        copy[key] = value
        value, key = tuple(copy) if type(container) is tuple else copy, at
    return value


def _frozen(place: Place, copies: dict[int, Any], value: Any) -> Any:
    made = tuple(copies[id(place)])
    if place[3] is None:
        return made
    copies[id(place[3])][place[4]] = made
    return value


def _is_plain(value: Any) -> bool:
    sort = type(value)
    return value is None or sort is bool or sort is float or (sort is int and _is_no_card(value))


def _is_no_card(number: int) -> bool:
    if -_SMALL < number < _SMALL:
        return True
    return -_MOST_CARD_DIGITS < number < _MOST_CARD_DIGITS and not is_card(str(abs(number)))
