"""API keys: issued, verified, rotated, revoked and purged."""

from __future__ import annotations

from mobius_otel.security.api_keys.manager import ApiKeyManager
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState
from mobius_otel.security.api_keys.rotation import KeyRotator, RotationRun, RotationSink
from mobius_otel.security.api_keys.secret import PATTERN
from mobius_otel.security.api_keys.sinks import command_sink, file_sink, http_sink
from mobius_otel.security.api_keys.stores import KeyStore, MemoryKeyStore, SqliteKeyStore, SqlKeyStore, ValkeyChannel

__all__ = [
    "PATTERN",
    "ApiKey",
    "ApiKeyManager",
    "IssuedKey",
    "KeyRotator",
    "KeyState",
    "KeyStore",
    "MemoryKeyStore",
    "RotationRun",
    "RotationSink",
    "SqlKeyStore",
    "SqliteKeyStore",
    "ValkeyChannel",
    "command_sink",
    "file_sink",
    "http_sink",
]
