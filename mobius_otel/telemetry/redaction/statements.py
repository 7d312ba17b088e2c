"""Secrets in statements of SQL whose column tells them: in rows, in parameters that are printed beside, in a copy.

``INSERT INTO t (name, password) VALUES ('ann', '…')``, SQLAlchemy's ``[SQL: …] [parameters: ('ann', '…')]``,
``COPY t (name, password) FROM stdin;`` with its lines, ``WHERE token <> '…'``, ``session_id IN ('…', '…')``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator
from itertools import count

from mobius_otel.telemetry.redaction.hits import each
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps, says_count

__all__ = ["LITERAL", "STATEMENT_WORDS", "UNTOLD", "may_be_statement", "parameter_kinds", "statement_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
#: What a text holds one of, in lower case and as a whole word, where a statement in it may tell something.
STATEMENT_WORDS = frozenset({b"into", b"parameters", b"args", b"copy", b"where", b"having"})
#: What stands between the quotes of a literal, as a part of a regular expression: a quote in it is written twice.
LITERAL = r"(?:[^'\n]|''(?=[^\s',;)]))"

# Where something is compared other than with "=", which a pair tells.
_CONDITIONS = frozenset({b"where", b"having"})
_COMPARED = ("<>", "!=", " in (", " in(", "like ", "distinct from ")
# Over the text turned around: the column, and what may stand between it and what it is compared with.
_TURNED_COLUMN = re.compile(
    r"\s{0,8}+(?:(?:ton\s{1,8}+)?+(?:si\s{1,8}+)?+)(?:[\w ]{1,40}+::)?+[)\s]{0,8}+(?:[\w ]{1,40}+::)?+[\"`\])]{0,4}+"
    r"([\w$]{2,128}+)",
    re.IGNORECASE,
)
_OPERAND = re.compile(
    rf"\s{{0,16}}+(?:[nNeE]?'({LITERAL}{{1,1024}}+)'|\"([^\"\n]{{1,1024}}+)\"|([0-9]{{3,32}}+)(?![\w.])|[^,()'\"]{{1,64}}+)"
    r"(?:::[\w ]{1,40}+)?+\s{0,16}+(,?)"
)
_SHORTEST_PATTERN, _LONGEST_COLUMN = 5, 200

_INSERT = re.compile(
    r"\b(?:insert|replace)\s{1,8}+into\s{1,8}+[\w.\"`\[\]\\]{1,200}+\s{0,8}+\(([^()]{1,4000}+)\)\s{0,8}+"
    r"(?:output\s[^()]{1,200}?\s)?values\s{0,8}+",
    re.IGNORECASE,
)
# SQLAlchemy leaves most of many rows out.
_ROW_BEGIN = re.compile(
    r"[\s,)]{0,16}+(?:\.\.\. displaying [0-9]{1,9} of [0-9]{1,9} total bound parameter sets \.\.\.\s{1,4}+)?+"
    r"\((?!parameters: )"
)
_SQL_VALUE = re.compile(
    r"\s{0,8}+([nNeExX]?\\{0,4}+'((?:[^'\\]++|''|\\[^'])*+)\\{0,4}+'|\"((?:[^\"\\]++|\\.)*+)\""
    r"|[^,()'\"]{0,500}+(?:\((?:[^()]++|\([^()]{0,200}+\)){0,50}+\)[^,()'\"]{0,64}+)?+)\s{0,8}+,?+"
)
_PARAMETERS = "[parameters: "
_STATEMENT = "[sql: "
_ARGUMENTS = "; args="  # of Django
#: What a parameter is that no column is set to or compared with.
UNTOLD = "?"
_FARTHEST, _MOST_PARAMETERS = 20_000, 1000
# What stands in the place of a parameter, and the column before it where it is compared or set; the next one of a list.
_PLACE = re.compile(
    r"(?:([\w.]{1,128}+)[\"`\]]?+\)?+\s{0,4}+(?:=|<>|!=|[<>]=?|\bi?like\b|(?:\bnot\s{1,4}+)?+\bin\s{0,4}+\()\s{0,4}+)?+"
    r"(?:\?|%s|(?<!\w)[$:]([0-9]{1,4})|(?<![\w@])@([a-z_]\w{0,63}+))",
    re.IGNORECASE,
)
_NEXT_OF_LIST = re.compile(r"(?:::[\w ]{1,40}+)?+\s{0,4}+,\s{0,4}+")
_COPY = re.compile(
    r"\bcopy\s{1,8}+[\w.\"]{1,200}+\s{0,8}+\(([^()]{1,4000}+)\)\s{1,8}+from\s{1,8}+stdin\b[^\n]{0,100}+\n",
    re.IGNORECASE,
)


def may_be_statement(text: str, low: str, word: bytes, of: _Of) -> list[int]:
    """Return the places of what may be a statement with rows, parameters or conditions.

    Args:
        text: Texts in lines of their own.
        low: The same in lower case.
        word: One of :data:`STATEMENT_WORDS` that stands in them.
        of: What a name tells.
    """
    if word in _CONDITIONS:
        return [start for start, _, _ in _compared(text, low, of)] if len(low) == len(text) else []
    if word == b"into":
        return each(low, "into") if "values" in low else []
    if word == b"copy":
        return each(low, "copy") if "stdin" in low else []
    return each(low, _PARAMETERS if word == b"parameters" else _ARGUMENTS)


def statement_spans(text: str, low: str, words: Collection[bytes], of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets of the statements in a text, in order.

    Args:
        text: The text.
        low: The same in lower case.
        words: Those of :data:`STATEMENT_WORDS` that stand in it, or more.
        of: What a name tells.
    """
    spans: list[tuple[int, int, str]] = []
    if "into" in low and "values" in low:
        spans += _inserted(text, of)
    if len(low) == len(text):
        if _PARAMETERS in low:
            spans += _parameters(text, low, of, _PARAMETERS, _STATEMENT)
        if _ARGUMENTS in low:
            spans += _parameters(text, low, of, _ARGUMENTS, "")
        if not _CONDITIONS.isdisjoint(words):
            spans += _compared(text, low, of)
    if "copy" in low and "stdin" in low:
        spans += _copied(text, of)
    return sorted(spans)


