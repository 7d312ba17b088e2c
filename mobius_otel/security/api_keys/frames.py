"""The frames of an error hold what was worked with; whoever prints their variables shall find no secret."""

from __future__ import annotations

import traceback

__all__ = ["emptied"]


def emptied(error: BaseException) -> None:
    """Take everything out of the frames that have ended with an error; those that still run stay as they are.

    Args:
        error: What was raised by what the caller called. Of the errors that led to it only our own frames are meant:
            the first of them may be the caller's caller's.
    """
    traceback.clear_frames(error.__traceback__)
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        error = before
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("mobius_otel."):
                try:
                    frame.clear()
                except RuntimeError:  # it still runs
                    continue
