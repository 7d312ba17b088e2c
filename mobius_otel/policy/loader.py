"""Read a policy file: parse it, fill in the environment, check every key and value."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mobius_otel.errors import PolicyError, shown
from mobius_otel.policy.lines import key_lines, shown_path
from mobius_otel.policy.model import HeadersSection, Policy, RateLimitRule
from mobius_otel.policy.rules import HEADER_NAME, Rule

__all__ = ["DEFAULT_FILE", "ENVIRONMENT", "find_policy", "load_policy", "parse_policy"]

#: The file that is read when nothing else is said, if it exists.
DEFAULT_FILE = "mobius.toml"
#: The environment variable that names the file.
ENVIRONMENT = "MOBIUS_OTEL_POLICY"

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LARGEST = 1 << 20


def find_policy(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the policy file that holds: `path`, else ``MOBIUS_OTEL_POLICY``, else ``mobius.toml`` if it exists.

    Args:
        path: A file that was asked for by name; it need not exist (reading it says so).
    """
    if path is not None:
        return Path(path).absolute()
    if named := os.environ.get(ENVIRONMENT):
        return Path(named).absolute()
    default = Path(DEFAULT_FILE)
    return default.absolute() if default.exists() else None


def load_policy(path: str | os.PathLike[str] | None = None) -> Policy | None:
    """Read the policy file that :func:`find_policy` finds.

    Returns:
        The policy, or None where there is no file.

    Raises:
        PolicyError: The file cannot be read or breaks a rule; the text names key, line, rule and way out.
    """
    found = find_policy(path)
    if found is None:
        return None
    try:
        with found.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        hint = f" ({ENVIRONMENT} names it)" if path is None and os.environ.get(ENVIRONMENT) else ""
        raise PolicyError(f"the policy file cannot be read: {error.strerror}{hint}", file=shown_path(found)) from None
    if len(raw) > _LARGEST:
        raise PolicyError("the policy file is larger than 1 MiB", file=shown_path(found))
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except UnicodeDecodeError:
        raise PolicyError("the policy file must be UTF-8", file=shown_path(found)) from None
    return parse_policy(text, file=found)


