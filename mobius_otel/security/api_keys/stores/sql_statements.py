"""The statements of a key store, built once. This module needs SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from mobius_otel.security.api_keys.stores.protocol import Selection
from mobius_otel.security.api_keys.stores.rows import COLUMNS, DEAD, census_columns, conditions_of
from mobius_otel.security.api_keys.stores.sql_schema import JOBS, KEYS

__all__ = ["Statements"]

_KEY = KEYS.c.id == sa.bindparam("key_id")
_SELECT = sa.select(*(KEYS.c[name] for name in COLUMNS))


class Statements:
    """What is asked of a database.

    Args:
        dialect: The name of its dialect.
    """

    def __init__(self, dialect: str) -> None:
        self.find = _SELECT.where(KEYS.c.digest == sa.bindparam("digest"))
        self.find_any = _SELECT.where(KEYS.c.digest.in_(sa.bindparam("digests", expanding=True)))
        self.get = _SELECT.where(_KEY)
        self.get_and_hold = self.get if dialect == "sqlite" else self.get.with_for_update()
        self.add = sa.insert(KEYS)
        self.touch = (
            sa.update(KEYS)
            .where(_KEY, sa.or_(KEYS.c.last_used_at.is_(None), KEYS.c.last_used_at < sa.bindparam("at")))
            .values(last_used_at=sa.bindparam("at"))
        )
        self.count_dead = sa.select(sa.func.count()).select_from(KEYS).where(sa.text(DEAD))
        self.remove = sa.delete(KEYS).where(KEYS.c.id.in_(sa.bindparam("key_ids", expanding=True)))
        self.peppers = sa.select(KEYS.c.pepper, sa.func.count()).group_by(KEYS.c.pepper)
        period: sa.BindParameter[int] = sa.bindparam("period")
        holder: sa.BindParameter[str] = sa.bindparam("holder")
        job = JOBS.c.name == sa.bindparam("job")
        self.claim = (
            sa.update(JOBS)
            .where(job, sa.or_(JOBS.c.period < period, JOBS.c.period > period + 1))
            .values(period=period, holder=holder)
        )
        self.job = sa.select(JOBS.c.period).where(job)
        self.first_claim = sa.insert(JOBS).values(name=sa.bindparam("job"), period=period, holder=holder)
        self._skips = dialect in {"postgresql", "mysql", "mariadb", "oracle"}

    def dead(self, most: int) -> sa.Select[Any]:
        """Return the ids of up to `most` dead keys; those that somebody else is at are left to them."""
        statement = sa.select(KEYS.c.id).where(sa.text(DEAD)).order_by(KEYS.c.id).limit(most)
        return statement.with_for_update(skip_locked=True) if self._skips else statement

    @staticmethod
    def list(selection: Selection) -> sa.Select[Any]:
        """Return the records that are meant; the parameters are those of the selection."""
        conditions = [sa.text(condition) for condition in conditions_of(selection)]
        return _SELECT.where(*conditions).order_by(KEYS.c.created_at, KEYS.c.id).limit(selection.most)

    @staticmethod
    def change(key_id: str, values: Mapping[str, Any], expect: Mapping[str, Any]) -> sa.Update:
        """Return the statement that writes `values` where a record still has what `expect` says."""
        still = [KEYS.c[name].is_not_distinct_from(value) for name, value in expect.items()]
        return sa.update(KEYS).where(KEYS.c.id == key_id, *still).values(dict(values))

    @staticmethod
    def census(now: float, within: Sequence[float]) -> tuple[sa.TextClause, dict[str, float]]:
        """Return the statement that counts, and its parameters."""
        columns, values = census_columns(now, within)
        return _census(columns), values


@lru_cache(8)
def _census(columns: str) -> sa.TextClause:
    return sa.text(f"SELECT {columns} FROM {KEYS.name} GROUP BY 1")
