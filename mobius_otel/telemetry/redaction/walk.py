"""One way through one value: keys, texts, numbers, containers, objects, and the limits on all of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from mobius_otel.telemetry.redaction.actions import Show
from mobius_otel.telemetry.redaction.bound import BOUND, bound_to
from mobius_otel.telemetry.redaction.checked_numbers import is_card
from mobius_otel.telemetry.redaction.hits import Hits, marker, replace_spans
from mobius_otel.telemetry.redaction.look import Look, Place, changed, depth_of, way
from mobius_otel.telemetry.redaction.memory import (
    CARRIERS,
    LONGEST_REMEMBERED,
    MANIFEST_DATA,
    OAUTH,
    Memory,
    is_count,
    is_value,
)
from mobius_otel.telemetry.redaction.names import (
    HARMLESS_INSIDE,
    SCAN,
    SCHEMA_NAMES,
    SCHEMA_TYPES,
    TRUST,
    is_setting,
    says_id,
    word_set,
    words,
)
from mobius_otel.telemetry.redaction.pair_values import mask_header
from mobius_otel.telemetry.redaction.personal import is_message_id
from mobius_otel.telemetry.redaction.scanner import cut
from mobius_otel.telemetry.redaction.scopes import ACTIONS
from mobius_otel.telemetry.redaction.sorts import ANYTHING, DOCUMENT
from mobius_otel.telemetry.redaction.values import is_message_of_a_list, is_statement_id, is_version, is_word, keeps
from mobius_otel.telemetry.safety import STRANGE, of_handler

__all__ = ["DROPPED", "Walk"]

#: Stands for a value that is taken out with its name.
DROPPED: Final = object()
_SMALL = 10**13  # no card has as few digits
#: Digits of ids that are given out by the time; cards have fewer, but for a few that have 19.
_FEWEST_OF_A_SNOWFLAKE = 17
_MOST_OF_A_SNOWFLAKE = 19
_CHARACTERS = 8  # strings of the greatest length that one record may hold
#: Kinds that a container with a secret name hands on to everything in it; the others go to CARRIERS alone, as a session
#: has a start and a card an issuer.
_HANDED_ON = frozenset({"password", "secret", "token", "api_key", "private_key", "credential", "cookie", "otp", "name"})
#: Last words of names under which names of fields stand beside what a person reads in their place.
_LABELS = word_set("label labels i18n l10n translation translations captions placeholders headings")
_LONGEST_NAME = 256  # what counts of one
_MOST_COUNTED = 100_000  # tests that pass
_FEWEST_OF_A_CODE = 10
#: What the container of versions is called: {"devDependencies": {"cookie": "0.5.0"}}.
_PACKAGES = ("dependencies", "versions", "packages")
#: What stands in the description of a route (OpenAPI).
_OF_ROUTES = word_set("get post put patch delete head options parameters")
_DIGITS = frozenset({"pin", "cvv", "otp", "ssn", "card", "phone"})
_SAFE_OBJECTS = (uuid.UUID, dt.datetime, dt.date, dt.time, dt.timedelta)


def _name_of(key: Any) -> Any:
    """Return the plain text that a key is: a member of an enumeration, bytes; any other one as it is."""
    if isinstance(key, str):
        return str.__str__(key)
    return key.decode("latin-1") if type(key) is bytes else key


@lru_cache(maxsize=1024)
def _holds_labels(name: str) -> bool:
    """Return whether names of fields stand under a name, beside what a person reads in their place."""
    return (words(name) or ("",))[-1] in _LABELS


def _is_schema(value: dict[Any, Any]) -> bool:
    """Return whether a container describes a field: ``{"type": "string", "description": …}``."""
    said = value.get("type")
    return type(said) is str and said in SCHEMA_TYPES


def _is_counted(name: str, kind: str) -> bool:
    """Return whether a name is a route or a permission, and what stands under it says how often."""
    return (":" in name or "/" in name) and kind not in _DIGITS  # {"token:create": 1, "/users/:id/password": 17}


def _below(key: str, path: str) -> str:
    return key if not path else (key + path if path[0] == "[" else f"{key}.{path}")


class Walk:
    """One way through one value: what was found, what is left of the limits, what is being walked."""

    __slots__ = (
        "_characters",
        "_clean",
        "_in_sequence",
        "_items",
        "_listed",
        "_memory",
        "_name",
        "_open",
        "_owner",
        "_policy",
        "_rules",
        "_scanner",
        "_show",
        "_suspects",
        "matches",
    )

    def __init__(self, memory: Memory, show: Show | None = None, suspects: dict[str, int] | None = None) -> None:
        policy = memory.policy
        self._memory = memory
        self._policy = policy
        self._show = show
        self._name = ""
        self._rules = memory.rules
        self._scanner = memory.scanner
        self._clean = memory.clean
        self._items = policy.max_items
        self._characters = policy.max_length * _CHARACTERS
        self._open: set[int] = set()
        self._suspects = suspects or {}
        self._in_sequence = False
        #: Whether a text is one of a list that a name stands before, and the name around that name.
        self._listed = False
        self._owner = ""
        self.matches: list[list[str]] = []

    def value(self, value: Any, name: str, kind: str, depth: int) -> Any:
        """Return one value without its secrets.

        Args:
            value: The value.
            name: Its name, where it has one.
            kind: What the name tells.
            depth: How many containers it stands in.
        """
        sort = type(value)
        try:
            if sort is str:
                self._name = name
                if kind == SCAN:
                    if self._memory.is_known(value):
                        return value
                    found = self._scanned(value, name, depth)
                    return DROPPED if not found and value and self._show is not None else found
                if value[:1] == "/" and kind == "password" and name.lower() in {"pwd", "oldpwd"}:
                    return self.text(value, depth)  # where a process stands, not what it knows
                return self._named(value, name, kind)
            if value is None or sort is bool:
                return value
            if sort is int or sort is float:
                return self._number(value, name, kind)
            if sort is dict:
                return self._container(value, name, kind, depth, self._mapping)
            if sort is list or sort is tuple:
                return self._container(value, name, kind, depth, self._sequence)
            return self._other(value, name, kind, depth)
        except STRANGE as error:  # of a class of strangers, or of a detector: this one value is blanked, no other
            if of_handler(error):
                raise
            return self._blank("unreadable")

    def spots(self, value: Any, look: Look, depth: int = 0) -> Any:
        """Return a value without its secrets, where a look at it found all places at which there may be one.

        Args:
            value: The value that was looked at.
            look: The look.
            depth: How many containers the value stands in.
        """
        if type(value) is str:
            return self.text(value, depth)
        self._items = look.left
        matches = self.matches
        changes: list[tuple[Place, Any, Any]] = []
        for place, key, kind in look.spots:
            container, before = place[0], len(matches)
            old = container[key]
            if kind == SCAN and type(old) is str and not old.isdigit():
                new = self.text(old, depth, place)
                if new is not old and is_message_id(key if type(key) is str else place[1], old):
                    new = self._without_addresses(old, new, before)
            else:
                self._in_sequence, self._listed, self._owner = type(container) is not dict, False, place[1]
                name = place[1] if self._in_sequence else (key if type(key) is str else "")
                new = self.value(old, name, kind, depth + depth_of(place))
            if len(matches) > before:
                at = way(place, key)
                for match in matches[before:]:
                    match[1] = _below(at, match[1])
            if new is not old:
                changes.append((place, key, new))
        if self._items <= 0:  # what is to be cut is found on the whole way alone
            self._items, self.matches = self._policy.max_items, []
            return self.value(value, "", SCAN, depth)
        return changed(value, changes) if changes else value

    def _scanned(self, text: str, name: str, depth: int) -> str:
        """Return a text that no name tells anything of without its secrets."""
        if _FEWEST_OF_A_SNOWFLAKE <= len(text) <= _MOST_OF_A_SNOWFLAKE and text.isdigit() and says_id(name):
            return text
        before = len(self.matches)
        clean = self.text(text, depth)
        return self._without_addresses(text, clean, before) if is_message_id(name, text) else clean

    def _without_addresses(self, old: str, new: str, before: int) -> str:
        """Return the id of a message as it was, where what was found since looked like an address."""
        if any(kind != "email" for kind, _ in self.matches[before:]):
            return new
        del self.matches[before:]
        return old

    def text(self, text: str, depth: int, place: Place | None = None) -> str:
        """Return a text without its secrets.

        Args:
            text: The text.
            depth: How many containers stand around it, or around the value that was looked at.
            place: Where it stands in that value.
        """
        length = len(text)
        most = min(self._policy.max_length, self._characters)
        if length > most:
            if most < len(marker("length")):
                return self._blank("length")
            text = cut(text, most)
            self._found("length")
        self._characters -= length
        memory = self._memory
        if self._show is None and (masked := memory.masked.get(hash(text))):
            clean, kinds = masked
            self.matches += [[kind, ""] for kind in kinds]
            return clean
        hits, before = self._hits(), len(self.matches)
        sorts = self._suspects.get(text, ANYTHING)
        walk = self._document(depth + depth_of(place)) if sorts & DOCUMENT else None
        try:
            clean = self._scanner.scan(text, hits, walk, sorts)
        except STRANGE as error:  # what else it would have found is not known
            if of_handler(error):
                raise
            del self.matches[before:]
            return self._blank("unreadable")
        if hits:
            self.matches += [[kind, ""] for kind in hits]
            if len(clean) > self._policy.max_length:  # markers may be longer than what they stand for
                clean = cut(clean, self._policy.max_length)
            if self._show is None and not sorts & DOCUMENT:  # what a document becomes depends on where it stands
                memory.remember_masked(text, clean, hits)
            return clean
        if length <= LONGEST_REMEMBERED and not hits.passed:
            memory.remember_scanned(text)
        return clean

    def _document(self, depth: int) -> Any:
        if depth >= self._policy.max_depth:
            return None

        def walk(document: Any, hits: Hits) -> Any:
            look = Look(self._memory, depth + 1)
            if look.at(document):
                return document
            self._suspects |= look.suspects
            before = len(self.matches)
            if look.plain and self._show is None:
                clean = self.spots(document, look, depth + 1)
            else:
                clean = self.value(document, "", SCAN, depth + 1)
            hits += [kind for kind, _ in self.matches[before:]]
            del self.matches[before:]
            return clean

        return walk

    def _found(self, kind: str) -> None:
        self.matches.append([kind, ""])

    def _hits(self) -> Hits:
        hits = Hits()
        if self._show is not None:
            hits.show = self._decide
        return hits

    def _decide(self, kind: str, secret: str) -> str | None:
        return self._show(kind, secret, self._name) if self._show is not None else marker(kind)

    def _whole(self, kind: str, secret: str, value: Any) -> Any:
        """Return what stands in the place of a whole value: a marker, itself, or DROPPED."""
        shown = self._decide(kind, secret)
        if shown is None:
            return value
        self._found(kind)
        return shown or DROPPED

    def _blank(self, kind: str) -> str:
        self._found(kind)
        return marker(kind)

    def _named(self, value: str, name: str, kind: str) -> Any:
        """Return a text that stands under a telling name."""
        if kind == TRUST:
            return value if len(value) <= self._policy.max_length else self._too_long(value)
        masked = mask_header(kind, value)
        if masked == value or keeps(kind, value) or self._is_text(value, name, kind):
            if len(value) <= LONGEST_REMEMBERED and " " not in value and "/" not in value:
                return value
            before = len(self.matches)
            clean = self.text(value, 0)
            if clean == value or len(value) > LONGEST_REMEMBERED:
                return clean
            del self.matches[before:]  # an address in a message, a token in a path: it is not what it looked like
        if self._show is not None and masked == marker(kind):
            return self._whole(kind, value, value)
        self._found(kind)
        return masked

    def _is_text(self, value: str, name: str, kind: str) -> bool:
        """Return whether a value is a word for people: of a form's answer, a text in tokens, a form's labels."""
        if kind == "session" and is_statement_id(name, value):
            return True
        if self._listed:
            if value in ACTIONS:  # {"password": ["change", "reset"]}: what one may do
                return True
            if kind == "token":
                return name[-6:].lower() == "tokens" and is_word(value)
            return kind == "password" and is_message_of_a_list(value)
        if kind == "token" and is_count(name) and value.isdigit() and len(value) < _FEWEST_OF_A_CODE:
            return True  # a count, as a text
        if is_version(value) and self._owner[-_LONGEST_NAME:].lower().endswith(_PACKAGES):
            return True
        return value[1:].islower() and _holds_labels(self._owner[-_LONGEST_NAME:]) and self._rules.of(value) == kind

    def _too_long(self, value: str) -> str:
        self._found("length")
        return cut(value, self._policy.max_length)

    def _number(self, value: float, name: str, kind: str) -> Any:
        if kind == TRUST:
            return value
        if type(value) is int and -(10**20) < value < 10**20:
            digits = str(abs(value))
            if kind == SCAN:
                if len(digits) < 14 or "card" in self._policy.kinds_off or not is_card(digits):
                    return value
                if len(digits) >= _FEWEST_OF_A_SNOWFLAKE and says_id(name):
                    return value
                self._name = name
                return self._whole("card", digits, value)
            if keeps(kind, digits):
                return value
        elif kind == SCAN:
            # No one's number; and a number of thousands of digits takes long to be written.
            return value if not isinstance(value, int) or value.bit_length() < 4096 else self._blank("length")
        if is_count(name) or (value < _MOST_COUNTED and (name.lower() == "pass" or _is_counted(name, kind))):
            return value
        self._name = name
        return self._whole(kind, str(value), value)

    def _container(self, value: Any, name: str, kind: str, depth: int, walk: Any) -> Any:
        """Walk into a container, unless it is one too many, too deep, or being walked already."""
        if depth >= self._policy.max_depth:
            return self._blank("depth")
        if id(value) in self._open:
            return self._blank("cycle")
        self._open.add(id(value))
        try:
            return walk(value, name, kind, depth + 1)
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], name: str, kind: str, depth: int) -> Any:
        told = self._told(value) if type(value) is dict else SCAN
        if kind in _HANDED_ON and name[:1] == "/" and not _OF_ROUTES.isdisjoint(value):
            kind = SCAN  # {"/users/{id}/password": {"put": {"summary": …}}}
        described = kind in _HANDED_ON and type(value) is dict and _is_schema(value)
        changed = type(value) is not dict
        if told == BOUND:
            told = SCAN
            if new := self._without_bound(value):
                value, changed = {**value, **new}, True
        pairs = dict.items(value) if isinstance(value, dict) else value.items()
        clean: dict[Any, Any] = {}
        for key, item in islice(pairs, self._items + 1):
            if self._items <= 0:
                if key == marker("items") == item:  # was cut before
                    clean[key] = item
                    break
                clean[self._blank("items")] = marker("items")
                changed = True
                break
            self._items -= 1
            around = SCAN if described and type(key) is str and key.lower() in SCHEMA_NAMES else kind
            shown, new = self._pair(key, item, name, (around, told), depth)
            if new is not item or shown is not key:
                changed = True
                if shown is not key and shown in clean:
                    shown = f"{shown} {len(clean)}"
            if new is not DROPPED:
                clean[shown] = new
        return clean if changed else value

    def _told(self, value: dict[Any, Any]) -> str:
        """Return what a dictionary tells of its values; where that cannot be said, they are blanked."""
        try:
            return self._memory.told(value)
        except STRANGE as error:
            if of_handler(error):
                raise
            return "unreadable"

    def _without_bound(self, attributes: Mapping[Any, Any]) -> dict[str, str]:
        """Return the parameters of a statement that hold secrets, without those."""
        spans: dict[str, list[tuple[int, int, str]]] = {}
        for name, start, end, kind in bound_to(attributes, self._rules.of):
            spans.setdefault(name, []).append((start, end, kind))
        clean = {}
        for name, found in spans.items():
            hits = self._hits()
            clean[name] = replace_spans(attributes[name], found, hits)
            self.matches += [[kind, name] for kind in hits]
        return clean

    def _pair(self, key: Any, item: Any, name: str, around: tuple[str, str], depth: int) -> tuple[Any, Any]:
        """Return one key and its value without their secrets."""
        kind, told = around
        before = len(self.matches)
        shown = self._key(key, depth)
        self._in_sequence = self._listed = False
        said = _name_of(key)
        if type(said) is not str:
            new = self.value(item, "", kind if kind in _HANDED_ON else SCAN, depth)
        else:
            self._owner = name
            try:
                tells = self._tells(said, item, name, kind, told)
            except STRANGE as error:
                if of_handler(error):
                    raise
                new = self._blank("unreadable")
            else:
                new = self.value(item, said, tells, depth)
        if len(self.matches) > before:
            self._under(before, said if shown is key and type(said) is str else str(shown))
        return shown, new

    def _tells(self, key: str, item: Any, name: str, kind: str, told: str) -> str:
        """Return what a key says about its value, also together with the names around it."""
        alone, _ = self._memory.tells("", key)
        if alone != SCAN:
            return alone
        lower = key.lower()
        if kind in _HANDED_ON:
            return SCAN if lower in HARMLESS_INSIDE or type(item) in {int, float} else kind
        if kind not in (SCAN, TRUST) and lower in CARRIERS:
            return kind
        if told == OAUTH:
            return "token" if key == "code" else self._memory.tells(name, key)[0]
        if told != SCAN and (is_value(lower, item) or (told == "secret" and key in MANIFEST_DATA)):
            return told
        return self._memory.tells(name, key)[0]

    def _key(self, key: Any, depth: int) -> Any:
        sort = type(key)
        if sort is str:
            if key in self._clean or (":" in key and is_setting(key)):
                return key
            return key if key.isidentifier() and len(key) < 14 else self.text(key, depth)
        if sort is int or sort is float:
            return self._number(key, "", SCAN)
        if key is None or sort is bool:
            return key
        clean = self.value(key, "", SCAN, depth)
        if clean is key:
            return key
        return clean.decode("latin-1") if type(clean) is bytes else str(clean)

    def _under(self, before: int, key: str) -> None:
        """Put what was found since under the place it was found at."""
        for match in self.matches[before:]:
            match[1] = _below(key, match[1])

    def _sequence(self, value: Iterable[Any], name: str, kind: str, depth: int) -> Any:
        clean: list[Any] = []
        changed = False
        flagged = SCAN
        # [["authorization", …], …]: lists of a name and its value, as headers are handed around
        pairs = self._in_sequence and type(value) in {list, tuple} and len(value) == 2  # type: ignore[arg-type]
        told = self._memory.arguments(value) if type(value) in {list, tuple} else {}  # type: ignore[arg-type]
        for index, item in enumerate(islice(value, self._items + 1)):
            if self._items <= 0:
                cut_before = type(item) is str and item == marker("items")
                clean.append(item if cut_before else self._blank("items"))
                changed = changed or not cut_before
                break
            self._items -= 1
            before = len(self.matches)
            self._in_sequence = True
            self._listed = flagged == SCAN
            tells = flagged if flagged != SCAN else kind
            if tells not in _HANDED_ON and not isinstance(item, str | bytes | Mapping):
                tells = SCAN  # a list of codes holds codes; a list of sessions holds what is known of them
            word = self._argument(item, told[index]) if index in told and tells == SCAN else item
            new = self.value(word, name, tells, depth)
            flagged = self._memory.tells_next(item, index, pairs=pairs) if isinstance(item, str | bytes) else SCAN
            if len(self.matches) > before:
                self._under(before, f"[{index}]")
            changed = changed or new is not item
            if new is not DROPPED:
                clean.append(new)
        if type(value) is tuple:
            return tuple(clean) if changed else value
        return clean if changed or type(value) is not list else value

    def _argument(self, word: str, spans: list[tuple[int, int, str]]) -> str:
        """Return a word of a command without its secrets."""
        hits = self._hits()
        clean = replace_spans(word, spans, hits)
        self.matches += [[kind, ""] for kind in hits]
        return clean

    def _other(self, value: Any, name: str, kind: str, depth: int) -> Any:
        """Return plain data in the place of an object, without its secrets."""
        if isinstance(value, str):
            return self.value(str.__str__(value), name, kind, depth)
        if isinstance(value, int):
            return self._number(int.__add__(value, 0), name, kind)
        if isinstance(value, float):
            return self._number(float.__pos__(value), name, kind)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(value, name, kind, depth)
        if isinstance(value, Mapping):
            return self._container(value, name, kind, depth, self._mapping)
        if isinstance(value, AbstractSet | Sequence | deque):
            return self._container(value, name, kind, depth, self._named_sequence)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._container(value, name, kind, depth, self._fields)
        if type(value) in _SAFE_OBJECTS and kind in (SCAN, TRUST):
            return str(value)
        if isinstance(value, decimal.Decimal) and value.is_finite() and abs(value.adjusted()) > 4096:
            return self._blank("length")
        return self.value(str.__str__(str(value)), name, kind, depth)

    def _bytes(self, value: bytes | bytearray | memoryview, name: str, kind: str, depth: int) -> Any:
        whole = value if type(value) is bytes else bytes(value[: self._policy.max_length + 1])
        # latin-1 reads any byte and writes the same one again.
        text = whole[: self._policy.max_length + 1].decode("latin-1")
        clean = self.text(text, depth) if kind == SCAN else self._named(text, name, kind)
        if clean is DROPPED:
            return clean
        return whole if clean is text or clean == text else clean.encode("latin-1", "replace")

    def _named_sequence(self, value: Iterable[Any], name: str, kind: str, depth: int) -> Any:
        fields = getattr(type(value), "_fields", None)
        if isinstance(value, tuple) and isinstance(fields, tuple) and kind == SCAN:
            clean = self._mapping(dict(zip(fields, tuple.__iter__(value), strict=False)), name, kind, depth)
            return list(clean.values())
        if isinstance(value, list):  # what a subclass makes of its own iteration is not asked
            value = islice(list.__iter__(value), self._items + 1)
        elif isinstance(value, tuple):
            value = islice(tuple.__iter__(value), self._items + 1)
        return list(self._sequence(value, name, kind, depth))

    def _fields(self, value: Any, name: str, kind: str, depth: int) -> Any:
        fields = {field.name: _safely(value, field.name) for field in dataclasses.fields(value)}
        return self._mapping(fields, name, kind, depth)


class _Unreadable:
    """Stands for a field that could not be read; its text says so, by failing."""

    def __str__(self) -> str:
        raise ValueError


def _safely(value: Any, field: str) -> Any:
    try:
        return getattr(value, field)
    except Exception:
        return _Unreadable()
