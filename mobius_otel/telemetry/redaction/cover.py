"""Putting something in front of a method of a class and of every class below it, present and later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mobius_otel.forks import on_fork
from mobius_otel.telemetry.redaction.redactor import Redactor

__all__ = ["Cover", "RedactorGetter"]

RedactorGetter = Callable[[], Redactor]
_Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
_HOOK = "__init_subclass__"


def _borrowed(owner: type, base: type, name: str) -> Any:
    """Return the method of a class that comes from a mixin, which no other class of the tree would show."""
    for origin in owner.__mro__:
        if name in origin.__dict__:
            return None if base in origin.__mro__ else origin.__dict__[name]
    return None


class Cover:
    """A set of replaced methods that can be taken back.

    Covering is by class, so that it reaches objects that were made before, and those made later.
    """

    __slots__ = ("__weakref__", "_fallback", "_lock", "_replaced", "getter")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._replaced: list[tuple[type, str, Any, Any]] = []
        self._fallback: Redactor | None = None
        self.getter: RedactorGetter | None = None
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()

    def redactor(self) -> Redactor:
        """Return what the getter gives, or a default redactor where it fails: nothing passes unread."""
        try:
            if self.getter is not None:
                return self.getter()
        except Exception:  # noqa: S110 - a failing getter is answered by the default policy
            pass
        if self._fallback is None:
            self._fallback = Redactor()
        return self._fallback

    def put_on(self, getter: RedactorGetter, methods: dict[tuple[type, str], _Wrap]) -> None:
        """Cover `methods`, each of a class and every class below it; a second time only changes the getter.

        Args:
            getter: Returns the redactor to use, at every call.
            methods: What wraps which method of which class.
        """
        with self._lock:
            covered = bool(self._replaced)
            self.getter = getter
            if covered:
                return
            for (base, name), wrap in methods.items():
                self._cover_tree(base, name, wrap)
                self._cover_later(base, name, wrap)

    def take_off(self) -> None:
        """Give every method back, unless somebody else has put something over ours: then ours passes through."""
        with self._lock:
            self.getter = None
            for owner, name, before, ours in reversed(self._replaced):
                if owner.__dict__.get(name) is ours:
                    if before is None:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, before)
            self._replaced.clear()

    def _replace(self, owner: type, name: str, replacement: Any) -> None:
        before = owner.__dict__.get(name)
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, before, owner.__dict__[name]))

    def _cover_one(self, owner: type, base: type, name: str, wrap: _Wrap) -> None:
        method = owner.__dict__.get(name) or _borrowed(owner, base, name)
        if not callable(method) or getattr(method, "__mobius_cover__", None) is self:
            return
        wrapped = wrap(method)
        wrapped.__mobius_cover__ = self  # type: ignore[attr-defined]
        if getattr(method, "__isabstractmethod__", False):
            return  # nobody calls it, and its class must stay abstract
        self._replace(owner, name, wrapped)

    def _cover_tree(self, base: type, name: str, wrap: _Wrap) -> None:
        self._cover_below(base, base, name, wrap)

    def _cover_below(self, owner: type, base: type, name: str, wrap: _Wrap) -> None:
        self._cover_one(owner, base, name, wrap)
        below: type
        for below in type.__subclasses__(owner):
            self._cover_below(below, base, name, wrap)

    def _cover_later(self, base: type, name: str, wrap: _Wrap) -> None:
        """Cover the classes that are defined below `base` from now on."""
        before = base.__dict__.get(_HOOK)

        def hook(cls: Any, /, **arguments: Any) -> None:
            if before is not None:
                before.__get__(None, cls)(**arguments)
            else:
                super(base, cls).__init_subclass__(**arguments)  # type: ignore[arg-type]
            with self._lock:
                if self.getter is not None:
                    self._cover_one(cls, base, name, wrap)

        self._replace(base, _HOOK, classmethod(hook))
