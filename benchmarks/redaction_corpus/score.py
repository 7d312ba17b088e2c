"""Scores a redactor: what it found, what it damaged, what it kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .model import CARRIERS, Path, Record, Secret

__all__ = ["Redact", "Score", "leaves", "survives"]

#: What takes the secrets out of a record.
Redact: TypeAlias = Callable[[Any], Any]
_WORD = re.compile(r"[^\W_]+")
_NOTHING = object()


def leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Return every leaf of a structure with its path."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list | tuple):
        return [leaf for number, inner in enumerate(value) for leaf in leaves(inner, (*path, number))]
    return [(path, value)]


def at(value: Any, path: Path) -> Any:
    """Return what stands at a path now; a blanked ancestor stands for its leaves."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, _NOTHING)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return value
    return value


def shown(value: Any) -> str:
    """Return a leaf as text."""
    if value is _NOTHING:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def survives(secret: str, after: str, around: str) -> bool:
    """Return whether a secret can be read in what is left: whole, or half of it in one run.

    Args:
        secret: The secret.
        after: The leaf after redaction.
        around: The text around the secrets of the leaf, in which a short one may stand by chance.
    """
    size = len(secret) if len(secret) < 8 else (len(secret) + 1) // 2
    runs = (secret[start : start + size] for start in range(len(secret) - size + 1))
    return any(run in after and after.count(run) > around.count(run) for run in runs)


def kept_words(parts: Sequence[str], after: str) -> bool:
    """Return whether every word around the secrets is still there, in order."""
    left = iter(_WORD.findall(after))
    return all(any(word == each for each in left) for part in parts for word in _WORD.findall(part))


@dataclass(slots=True)
class Score:
    """The figures of one redactor over one part.

    Args:
        unasked: Kinds that this redactor is not asked to find; they count neither way.
    """

    unasked: Collection[str] = ()
    secrets: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    touched: int = 0
    touched_rightly: int = 0
    leaves: int = 0
    dirty_leaves: int = 0
    clean_records: int = 0
    damaged_records: int = 0
    context: int = 0
    context_kept: int = 0
    not_idempotent: int = 0
    not_json: int = 0
    raised: int = 0
    misses: list[tuple[Record, Secret, str]] = field(default_factory=list)
    damage: list[tuple[Record, Path, str, str]] = field(default_factory=list)

    def run(self, records: Sequence[Record], redact: Redact) -> Score:
        """Score every record."""
        for record in records:
            self.add(record, redact)
        return self

    def add(self, record: Record, redact: Redact) -> None:
        """Score one record."""
        try:
            after = redact(record.value)
            again = redact(after)
        except Exception:
            self.raised += 1
            after = again = record.value
        self.not_idempotent += again != after
        self.not_json += is_json(record.value) and not is_json(after)
        if not record.secrets:
            self.clean_records += 1
            self.damaged_records += after != record.value
        for secret in record.secrets:
            if secret.kind in self.unasked:
                continue
            text = shown(at(after, secret.path))
            self.secrets[secret.kind, secret.carrier] += 1
            if survives(secret.text, text, " ".join(record.kept[secret.path])):
                self.misses.append((record, secret, text))
            else:
                self.found[secret.kind, secret.carrier] += 1
        for path, before in leaves(record.value):
            self.add_leaf(record, path, before, at(after, path))

    def add_leaf(self, record: Record, path: Path, before: Any, after: Any) -> None:
        """Score one leaf: whether it was touched, and what is left around its secrets."""
        parts = record.kept.get(path)
        self.leaves += 1
        self.dirty_leaves += parts is not None
        touched = type(after) is not type(before) or after != before
        if touched:
            self.touched += 1
            self.touched_rightly += parts is not None
        whole = parts is None or kept_words(parts, shown(after))
        if parts and touched and any(map(_WORD.search, parts)):
            self.context += 1
            self.context_kept += whole
        if touched and parts is None:
            self.damage.insert(0, (record, path, shown(before), shown(after)))
        elif touched and not whole:
            self.damage.append((record, path, shown(before), shown(after)))

    def recall(self, carrier: str = "", kind: str = "", without: Collection[str] = ()) -> float:
        """Return the share of secrets found, of a carrier or of all, of a kind or of all but some."""
        chosen = [
            each
            for each in self.secrets
            if carrier in {"", each[1]} and kind in {"", each[0]} and each[0] not in without
        ]
        return share(sum(self.found[each] for each in chosen), sum(self.secrets[each] for each in chosen))

    def recalls(self, without: Collection[str] = ()) -> dict[str, float]:
        """Return the recall overall and per carrier, over all kinds but some."""
        found = {"recall": round(self.recall(without=without), 4)}
        return found | {f"recall.{carrier}": round(self.recall(carrier, without=without), 4) for carrier in CARRIERS}

    def kinds(self) -> dict[str, float]:
        """Return the recall of every kind, the worst first."""
        found = {kind: self.recall(kind=kind) for kind, _ in self.secrets}
        return dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))

    def figures(self) -> dict[str, Any]:
        """Return every figure by name."""
        return {
            **self.recalls(),
            "precision": round(share(self.touched_rightly, self.touched), 4),
            "clean_damaged": round(share(self.damaged_records, self.clean_records, 0.0), 4),
            "context_kept": round(share(self.context_kept, self.context), 4),
            "not_idempotent": self.not_idempotent,
            "not_json": self.not_json,
            "raised": self.raised,
        }


def share(part: int, whole: int, empty: float = 1.0) -> float:
    """Return a share."""
    return part / whole if whole else empty


def is_json(value: Any) -> bool:
    """Return whether `json.dumps` takes the value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
