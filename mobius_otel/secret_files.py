"""Files that hold a secret: the pepper of the keys, the key that signs the audit trail."""

from __future__ import annotations

import logging
import os
import shlex
import stat
from pathlib import Path

from mobius_otel.errors import ConfigurationError

__all__ = ["MAKE_ONE", "SHORTEST", "read_secret", "warn_where_exposed", "why_exposed"]

#: How long a secret that somebody gives has to be, in bytes: 128 bits, where each bit is a guess.
SHORTEST = 16
#: What an error says to whoever has to make one.
MAKE_ONE = "To make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"

_log = logging.getLogger("mobius_otel")
_told: set[str] = set()


def read_secret(setting: str, path: str) -> bytes:
    """Return what a file holds, without the end of its line.

    Args:
        setting: What names the file, for the error.
        path: The file.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError(setting, path, "a file that can be read", type(error).__name__) from None


def why_exposed(path: str) -> str | None:
    """Return who else may read a file and what to do about it, or None.

    A group counts only where the file is ours to change: under Kubernetes' ``fsGroup`` it is how a service that is not
    root reads its secret at all.
    """
    if os.name != "posix":
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    unwanted = stat.S_IRWXO | (stat.S_IRWXG if found.st_uid == os.geteuid() else 0)
    mode = stat.S_IMODE(found.st_mode)
    if not mode & unwanted:
        return None
    way_out = f"chmod 600 {shlex.quote(path)}; of a Kubernetes secret, defaultMode: 0400"
    return f"others may use {path} (mode {mode:04o}): {way_out}"


def warn_where_exposed(setting: str, path: str) -> None:
    """Warn, once in a process, where others may read a file.

    It is no refusal: Kubernetes and Docker mount secrets as files that everybody in the container may read, and a
    service that starts nowhere is no safer.
    """
    if path not in _told and (why := why_exposed(path)):
        _told.add(path)
        _log.warning("mobius_otel: %s: %s", setting, why)
