"""What an object does when its process forks.

Locks, threads, database handles and counts belong to the process that made them. An object that owns one
registers itself here once and has up to three methods called: ``_before_fork`` (in the parent, to get its
threads out of native code), ``_after_fork_in_parent`` and ``_after_fork_in_child`` (to start anew).

``_before_fork`` may take one lock, and only a lock under which no other registered lock is ever taken: the
order in which objects are called is not defined.

What is imported when it is first needed, by whatever thread that is, is imported under :data:`importing`: Python gives
a child the lock of a module that another thread was importing just then, and nobody there who would ever release it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any

__all__ = ["importing", "on_fork"]

#: Held during an import that happens in the middle of things; a fork waits for its end.
importing = threading.RLock()

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
    importing.acquire()  # the last: whoever imports may hold a lock of an object, and takes none while he does


def _in_parent() -> None:
    _call(_quiet[::-1], "_after_fork_in_parent")
    _quiet.clear()
    _let_import()


def _in_child() -> None:
    _call(_quiet[::-1], "_after_fork_in_child")
    _quiet.clear()
    _let_import()


def _let_import() -> None:
    """Let threads import again; the thread that forked holds the lock, also in the child, where it is the only one."""
    with contextlib.suppress(RuntimeError):  # a signal handler raised before it was taken
        importing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
