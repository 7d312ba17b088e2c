"""Keys as rows: what the stores in SQLite and behind SQLAlchemy have in common.

The SQL here is what every database understands: no function that one of them lacks, parameters by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from mobius_otel.security.api_keys.record import ApiKey, KeyState
from mobius_otel.security.api_keys.stores.protocol import Census, Selection, StoredKey

__all__ = [
    "BESIDE", "COLUMNS", "CONDITIONS", "DEAD", "STATE", "census_columns", "census_of", "conditions_of",
    "is_storable", "key_of", "row_of", "selection_values", "storable", "stored_of",
]  # fmt: skip

#: What is stored beside the fields of a key.
BESIDE = ("digest", "pepper", "verifier")
_FIELDS = tuple(f.name for f in fields(ApiKey) if f.name != "state")
#: The columns, in the order of a row.
COLUMNS = (*BESIDE, *_FIELDS)

#: When a row has a deadline at or before ``:dead_by``.
DEAD = "(expires_at <= :dead_by OR retire_at <= :dead_by OR revoked_at <= :dead_by)"

#: The same decisions as ``ApiKey.state_at``; the tests hold the two together.
STATE = """CASE
    WHEN revoked_at IS NOT NULL THEN 'revoked'
    WHEN expires_at IS NOT NULL AND expires_at <= :now
        THEN CASE WHEN retire_at < expires_at THEN 'retired' ELSE 'expired' END
    WHEN retire_at <= :now OR unused_since >= retire_at THEN 'retired'
    WHEN retire_at IS NOT NULL THEN 'retiring'
    ELSE 'active' END"""

#: The conditions of a selection by the name of its field.
CONDITIONS = {
    "owner": "owner = :owner",
    "tenant": "tenant = :tenant",
    "lineage": "lineage_id = :lineage",
    "state": f"{STATE} = :state",
    "expires_by": "expires_at <= :expires_by",
    "after": "created_at >= :after_time AND (created_at > :after_time OR id > :after_id)",
}


def conditions_of(selection: Selection) -> list[str]:
    """Return the conditions that a selection names.

    Example:
        >>> conditions_of(Selection(owner="alice"))
        ['owner = :owner']
    """
    return [text for name, text in CONDITIONS.items() if getattr(selection, name) is not None]


def selection_values(selection: Selection) -> dict[str, Any]:
    """Return the parameters of the conditions that a selection names.

    Example:
        >>> selection_values(Selection(owner="alice", after=(1.0, "key_1")))
        {'owner': 'alice', 'after_time': 1.0, 'after_id': 'key_1'}
    """
    values = {name: getattr(selection, name) for name in CONDITIONS if getattr(selection, name) is not None}
    if selection.state is not None:
        values |= {"state": selection.state.value, "now": selection.now}
    if selection.after is not None:
        del values["after"]
        values["after_time"], values["after_id"] = selection.after
    return values


def is_storable(*texts: str | None) -> bool:
    """Return whether a database can hold these texts at all: what it cannot hold is not in it.

    Example:
        >>> is_storable("alice"), is_storable("a" + chr(0)), is_storable("a" + chr(0xD800)), is_storable(None)
        (True, False, False, True)
    """
    try:
        return not any("\0" in text for text in texts if text is not None and text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def storable(name: str, value: Any) -> Any:
    """Return the value of a field as it is stored: lists and mappings as JSON."""
    if name in {"scopes", "networks", "limit"}:
        return json.dumps(sorted(value) if name == "scopes" else value)
    return json.dumps(dict(value), sort_keys=True) if name == "metadata" else value


def row_of(stored: StoredKey) -> list[Any]:
    """Return a key as a row."""
    beside = [stored.digest, stored.pepper, stored.verifier]
    return [*beside, *(storable(name, getattr(stored.key, name)) for name in _FIELDS)]


def stored_of(row: Sequence[Any]) -> StoredKey:
    """Return the key that a row holds, with what is stored beside it."""
    return StoredKey(key_of(row), bytes(row[0]), row[1], row[2])


def key_of(row: Sequence[Any]) -> ApiKey:
    """Return the key that a row holds."""
    fields = tuple(row[3:])
    return _known(fields) if fields[-1] == "{}" else _made(fields)  # facts of the caller's own are made anew


def _made(fields: tuple[Any, ...]) -> ApiKey:
    values = dict(zip(_FIELDS, fields, strict=True))
    values["scopes"] = _scopes(values["scopes"])
    for name in ("networks", "limit"):
        values[name] = () if values[name] == "[]" else tuple(json.loads(values[name]))
    values["metadata"] = {} if values["metadata"] == "{}" else json.loads(values["metadata"])
    return ApiKey(**values)


# A key in use is asked for every few seconds, and is what it was: making its record costs as much as the look-up.
_known = lru_cache(1024)(_made)


@lru_cache(256)  # many keys have the same few
def _scopes(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def census_columns(now: float, within: Sequence[float]) -> tuple[str, dict[str, float]]:
    """Return the columns of a census, which is grouped by the first of them, and its parameters.

    Args:
        now: Seconds since the epoch.
        within: Seconds ahead.
    """
    sums = "".join(f", sum(CASE WHEN expires_at <= :ends_by{place} THEN 1 ELSE 0 END)" for place in range(len(within)))
    never_used = "sum(CASE WHEN last_used_at IS NULL THEN 1 ELSE 0 END)"
    columns = f"{STATE} AS state, count(*), {never_used}, min(created_at){sums}"
    return columns, {"now": now, **{f"ends_by{place}": now + seconds for place, seconds in enumerate(within)}}


def census_of(rows: Sequence[Sequence[Any]], within: Sequence[float]) -> Census:
    """Return what the rows of a census say."""
    counted: Mapping[KeyState, Sequence[Any]] = {KeyState(row[0]): row for row in rows}
    states = {state: int(counted[state][1]) if state in counted else 0 for state in KeyState}
    _, _, never_used, oldest, *expiring = counted.get(KeyState.ACTIVE, (None, 0, 0, None, *[0] * len(within)))
    return Census(states, dict(zip(within, map(int, expiring), strict=True)), int(never_used), oldest)
