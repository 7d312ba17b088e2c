"""Parameters that SQLAlchemy logs in a record of their own, behind the one of their statement (``echo=True``).

``INSERT INTO users (name, password) VALUES (?, ?)`` and then ``[generated in 0.0002s] ('ann', '…')``: what the second
holds is told by the columns of the first, which came from the same thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

__all__ = ["redacted_message"]

_LOGGERS = "sqlalchemy.engine"
_PARAMETERS = re.compile(
    r"\[(?:generated in|cached since|no key|raw sql|caching disabled|dialect) ?[^\]\n]{0,200}\] ([(\[{].*)\Z", re.DOTALL
)
_MARK = "]\n[parameters: "  # as its errors write both
_LONGEST = 20_000
_last = threading.local()


def redacted_message(
    logger: object, message: str, redact: Callable[[str], str], said: Callable[[], str] | None = None
) -> str:
    """Return a message without its secrets, those too that the message before it tells.

    Args:
        logger: The name of the logger; a record that somebody made by hand has none.
        message: The message, also with what a formatter put before it.
        redact: What takes the secrets out of a text.
        said: Returns the message without that: a time looks like the place of a parameter. None: it is the message.
    """
    if not isinstance(logger, str) or not logger.startswith(_LOGGERS):
        return redact(message)
    parameters = _PARAMETERS.search(message)
    if parameters is None:
        _last.statement = (said() if said else message)[:_LONGEST]
        return redact(message)
    both = redact(f"[SQL: {getattr(_last, 'statement', '')}{_MARK}{parameters.group(1)}]")
    clean = both[both.rindex(_MARK) + len(_MARK) : -1] if _MARK in both else redact(parameters.group(1))
    return redact(message[: parameters.start(1)]) + clean
