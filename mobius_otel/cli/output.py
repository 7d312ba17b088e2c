"""Tables for people, JSON for machines, colours on a terminal alone."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = [
    "fields", "json_line", "note", "plain_table", "printable", "progress", "speak_any_encoding", "table",
    "talking_aside", "utc",
]  # fmt: skip

_PLAIN = "mobius_otel.plain"
#: What stands in an encoding without them for the characters that our own texts hold.
_STAND_INS = {"…": "...", "✓": "+", "✗": "x", "�": "?"}


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Return what is written in the place of characters that the encoding of a terminal does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


codecs.register_error(_PLAIN, _stand_in)


def speak_any_encoding() -> None:
    """Let what is printed survive a terminal that is not UTF-8: ``LANG=C``, a code page of Windows."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stand-in that somebody put there
            stream.reconfigure(errors=_PLAIN)  # type: ignore[union-attr]


def utc(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC, or None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_line(data: Any) -> None:
    """Print `data` as JSON on standard output: in UTF-8 as it is, in any other encoding with JSON's own escapes."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    print(json.dumps(data, ensure_ascii=not utf8, default=str))


def note(text: str) -> None:
    """Tell a person something, on standard error, where it does not mix with the answer."""
    print(text, file=sys.stderr)


def talking_aside() -> contextlib.AbstractContextManager[object]:
    """Let what the service's own modules print when they are imported or called go to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "nothing") -> None:
    """Print a table, by rich where it is installed and standard output is a terminal."""
    if not rows:
        print(empty)
        return
    if _is_terminal(sys.stdout):
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
            for row in rows:
                drawn.add_row(*(_cell(cell) for cell in row))
            Console().print(drawn)
            return
    print(plain_table(columns, rows))


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in plain text.

    Example:
        >>> print(plain_table(["id", "owner"], [["k1", "alice"]]))
        id  owner
        k1  alice
    """
    cells = [list(columns), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def _cell(value: object) -> str:
    return printable("-" if value is None or value == "" else str(value))


def printable(text: str) -> str:
    """Return `text` without what would move a terminal's cursor: what a record says may come from anybody."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def progress(what: str) -> Callable[[int, int], None] | None:
    """Return a function that draws a progress bar on standard error, or None where nobody watches.

    The function takes how much is done and how much there is; 0, where nobody knows that.
    """
    if not sys.stderr.isatty():
        return None
    started = time.monotonic()
    drawn = [0.0]

    def draw(done: int, total: int) -> None:
        now = time.monotonic()
        last = 0 < total <= done
        if now - started < 0.5 or (now - drawn[0] < 0.1 and not last):  # short work needs no bar
            return
        drawn[0] = now
        if not total:
            print(f"{what} {done:,}", end="\r", file=sys.stderr, flush=True)  # what comes next is written over it
            return
        width = 30
        filled = width * done // max(total, 1)
        end = "\n" if last else ""
        print(
            f"\r{what} [{'#' * filled}{'.' * (width - filled)}] {done:,}/{total:,}",
            end=end,
            file=sys.stderr,
            flush=True,
        )

    return draw


def fields(data: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    width = max((len(name) for name in data), default=0)
    for name, value in data.items():
        print(f"{name.ljust(width)}  {_cell(value)}")
