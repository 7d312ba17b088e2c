"""Lets OpenTelemetry's instrumentation of Django wait until the service has its settings.

It asks ``django.conf.settings`` when a process starts, which is before ``wsgi.py``, ``asgi.py`` or ``manage.py`` has
named the settings and before a server has put its folder on ``sys.path``. Finding none it configures empty ones, and
the service then runs with these: every request is an error. So it is held back until the service has settled its own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import wrapt

__all__ = ["wait_for_settings"]

_log = logging.getLogger("mobius_otel")
_hooked = False
_waiting: list[Callable[[], None]] = []
#: What is asked for its class by way of ours, and how it was asked before.
_asked: list[tuple[Any, Any]] = []


def wait_for_settings() -> None:
    """Hold the instrumentation of Django back, where it is installed. A second call does nothing."""
    global _hooked
    if not _hooked:
        _hooked = True
        wrapt.register_post_import_hook(_hook, "opentelemetry.instrumentation.django")


def _hook(imported: Any) -> None:
    with contextlib.suppress(AttributeError):  # built otherwise than the versions that are known
        _let_be_asked_for_class()
        wrapt.wrap_function_wrapper("django.conf", "LazySettings._setup", _around_settling)
        wrapt.wrap_function_wrapper("django.conf", "LazySettings.configure", _around_settling)
        wrapt.wrap_function_wrapper(imported, "DjangoInstrumentor._instrument", _around_instrument)


def _let_be_asked_for_class() -> None:
    """Let what Django makes when it is first needed say what it is, as long as there are no settings to make it from.

    gevent asks each object there is for its class when it patches; the settings and what depends on them would look for
    the module of settings then, in vain.
    """
    from django.utils.functional import LazyObject, empty

    usual = LazyObject.__getattribute__

    def asked(self: Any, name: str) -> Any:
        if name == "__class__" and usual(self, "_wrapped") is empty:
            return type(self)
        return usual(self, name)

    _asked.append((LazyObject, usual))
    LazyObject.__getattribute__ = asked


def _settled() -> None:
    with contextlib.suppress(IndexError):  # another thread was first, or there was none
        lazy, usual = _asked.pop()
        lazy.__getattribute__ = usual


def _around_instrument(wrapped: Callable[..., None], _: Any, args: Any, kwargs: Any) -> None:
    from django.conf import settings

    if settings.configured:
        wrapped(*args, **kwargs)
    else:
        _waiting.append(partial(wrapped, *args, **kwargs))


def _around_settling(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    result = wrapped(*args, **kwargs)
    _settled()
    with contextlib.suppress(IndexError):  # there is none, or another thread has taken it
        instrument = _waiting.pop()
        try:
            instrument()
        except Exception:  # it costs spans, and never the service
            _log.exception("mobius_otel: OpenTelemetry's instrumentation of Django failed; the service goes on")
    return result
