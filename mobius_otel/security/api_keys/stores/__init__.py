"""Where API keys are kept."""

from __future__ import annotations

from mobius_otel.security.api_keys.stores.memory import MemoryKeyStore
from mobius_otel.security.api_keys.stores.opening import check_store_url, open_store
from mobius_otel.security.api_keys.stores.protocol import (
    Census,
    ChangeChannel,
    KeyStore,
    Selection,
    StoredKey,
    Transaction,
)
from mobius_otel.security.api_keys.stores.sql import SqlKeyStore
from mobius_otel.security.api_keys.stores.sqlite import SqliteKeyStore
from mobius_otel.security.api_keys.stores.valkey_channel import ValkeyChannel

__all__ = [
    "Census",
    "ChangeChannel",
    "KeyStore",
    "MemoryKeyStore",
    "Selection",
    "SqlKeyStore",
    "SqliteKeyStore",
    "StoredKey",
    "Transaction",
    "ValkeyChannel",
    "check_store_url",
    "open_store",
]
