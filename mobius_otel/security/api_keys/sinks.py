"""Ways of a new secret to its owner: a file, a command, an HTTP endpoint.

Each is a callable for :class:`~mobius_otel.security.api_keys.KeyRotator`; it returns True once the secret has
arrived, and raises or returns False where it has not. A secret is never an argument of a command, never part of
a URL, and what the other side answers is never shown.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys.record import IssuedKey

__all__ = ["Deliver", "command_sink", "file_sink", "http_sink", "sink_of", "write_secret"]

Deliver = Callable[[str, IssuedKey], bool]
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SECONDS = 30.0


def file_sink(place: str | os.PathLike[str]) -> Deliver:
    r"""Return a sink that writes a secret into a file that its owner alone may read, in one step.

    A file has room for one secret: a rotator leaves a file alone that holds one of another key.

    Args:
        place: A file, for a single key, or a folder that exists: there each owner has a file of its name.

    Example:
        >>> import tempfile
        >>> from mobius_otel.security.api_keys.record import ApiKey
        >>> folder = tempfile.mkdtemp()
        >>> file_sink(folder)("alice", IssuedKey(ApiKey(id="key_1", owner="alice"), "a-secret"))
        True
        >>> (Path(folder) / "alice").read_text()
        'a-secret\n'
    """
    return _FileSink(Path(place))


class _FileSink:
    """A file, or a folder of them; and what such a file holds now."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, owner: str, issued: IssuedKey) -> bool:
        write_secret(self._path(owner), _secret_of(issued))
        return True

    def held(self, owner: str) -> str | None:
        """Return the secret that the next delivery to `owner` would replace."""
        try:
            return self._path(owner).read_text(encoding="ascii").strip() or None
        except (ConfigurationError, OSError, UnicodeDecodeError):
            return None

    def _path(self, owner: str) -> Path:
        if not self._place.is_dir():
            return self._place
        if not _PLAIN.fullmatch(owner):
            raise ConfigurationError("owner", owner, "the name of a file: letters, digits, '.', '_' and '-'")
        return self._place / owner


def write_secret(path: Path, secret: str) -> None:
    """Write a secret and a line's end into a file of mode 0600, all of it or nothing, to the disk.

    Args:
        path: The file; what is there is replaced.
        secret: The secret.

    Raises:
        OSError: It cannot be written; then nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret.encode("utf-8") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def command_sink(command: Sequence[str], *, timeout: float = _SECONDS) -> Deliver:
    """Return a sink that gives a secret to a command on its standard input; status 0 is the acknowledgement.

    Args:
        command: The program and its arguments; no shell is in between. Its environment has ``MOBIUS_KEY_OWNER`` and
            ``MOBIUS_KEY_ID`` beside what this process has, but for the package's own: the pepper is among those.
        timeout: Seconds until it is ended.

    Raises:
        ConfigurationError: It is one text, or empty.
    """
    if isinstance(command, str) or not command or not all(isinstance(part, str) for part in command):
        raise ConfigurationError("command", command, 'a list such as ["vault", "kv", "put", "secret/shop", "key=-"]')
    argv = list(command)

    def deliver(owner: str, issued: IssuedKey) -> bool:
        passed_on = {name: value for name, value in os.environ.items() if not name.startswith("MOBIUS_OTEL_")}
        done = subprocess.run(  # noqa: S603 - what the operator has named
            argv, input=_secret_of(issued).encode() + b"\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**passed_on, "MOBIUS_KEY_OWNER": owner, "MOBIUS_KEY_ID": issued.key.id}, timeout=timeout,
            check=False,
        )  # fmt: skip
        return done.returncode == 0

    return deliver


def http_sink(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = _SECONDS) -> Deliver:
    """Return a sink that posts a secret as JSON (``id``, ``owner``, ``secret``, ``expires``); 2xx says it arrived.

    Args:
        url: Where to; ``https://``, or ``http://`` to this very machine. No redirection is followed.
        headers: Further header fields, for example ``Authorization``.
        timeout: Seconds to wait.

    Raises:
        ConfigurationError: The URL is not one of these.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in {"http", "https"} or (parts.scheme == "http" and not _is_local(parts)):
        raise ConfigurationError("url", f"{parts.scheme}://…", "https://…, or http:// to this very machine")
    opener = urllib.request.build_opener(_NoRedirection, urllib.request.ProxyHandler({}))

    def deliver(owner: str, issued: IssuedKey) -> bool:
        ends = issued.key.expires_at
        body = {
            "id": issued.key.id, "owner": owner, "secret": _secret_of(issued),
            "expires": None if ends is None else datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        request = urllib.request.Request(  # noqa: S310 - the scheme has been looked at
            url, json.dumps(body).encode(), {**(headers or {}), "Content-Type": "application/json"}, method="POST"
        )
        try:
            with opener.open(request, timeout=timeout) as answer:
                return 200 <= int(answer.status) < 300
        except urllib.error.HTTPError as error:
            error.close()
            return False

    return deliver


def sink_of(text: str, folder: Path = Path()) -> Deliver:
    """Return the sink that a text names.

    Args:
        text: ``file:PATH``, ``command:PROGRAM ARGUMENT ...`` (quoted as in a shell), or a URL.
        folder: What a relative path is relative to.

    Raises:
        ConfigurationError: It names none.

    Example:
        >>> sink_of("mail:alice")
        Traceback (most recent call last):
            ...
        mobius_otel.errors.ConfigurationError: sink = 'mail:…': it must be "file:PATH", "command:PROGRAM ARGUMENT …"...
    """
    kind, _, rest = text.partition(":")
    if kind == "file" and rest:
        return file_sink(folder / rest)
    if kind == "command":
        try:
            return command_sink(shlex.split(rest))
        except ValueError as error:
            raise ConfigurationError("sink", "command:…", "quoted as in a shell", str(error)) from None
    if kind in {"http", "https"}:
        return http_sink(text)
    raise ConfigurationError("sink", f"{kind[:20]}:…", '"file:PATH", "command:PROGRAM ARGUMENT …" or a URL')


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Somebody else's server is not asked to take a secret."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _is_local(parts: Any) -> bool:
    if parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


def _secret_of(issued: IssuedKey) -> str:
    if issued.secret is None:
        raise ValueError("the secret was given away before")
    return issued.secret