def _kinds(columns: str, of: _Of) -> list[str]:
    """Return what each of the columns in brackets tells; nothing where none does."""
    kinds = [of(column.strip(' "`[]\n\t\\')) for column in columns.split(",")]
    return [] if all(kind in (SCAN, TRUST) for kind in kinds) else kinds


def _inserted(text: str, of: _Of) -> _Spans:
    """Find the values of ``INSERT INTO t (name, password) VALUES ('ann', '…'), (…)`` by their columns."""
    at = 0
    for found in _INSERT.finditer(text):
        if found.start() < at:
            continue  # a statement in a value of the one before: looking through all rows again takes too long
        kinds = _kinds(found.group(1), of)
        if kinds:
            at = yield from _rows(text, found.end(), kinds)


def _rows(text: str, at: int, kinds: list[str]) -> Generator[tuple[int, int, str], None, int]:
    """Find what stands in rows in brackets; return where they end."""
    while row := _ROW_BEGIN.match(text, at):
        at = row.end()
        for kind in kinds:
            if (value := _SQL_VALUE.match(text, at)) is None:
                break
            start, end = next(value.span(group) for group in (2, 3, 1) if value.group(group) is not None)
            if kind not in (SCAN, TRUST) and start < end and not keeps(kind, text[start:end]):
                yield start, end, kind
            at = value.end()
    return at


def _parameters(text: str, low: str, of: _Of, mark: str, before: str) -> _Spans:
    """Find the parameters of a statement that is printed before them, by the columns that it has for them.

    Args:
        text: The text.
        low: The same in lower case.
        of: What a name tells.
        mark: What stands before the parameters.
        before: What stands before the statement; empty: it is all that stands before them.
    """
    done = 0
    at = low.find(mark)
    while at >= 0:
        begin = max(done, at - _FARTHEST)
        begin = low.rfind(before, begin, at) if before else begin
        done = at + len(mark)
        if begin >= 0 and (kinds := _parameter_kinds(text[begin:at], of)):
            rows = done + 1 if text.startswith("[(", done) else done
            yield from _rows(text, rows, kinds)
        at = low.find(mark, done)


