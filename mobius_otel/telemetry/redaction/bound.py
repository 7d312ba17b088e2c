r"""Parameters that are printed beside the statement that they are bound to: its columns tell what they are.

``parameters: $1 = '…'`` of PostgreSQL, ``[Parameters=[@p0='…'], …]`` of Entity Framework, ``-- PARAMETERS: […]`` of
TypeORM, ``==> Parameters: …(String)`` of MyBatis, ``binding parameter [1] as [VARCHAR] - […]`` of Hibernate,
``… where id = ? ["…", 7]`` of Laravel, ``Executing (default): …; […]`` of Sequelize, ``prisma:params […]``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any, Final

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.statements import UNTOLD, parameter_kinds

__all__ = ["BINDING_WORDS", "BOUND", "PARAMETERS", "bound_spans", "bound_to", "may_be_bound"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
#: Beside a statement stand the parameters that are bound to it, as attributes of OpenTelemetry.
BOUND: Final = "bound"
_ALL, _ONE = "db.statement.parameters", "db.query.parameter."
#: The names of such attributes that do not tell what they are themselves.
PARAMETERS: Final = frozenset({_ALL, *(f"{_ONE}{number}" for number in range(32))})
_STATEMENTS = ("db.query.text", "db.statement")
_FARTHEST = 20_000
#: What stands before parameters, by the word of it, in lower case, that stands in the text.
_LISTED = r"(?!\[redacted:)(?:array)?[\[({][ \t]{0,4}+(?=[\[{\"'0-9a-zA-Z])"
_MARKS: dict[bytes, re.Pattern[str]] = {
    b"parameters": re.compile(
        rf"\bparameters(?:: (?=\$1 = )|=\[(?=@)|: {_LISTED})|==> {{1,2}}parameters: (?=[^\n])", re.IGNORECASE
    ),
    b"params": re.compile(rf"\bparams\"?:? {{0,2}}{_LISTED}", re.IGNORECASE),
    b"bindings": re.compile(rf"\bbindings\"?: ?{_LISTED}"),
    b"bind": re.compile(r"\] bind \[(?=[^\]\n])"),
    b"binding": re.compile(r"\bbinding parameter (?=[\[(][0-9])"),
    b"executing": re.compile(r"; (?:\[ ?)?(?=[\"'])"),
}
#: The same where a statement ends that has places for them: "… where id = ? [7]".
_AFTER_STATEMENT = re.compile(r"(?<=[?;)]) (?:\[|(?=array\())(?:array\()?(?=[\"'0-9])")
#: Words, in lower case, of which one stands in a text that prints parameters.
BINDING_WORDS = frozenset(_MARKS)
_STATEMENT_WORDS = frozenset({b"into", b"where"})
_BEGIN = re.compile(r"\b(?:insert|update|select|delete|merge|replace|with|call|exec|execute)\s", re.IGNORECASE)
# One parameter: what says which it is, the value, and what follows it.
_ITEM = re.compile(
    r"[ \t\n]{0,8}+(?:\$([0-9]{1,4}) = |@(\w{1,64}+)=|\"?([0-9]{1,4})\"?[ ]?(?::|=>)[ ]?)?"
    r"(?:[nbBuUrR]?(['\"])((?:(?!\4)[^\\]|\\.|\4\4){0,4096}+)\4|([^,\]})\n\"']{1,1024}+))"
    r"(?: \([^()\n]{1,60}+\)){0,6}[ \t\n]{0,8}+(,?)",
    re.DOTALL,
)
_TYPED_ITEM = re.compile(r"null(?:, |(?=\n|\Z))|([^\n]{0,1024}?)\([A-Z]\w{2,20}\)(?:, |(?=\s?(?:\n|\Z)))")
_HIBERNATE = re.compile(
    r"[\[(]([0-9]{1,4})(?::[\w ]{1,40})?[\])] (?:as \[[\w ]{1,40}\] - |<- )\[([^\n]{1,4096}+)(?<=\])"
)
_MOST_ITEMS, _OPENING = 1000, frozenset("([{")
_NAMES = re.compile(r"[A-Za-z_]\w{1,64}+", re.ASCII)
_NUMBER = re.compile(
    r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?|true|false|null|none|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.+\-Z]{5,20}",
    re.IGNORECASE,
)


def may_be_bound(text: str, words: Collection[bytes]) -> list[int]:
    """Return the places before which, in texts that stand in lines of their own, parameters may be told."""
    return [found.start() for mark in _marks(text, words) for found in mark.finditer(text)]


def _marks(text: str, words: Collection[bytes]) -> list[re.Pattern[str]]:
    marks = [mark for word, mark in _MARKS.items() if word in words]
    if not _STATEMENT_WORDS.isdisjoint(words) and "?" in text:
        marks.append(_AFTER_STATEMENT)
    return marks


def bound_spans(text: str, words: Collection[bytes], of: _Of) -> _Spans:
    """Find the parameters of statements that are secrets.

    Args:
        text: The text.
        words: Those of :data:`BINDING_WORDS` that stand in it, also those of a statement, or more.
        of: What a name tells.
    """
    for mark in _marks(text, words):
        done, kinds = 0, dict[str, str]()
        places = [*mark.finditer(text)]
        behinds = [*(place.start() for place in places[1:]), len(text)]
        for found, behind in zip(places, behinds, strict=bool(places)):
            at = found.end()
            if at < done:
                continue
            before = text[max(done, found.start() - _FARTHEST) : found.start()]
            kinds = _kinds(before, of) or kinds
            if not kinds and mark is _MARKS[b"parameters"]:  # the statement stands behind them
                kinds = _kinds(text[at : min(behind, at + _FARTHEST)], of)
            done = at
            if kinds:
                done = yield from _parameters(text, at, kinds)
            if mark is not _MARKS[b"binding"]:
                kinds = {}


def bound_to(attributes: Mapping[Any, Any], of: _Of) -> Iterator[tuple[str, int, int, str]]:
    """Find the secrets in the parameters of a statement, all of which are attributes: the name of each, place and kind.

    Args:
        attributes: The statement is one of them.
        of: What a name tells.
    """
    statement = next((said for name in _STATEMENTS if type(said := attributes.get(name)) is str), "")
    kinds = _told_kinds(statement[:_FARTHEST], of)
    for name, item in attributes.items() if kinds else ():
        if type(item) is not str or type(name) is not str:
            continue
        if name == _ALL and item[:1] in _OPENING:
            yield from ((name, *span) for span in _parameters(item, 1, kinds))
        elif name in PARAMETERS:  # the first is 0
            kind = _parameter_kind(kinds.get(str(int(name[len(_ONE) :]) + 1), SCAN), item)
            if kind:
                yield name, 0, len(item), kind


def _told_kinds(statement: str, of: _Of) -> dict[str, str]:
    """Return what the parameters of a statement are, by number or name; nothing where none of them is a secret.

    Of one that no column stands beside, each name in the statement may tell.
    """
    kinds = parameter_kinds(statement, of)
    if not kinds:
        return {}
    told = {key: kind for key, kind in kinds.items() if kind not in (SCAN, TRUST, UNTOLD)}
    if UNTOLD in kinds.values():
        loose = next((kind for name in _NAMES.findall(statement) if (kind := of(name)) not in (SCAN, TRUST)), SCAN)
        if loose != SCAN:
            told |= {key: UNTOLD + loose for key, kind in kinds.items() if kind == UNTOLD}
    return told


def _parameter_kind(kind: str, value: str) -> str:
    """Return what a parameter is, or SCAN; the kind is what :func:`_told_kinds` says of it."""
    if kind[:1] == UNTOLD:  # a limit, a time, a flag
        kind = SCAN if _NUMBER.fullmatch(value.strip()) else kind[1:]
    return SCAN if kind in (SCAN, TRUST) or not value or keeps(kind, value) else kind


def _kinds(text: str, of: _Of) -> dict[str, str]:
    begin = _BEGIN.search(text)
    return _told_kinds(text[begin.start() :], of) if begin else {}


def _parameters(text: str, at: int, kinds: dict[str, str]) -> Generator[tuple[int, int, str], None, int]:
    """Find what is bound, from a place on; return where it ends."""
    if at >= len(text):
        return at
    if text[at] in "[(" and (one := _HIBERNATE.match(text, at)):
        start, end = one.start(2), one.end(2) - 1
        if kind := _parameter_kind(kinds.get(one.group(1), SCAN), text[start:end]):
            yield start, end, kind
        return end
    pattern, group = (_ITEM, 5) if text[at] in "\"'$@{" or not _typed(text, at) else (_TYPED_ITEM, 1)
    for number in range(1, _MOST_ITEMS):
        item = pattern.match(text, at)
        if item is None or item.end() == at:
            break
        at = item.end()
        key = str(number)
        if pattern is _ITEM:
            key = item.group(1) or item.group(2) or item.group(3) or key
            group = 5 if item.group(4) else 6
        if item.group(group) is not None:
            start, end = item.span(group)
            if kind := _parameter_kind(kinds.get(key, SCAN), text[start:end]):
                yield start, end, kind
        if pattern is _ITEM and not item.group(7):
            break
    return at


def _typed(text: str, at: int) -> bool:
    line = text.find("\n", at, at + 4096)
    return _TYPED_ITEM.match(text, at, line if line >= 0 else min(len(text), at + 4096)) is not None
