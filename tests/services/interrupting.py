"""Interrupts a call at each of its steps in turn, as a signal handler that raises would."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: Where CPython looks for signals, but for loops: a function begins, or one that is written in C has returned.
STEPS = ("call", "c_return")


def interrupted(function: Callable[[], object], *files: str, at: int) -> bool:
    """Call `function` and raise KeyboardInterrupt at a step of it.

    Args:
        function: What is called.
        *files: How the names of the files end whose steps count.
        at: Which of the steps that it comes to, from 0.

    Returns:
        Whether it came so far.
    """
    left = at

    def step(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        if event in STEPS and frame.f_code.co_filename.endswith(files):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(step)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # a finalizer's goes nowhere
            function()
    finally:
        sys.setprofile(None)
    return left < 0


def at_every_step(make: Callable[[], Callable[[], object]], *files: str) -> Iterator[int]:
    """Interrupt what `make` returns at its first step, a new one at its second, and so on; yield each time."""
    at = 0
    while interrupted(make(), *files, at=at):
        yield at
        at += 1
