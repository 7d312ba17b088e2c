"""Whether a function was taken by somebody else before it could be wrapped, so that calls pass unseen.

A decorator that registers a function (a route of FastAPI or Flask) or a table that holds it has the function itself.
What is put in its place in the module afterwards, when the module has been imported, is not what they call.
"""

from __future__ import annotations

import gc
import sys
from types import FrameType, FunctionType
from typing import Any

import wrapt

__all__ = ["why_unseen"]


def why_unseen(imported: Any, name: str) -> str | None:
    """Return why calls of a function may pass by what wraps it; None where none is known to.

    Args:
        imported: The module, just imported.
        name: The name of the function in it.
    """
    try:
        owner, attribute = wrapt.resolve_path(imported, name)[:2]
        kind = type(vars(owner)[attribute])
    except (AttributeError, KeyError, TypeError):  # it is not there, or inherited
        return None
    if kind is FunctionType:
        found = _takers(owner, attribute)
        return f"it was taken before it could be wrapped, by {', '.join(found)}" if found else None
    called = getattr(kind, "__call__", None)  # noqa: B004 - whether Python code runs it, not whether it can be called
    if issubclass(kind, type | wrapt.ObjectProxy) or not isinstance(called, FunctionType):
        return None
    return f"it is an object of {kind.__module__}.{kind.__qualname__}, which holds the function itself"


def _count(owner: Any, attribute: str) -> int:
    function = vars(owner)[attribute]
    return sys.getrefcount(function)


class _Probe:
    def method(self) -> None:
        """Nobody has taken it."""


_OF_NOBODY = _count(_Probe, "method")


def _takers(owner: Any, attribute: str) -> list[str]:
    """Return the kinds of what refers to a function, beside what it is defined in."""
    if _count(owner, attribute) <= _OF_NOBODY:
        return []  # the common case, without a look at every object there is
    held = vars(owner)
    own = held if isinstance(held, dict) else gc.get_referents(held)[0]  # a class shows its dictionary through a proxy
    # No name for the function: a comprehension would hold it in a cell, which would then be a taker.
    names = {f"the name {name}" for name, value in own.items() if value is held[attribute] and name != attribute}
    others = (other for other in gc.get_referrers(held[attribute]) if other is not own and type(other) is not FrameType)
    return sorted(names | {type(other).__qualname__ for other in others})
