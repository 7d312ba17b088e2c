"""What counts as a secret: the built-in kinds, and what a user adds or leaves out."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mobius_otel.errors import ConfigurationError
from mobius_otel.policy import Policy, load_policy
from mobius_otel.telemetry.redaction.actions import ACTIONS, PARTIAL_KINDS, Action, RedactionRule
from mobius_otel.telemetry.redaction.detectors import VALUE_KINDS
from mobius_otel.telemetry.redaction.names import NAME_KINDS
from mobius_otel.telemetry.redaction.own import Finder
from mobius_otel.telemetry.redaction.pairs import PAIR_KINDS
from mobius_otel.telemetry.redaction.patterns import checked_pattern

if TYPE_CHECKING:
    from mobius_otel.telemetry.redaction.explain import Finding

__all__ = ["KINDS", "RedactionPolicy"]

#: Every built-in kind that can be switched off.
KINDS = VALUE_KINDS | NAME_KINDS | PAIR_KINDS
#: What the redactor itself blanks; no policy switches it off and no pattern may take its name.
_OWN = frozenset({"unreadable", "depth", "items", "length", "cycle"})
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KIND_RULE = "lower-case letters, digits and underscores, at most 40, and none of the redactor's own markers"
_SECTION = ("names", "trusted", "patterns", "detectors", "off", "actions", "rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionPolicy:
    r"""What is taken out of telemetry. A frozen value, checked at construction.

    Args:
        names: Further secret names; each holds also as the end of a longer name (``badge_no`` finds
            ``employee.badgeNo``).
        trusted: Further names whose values are never looked into, exactly as written; a trailing ``*``
            stands for any rest. A trusted name wins over a secret one.
        patterns: Further kinds, as pairs of a kind and a regular expression. One with nested or ambiguous
            repetition is refused, since it could take minutes over a hostile line; where the extra ``re2`` is
            installed, its engine runs it. There ``\d``, ``\w``, ``\s`` and ``\b`` know ASCII alone.
        detectors: Further kinds, as pairs (or a mapping) of a kind and a function. It takes a text and returns
            the places that it found, as pairs of start and end. It must depend on the text alone, come quickly
            to an end, and log nothing. Where it raises or returns something else, the whole text is blanked
            and counted as ``unreadable``. Texts of fewer than five characters are not shown to it.
        kinds_off: Kinds that are not looked for.
        actions: What happens to each kind, as pairs (or a mapping) of a kind and ``mask`` (what happens to the
            others: a marker, ``[redacted:KIND]``), ``partial`` (the marker shows the last four characters of a
            card, an IBAN or a telephone number), ``drop``, ``pseudonym`` or ``pass``.
        rules: What happens by name or location; the first that fits wins over `actions`.
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
    detectors: Mapping[str, Finder] | tuple[tuple[str, Finder], ...] = ()
    kinds_off: frozenset[str] = frozenset()
    actions: Mapping[str, Action] | tuple[tuple[str, Action], ...] = ()
    rules: tuple[RedactionRule, ...] = ()
    max_depth: int = 16
    max_items: int = 1000
    max_length: int = 32768
    version: str = ""

    def __post_init__(self) -> None:
        for field in ("names", "trusted"):
            object.__setattr__(self, field, _texts(field, getattr(self, field)))
        object.__setattr__(self, "kinds_off", frozenset(_texts("kinds_off", self.kinds_off)))
        object.__setattr__(self, "patterns", _patterns(self.patterns))
        object.__setattr__(self, "detectors", _detectors(self.detectors))
        for kind in sorted(self.kinds_off):
            _known(kind)
        self._check_actions()
        for field, least, most in (("max_depth", 1, 64), ("max_items", 1, 1_000_000), ("max_length", 64, 1_048_576)):
            _number(f"redaction.{field}", getattr(self, field), least, most)
        if not isinstance(self.version, str) or len(self.version) > 64:
            raise ConfigurationError("redaction.version", self.version, "a text of at most 64 characters")
        object.__setattr__(self, "version", self.version or self._digest())

    def _check_actions(self) -> None:
        object.__setattr__(self, "actions", _actions(self.actions))
        object.__setattr__(self, "rules", tuple(self.rules))
        kinds = KINDS | {kind for kind, _ in self.patterns} | set(dict(self.detectors)) | {"name"}
        for rule in self.rules:
            if not isinstance(rule, RedactionRule):
                raise ConfigurationError("redaction.rules", type(rule).__name__, "a list of RedactionRule")
        named = [("redaction.actions", kind) for kind in dict(self.actions)]
        named += [("redaction.rules", rule.kind) for rule in self.rules if rule.kind]
        for setting, kind in named:
            if kind not in kinds:
                wanted = f"a kind that is looked for: {', '.join(sorted(kinds))}"
                raise ConfigurationError(setting, kind, wanted, _nearest(kind, kinds))

    @property
    def wants_pseudonyms(self) -> bool:
        """Whether something gets a pseudonym."""
        return "pseudonym" in dict(self.actions).values() or any(rule.action == "pseudonym" for rule in self.rules)

    def _digest(self) -> str:
        own: tuple[Any, ...] = (self.names, self.trusted, self.patterns, tuple(sorted(self.kinds_off)))
        if self.detectors:
            own = (*own, tuple((kind, _name_of(finder)) for kind, finder in dict(self.detectors).items()))
        if self.actions or self.rules:
            own = (*own, self.actions, self.rules)
        if not any(own):
            return "1"
        return "1-" + hashlib.sha256(repr(own).encode("utf-8", "surrogatepass")).hexdigest()[:8]

    @classmethod
    def default(cls) -> Self:
        """Return the policy that looks for every built-in kind."""
        return cls()

    @classmethod
    def from_section(cls, section: Mapping[str, Any], folder: str | os.PathLike[str] | None = None) -> Self:
        """Return the policy that the ``[redaction]`` section of a policy file describes.

        Args:
            section: Its keys ``names``, ``trusted`` and ``off`` (lists of text), ``patterns`` (a table of kind
                and regular expression) and ``detectors`` (a list of functions, ``"shop.redaction:find_badges"``;
                the kind is the function's name without a leading ``find_``); any may be absent.
            folder: Where the modules of detectors are looked for first; None: on ``sys.path`` alone.

        Raises:
            ConfigurationError: A key is unknown, a value breaks its rule, or a detector cannot be imported.
        """
        for key in section:
            if key not in _SECTION:
                known = sorted(_SECTION)
                raise ConfigurationError("redaction", key, f"one of {', '.join(known)}", _nearest(key, known))
        patterns = section.get("patterns") or {}
        if not isinstance(patterns, Mapping):
            raise ConfigurationError("redaction.patterns", patterns, "a table of kind and regular expression")
        return cls(
            names=section.get("names") or (),
            trusted=section.get("trusted") or (),
            patterns=tuple(patterns.items()),
            detectors=_imported(section.get("detectors") or (), folder),
            kinds_off=section.get("off") or frozenset(),
            actions=section.get("actions") or (),
            rules=tuple(map(_rule, section.get("rules") or ())),
        )

    @classmethod
    def from_policy(cls, policy: Policy) -> Self:
        """Return how a whole policy wants secrets to be found.

        Args:
            policy: The policy; modules of detectors may lie beside its file.

        Raises:
            PolicyError: A value of its ``[redaction]`` section breaks a rule, and it came from a file.
            ConfigurationError: The same, without a file.
        """
        section = {key: getattr(policy.redaction, key) for key in _SECTION}
        try:
            return cls.from_section(section, policy.beside("."))
        except ConfigurationError as error:
            raise policy.placed(error) from None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        r"""Return the policy that the ``[redaction]`` section of a policy file describes.

        Args:
            path: The policy file; its other sections are checked too.

        Raises:
            PolicyError: The file cannot be read or breaks a rule; the text names key, line, rule and way out.

        Example:
            >>> import pathlib, tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder, "mobius.toml")
            ...     _ = path.write_text('[redaction]\nnames = ["badge_no"]')
            ...     RedactionPolicy.from_file(path).names
            ('badge_no',)
        """
        return cls.from_policy(load_policy(path) or Policy())

    def merge(self, other: RedactionPolicy) -> Self:
        """Return a policy that finds what either of the two finds, within the limits of the other.

        Names, trusted names, patterns, detectors and kinds that are off are those of both, this policy's
        first. What one of them trusts or has switched off is so in the result too. ``max_depth``,
        ``max_items`` and ``max_length`` are the other's, also where they are the defaults. Where both have a
        detector of one kind, the other's is taken. The version is made anew from the contents.

        Args:
            other: The policy whose word counts where there can be one alone.

        Example:
            >>> ours = RedactionPolicy(names=("badge_no",))
            >>> ours.merge(RedactionPolicy(names=("fiscal_code",), max_depth=8)).names
            ('badge_no', 'fiscal_code')
        """
        merged: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name == "detectors":
                merged[field.name] = {**dict(mine), **dict(theirs)}
            elif isinstance(mine, tuple):
                merged[field.name] = tuple(dict.fromkeys((*mine, *theirs)))
            else:
                merged[field.name] = mine | theirs if isinstance(mine, frozenset) else theirs
        return dataclasses.replace(self, **{**merged, "version": ""})

    def explain(self, value: Any) -> list[Finding]:
        """Return what this policy finds in a value, by which rule, and what becomes of it; never what it was.

        Args:
            value: Anything that a :class:`Redactor` takes.

        Example:
            >>> for finding in RedactionPolicy.default().explain({"user": {"password": "hunter2"}}):
            ...     print(finding.kind, finding.path, finding.rule, finding.where, sep=" | ")
            password | user.password | name 'password' | the whole value
        """
        from mobius_otel.telemetry.redaction.explain import explain  # it stands above: it redacts

        return explain(self, value)


