"""What records are made of: texts that know which of their parts are secret."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "CARRIERS",
    "Hidden",
    "Loose",
    "Path",
    "Record",
    "Secret",
    "Text",
    "Whole",
    "fill",
    "join",
    "printed",
    "settle",
]

#: Where a secret can stand: under a telling key, in a pair within a text, alone under a neutral key, in free text.
CARRIERS = ("name", "pair", "value", "embedded")
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Hidden:
    """A part of a text that must not survive."""

    kind: str
    carrier: str
    text: str


@dataclass(frozen=True, slots=True)
class Loose:
    """A part of a text that may survive or not, for example the scheme before a credential."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text in parts; a plain part must survive."""

    parts: tuple[str | Hidden | Loose, ...]

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def map(self, change: Callable[[str], str]) -> Text:
        """Return the text with every part changed, for example percent-encoded; `change` goes letter by letter."""
        out: list[str | Hidden | Loose] = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(change(part))
            elif isinstance(part, Loose):
                out.append(Loose(change(part.text)))
            else:
                out.append(Hidden(part.kind, part.carrier, change(part.text)))
        return Text(tuple(out))

    def carried(self, carrier: str) -> Text:
        """Return the text with all its secrets carried in another way."""
        moved = (Hidden(part.kind, carrier, part.text) if isinstance(part, Hidden) else part for part in self.parts)
        return Text(tuple(moved))


@dataclass(frozen=True, slots=True)
class Whole:
    """A leaf that is secret as a whole and is no text, for example a number or bytes."""

    kind: str
    carrier: str
    value: Any


@dataclass(frozen=True, slots=True)
class Secret:
    """One labelled secret of a record."""

    kind: str
    carrier: str
    text: str
    path: Path


@dataclass(slots=True)
class Record:
    """One record with its labels.

    Args:
        family: Which template made it.
        value: What a service would log.
        secrets: What must not survive.
        kept: The text around the secrets of a leaf that must survive, by the path of the leaf.
    """

    family: str
    value: Any
    secrets: list[Secret] = field(default_factory=list)
    kept: dict[Path, list[str]] = field(default_factory=dict)


def text_of(value: Text | Hidden | Loose | str | float) -> Text:
    """Return anything that can stand in a text as one."""
    if isinstance(value, Text):
        return value
    return Text((value if isinstance(value, str | Hidden | Loose) else str(value),))


def join(between: str, texts: Sequence[Any]) -> Text:
    """Return the texts, joined."""
    parts: list[str | Hidden | Loose] = []
    for number, text in enumerate(texts):
        if number:
            parts.append(between)
        parts.extend(text_of(text).parts)
    return Text(tuple(parts))


def fill(template: str, **fields: Text | Hidden | Loose | str | float) -> Text:
    """Return a template of `str.format` with its fields filled."""
    parts: list[str | Hidden | Loose] = []
    for plain, name, _, _ in string.Formatter().parse(template):
        if plain:
            parts.append(plain)
        if name is not None:
            parts.extend(text_of(fields[name]).parts)
    return Text(tuple(parts))


_MARK = re.compile("<<([0-9]+)>>")


def printed(value: Any, write: Callable[[Any], str]) -> Text:
    """Return what `write` (``json.dumps``, ``repr``) makes of a structure, as a text that knows its secrets."""
    held: list[Hidden | Loose] = []

    def mark(part: Hidden | Loose) -> str:
        held.append(part)
        return f"<<{len(held) - 1}>>"

    def plain(each: Any) -> Any:
        if isinstance(each, Hidden | Loose):
            return mark(each)
        if isinstance(each, Text):
            return "".join(part if isinstance(part, str) else mark(part) for part in each.parts)
        if isinstance(each, Whole):
            return each.value  # numbers alone: found again below
        if isinstance(each, Mapping):
            return {key: plain(inner) for key, inner in each.items()}
        if isinstance(each, list | tuple):
            return [plain(inner) for inner in each]
        return each

    out: list[str | Hidden | Loose] = []
    for number, piece in enumerate(_MARK.split(write(plain(value)))):
        if number % 2 == 0:
            out.append(piece)
            continue
        part = held[int(piece)]
        body = write(part.text)[1:-1]
        out.append(Loose(body) if isinstance(part, Loose) else Hidden(part.kind, part.carrier, body))
    return Text(tuple(out))


def compact(value: Any) -> str:
    """Return JSON as most services write it in a log line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def plain_runs(text: Text) -> list[str]:
    """Return the plain stretches of a text, each as a whole."""
    runs = [""]
    for part in text.parts:
        if not isinstance(part, str):
            runs.append("")
        else:
            runs[-1] += part
    return [run for run in runs if run]


def settle(family: str, value: Any) -> Record:
    """Return the record of a structure with secrets in it."""
    record = Record(family, None)

    def walk(each: Any, path: Path) -> Any:
        if isinstance(each, Mapping):
            return {key: walk(inner, (*path, key)) for key, inner in each.items()}
        if isinstance(each, list | tuple):
            return [walk(inner, (*path, number)) for number, inner in enumerate(each)]
        if isinstance(each, Whole):
            shown = each.value.decode("utf-8") if isinstance(each.value, bytes) else str(each.value)
            record.secrets.append(Secret(each.kind, each.carrier, shown, path))
            record.kept[path] = []
            return each.value
        if isinstance(each, Hidden | Loose | Text):
            text = text_of(each)
            hidden = [part for part in text.parts if isinstance(part, Hidden)]
            if hidden:
                record.secrets.extend(Secret(part.kind, part.carrier, part.text, path) for part in hidden)
                record.kept[path] = plain_runs(text)
            return str(text)
        return each

    record.value = walk(value, ())
    return record
