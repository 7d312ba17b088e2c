"""What an object does when its process forks.

Locks, threads, database handles and counts belong to the process that made them. An object that owns one
registers itself here once and has up to three methods called: ``_before_fork`` (in the parent, to get its
threads out of native code), ``_after_fork_in_parent`` and ``_after_fork_in_child`` (to start anew).

``_before_fork`` may take one lock, and only a lock under which no other registered lock is ever taken: the
order in which objects are called is not defined.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

__all__ = ["on_fork"]

_objects: weakref.WeakSet[Any] = weakref.WeakSet()
# What _before_fork locked is unlocked for exactly the same objects, also when one is made meanwhile.
_quiet: list[Any] = []


def on_fork(obj: Any) -> None:
    """Call the fork methods of `obj` at every later fork of this process, for as long as it lives.

    Args:
        obj: An object that can be weakly referenced and has any of ``_before_fork``,
            ``_after_fork_in_parent`` and ``_after_fork_in_child``, each without arguments.
    """
    _objects.add(obj)


def _call(objects: list[Any], method: str) -> None:
    for obj in objects:
        hook = getattr(obj, method, None)
        if hook is not None:
            hook()


def _before() -> None:
    _quiet[:] = list(_objects)
    _call(_quiet, "_before_fork")


def _in_parent() -> None:
    _call(_quiet[::-1], "_after_fork_in_parent")
    _quiet.clear()


def _in_child() -> None:
    _call(_quiet[::-1], "_after_fork_in_child")
    _quiet.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
