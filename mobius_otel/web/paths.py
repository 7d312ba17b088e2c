"""Which rule a request's path falls under, whatever way it is written.

A framework may decode, join, strip or fold a path before it routes it, and no two do the same. A rule is
therefore asked about every form the path may be routed as: where one of them is guarded, the request is
guarded; a public path is public only where all of them are, in the case they are written in. ``/v1/items``,
``//v1/items``, ``/v1/%69tems``, ``/V1/items/``, ``/v1/items;x``, ``/health/../v1/items`` and ``/v1/items.`` all
fall under ``/v1/*``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote

__all__ = ["PathRules", "RouteRules", "forms"]

T = TypeVar("T")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
_DECODINGS = 4


def forms(path: str, root: str = "", *, fold: bool = True) -> tuple[str, ...]:
    """Return every form in which `path` may be routed.

    Args:
        path: The path as the server hands it over, decoded or not.
        root: The prefix the application is mounted under: the path is judged with it and without it, since a router
            may take it off, and a proxy may have done so.
        fold: Whether they are folded to lower case.

    Example:
        >>> forms("/v1/items")
        ('/v1/items',)
        >>> "/v1/items" in forms("/health/..//V1/%2569tems/.")
        True
        >>> forms("/items", "/api"), forms("/api/items", "/api")
        (('/items', '/api/items'), ('/api/items', '/items'))
    """
    if not root and _PLAIN.fullmatch(path):
        return (path.casefold() if fold else path,)
    found: dict[str, None] = {}
    for start in _starts(path, root.rstrip("/")):
        current = start
        for _ in range(_DECODINGS):
            found[current.casefold() if fold else current] = None
            found[_canonical(current, fold=fold)] = None
            decoded = unquote(current, errors="replace")
            if decoded == current:
                break
            current = decoded
    return tuple(found)


def _starts(path: str, root: str) -> list[str]:
    starts = [path]
    if root:
        inside = path == root or path.startswith(root + "/")
        if path.startswith(root):
            starts.append(path[len(root) :] or "/")
        if not inside:
            starts.append(root + path)
    return starts


def _canonical(path: str, *, fold: bool) -> str:
    if not path.isascii():
        path = unicodedata.normalize("NFKC", path)
    kept: list[str] = []
    for raw in path.replace("\\", "/").split("/"):
        segment = raw.split(";", 1)[0].strip(" \t\r\n\0\x0b\x0c")
        if segment == "..":
            del kept[-1:]
        elif segment := segment.rstrip(". "):
            kept.append(segment)
    joined = "/" + "/".join(kept)
    return joined.casefold() if fold else joined


class PathRules:
    """A list of path patterns: exact ones, and ``/v1/*`` for ``/v1`` and all below it.

    Args:
        patterns: As the policy file has them.
        fold: Whether their case makes no difference; to be asked about forms of the same kind.
    """

    __slots__ = ("_exact", "_fold", "_prefixes")

    def __init__(self, patterns: Iterable[str], *, fold: bool = True) -> None:
        self._exact: dict[str, str] = {}
        self._prefixes: list[tuple[str, str, str]] = []
        self._fold = fold
        for pattern in patterns:
            if pattern.endswith("/*"):
                base = self._base(pattern)
                self._prefixes.append((base, base + "/", pattern))
            else:
                self._exact[_canonical(pattern, fold=fold)] = pattern
                self._exact[pattern.casefold() if fold else pattern] = pattern

    def match(self, path_forms: Iterable[str]) -> str | None:
        """Return the first pattern that one of the forms falls under, or None."""
        for form in path_forms:
            if (found := self._one(form)) is not None:
                return found
        return None

    def match_all(self, path_forms: Iterable[str]) -> bool:
        """Return whether every form falls under a pattern."""
        return all(self._one(form) is not None for form in path_forms)

    def covers(self, pattern: str) -> bool:
        """Return whether everything that falls under a pattern falls under these.

        Example:
            >>> PathRules(["/v1/*"]).covers("/v1/items/*"), PathRules(["/v1/items"]).covers("/v1/*")
            (True, False)
        """
        if not pattern.endswith("/*"):
            return self._one(_canonical(pattern, fold=self._fold)) is not None
        base = self._base(pattern)
        return any(base == own or base.startswith(below) for own, below, _ in self._prefixes)

    def _base(self, pattern: str) -> str:
        return _canonical(pattern[:-2], fold=self._fold).rstrip("/")

    def _one(self, form: str) -> str | None:
        if (pattern := self._exact.get(form)) is not None:
            return pattern
        for base, below, pattern in self._prefixes:
            if form == base or form.startswith(below):
                return pattern
        return None

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes)

    def __repr__(self) -> str:
        return f"PathRules({len(self._exact) + len(self._prefixes)} patterns)"


class RouteRules(Generic[T]):
    """Routes ("POST /v1/refunds", "* /v1/*") with something said about each.

    HEAD is decided as GET, because every framework answers it from the handler of GET.

    Args:
        routes: What is said, by route.
    """

    __slots__ = ("_rules",)

    def __init__(self, routes: Mapping[str, T]) -> None:
        self._rules: list[tuple[str, PathRules, T, str]] = []
        for route, said in routes.items():
            method, _, pattern = route.partition(" ")
            self._rules.append((method, PathRules([pattern]), said, pattern))

    def match(self, method: str, path_forms: Iterable[str]) -> list[tuple[str, T]]:
        """Return pattern and what is said of every route that a request falls under."""
        methods = {"*", method, "GET"} if method == "HEAD" else {"*", method}
        return [
            (pattern, said)
            for wanted, rules, said, pattern in self._rules
            if wanted in methods and rules.match(path_forms) is not None
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __repr__(self) -> str:
        return f"RouteRules({len(self._rules)} routes)"
