"""Whether the functions that a policy names as ``"package.module:name"`` are there, as the source says.

Nothing of the service is imported: a check must not connect to its database. What the source alone does not tell (a
name from ``import *``, a module without source, an inherited method) counts as there; ``mobius-otel doctor``
imports, and knows.
"""

from __future__ import annotations

import ast
import difflib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.instrumentation.functions import RISK_OF_A_CALL
from mobius_otel.policy import Policy
from mobius_otel.telemetry.audit.fail_modes import FailModes

__all__ = ["are_demanded", "missing_functions", "why_missing"]

_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_VALUES = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
_PROPERTIES = frozenset({"property", "cached_property", "setter", "getter", "deleter"})
#: How near a name has to be to be the one that was meant: "tasks" is not "getpass".
_NEAR = 0.75
_SCOPE = (*_DEFINITION, ast.Lambda)
#: Who calls one of them at the top of a module may make any name.
_MAKERS = frozenset({"eval", "exec", "globals", "locals", "setattr", "vars"})


def missing_functions(policy: Policy, folders: Sequence[str]) -> list[ConfigurationError]:
    """Return what is to be said of functions that a policy names and that are not there.

    Args:
        policy: The policy.
        folders: Where the service's modules lie, beside ``sys.path``.
    """
    section = policy.audit
    named = [
        *([] if section.actor is None else [("audit.actor", section.actor, "nobody would be asked who acts")]),
        *(("audit.functions", target, "its calls would not be audited") for target in section.functions),
        *(
            (f"instrument[{number}].target", spec.target, "its calls would not be timed")
            for number, spec in enumerate(policy.instrument)
        ),
    ]
    found = []
    for key, target, so in named:
        if why := why_missing(target, folders):
            error = ConfigurationError(key, target, "a function of the service", f"There is {why}: {so}.")
            found.append(policy.placed(error))
    return found


def are_demanded(policy: Policy) -> bool:
    """Return whether a service must not start where a function that is to be audited is not there."""
    by_rule = FailModes(policy.audit.fail_modes).of(conventions.FUNCTION_CALLED.name, RISK_OF_A_CALL)
    return bool(policy.audit.functions or policy.audit.actor) and (by_rule or policy.audit.fail_mode) == "strict"


def why_missing(target: str, folders: Sequence[str] = ()) -> str | None:
    """Return why a function cannot be there; None where it is, or where its source does not tell.

    Args:
        target: ``"package.module:name"``.
        folders: Where the service's modules lie, beside ``sys.path``.

    Example:
        >>> why_missing("json.decoder:JSONDecodr")
        "no 'JSONDecodr' in the module json.decoder, but 'JSONDecoder'"
        >>> why_missing("json.decodr:JSONDecoder")
        "no module 'json.decodr' here, but 'json.decoder'"
    """
    module, _, name = target.partition(":")
    try:
        spec = _found(module, folders)
        if isinstance(spec, str):
            return spec
        source = spec.loader.get_source(module)  # type: ignore[union-attr]
        return None if source is None else _why_not_in(module, ast.parse(source).body, name)
    except SyntaxError as error:
        return f"no Python in the module {module}: {error.msg}, line {error.lineno}"
    except Exception:  # a finder or a loader that is built otherwise: who runs it knows
        return None


def _found(module: str, folders: Sequence[str]) -> ModuleSpec | str:
    """Return the spec of a module, or why there is none."""
    where: Iterable[str] | None = None
    spec = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        spec = PathFinder.find_spec(name, list(folders)) if where is None else None
        spec = spec or next(filter(None, (_ask(finder, name, where) for finder in sys.meta_path)), None)
        if spec is None:
            known = [found.name for found in pkgutil.iter_modules([*folders, *sys.path] if where is None else where)]
            near = difflib.get_close_matches(parts[end - 1], known, 1, _NEAR)
            return f"no module {name!r} here{_meant(['.'.join([*parts[: end - 1], *near])] if near else [])}"
        where = spec.submodule_search_locations or ()
    assert spec is not None
    return spec


def _ask(finder: object, name: str, where: Iterable[str] | None) -> ModuleSpec | None:
    find = getattr(finder, "find_spec", None)
    return find(name, where) if find is not None else None


def _why_not_in(module: str, body: Sequence[ast.stmt], name: str) -> str | None:
    place = f"the module {module}"
    for part in (parts := name.split(".")):
        names = list(_names(body))
        if None in names or "__getattr__" in names:
            return None
        if part not in names:
            near = difflib.get_close_matches(part, list(filter(None, names)), 1, _NEAR)
            return f"no {part!r} in {place}{_meant(near)}"
        if part is parts[-1] and _is_no_function(part, body, names):
            return f"no function {part!r} in {place}, but a value"
        made = [node for node in body if isinstance(node, _DEFINITION) and node.name == part]
        if len(made) != 1 or not isinstance(made[0], ast.ClassDef) or made[0].bases or made[0].keywords:
            return None
        body, place = made[0].body, f"the class {made[0].name} of {module}"
    return None


def _is_no_function(name: str, body: Sequence[ast.stmt], names: Sequence[str | None]) -> bool:
    """Return whether a name is made as a property or a value alone, which nobody can call."""
    made = [node for node in body if name in _bound(node)]
    return bool(made) and len(made) == names.count(name) and all(map(_is_value, made))


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_value(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        names = (getattr(made, "id", None) or getattr(made, "attr", None) for made in node.decorator_list)
        return not _PROPERTIES.isdisjoint(names)
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, _VALUES)


def _names(body: Iterable[ast.AST]) -> Iterator[str | None]:
    """Yield the names that statements make in their own scope; None where they may make any."""
    for node in body:
        if isinstance(node, _DEFINITION):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield None if alias.name == "*" else alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.Name):
            yield None if node.id in _MAKERS else node.id if isinstance(node.ctx, ast.Store) else ""
        if isinstance(node, _SCOPE):  # what is inside is its own, but for what it declares to be global
            yield from (name for inner in ast.walk(node) if isinstance(inner, ast.Global) for name in inner.names)
        else:
            yield from _names(ast.iter_child_nodes(node))


def _meant(near: Sequence[str]) -> str:
    return f", but {near[0]!r}" if near else ""
