"""The redactor: takes secrets out of any value, and never raises.

What cannot be read is blanked and counted, never passed on: an object whose ``__str__`` raises, a mapping
without an end, a cycle, what lies deeper or is longer than the policy's limits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.redaction.actions import Pseudonyms, deciding
from mobius_otel.telemetry.redaction.hits import marker
from mobius_otel.telemetry.redaction.look import Look
from mobius_otel.telemetry.redaction.memory import Memory
from mobius_otel.telemetry.redaction.names import SCAN
from mobius_otel.telemetry.redaction.policy import RedactionPolicy
from mobius_otel.telemetry.redaction.tally import tally
from mobius_otel.telemetry.redaction.walk import DROPPED, Walk
from mobius_otel.telemetry.safety import STRANGE, of_handler

__all__ = ["Match", "RedactionResult", "Redactor", "configured_redactor"]

_MOST_SERIES = 4096


class Match(NamedTuple):
    """One thing that was taken out; never what it was.

    Args:
        kind: The kind of secret.
        path: Where it stood, for example ``changes[0].after``; empty for the value itself.
    """

    kind: str
    path: str


class RedactionResult(NamedTuple):
    """What a redaction returns.

    Args:
        value: The value without its secrets; the same object when there was none.
        matches: What was taken out.
    """

    value: Any
    matches: tuple[Match, ...] = ()


class Redactor:
    """Takes secrets out of values and texts.

    Args:
        policy: What counts as a secret; None: :meth:`RedactionPolicy.default`.
        pseudonyms: What gives pseudonyms where the policy wants some; None: the keys of
            ``MOBIUS_OTEL_PSEUDONYM_KEY``.

    Raises:
        ConfigurationError: It is no policy, or the policy wants pseudonyms, and there is no key.

    Example:
        >>> redactor = Redactor()
        >>> redactor.redact({"user": "ann", "password": "hunter2", "note": "card 4111 1111 1111 1111"}).value
        {'user': 'ann', 'password': '[redacted:password]', 'note': 'card [redacted:card]'}
        >>> redactor.text("GET /v1?token=abc&page=2")
        'GET /v1?token=[redacted:token]&page=2'
    """

    __slots__ = ("__weakref__", "_acts", "_memory", "_pseudonyms", "_series", "_stranger", "policy")

    def __init__(self, policy: RedactionPolicy | None = None, pseudonyms: Pseudonyms | None = None) -> None:
        given: object = policy
        if given is not None and not isinstance(given, RedactionPolicy):
            hint = "RedactionPolicy.from_file(…) reads a file."
            raise ConfigurationError("policy", given, "a RedactionPolicy or None", hint)
        self.policy = policy or RedactionPolicy.default()
        self._acts = bool(self.policy.actions or self.policy.rules)
        if pseudonyms is None and self.policy.wants_pseudonyms:
            pseudonyms = Pseudonyms.from_environment()
        self._pseudonyms = pseudonyms
        self._memory = Memory(self.policy)
        self._stranger: Redactor | None = None
        #: Hashes of attributes of metrics whose matches were counted: a series comes again with every collection.
        self._series: set[int] = set()

    @property
    def for_others(self) -> Redactor:
        """The same, for what others give a name: those that this package writes are trusted no more than any other."""
        found = self._stranger
        if found is None:
            found = Redactor(self.policy, self._pseudonyms)
            found._memory = Memory(self.policy, ours=False)
            self._stranger = found
        return found

    def __repr__(self) -> str:
        return f"Redactor(policy={self.policy.version!r})"

    def redact(self, value: Any, location: str = "other", tenant: str = "") -> RedactionResult:
        """Return `value` without its secrets; never raises and never changes what it was given.

        Args:
            value: Anything. Mappings, lists, data classes and bytes are walked, other objects become text.
            location: Where it stands, for the metric: ``audit``, ``log``, ``span``, ``resource``, ``metric``,
                ``logging``, ``baggage`` or ``other``.
            tenant: Whose it is; pseudonyms differ between tenants.

        Returns:
            Plain data (dictionaries, lists, texts, numbers), the same object where nothing was found.
        """
        return self._run("", value, location, tenant)

    def is_clean(self, value: dict[str, Any], beside: Collection[str]) -> bool:
        """Return whether one look tells that neither a dictionary nor texts beside it, under no name, hold a secret.

        Where it does not, :meth:`redact` says what they hold.

        Args:
            value: Plain data.
            beside: The texts.
        """
        try:
            return Look(self._memory).at_all(value, beside)
        except STRANGE as error:
            if of_handler(error):
                raise
            return False

    def attribute(self, name: str, value: Any, location: str = "other") -> Any:
        """Return the value of one named attribute without its secrets; see :meth:`redact`."""
        return self._run(name, value, location).value

    def text(self, text: str, location: str = "other") -> str:
        """Return a plain text, for example a line of a log, without its secrets; see :meth:`redact`."""
        return str(self._run("", text, location).value)

    def _run(self, name: str, value: Any, location: str, tenant: str = "") -> RedactionResult:
        memory = self._memory
        look = Look(memory)
        show = deciding(self.policy, self._pseudonyms, location, tenant) if self._acts else None
        try:
            kind = memory.rules.of(name) if name else SCAN
            if kind == SCAN and look.at(value, name):
                return RedactionResult(value)
            walk = Walk(memory, show, look.suspects)
            if kind == SCAN and look.plain and show is None:
                clean = walk.spots(value, look)
            else:
                clean = walk.value(value, name, kind, 0)
        except STRANGE as error:  # fail closed, whatever it was
            if of_handler(error):
                raise
            clean, walk = marker("unreadable"), Walk(memory)
            walk.matches = [["unreadable", ""]]
        if clean is DROPPED:
            clean = ""
        found = walk.matches
        if not found:
            return RedactionResult(clean)
        if location != "metric" or self._is_new_series(value):
            tally.add([match[0] for match in found], location)
        return RedactionResult(clean, tuple([Match(kind, path) for kind, path in found]))

    def _is_new_series(self, attributes: Any) -> bool:
        try:
            key = hash(repr(attributes))
        except Exception:
            return True
        if key in self._series:
            return False
        if len(self._series) >= _MOST_SERIES:
            self._series.clear()
        self._series.add(key)
        return True


def configured_redactor() -> Redactor:
    """Return the redactor of the configured policy, or the one of the default policy."""
    slot = defaults.slot()
    if slot.redactor is None:
        slot.redactor = Redactor()
    return slot.redactor