def _texts(field: str, value: Iterable[str]) -> tuple[str, ...]:
    rule = "a list of texts, none of them empty, each with a letter or a digit"
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
            raise ConfigurationError("redaction.patterns", kind, _KIND_RULE)
        checked_pattern(f"redaction.patterns.{kind}", pattern)
        pairs.append((kind, pattern))
    return tuple(pairs)


def _detectors(value: object) -> tuple[tuple[str, Finder], ...]:
    pairs = tuple(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, tuple | list):
        raise ConfigurationError("redaction.detectors", value, "a mapping of kind and function")
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigurationError("redaction.detectors", pair, "pairs of a kind and a function")
        kind, finder = pair
        if not isinstance(kind, str) or not _KIND.fullmatch(kind) or kind in _OWN:
            raise ConfigurationError("redaction.detectors", kind, _KIND_RULE)
        if not callable(finder):
            rule = "a function that takes a text and returns pairs of start and end"
            raise ConfigurationError(f"redaction.detectors.{kind}", finder, rule)
    kinds = [kind for kind, _ in pairs]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        hint = "In a policy file the kind is the function's name: rename one of the functions."
        raise ConfigurationError("redaction.detectors", twice[0], "the kind of one detector alone", hint)
    return tuple((kind, finder) for kind, finder in pairs)


