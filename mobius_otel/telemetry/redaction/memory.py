"""What one policy has learned, names that tell nothing and texts that are clean, and how a record is learned at once.

Most of what telemetry says, it says again, and most of it is clean. So before a record is walked, its texts are
gathered and looked at together; where all of it turns out to be clean, there is nothing to walk for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from mobius_otel.telemetry.redaction.bound import BOUND, PARAMETERS
from mobius_otel.telemetry.redaction.commands import argument_spans
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, NameRules, word_set
from mobius_otel.telemetry.redaction.pairs import HALF_NAMES
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.scanner import TextScanner
from mobius_otel.telemetry.redaction.screen import holds_for_all, is_id, templates

__all__ = [
    "CARRIERS", "DEPENDS", "LONGEST_REMEMBERED", "MANIFEST_DATA", "MOST_SCREENED", "NAMERS", "OAUTH", "Memory",
    "is_count", "is_value",
]  # fmt: skip

#: Names whose value names another one: ``{"field": "password", "after": …}``, ``{"Name": "DB_PASS", "Value": …}``.
#: ``kind`` is one of a manifest of Kubernetes alone, ``grant_type`` of OAuth's ``code``.
NAMERS: Final = frozenset(
    spelled
    for name in word_set(
        "grant_type kind name key field attribute attr property column header param parameter option setting variable"
        " path loc k field_name column_name attribute_name property_name header_name parameter_name parameter_key"
        " tag_key label"
    )
    for camel in ["".join(map(str.title, name.split("_")))]
    for spelled in (name, name.upper(), camel, camel[0].lower() + camel[1:])
).union(PARAMETERS)
#: Names of the values that such a one is about, in lower case.
NAMED: Final = word_set(
    "value before after old new from to old_value new_value previous current original default values oldvalue newvalue"
    " val v lhs rhs before_value after_value beforevalue aftervalue parametervalue parameter_value tagvalue tag_value"
    " previous_value current_value original_value updated_value previousvalue currentvalue originalvalue updatedvalue"
    " fromstring tostring from_string to_string from_value to_value fromvalue tovalue updated input"
    " rejectedvalue rejected_value attemptedvalue attempted_value rawvalue raw_value invalidvalue invalid_value"
)
_NAMERS_OF_VALUES: Final = frozenset(
    name for name in NAMERS - PARAMETERS if name.lower() not in {"kind", "granttype", "grant_type"}
)
#: Where a manifest of the kind ``Secret`` has its secrets.
MANIFEST_DATA: Final = frozenset({"data", "stringData"})
#: In what stands under a telling name, the names of the value itself: ``{"session_id": {"before": …}}``, and the
#: ``stringValue`` of OpenTelemetry's JSON.
CARRIERS: Final = (NAMED - {"input", "updated"}) | word_set(
    "stringvalue string_value intvalue int_value doublevalue double_value bytesvalue bytes_value arrayvalue array_value"
)
_OTLP_NUMBERS: Final = frozenset({"intValue", "doubleValue", "int_value", "double_value"})
#: The ``code`` beside it is one of OAuth (RFC 6749, 4.1.3).
OAUTH: Final = "oauth"
#: What a name tells depends on what it stands inside of, or it names another one.
DEPENDS: Final = "depends"
LONGEST_REMEMBERED: Final = 1024
#: Characters that are screened together.
MOST_SCREENED: Final = 32768
#: What JSON begins with: it is parsed, and means more than its lines.
_DOCUMENT_BEGINS: Final = frozenset({b"{", b"[", b'"'})
_WHEN: Final = re.compile(r"[0-9]{4}-[0-9]{2}-|[0-9]{10,19}\Z")
_MOST_LINES = 64  # that are looked at alone because of one text
_MOST_TEXTS = 32768  # of each sort that is remembered
_MOST_CHARACTERS = 4_000_000  # of all that is remembered
_LONGEST_NAME = 64
_LONGEST_TOLD = 128
_MOST_SHAPES = 1024
_MOST_KEYS = 64


def is_count(name: str) -> bool:
    """Return whether a number under this name counts things: ``tokens``, and not ``DB_PASS``."""
    return name[-1:] in {"s", "S"} and not name.lower().endswith("pass")


def is_value(name: str, item: Any) -> bool:
    """Return whether what stands under a name is what another name beside it is about.

    Args:
        name: The name, in lower case.
        item: What stands under it: all that a missing field is missing in is no input, and a time says when.
    """
    if name == "updated":
        return type(item) is str and not _WHEN.match(item)
    return name in NAMED and not (name == "input" and type(item) is dict)


def _has_numbers(value: dict[Any, Any]) -> bool:
    """Return whether what stands beside a name that names another one are numbers."""
    named = [item for key, item in value.items() if type(key) is str and key.lower() in NAMED]
    return all(
        item is None
        or type(item) is int
        or type(item) is float
        or (type(item) is dict and item.keys() <= _OTLP_NUMBERS)
        for item in named
    )


class Memory:
    """What one policy learned, bounded.

    Every step is one operation on a set or a dictionary, so threads may share it without a lock; what is lost in a
    race is looked at again.

    Args:
        policy: What counts as a secret.
        ours: Whether the names are trusted that this package writes.
    """

    __slots__ = (
        "_any_digits", "_lines", "_namers", "_seen", "_seen_lines", "_size", "_templates", "beside", "clean", "masked",
        "most", "names", "policy", "rules", "scanner",
    )  # fmt: skip

    def __init__(self, policy: RedactionPolicy, *, ours: bool = True) -> None:
        self.policy = policy
        self.most = min(policy.max_length, MOST_SCREENED)
        self.rules = NameRules(policy.names, policy.trusted, policy.kinds_off, ours=ours)
        self.scanner = TextScanner(policy, self.rules)
        #: Texts without a secret, as long as no name says that they are one.
        self.clean: set[str] = set()
        #: What became of texts with secrets where all of them were masked, and the kinds, by the hash of the text: the
        #: text itself is not kept, and another one with the same hash gets what holds no secret either.
        self.masked: dict[int, tuple[str, list[str]]] = {}
        #: What names tell, whatever they stand beside, or that it depends; themselves they hold no secret.
        self.names: dict[str, str] = {}
        #: What names tell inside of what another name stands for: "number" in "card".
        self.beside: dict[tuple[str, str], str] = {}
        #: Which keys of a dictionary name another one, by all of its keys, each of which is known to be no secret.
        self._namers: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._templates: set[bytes] = set()
        #: Templates of texts that were clean once: whether it is still to be found out if that holds for all of them.
        self._seen: dict[bytes, bool] = {}
        #: The same of the lines of texts: those that say nothing, whatever their digits are and whatever stands around
        #: them, and those that texts were clean with.
        self._lines: set[bytes] = set()
        self._seen_lines: dict[bytes, bool] = {}
        self._size = 0
        # Names of a user's own may differ in a digit alone.
        self._any_digits = not any(map(str.isdigit, "".join((*policy.names, *policy.trusted))))

    def remember_name(self, name: str, told: str) -> None:
        """Remember what a name tells of its value.

        Args:
            name: The name, itself no secret.
            told: What it tells wherever it stands, or :data:`DEPENDS`.
        """
        if len(name) > _LONGEST_NAME:
            return
        if len(self.names) >= _MOST_TEXTS:
            self.names.clear()
        self.names[name] = told

    def is_known(self, text: str) -> bool:
        """Return whether a text was clean before, whatever its digits were, or is an id."""
        return text in self.clean or not self.unknown([text])

    def unknown(self, texts: list[str]) -> dict[str, bytes]:
        """Return the texts that were not clean before, whatever their digits were, and are no ids; with their forms."""
        known, seen, unknown = self._templates, self._seen, {}
        forms = templates(texts)
        if known.issuperset(forms):
            return {}
        for text, form in zip(texts, forms, strict=True):
            if (
                form in known
                or is_id(text, form)
                or (seen.get(form) and self._holds(form))
                or (b"\n" in form and self._is_of_lines(form))
            ):
                continue
            unknown[text] = form
        return unknown

    def _holds(self, form: bytes) -> bool:
        """Find out whether all texts of a template are clean, since one was, and remember it."""
        holds = holds_for_all(form)
        if holds:
            self._templates.add(form)
        else:
            self._seen[form] = False
        return holds

    def _is_of_lines(self, form: bytes) -> bool:
        """Return whether a text is of nothing but lines that others were clean with: the trace of another stack.

        Each of them is looked at alone when it comes for the second time.
        """
        if len(form) > self.policy.max_length or form.lstrip()[:1] in _DOCUMENT_BEGINS:
            return False
        lines = form.split(b"\n")
        known, seen = self._lines, self._seen_lines
        if known.issuperset(lines):
            return True
        new = [line for line in lines if line not in known]
        if len(new) > _MOST_LINES or not all(map(seen.get, new)):
            return False
        for line in new:
            if not (holds_for_all(line) and self.scanner.says_nothing(line.decode("utf-8", "surrogatepass"))):
                seen[line] = False
                return False
            known.add(line)
        return True

    def remember_scanned(self, text: str) -> None:
        """Remember a text that had to be scanned and held no secret; with other digits it may hold one."""
        if len(text) <= LONGEST_REMEMBERED:
            self._make_room(len(text))
            self.clean.add(text)

    def remember_masked(self, text: str, clean: str, kinds: list[str]) -> None:
        """Remember what became of a text with secrets, in which all of them were masked.

        Args:
            text: The text; only its hash is kept.
            clean: What it became.
            kinds: The kinds of what was found in it.
        """
        if len(text) <= LONGEST_REMEMBERED:
            self._make_room(len(clean))
            self.masked[hash(text)] = clean, [*kinds]

    def remember(self, texts: Mapping[str, bytes]) -> None:
        """Remember texts that were not suspected.

        Whether they are clean with any digits is found out when another one like them comes: most never do.

        Args:
            texts: The texts with their forms; long ones are passed over.
        """
        clean, seen, characters = self.clean, self._seen, 0
        for text, form in texts.items():
            if len(text) <= LONGEST_REMEMBERED:
                characters += len(text)
                clean.add(text)
                if self._any_digits and b"0" in form:
                    seen.setdefault(form, True)
            if self._any_digits and b"\n" in form:
                characters += len(text)
                for line in form.split(b"\n"):
                    self._seen_lines.setdefault(line, True)
        self._make_room(characters)

    def _make_room(self, characters: int) -> None:
        """Forget a half of everything when there is too much, whichever half: what comes again is looked at again."""
        self._size += characters
        if max(len(self.clean), len(self.masked)) < _MOST_TEXTS and self._size <= _MOST_CHARACTERS:
            return
        for texts in (self.clean, self._templates, self._lines):
            texts.difference_update([*islice(texts, 0, None, 2)])
        for known in (self.masked, self._seen, self._seen_lines):
            for each in [*islice(known, 0, None, 2)]:
                known.pop(each, None)  # type: ignore[call-overload]
        kept = (self.clean, self._seen_lines, [text for text, _ in [*self.masked.values()]])
        self._size = sum(sum(map(len, texts)) for texts in kept)

    def told(self, value: dict[Any, Any]) -> str:
        """Return the secret kind that ``{"field": "password", "after": …}`` tells of its values, or SCAN."""
        if not PARAMETERS.isdisjoint(value):
            return BOUND
        if "code" in value and "grant_type" in value:
            return SCAN if "token" in self.policy.kinds_off else OAUTH
        if value.get("kind") == "Secret" and not MANIFEST_DATA.isdisjoint(value):
            return SCAN if "secret" in self.policy.kinds_off else "secret"
        for namer in self._namers_in(value):
            said = value[namer]
            if type(said) is list or type(said) is tuple:  # a path: ["user", "password", 0]
                said = next((step for step in said[:-5:-1] if type(step) is str), None)
            if type(said) is str and len(said) <= _LONGEST_TOLD:
                kind = self.rules.of(said)
                if kind not in (SCAN, TRUST) and not (is_count(said) and _has_numbers(value)):
                    # A choice of a form, {"label": "Password", "value": "password"}, is a name itself.
                    choice = namer.lower() == "label" and self._is_name(value.get("value"), kind)
                    return SCAN if choice else kind
        return SCAN

    def _is_name(self, value: Any, kind: str) -> bool:
        """Return whether a value is a name of this kind, as it is written in code."""
        return type(value) is str and len(value) <= _LONGEST_TOLD and value.islower() and self.rules.of(value) == kind

    def _namers_in(self, value: dict[Any, Any]) -> tuple[str, ...]:
        """Return the keys that name another one of the same dictionary; remembered by all of its keys."""
        keys = tuple(value)
        try:
            return self._namers[keys]
        except Exception:  # not known, or a key of a sort that cannot be compared
            texts = [key for key in keys if isinstance(key, str)]
        names = [] if NAMED.isdisjoint(map(str.lower, texts)) else [key for key in texts if key in _NAMERS_OF_VALUES]
        found = tuple(names)
        if len(keys) <= _MOST_KEYS and all(type(key) is str and key in self.names for key in keys):
            if len(self._namers) >= _MOST_SHAPES:
                self._namers.clear()
            self._namers[keys] = found
        return found

    def tells(self, owner: str, name: str) -> tuple[str, bool]:
        """Return what a name tells of its value, and whether it tells that wherever it stands.

        Args:
            owner: The name that its container stands under: ``number`` tells something inside of ``card``.
            name: The name.
        """
        told = self.beside.get((owner, name))
        if told is not None:
            return told, False
        told = self.rules.of(name)
        half = name.lower() in HALF_NAMES
        if not half and name not in NAMERS:
            return told, True
        if half and told == SCAN and owner:
            told = self.rules.of(f"{owner}.{name}")
            if told == TRUST:
                told = SCAN
        if not owner or owner in self.names:  # else it may be a secret itself, or long
            if len(self.beside) >= _MOST_TEXTS:
                self.beside.clear()
            self.beside[owner, name] = told
        return told, False

    def arguments(self, value: Sequence[Any]) -> dict[int, list[tuple[int, int, str]]]:
        """Return where secrets stand in the words of a command, by the number of the word: ``["mysql", "-p…"]``.

        Args:
            value: A list or a tuple; what is no text in it is no word.
        """
        items = [item if type(item) is str else "" for item in value]
        found: dict[int, list[tuple[int, int, str]]] = {}
        if any(item[:1] == "-" for item in items):
            logins = "url_credential" not in self.policy.kinds_off
            for number, start, end, kind in argument_spans(items, self.rules.of, logins=logins):
                found.setdefault(number, []).append((start, end, kind))
        return found

    def tells_next(self, item: str | bytes, index: int, *, pairs: bool) -> str:
        """Return what an item of a list says of the next: ``["--password", …]``, ``[["authorization", …], …]``.

        Args:
            item: The item.
            index: Where it stands.
            pairs: Whether the list is one of a name and its value.
        """
        # [(b"x-api-key", b"…")], as ASGI writes headers
        word = item[: _LONGEST_TOLD + 1].decode("latin-1") if isinstance(item, bytes) else item
        if word[:1] == "-":
            told = self.rules.of(word.lstrip("-")) if 2 < len(word) <= _LONGEST_TOLD and "=" not in word else SCAN
        elif pairs and index == 0 and 2 < len(word) <= _LONGEST_TOLD and " " not in word:
            told = self.rules.of(word)
        else:
            return SCAN
        return SCAN if told == TRUST else told