def _parameter_kinds(statement: str, of: _Of) -> list[str]:
    """Return what the columns tell that a statement has parameters for, in the order of the parameters."""
    told = parameter_kinds(statement, of)
    if all(kind in (SCAN, TRUST, UNTOLD) for kind in told.values()):
        return []
    last = max((int(key) for key in told if key.isdigit()), default=0)
    kinds = [told.get(str(number), SCAN) for number in range(1, min(last, _MOST_PARAMETERS) + 1)]
    return [SCAN if kind == UNTOLD else kind for kind in kinds]


def parameter_kinds(statement: str, of: _Of) -> dict[str, str]:
    """Return what the columns tell that a statement has parameters for, by the number or the name of each.

    Args:
        statement: The statement.
        of: What a name tells.
    """
    told: dict[str, str] = {}
    counted = count(1)

    def tell(place: re.Match[str], column: str) -> None:
        key = place.group(2) or place.group(3) or str(next(counted))
        told[key] = of(column.rpartition(".")[2]) if column else UNTOLD

    at = 0
    insert = _INSERT.search(statement)
    row = _ROW_BEGIN.match(statement, insert.end()) if insert else None
    if insert and row:
        at = row.end()
        for column in insert.group(1).split(","):
            if (value := _SQL_VALUE.match(statement, at)) is None:
                break
            at = value.end()
            for place in _PLACE.finditer(value.group(1)):
                tell(place, column.strip(' "`[]\n\t\\'))
    column, end = "", 0
    for place in _PLACE.finditer(statement, at):
        if place.group(1) or not _NEXT_OF_LIST.fullmatch(statement, end, place.start()):
            column = place.group(1) or ""
        tell(place, column)
        column, end = column if "(" in place.group() or not place.group(1) else "", place.end()
    return told


def _copied(text: str, of: _Of) -> _Spans:
    """Find the values of ``COPY t (name, password) FROM stdin;``: lines with a tabulator between columns."""
    at = 0
    for found in _COPY.finditer(text):
        kinds = _kinds(found.group(1), of) if found.start() >= at else []
        if not kinds:
            continue
        at = found.end()
        while at < len(text) and not text.startswith("\\.", at):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            start = at
            for kind, value in zip(kinds, text[at:end].split("\t"), strict=False):
                if kind not in (SCAN, TRUST) and value != "\\N" and not keeps(kind, value):
                    yield start, start + len(value), kind
                start += len(value) + 1
            at = end + 1


def _compared(text: str, low: str, of: _Of) -> _Spans:
    """Find what a column is compared with: ``token <> '…'``, ``session_id NOT IN ('…', '…')``, ``pin LIKE '…%'``."""
    for mark in _COMPARED:
        at = low.find(mark)
        while at >= 0:
            end = at + len(mark)
            begin = at - 1 if mark == "like " and low.startswith("i", at - 1) else at
            column = _TURNED_COLUMN.match(text[max(0, begin - _LONGEST_COLUMN) : begin][::-1])
            name = column.group(1)[::-1] if column else ""
            kind = of(name) if name else SCAN
            if kind not in (SCAN, TRUST):
                end = yield from _operands(text, end, (name, kind), mark)
            at = low.find(mark, end)


def _operands(text: str, at: int, column: tuple[str, str], mark: str) -> Generator[tuple[int, int, str], None, int]:
    """Find the literals that a column of a name and a kind is compared with; return where they end."""
    (name, kind), done = column, at
    while operand := _OPERAND.match(text, at):
        at = operand.end()
        if number := next((number for number in (1, 2, 3) if operand.group(number)), 0):
            done = at
            start, end = operand.span(number)
            if mark == "like ":
                start = end - len(text[start:end].lstrip("%"))
                end = start + len(text[start:end].rstrip("%"))
                if end - start < _SHORTEST_PATTERN and not (text[start:end].isdigit() and end - start > 2):
                    break
            # A name in double quotes is one of another column, but for MySQL.
            value = text[start:end]
            other = number == 2 and not any(map(str.isdigit, value))
            if not (other or keeps(kind, value) or says_count(name, value)):
                yield start, end, kind
        if not operand.group(4) or "(" not in mark:
            break
    return done
