"""Where a key of a TOML text stands; the standard parser does not say."""

from __future__ import annotations

import pathlib
import re
import tomllib
from typing import Any

__all__ = ["key_lines", "shown_path"]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table and key of a valid TOML text.

    Args:
        text: The text; what only looks like a key inside a multi-line string may be listed too.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = _names(header[2])
            if names is None:
                continue
            table = _resolve(names, counts)
            if header[1] == "[[":
                index = counts[table] = counts.get(table, -1) + 1
                table = (*table, index)
            lines.setdefault(table, number)
        elif (key := _KEY.match(line)) and (names := _names(key[1])) is not None:
            lines.setdefault((*table, *names), number)
    return lines


def _resolve(names: Path, counts: dict[Path, int]) -> Path:
    """Return where ``[a.b]`` belongs when ``a`` is an array of tables: inside its last one."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return (*path, names[-1])


def _names(dotted: str) -> Path | None:
    """Read a dotted key by the standard parser itself."""
    try:
        found: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while isinstance(found, dict):
        ((name, found),) = found.items()
        names.append(name)
    return tuple(names)


def shown_path(path: pathlib.Path) -> str:
    """Return a path as a person would type it."""
    try:
        return str(path.relative_to(pathlib.Path.cwd()))
    except ValueError:
        return str(path)