def parse_policy(
    text: str, *, file: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Policy:
    r"""Check the text of a policy.

    Args:
        text: TOML.
        file: Where it comes from, for errors and for what lies beside it.
        environ: What ``${NAME}`` refers to; default: the process's environment.

    Raises:
        PolicyError: A key is unknown, or a value breaks its rule.

    Example:
        >>> parse_policy('[api_keys]\nrequire = ["/v1/*"]').api_keys.require
        ('/v1/*',)
    """
    where = shown_path(Path(file)) if file is not None else "policy"
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        reason = re.sub(r"\s*\(at [^)]*\)", "", str(error).splitlines()[0])
        raise PolicyError(f"not valid TOML: {reason}", file=where, line=int(at[1]) if at else None) from None
    except RecursionError:
        raise PolicyError("not valid TOML: nested too deeply", file=where) from None
    reader = _Reader(where, key_lines(text), os.environ if environ is None else environ)
    policy: Policy = reader.section(Policy, data, ())
    return dataclasses.replace(policy, file=Path(file).absolute() if file is not None else None)


class _Reader:
    """Turns plain data into sections, guided by the fields of their classes."""

    def __init__(self, file: str, lines: dict[tuple[str | int, ...], int], environ: Mapping[str, str]) -> None:
        self._file = file
        self._lines = lines
        self._environ = environ

    def section(self, cls: type[Any], data: object, path: tuple[str | int, ...]) -> Any:
        if not isinstance(data, dict):
            raise self._error(f"it must be a table: [{_dotted(path)}]", path)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.metadata}
        hints = typing.get_type_hints(cls)
        if cls is HeadersSection:
            data = self._header_names(data, path)
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in fields:
                raise self._unknown(name, fields, path)
            if value == [] and fields[name].default != () and typing.get_origin(hints[name]) is tuple:
                raise self._error(f"the list is empty. It is: {fields[name].metadata['meaning']}", (*path, name))
            below = path if cls is HeadersSection and name == "override" else (*path, name)
            values[name] = self._value(hints[name], fields[name].metadata, value, below)
        for name, spec in fields.items():
            if name not in values and spec.default is spec.default_factory is dataclasses.MISSING:
                raise self._error(f"the key {name!r} is missing. It is: {spec.metadata['meaning']}", path)
        return cls(**values)

    def _value(self, hint: Any, meta: Mapping[str, Any], value: object, path: tuple[str | int, ...]) -> Any:
        if hint is Any:
            if not meta["rule"].check(value):
                raise self._error(f"{shown(value)} must be {meta['rule'].text}", path)
            return value  # as it is: ${NAME} in an example is an example
        origin = typing.get_origin(hint)
        if origin in {types.UnionType, typing.Union}:
            hint = next(a for a in typing.get_args(hint) if a is not type(None))
            origin = typing.get_origin(hint)
        if dataclasses.is_dataclass(hint):
            return self.section(typing.cast(type[Any], hint), value, path)
        if origin is tuple:
            return self._items(typing.get_args(hint)[0], meta, value, path)
        if origin in {Mapping, typing.get_origin(Mapping[str, str])}:
            return self._table(typing.get_args(hint)[1], meta, value, path)
        return self._scalar(hint, meta["rule"], value, path)

    def _items(self, item: Any, meta: Mapping[str, Any], value: object, path: tuple[str | int, ...]) -> tuple[Any, ...]:
        if dataclasses.is_dataclass(item):
            if not isinstance(value, list):
                raise self._error(f"it must be a list of tables: [[{_dotted(path)}]]", path)
            found = tuple(self.section(typing.cast(type[Any], item), v, (*path, n)) for n, v in enumerate(value))
            if item is RateLimitRule:
                self._tell_apart([rule.name for rule in found], path)
            return found
        if isinstance(value, str):  # one is as good as a list of one
            value = [value]
        if not isinstance(value, list):
            raise self._error(f"it must be a list of texts, each {meta['rule'].text}", path)
        return tuple(self._scalar(item, meta["rule"], v, path) for v in value)

    def _tell_apart(self, names: list[str], path: tuple[str | int, ...]) -> None:
        for number, name in enumerate(names):
            if name in names[:number]:
                rule = "another name than the rules before: clients and telemetry tell rules apart by it"
                raise self._error(f"{shown(name)} must be {rule}", (*path, number, "name"))

    def _table(
        self, item: Any, meta: Mapping[str, Any], value: object, path: tuple[str | int, ...]
    ) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._error("it must be a table", path)
        for name in value:
            if not meta["names"].check(name):
                names = meta["names"]
                raise self._error(f"the name {shown(name)} must be {names.text}{names.instead(name)}", (*path, name))
        inner = {"rule": meta["rule"], "names": None}
        return types.MappingProxyType({n: self._value(item, inner, v, (*path, n)) for n, v in value.items()})

    def _scalar(self, hint: Any, rule: Rule | None, value: object, path: tuple[str | int, ...]) -> Any:
        given = value
        if isinstance(value, str):
            value = self._filled(value, path)
        number = hint in {int, float}
        fits = isinstance(value, int | float) and not isinstance(value, bool) if number else isinstance(value, str)
        if hint is bool:
            fits = isinstance(value, bool)
        if not fits or (rule is not None and not rule.check(value)):
            text = rule.text if rule else ("a number" if number else "text")
            near = difflib.get_close_matches(str(given), rule.choices, 1) if rule and rule.choices else []
            # What the environment put in is not shown: it may be a password.
            instead = rule.instead(given) if rule and given == value else ""
            raise self._error(f"{shown(given)} must be {text}{_meant(near)}{instead}", path)
        return value

    def _filled(self, value: str, path: tuple[str | int, ...]) -> str:
        def fill(match: re.Match[str]) -> str:
            found = self._environ.get(match[1]) or match[2]
            if found is None:
                raise self._error(
                    f"the environment variable {match[1]} is not set; set it, or give a default: ${{{match[1]}:-…}}",
                    path,
                )
            return found

        return _REFERENCE.sub(fill, value)

    def _header_names(self, data: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
        """Gather what is neither ``preset`` nor unknown: a header's name has a hyphen in it."""
        named = {k: v for k, v in data.items() if "-" in k and HEADER_NAME.check(k)}
        rest = {k: v for k, v in data.items() if k not in named}
        if "override" in rest:
            raise self._unknown("override", {"preset": None}, path)
        return {**rest, "override": named} if named else rest

    def _unknown(self, name: str, known: Iterable[str], path: tuple[str | int, ...]) -> PolicyError:
        near = difflib.get_close_matches(name, list(known), 1, cutoff=0.5)
        listed = ", ".join(k for k in known if k != "override")
        return self._error(f"unknown key {shown(name)}{_meant(near) or f'; known keys: {listed}'}", (*path, name))

    def _error(self, message: str, path: tuple[str | int, ...]) -> PolicyError:
        line = None
        for end in range(len(path), 0, -1):  # an inline table has no line of its own: the nearest that has
            if (line := self._lines.get(path[:end])) is not None:
                break
        return PolicyError(message, file=self._file, line=line, key=_dotted(path))


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _meant(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""
