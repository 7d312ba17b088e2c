"""Puts the guard in front of applications of no framework that is known, where a server takes them.

An application of FastAPI, Starlette, Flask or Django is left as it is: the guard stands in it. Everything else that
uvicorn, hypercorn, gunicorn, waitress or werkzeug's own server is given gets the guard there, a plain callable, a
router, middleware around an application: nothing that a policy guards is served unseen.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import wrapt

from mobius_otel.instrumentation.reach import WITH_GUARD, class_names
from mobius_otel.web import SecurityMiddleware, WSGISecurityMiddleware, current_guard

__all__ = ["guard_servers"]

_log = logging.getLogger("mobius_otel")

# What uvicorn itself puts around an application: it tells the client's address.
_OF_UVICORN = {"ProxyHeadersMiddleware", "MessageLoggerMiddleware"}


def guard_servers() -> None:
    """Reach what the servers are given from now on, those imported already and those still to come."""
    _wrap("uvicorn.config", "Config.load", _after_uvicorn)
    _wrap("gunicorn.app.base", "BaseApplication.wsgi", _after_gunicorn)
    for module, name, argument, kind in (
        ("hypercorn.app_wrappers", "ASGIWrapper.__init__", "app", SecurityMiddleware),
        ("hypercorn.app_wrappers", "WSGIWrapper.__init__", "app", WSGISecurityMiddleware),
        ("waitress.server", "BaseWSGIServer.__init__", "application", WSGISecurityMiddleware),
        ("werkzeug.serving", "BaseWSGIServer.__init__", "app", WSGISecurityMiddleware),
    ):
        _wrap(module, name, partial(_given, argument, kind))


def _wrap(module: str, name: str, wrapper: Callable[..., Any]) -> None:
    def hook(imported: Any) -> None:
        try:
            wrapt.wrap_function_wrapper(imported, name, wrapper)
        except AttributeError:  # built otherwise than the versions that are known
            _log.warning(
                "mobius_otel: this version of %s is not known: what is no application of FastAPI, Starlette, Flask or"
                " Django is not guarded under it",
                module.partition(".")[0],
            )

    wrapt.register_post_import_hook(hook, module)


def _guarded(application: Any, kind: type[SecurityMiddleware | WSGISecurityMiddleware]) -> Any:
    """Return an application with the guard in front, where none stands in it."""
    guard = current_guard()
    if guard is None or isinstance(application, SecurityMiddleware | WSGISecurityMiddleware):
        return application
    if class_names(application) & WITH_GUARD:
        guard.stands = True  # in it, from its first request on
        return application
    middleware = kind(application, guard)
    middleware.at_server = True
    return middleware


def _given(argument: str, kind: Any, wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    """Stand for a constructor that takes the application."""
    bound = inspect.signature(wrapped).bind(*args, **kwargs)
    bound.arguments[argument] = _guarded(bound.arguments[argument], kind)
    return wrapped(*bound.args, **bound.kwargs)


def _after_gunicorn(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Return what gunicorn's workers serve; it keeps what it has loaded, and may have loaded it before a fork."""
    application = wrapped(*args, **kwargs)
    is_asgi = any(map(inspect.iscoroutinefunction, (application, getattr(application, "__call__", None))))  # noqa: B004
    instance.callable = _guarded(application, SecurityMiddleware if is_asgi else WSGISecurityMiddleware)
    return instance.callable


def _after_uvicorn(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Put the guard inside of what uvicorn itself puts around the application that it has loaded."""
    result = wrapped(*args, **kwargs)
    holder, name = instance, "loaded_app"
    kind: type[SecurityMiddleware | WSGISecurityMiddleware] = SecurityMiddleware
    while type(getattr(holder, name)).__name__ in _OF_UVICORN:
        holder, name = getattr(holder, name), "app"
    if instance.interface == "wsgi":
        holder, name, kind = getattr(holder, name), "app", WSGISecurityMiddleware
    setattr(holder, name, _guarded(getattr(holder, name), kind))
    return result
