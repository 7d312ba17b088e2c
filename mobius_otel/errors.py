"""Every error the package raises.

Each error carries its facts as fields, so that a program can act on them without reading the text, and
none of them holds a secret: a value that is shown goes through :func:`shown`, which cuts it short and
takes the credentials out of a URL.

Hierarchy::

    MobiusError
    ├── ConfigurationError (ValueError)        a value given at construction breaks a rule
    │   ├── PolicyError                        ... in the policy file
    │   └── MissingExtra (ImportError)         an optional package is not installed
    ├── InvalidEvent (ValueError)              an audit event that breaks a rule
    ├── AuditUnavailable (RuntimeError)        an audit record cannot be kept
    ├── RateLimitExceeded                      a decorated call came too fast; beside its decision, in security
    └── ApiKeyError
        ├── InvalidApiKey (ValueError)         not a key that opens this door, for whatever reason
        ├── InsufficientScope (PermissionError)
        ├── KeyThrottled                       too many bad keys from one source
        ├── KeyStoreUnavailable (ConnectionError)
        ├── KeyNotFound (LookupError)          no key has this id
        └── RotationConflict                   somebody else rotated the key meanwhile
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "ApiKeyError",
    "AuditUnavailable",
    "ConfigurationError",
    "InsufficientScope",
    "InvalidApiKey",
    "InvalidEvent",
    "KeyNotFound",
    "KeyStoreUnavailable",
    "KeyThrottled",
    "MissingExtra",
    "MobiusError",
    "PolicyError",
    "RotationConflict",
    "shown",
]

# As far as the last "@": a password may hold a "/" that somebody forgot to encode.
_USERINFO = re.compile(r"(?<=://)[^\s\"']{1,4096}@")
_LONGEST_SHOWN = 120


def shown(value: object) -> str:
    """Return `value` as an error may show it: short, on one line, without the credentials of a URL.

    Args:
        value: Anything; an object whose ``repr`` fails is named by its type alone.

    Example:
        >>> shown("valkey://admin:hunter2@cache:6379/0")
        "'valkey://[redacted]@cache:6379/0'"
    """
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = _USERINFO.sub("[redacted]@", text[:8192])
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


class MobiusError(Exception):
    """The base of every error that mobius_otel raises."""


class ConfigurationError(MobiusError, ValueError):
    """A value given to a constructor breaks a rule.

    Args:
        setting: Which argument or setting.
        value: What was given; it is shown without credentials.
        rule: What is asked for, as the end of the sentence "it must be ...".
        hint: What to do instead, as a sentence of its own.
    """

    def __init__(self, setting: str, value: object, rule: str, hint: str = "") -> None:
        self.setting = setting
        self.rule = rule
        self.hint = hint
        super().__init__(f"{setting} = {shown(value)}: it must be {rule}.{' ' + hint if hint else ''}")


class PolicyError(ConfigurationError):
    """The policy file breaks a rule.

    Args:
        message: The rule, and the way out.
        file: The file's path as the user gave it.
        line: The line, from 1, or None where it is not known.
        key: The dotted key, for example ``rate_limit.rules[0].limit``.
    """

    def __init__(self, message: str, *, file: str = "", line: int | None = None, key: str = "") -> None:
        self.setting = self.key = key
        self.rule = self.message = message
        self.hint = ""
        self.file = file
        self.line = line
        place = f"{file or 'policy'}{f':{line}' if line else ''}"
        Exception.__init__(self, f"{place}: {key + ': ' if key else ''}{message}")


class MissingExtra(ConfigurationError, ImportError):
    """An optional package that a setting asks for is not installed.

    Args:
        what: What was asked for, for example ``metrics.path``.
        extra: The extra that brings it.
        missing: The name of the module that could not be imported.
    """

    def __init__(self, what: str, extra: str, missing: str) -> None:
        self.setting = what
        self.rule = "installed"
        self.hint = f"pip install 'mobius_otel[{extra}]'"
        self.extra = extra
        self.missing = missing
        Exception.__init__(self, f"{what} needs the package {missing!r}: pip install 'mobius_otel[{extra}]'")


class InvalidEvent(MobiusError, ValueError):
    """An audit event breaks a rule.

    Args:
        field: The field of the event.
        value: What was given.
        rule: What is asked for, as the end of "it must be ...".
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"AuditEvent.{field} = {shown(value)}: it must be {rule}.")


class AuditUnavailable(MobiusError, RuntimeError):
    """An audit record cannot be kept; with ``fail_mode="strict"`` the action must not happen.

    Args:
        reason: Why, without any content of the record.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the audit record cannot be kept: {reason}")


class ApiKeyError(MobiusError):
    """The base of every error about API keys."""


class InvalidApiKey(ApiKeyError, ValueError):
    """The secret opens nothing here. The text is the same for every cause; `reason` is for telemetry alone.

    Args:
        reason: ``malformed``, ``unknown``, ``expired``, ``revoked`` or ``retired``.
        key_id: The public id, where the key is known.
    """

    def __init__(self, reason: str = "unknown", key_id: str | None = None) -> None:
        self.reason = reason
        self.key_id = key_id
        self.args = (
            "the API key is not valid",
        )  # as super().__init__() does, in a third of the time: a flood comes here


class InsufficientScope(ApiKeyError, PermissionError):
    """The key is good, but a scope is missing.

    Args:
        required: The scopes that the action asks for.
        key_id: The key's public id.
    """

    def __init__(self, required: Iterable[str], key_id: str | None = None) -> None:
        self.required = frozenset(required)
        self.key_id = key_id
        super().__init__(f"the API key lacks a scope; required: {', '.join(sorted(self.required))}")


class KeyThrottled(ApiKeyError):
    """A source presented too many bad keys and has to wait.

    Args:
        retry_after: Seconds until the source may try again.
    """

    def __init__(self, retry_after: float = 0.0) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many invalid API keys; try again in {retry_after:.0f} s")


class KeyStoreUnavailable(ApiKeyError, ConnectionError):
    """The key store does not answer, so nobody is let in.

    Args:
        reason: What failed, without any content of the store.
    """

    def __init__(self, reason: str = "the key store does not answer") -> None:
        self.reason = reason
        super().__init__(reason)


class KeyNotFound(ApiKeyError, LookupError):
    """No key has this public id.

    Args:
        key_id: The id that was asked for.
    """

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no API key has the id {shown(key_id)}")


class RotationConflict(ApiKeyError):
    """The key was rotated meanwhile by another request, or is not active any more.

    Args:
        key_id: The key whose rotation was asked for.
        state: The key's state, where that is what stands in the way.
    """

    def __init__(self, key_id: str, state: str | None = None) -> None:
        self.key_id = key_id
        self.state = state
        super().__init__(
            f"the key {key_id} was already rotated by another request; rotate its successor instead"
            if state is None
            else f"the key {key_id} is {state}, and only an active key can be rotated; issue a new one"
        )
