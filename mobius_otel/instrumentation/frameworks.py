"""Puts the guard into applications of FastAPI, Starlette, Flask and Django that know nothing of it.

It is done at class level, so neither the order of imports nor a factory function makes a difference: an
application gets the guard when it builds its middleware (FastAPI, Starlette) or is called (Flask, Django). There it
stands outside everything of the service, also of what a service puts around ``app.wsgi_app``: an application
that is mounted there is guarded, and what middleware makes of a request's path is judged again.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

import wrapt

from mobius_otel.instrumentation.servers import guard_servers
from mobius_otel.web import Guard, SecurityMiddleware, WSGISecurityMiddleware, current_guard
from mobius_otel.web.asgi import completing, is_another
from mobius_otel.web.wsgi import SPAN_TO_COME

__all__ = ["guard_frameworks"]

_log = logging.getLogger("mobius_otel")
_lock = threading.Lock()
_hooked = False
_in_stack = threading.local()
_Middleware = TypeVar("_Middleware", SecurityMiddleware, WSGISecurityMiddleware)
_WSGI = weakref.WeakKeyDictionary[Any, WSGISecurityMiddleware]
_called: _WSGI = weakref.WeakKeyDictionary()
_inner: _WSGI = weakref.WeakKeyDictionary()
_asgi: weakref.WeakKeyDictionary[Any, SecurityMiddleware] = weakref.WeakKeyDictionary()


def guard_frameworks() -> None:
    """Reach every application of the frameworks, those imported already and those still to come.

    Without an installed guard an application stays as it is. A second call does nothing.
    """
    global _hooked
    with _lock:
        if _hooked:
            return
        _hooked = True
    _wrap("starlette.applications", "Starlette.build_middleware_stack", _around_stack)
    _wrap("fastapi.applications", "FastAPI.build_middleware_stack", _around_stack)
    _wrap("starlette.applications", "Starlette.__call__", _around_call)
    # For what middleware of the service has made of a request.
    _wrap("starlette.routing", "Router.__call__", _around_router)
    _wrap("flask.app", "Flask.__call__", _around_flask)
    # For a server that is given `app.wsgi_app`, and for what middleware around it left of the request.
    _wrap("flask.app", "Flask.wsgi_app", partial(_around_wsgi, _inner))
    _wrap("django.core.handlers.wsgi", "WSGIHandler.__call__", partial(_around_wsgi, _called))
    _wrap("django.core.handlers.asgi", "ASGIHandler.__call__", _around_asgi)
    guard_servers()


def _wrap(module: str, name: str, wrapper: Callable[..., Any]) -> None:
    class_name, _, method = name.partition(".")

    def hook(imported: Any) -> None:
        # A class that only inherits the method has it from the one that is wrapped.
        if method in vars(getattr(imported, class_name)):
            wrapt.wrap_function_wrapper(imported, name, wrapper)

    wrapt.register_post_import_hook(hook, module)


def _around_stack(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    guard = current_guard()
    if guard is None or getattr(_in_stack, "deep", False):  # a subclass's method that calls its parent's
        return wrapped(*args, **kwargs)
    _in_stack.deep = True
    try:
        stack = wrapped(*args, **kwargs)
    finally:
        _in_stack.deep = False
    if hasattr(stack, "app"):
        # Inside the outermost middleware, the framework's own for errors: OpenTelemetry's instrumentation
        # looks for that one and puts its server span around what is inside it.
        stack.app = SecurityMiddleware(stack.app, guard)
        return stack
    return SecurityMiddleware(stack, guard)


def _around_call(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    if current_guard() is None or len(args) != 3:
        return wrapped(*args, **kwargs)
    kind: Any = type(instance)
    if _has_own_stack(kind):
        return _around_asgi(wrapped, instance, args, kwargs)
    scope, receive, send = args
    if scope["type"] != "http":
        return wrapped(*args, **kwargs)
    return wrapped(scope, receive, completing(scope, send), **kwargs)


def _around_router(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    if len(args) != 3 or not is_another(args[0]) or (guard := current_guard()) is None:
        return wrapped(*args, **kwargs)
    return SecurityMiddleware(wrapped, guard)(*args)


@lru_cache(maxsize=64)
def _has_own_stack(kind: Any) -> bool:
    """Return whether a subclass builds its middleware by a method of its own, which may not ask ours."""
    return not isinstance(inspect.getattr_static(kind, "build_middleware_stack"), wrapt.FunctionWrapper)


def _around_asgi(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    guard = current_guard()
    if guard is None:
        return wrapped(*args, **kwargs)
    return _kept(_asgi, SecurityMiddleware, wrapped, instance, guard)(*args, **kwargs)


def _around_flask(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    guard = current_guard()
    if guard is not None and instance not in _called:
        _look_for_proxy_fix(instance, guard)
    if args and getattr(instance, "_is_instrumented_by_opentelemetry", False):
        args[0][SPAN_TO_COME] = True
    return _around_wsgi(_called, wrapped, instance, args, kwargs)


def _around_wsgi(kept: _WSGI, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    guard = current_guard()
    if guard is None:
        return wrapped(*args, **kwargs)
    return _kept(kept, WSGISecurityMiddleware, wrapped, instance, guard)(*args, **kwargs)


def _kept(
    kept: weakref.WeakKeyDictionary[Any, _Middleware],
    make: type[_Middleware],
    wrapped: Callable[..., Any],
    instance: Any,
    guard: Guard,
) -> _Middleware:
    """Return the middleware of an application, made when it is first called."""
    middleware = kept.get(instance)
    if middleware is None or middleware.guard is not guard:
        # The application is called through the instance, so that it may be collected when it is dropped.
        middleware = kept[instance] = make(_Unguarded(wrapped), guard)
    return middleware


def _look_for_proxy_fix(application: Any, guard: Guard) -> None:
    """Say that the guard does not see what ProxyFix makes of the client's address: it stands outside of it."""
    if type(application.wsgi_app).__name__ == "ProxyFix" and not guard.policy.service.trusted_proxies:
        _log.warning(
            "mobius_otel: app.wsgi_app is a ProxyFix, which stands inside the guard: to the guard every client has the"
            " proxy's address. Name the proxy in [service] trusted_proxies"
        )


class _Unguarded:
    """A method of an application, without keeping the application alive."""

    __slots__ = ("_function", "_instance")

    def __init__(self, bound: Any) -> None:
        self._function = bound.__func__
        self._instance = weakref.ref(bound.__self__)

    def __call__(self, *args: Any) -> Any:
        return self._function(self._instance(), *args)
