"""One look at plain data: which of its texts may hold a secret, which names tell that their value is one, and where.

Most records are dictionaries, lists, texts and numbers, most of what they say was said before, and most of it is
clean. A look goes through such a record once, leaves out what is known, and has all the rest screened together. What
it cannot judge, an object, a key that is no text, a list of headers, it leaves to the walk.
"""

from __future__ import annotations

from typing import Any, Final

from mobius_otel.telemetry.redaction.memory import Memory
from mobius_otel.telemetry.redaction.names import SCAN, TRUST
from mobius_otel.telemetry.redaction.personal import is_card

__all__ = ["Look", "Spot", "where"]

#: A container, a key or an index in it, and what its name tells.
Spot = tuple[Any, Any, str]
#: Stands for a container in which something changes.
_DEEPER: Final = object()
_MOST_CHARACTERS = 32768
_FEWEST_CARD_DIGITS = 10**13
_MOST_CARD_DIGITS = 10**20


class Look:
    """What one look at one value found.

    Args:
        memory: What is known.
        depth: How many containers the value stands in.
    """

    __slots__ = ("_depth", "_left", "_memory", "_new", "_where", "above", "plain", "spots", "suspects")

    def __init__(self, memory: Memory, depth: int = 0) -> None:
        self._memory = memory
        self._depth = memory.policy.max_depth - depth
        self._left = memory.policy.max_items
        self._where: list[tuple[str, Any, Any]] = []
        self._new: list[tuple[str, str]] = []
        #: The container and the key that each container stands under, by its identity.
        self.above: dict[int, tuple[Any, Any] | None] = {}
        #: Whether the spots are all there is to be done about.
        self.plain = True
        self.spots: list[Spot] = []
        #: What each text is suspected of that was looked at.
        self.suspects: dict[str, int] = {}

    def at(self, value: Any, name: str = "") -> bool:
        """Look at a value; return whether it is clean as a whole.

        Args:
            value: Anything.
            name: The name that it stands under, which tells nothing.
        """
        sort = type(value)
        if sort is str:
            if value in self._memory.clean:
                return True
            self.plain = False
            if len(value) > self._memory.policy.max_length:
                return False
            self._where.append((value, None, None))
        elif sort is dict or sort is list or sort is tuple:
            self._inside(value, name, None)
        else:
            self._other(value)
        if self._where:
            self._screen()
            if sort is str:
                return not self.suspects
        return self.plain and not self.spots

    def _screen(self) -> None:
        memory = self._memory
        unknown = memory.unknown([text for text, _, _ in self._where])
        if len(unknown) > 1 and sum(map(len, unknown)) > _MOST_CHARACTERS:
            self.plain = False
            return
        if unknown:
            texts = list(unknown)
            for index, sorts in memory.scanner.suspects(texts).items():
                self.suspects[texts[index]] = sorts
                del unknown[texts[index]]
            if self.suspects:
                self._spot()
            memory.remember(unknown)
        for name, told in self._new:
            if name not in self.suspects:
                memory.remember_name(name, told)

    def _spot(self) -> None:
        for text, container, key in self._where:
            if text in self.suspects:
                self.spots.append((container, key, SCAN))
                if container is None:
                    self.plain = False

    def _inside(self, value: Any, name: str, above: tuple[Any, Any] | None, told: str = SCAN) -> None:
        self._left -= len(value)
        self._depth -= 1
        if self._left < 0 or self._depth < 0 or id(value) in self.above:
            self.plain = False  # too much of it, or the same one twice: a matter for the walk
        else:
            self.above[id(value)] = above
            if type(value) is dict:
                self._mapping(value, name)
            else:
                self._sequence(value, name, above, told)
        self._depth += 1

    def _mapping(self, value: dict[Any, Any], name: str) -> None:
        memory = self._memory
        names, clean, where, longest = memory.names, memory.clean, self._where, memory.policy.max_length
        if memory.told(value) != SCAN:
            self.plain = False
        for key, item in value.items():
            if type(key) is str:
                told = names.get(key)
                if told is None:
                    told = self._of_new(name, key)
            elif type(key) is int:
                told = SCAN  # the number of something, which is no name
                self._other(key)
            else:
                self.plain = False
                continue
            sort = type(item)
            if sort is str:
                if len(item) > longest:
                    self.plain = False
                elif not told:
                    if item not in clean:
                        where.append((item, value, key))
                elif told != TRUST:
                    self.spots.append((value, key, told))
            elif sort is dict or sort is list or sort is tuple:
                if told and told != TRUST:
                    self.plain = False
                else:
                    self._inside(item, key if type(key) is str else "", (value, key), told)
            elif told and told != TRUST:
                if sort is not bool and item is not None:
                    self.plain = False
            elif sort is not float:
                self._other(item)

    def _sequence(self, value: Any, name: str, above: tuple[Any, Any] | None, told: str) -> None:
        memory = self._memory
        clean, where, longest = memory.clean, self._where, memory.policy.max_length
        headers = above is not None and type(above[0]) is not dict and len(value) == 2
        for index, item in enumerate(value):
            sort = type(item)
            if sort is str:
                if len(item) > longest or memory.tells_next(item, index, pairs=headers) != SCAN:
                    self.plain = False
                elif not told and item not in clean:
                    where.append((item, value, index))
            elif sort is dict or sort is list or sort is tuple:
                self._inside(item, name, (value, index))
            elif sort is not float:
                self._other(item)

    def _other(self, value: Any) -> None:
        """Look at what is neither a text nor a container."""
        sort = type(value)
        if sort is int:
            if not -_FEWEST_CARD_DIGITS < value < _FEWEST_CARD_DIGITS and not _is_no_card(value):
                self.plain = False
        elif value is not None and sort is not float and sort is not bool:
            self.plain = False

    def _of_new(self, owner: str, name: str) -> str:
        """Return what a name tells that is not known to tell nothing; it is a text that may hold a secret itself."""
        memory = self._memory
        told, alone = memory.tells(owner, name)
        if name not in memory.clean:
            self._where.append((name, None, None))
        if alone:
            self._new.append((name, told))
        return told

    def path(self, container: Any, key: Any) -> list[tuple[Any, Any]]:
        """Return the containers and keys on the way to what stands under a key, the outermost first."""
        way: list[tuple[Any, Any]] = []
        step: tuple[Any, Any] | None = (container, key)
        while step is not None:
            way.append(step)
            step = self.above[id(step[0])]
        way.reverse()
        return way

    def changed(self, value: Any, changes: list[tuple[list[tuple[Any, Any]], Any]]) -> Any:
        """Return the value with other leaves; what did not change is shared with it.

        Args:
            value: The value that was looked at.
            changes: The way to each leaf, and what stands there now.
        """
        edits: dict[int, dict[Any, Any]] = {}
        for way, new in changes:
            for container, key in way:
                edits.setdefault(id(container), {})[key] = _DEEPER
            container, key = way[-1]
            edits[id(container)][key] = new
        return _edited(value, edits)


def _edited(value: Any, edits: dict[int, dict[Any, Any]]) -> Any:
    mine = {key: _edited(value[key], edits) if new is _DEEPER else new for key, new in edits[id(value)].items()}
    if type(value) is dict:
        return value | mine
    items = list(value)
    for index, new in mine.items():
        items[index] = new
    return tuple(items) if type(value) is tuple else items


def where(way: list[tuple[Any, Any]]) -> str:
    """Return a way as it is written: ``changes[0].after``."""
    text = ""
    for container, key in way:
        if type(container) is not dict:
            text += f"[{key}]"
        else:
            text += f".{key}" if text else str(key)
    return text


def _is_no_card(number: int) -> bool:
    return -_MOST_CARD_DIGITS < number < _MOST_CARD_DIGITS and not is_card(str(abs(number)))
