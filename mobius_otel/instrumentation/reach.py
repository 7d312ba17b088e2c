"""Whether the guard stands in front of what serves in this process, and the word of warning where it does not.

A server that the guard does not reach (``http.server``, aiohttp, tornado) runs open under it, and nothing of a request
passes here to say so. So a thread looks a few times while a service starts, and ends: no request pays for it.

It is one of the low level, with a lock that was made with it: a service may call gevent's ``patch_all`` at any moment
of its start, which repairs the locks of imports under way only where ``threading`` knows of no second thread; and what
waits by ``threading`` afterwards would begin a hub in this one.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import wrapt

from mobius_otel.policy import Policy
from mobius_otel.telemetry.safety import guarded
from mobius_otel.web import Guard

__all__ = ["SERVERS", "UNREACHED", "WITH_GUARD", "Reach", "class_names", "supervises"]

_log = logging.getLogger("mobius_otel")

#: The servers that are reached, as people know them.
SERVERS = ("uvicorn", "hypercorn", "gunicorn", "waitress", "werkzeug")
#: Modules that serve and are not reached, as people know them.
UNREACHED = ("http.server", "aiohttp.web", "tornado.web")
#: The classes of applications that the guard stands in, wherever they are served.
WITH_GUARD = {
    ("starlette.applications", "Starlette"), ("flask.app", "Flask"), ("django.core.handlers.wsgi", "WSGIHandler"),
    ("django.core.handlers.asgi", "ASGIHandler"),
}  # fmt: skip

# What runs in a process that leaves the serving to others, which it starts.
_SUPERVISORS = (
    ("gunicorn.arbiter", "Arbiter.run"),
    ("uvicorn.supervisors.multiprocess", "Multiprocess.run"),
    ("uvicorn.supervisors.basereload", "BaseReload.run"),
    ("hypercorn.run", "run"),
    ("granian.server.mp", "MPServer.serve"),
)
# Seconds between two looks; a service may take its time to start.
_LOOKS = (5.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_LISTEN = "0A"  # Linux, include/net/tcp_states.h
_supervises_in = 0
_hooked = False


class Reach:
    """Looks whether the guard stands in front of what serves here, and warns once where it does not.

    Args:
        policy: What is demanded; where it demands nothing of a request, nobody is warned.
        guard: The guard.
    """

    def __init__(self, policy: Policy, guard: Guard) -> None:
        self._guard = guard
        self._ended: _thread.LockType | None = None
        self._demanded = _demanded(policy)
        _watch_supervisors()

    def start(self) -> None:
        """Look from now on, in a thread that ends by itself."""
        if self._demanded:
            self._ended = ended = _thread.allocate_lock()
            ended.acquire()
            _thread.start_new_thread(self._watch, (ended,))

    def stop(self) -> None:
        """Look no more."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.release()

    def measured(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the gauge: 1 in front of an application, 0 in front of none, nothing where others serve."""
        if self._guard.stands:
            return [(1, {})]
        return [] if supervises() else [(0, {})]

    def _watch(self, ended: _thread.LockType) -> None:
        listened = False
        for seconds in _LOOKS:
            if ended.acquire(timeout=seconds) or self._guard.stands or supervises():
                return
            with guarded("guard"):
                listens = _listens()
                if listens and listened:  # a service that is still starting has more time
                    self._decide(listens)
                    return
                listened = bool(listens)

    def _decide(self, listens: str) -> None:
        if _framework_is_there():  # a server that is not known serves it; its first request will reach the guard
            self._guard.stands = True
            return
        _log.warning(
            "mobius_otel: THE SERVICE IS OPEN: this process listens (%s), but the guard stands in front of nothing: no"
            " application of FastAPI, Starlette, Flask or Django, and none that %s serves. The policy demands %s, and"
            " nothing of it holds here; mobius.guard.armed is 0. Serve by one of these, or put SecurityMiddleware or"
            " WSGISecurityMiddleware around the application",
            listens,
            ", ".join(SERVERS),
            self._demanded,
        )


def class_names(application: object) -> set[tuple[str, str]]:
    """Return module and name of the classes of an object."""
    return {(found.__module__, found.__name__) for found in type(application).__mro__}


def _demanded(policy: Policy) -> str:
    """Return what a policy demands of requests, in words; empty: nothing."""
    asked = {
        "API keys": policy.wants_keys,
        "rate limits": policy.rate_limit.rules,
        "audited routes": policy.audit.routes,
        "security headers": policy.headers.preset != "off" or policy.headers.override,
    }
    return ", ".join(name for name, wanted in asked.items() if wanted)


def supervises() -> bool:
    """Return whether this process leaves the serving to others, which it started."""
    return _supervises_in == os.getpid()


def _watch_supervisors() -> None:
    global _hooked
    if _hooked:
        return
    _hooked = True
    for module, name in _SUPERVISORS:
        wrapt.register_post_import_hook(_hook(name), module)


def _hook(name: str) -> Callable[[Any], None]:
    def hook(imported: Any) -> None:
        with contextlib.suppress(AttributeError):  # built otherwise than the versions that are known
            wrapt.wrap_function_wrapper(imported, name, _around_supervisor)

    return hook


def _around_supervisor(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    global _supervises_in
    _supervises_in = os.getpid()  # what is forked from here serves
    return wrapped(*args, **kwargs)


def _listens() -> str:
    """Return where this process listens by TCP, or what it serves by where that cannot be seen; empty: nowhere."""
    try:
        own = set(map(_target, os.listdir("/proc/self/fd")))
    except OSError:  # not Linux
        return ", ".join(name for name in UNREACHED[1:] if name in sys.modules)  # the first is loaded everywhere
    listening = (*_listening("tcp"), *_listening("tcp6"))
    return ", ".join(f"port {port}" for port in sorted({port for port, node in listening if f"socket:[{node}]" in own}))


def _target(number: str) -> str:
    with contextlib.suppress(OSError):  # closed meanwhile
        return os.readlink(f"/proc/self/fd/{number}")
    return ""


def _listening(version: str) -> Iterator[tuple[int, str]]:
    """Yield port and inode of every socket that listens in this network namespace; the kernel has them first."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{version}", encoding="ascii") as table:
        next(table, None)
        for fields in map(str.split, table):
            if fields[3] != _LISTEN:
                return
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _framework_is_there() -> bool:
    """Return whether there is an application that the guard stands in. Looked for once, where nobody was served yet."""
    classes: list[Any] = [
        getattr(sys.modules[module], name, None) for module, name in WITH_GUARD if module in sys.modules
    ]
    kinds = tuple(found for found in classes if isinstance(found, type))
    return bool(kinds) and any(issubclass(type(found), kinds) for found in gc.get_objects())