def _imported(value: object, folder: str | os.PathLike[str] | None) -> tuple[tuple[str, Finder], ...]:
    """Import the functions that a policy file names, each with its kind."""
    rule = 'a function such as "shop.redaction:find_badges"'
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError("redaction.detectors", value, f"a list, each {rule}")
    pairs = []
    for target in value:
        module, _, name = target.partition(":") if isinstance(target, str) else ("", "", "")
        if not module or not name:
            raise ConfigurationError("redaction.detectors", target, rule)
        try:
            with _looking_in(folder):
                found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except Exception as error:  # its text may quote anything: the module ran
            hint = f"{type(error).__name__} while importing it; keep it in a small module beside the policy file."
            raise ConfigurationError("redaction.detectors", target, f"{rule} that can be imported", hint) from None
        pairs.append((name.rpartition(".")[2].removeprefix("find_").lower(), found))
    return tuple(pairs)


@contextlib.contextmanager
def _looking_in(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Let modules in a folder be imported: a command's own path does not hold where it was started."""
    path = str(Path(folder)) if folder is not None else ""
    added = bool(path) and path not in sys.path
    if added:
        sys.path.insert(0, path)
    try:
        yield
    finally:
        if added and path in sys.path:
            sys.path.remove(path)


def _name_of(finder: Finder) -> str:
    return f"{getattr(finder, '__module__', '')}:{getattr(finder, '__qualname__', type(finder).__qualname__)}"


def _actions(value: Any) -> tuple[tuple[str, Action], ...]:
    pairs = tuple(value.items()) if isinstance(value, Mapping) else tuple(value)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigurationError("redaction.actions", pair, "pairs of a kind and an action")
        kind, action = pair
        if action not in ACTIONS:
            raise ConfigurationError(f"redaction.actions.{kind}", action, f"one of {', '.join(ACTIONS)}")
        if action == "partial" and kind not in PARTIAL_KINDS:
            rule = f"another action; partial is for {', '.join(sorted(PARTIAL_KINDS))} alone"
            raise ConfigurationError(f"redaction.actions.{kind}", action, rule)
    return tuple((kind, action) for kind, action in pairs)


def _rule(given: Any) -> RedactionRule:
    if isinstance(given, Mapping):
        return RedactionRule(**given)
    return RedactionRule(action=given.action, kind=given.kind, name=given.name, location=given.location)


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigurationError("redaction.off", kind, f"one of {', '.join(sorted(KINDS))}", _nearest(kind, KINDS))


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _number(setting: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(setting, value, f"a whole number from {least} to {most}")
