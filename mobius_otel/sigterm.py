"""What a SIGTERM does where nobody handles it, done by the package first, and seen by nobody.

A service asks for the handler that it finds, calls it from its own or puts it back, and what it expects to find is
Python's default. So that is what it is told: what stands in the default's place is never handed out, and whoever sets
the default sets it. A library outside of Python that takes the signal over may call the handler that it found, too;
then the signal is its own, and the process does not end here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["before_default", "leave_to_exit"]

_set = signal.signal
_get = signal.getsignal
_before: Callable[[], None] | None = None
_SIGACTION_BYTES = 1024  # more than the structure has anywhere


def before_default(function: Callable[[], None]) -> None:
    """Call `function` before a SIGTERM that nobody handles ends this process, and those that it forks.

    Args:
        function: Called in the main thread, in the middle of anything.
    """
    global _before
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    if _get(signal.SIGTERM) is not signal.SIG_DFL:
        return
    _before = function
    _set(signal.SIGTERM, _terminated)
    signal.signal, signal.getsignal = _signal, _getsignal


def leave_to_exit() -> None:
    """Ignore SIGTERM from now on where nobody handles it: the process is ending in good order."""
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(ValueError):  # an interpreter that is not the first has no signals
            if _get(signal.SIGTERM) is _terminated:
                _set(signal.SIGTERM, signal.SIG_IGN)


@functools.wraps(_set)
def _signal(signalnum: Any, handler: Any) -> Any:
    if signalnum != signal.SIGTERM:
        return _set(signalnum, handler)
    default = isinstance(handler, int) and handler == signal.SIG_DFL
    return _shown(_set(signalnum, _terminated if default else handler))


@functools.wraps(_get)
def _getsignal(signalnum: Any) -> Any:
    return _shown(_get(signalnum))


def _shown(handler: Any) -> Any:
    return signal.SIG_DFL if handler is _terminated else handler


def _terminated(number: int, _: FrameType | None) -> None:
    """End the process by the same signal.

    A second SIGTERM changes nothing: systemd sends one to every process of a unit and gunicorn's master another one to
    its workers, so that nobody is impatient who sends two. Who is sends SIGINT or SIGKILL.
    """
    if _is_taken_over():
        return
    _set(number, signal.SIG_IGN)
    try:
        if _before is not None:
            _before()
    finally:
        _set(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_taken_over() -> bool:
    """Return whether the signal goes to something outside of Python, which called Python's handler in its turn."""
    try:
        import ctypes

        sigaction = ctypes.CDLL(None).sigaction
        found, own = (ctypes.create_string_buffer(_SIGACTION_BYTES) for _ in range(2))
        if sigaction(int(signal.SIGTERM), None, found):
            return False
        _set(signal.SIGTERM, _terminated)  # Python's own again, whoever it was
        sigaction(int(signal.SIGTERM), None, own)
        pointer = ctypes.sizeof(ctypes.c_void_p)  # the handler comes first
        if found.raw[:pointer] == own.raw[:pointer]:
            return False
        sigaction(int(signal.SIGTERM), found, None)
    except (ImportError, AttributeError, OSError):  # built without it
        return False
    return True
