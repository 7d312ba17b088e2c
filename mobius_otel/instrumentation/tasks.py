"""Reaches what a task of Celery runs: its decorator keeps the function, and what a worker calls is ``task.run``."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import wrapt

from mobius_otel.telemetry.safety import guarded

__all__ = ["TaskWrapper"]

_PROXY = ("celery.local", "Proxy")
_TASK = ("celery.app.task", "Task")


class TaskWrapper:
    """Puts a wrapper around what the task of one function runs, once for each application of Celery.

    Args:
        target: ``"package.module:name"``.
        around: The wrapper, as wrapt calls it.
    """

    def __init__(self, target: str, around: Callable[..., Any]) -> None:
        self._target = target
        self._around = around
        self._done: weakref.WeakSet[Any] = weakref.WeakSet()
        # A shared task is none before its application is complete; to ask for it would complete it.
        wrapt.register_post_import_hook(self._hook, "celery.app.base")

    def takes(self, found: Any) -> bool:
        """Return whether it is a task; then it is wrapped, as soon as it is made and without making it."""
        kinds = {(kind.__module__, kind.__name__) for kind in type(found).__mro__}
        if not kinds & {_PROXY, _TASK}:
            return False
        if _TASK in kinds:
            self._wrap(found)
        elif (then := getattr(type(found), "__then__", None)) is not None:
            then(found, lambda: self._wrap(found._get_current_object()))
        return True

    def _hook(self, imported: Any) -> None:
        with guarded("audit"):  # another version of Celery may be built otherwise
            wrapt.wrap_function_wrapper(imported, "Celery._task_from_fun", self._around_making)

    def _around_making(self, wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        task = wrapped(*args, **kwargs)
        function = args[0] if args else kwargs.get("fun")
        if f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}" == self._target:
            self._wrap(task)
        return task

    def _wrap(self, task: Any) -> None:
        if task not in self._done:
            self._done.add(task)
            task.run = wrapt.FunctionWrapper(task.run, self._around)
