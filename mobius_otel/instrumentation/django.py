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


def wait_for_settings() -> None:
    """Hold the instrumentation of Django back, where it is installed. A second call does nothing."""
    global _hooked
    if not _hooked:
        _hooked = True
        wrapt.register_post_import_hook(_hook, "opentelemetry.instrumentation.django")


def _hook(imported: Any) -> None:
    with contextlib.suppress(AttributeError):  # built otherwise than the versions that are known
        wrapt.wrap_function_wrapper("django.conf", "LazySettings._setup", _around_settling)
        wrapt.wrap_function_wrapper("django.conf", "LazySettings.configure", _around_settling)
        wrapt.wrap_function_wrapper(imported, "DjangoInstrumentor._instrument", _around_instrument)


def _around_instrument(wrapped: Callable[..., None], _: Any, args: Any, kwargs: Any) -> None:
    from django.conf import settings

    if settings.configured:
        wrapped(*args, **kwargs)
    else:
        _waiting.append(partial(wrapped, *args, **kwargs))


def _around_settling(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    result = wrapped(*args, **kwargs)
    with contextlib.suppress(IndexError):  # there is none, or another thread has taken it
        instrument = _waiting.pop()
        try:
            instrument()
        except Exception:  # it costs spans, and never the service
            _log.exception("mobius_otel: OpenTelemetry's instrumentation of Django failed; the service goes on")
    return result
