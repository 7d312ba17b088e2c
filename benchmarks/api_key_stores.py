"""What a look-up of an API key costs, against the bare driver in the same run; and whether an event loop goes on.

    python benchmarks/api_key_stores.py [--keys 1000000] [--rounds 400] [--json]

Every figure is the ratio of a verification that asks the store ("cold": the manager remembers nothing) to the driver's
own select of the same row, by digest, prepared, on a connection that is held open; each over the quietest tenth of many
short rounds that take turns. PostgreSQL 18 runs from a wheel, over a socket file; its data lie in memory where there is
room.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys import ApiKey
from mobius_otel.security.api_keys.stores import StoredKey
from mobius_otel.security.api_keys.stores.rows import COLUMNS, row_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.services.postgres import running

PEPPER = "a made-up pepper"
HOT = 200
CALLS = 10


def filled(url: str, count: int, insert: Callable[[list[list[Any]]], None]) -> list[str]:
    """Fill a store; return the secrets of some of its keys."""
    manager = ApiKeyManager(url, pepper=PEPPER)
    secrets = [manager.issue(f"owner-{number}", scopes={"read"}).secret for number in range(HOT)]
    manager.close()
    rows = []
    for number in range(count - HOT):
        record = ApiKey(
            id=f"key_{number:022}", owner=f"owner-{number % 10_000}", scopes=frozenset({"read"}), expires_at=4e9,
            created_at=float(number), lineage_id=f"key_{number:022}",
        )  # fmt: skip
        rows.append(row_of(StoredKey(record, random.randbytes(32), "bench")))
        if len(rows) == 20_000:
            insert(rows)
            rows = []
    insert(rows)
    return [secret for secret in secrets if secret]


def into_sqlite(path: Path) -> Callable[[list[list[Any]]], None]:
    """Return what adds rows to a file."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)

    def insert(rows: list[list[Any]]) -> None:
        with sqlite3.connect(path) as connection:
            connection.executemany(f"INSERT INTO api_keys ({names}) VALUES ({', '.join('?' * len(COLUMNS))})", rows)

    return insert


def into_postgres(url: str) -> Callable[[list[list[Any]]], None]:
    """Return what adds rows to a database."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    plain = bare_url(url)

    def insert(rows: list[list[Any]]) -> None:
        with (
            psycopg.connect(plain) as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY mobius_api_keys ({names}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    return insert


def bare_url(url: str) -> str:
    """Return a URL as libpq knows it."""
    return url.replace("+psycopg", "").partition("&timeout=")[0]


def bare_sqlite(path: Path) -> Callable[[bytes], Any]:
    """Return sqlite3's own select of a row."""
    connection = sqlite3.connect(path, isolation_level=None)
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    query = f"SELECT {names} FROM api_keys WHERE digest = ?"
    return lambda digest: connection.execute(query, (digest,)).fetchone()


def bare_postgres(url: str) -> Callable[[bytes], Any]:
    """Return psycopg's own select of a row."""
    connection = psycopg.connect(bare_url(url), autocommit=True)
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    query = f"SELECT {names} FROM mobius_api_keys WHERE digest = %s"
    return lambda digest: connection.execute(query, (digest,)).fetchone()


def once(work: Callable[[Any], Any], arguments: list[Any], clock: Callable[[], float]) -> float:
    """Return the seconds of one call, over a few calls: a moment in which nobody else may have come between."""
    chosen = random.choices(arguments, k=CALLS)
    begin = clock()
    for argument in chosen:
        work(argument)
    return (clock() - begin) / CALLS


def compared(
    rounds: int, floor: tuple[Any, list[Any]], work: tuple[Any, list[Any]], clock: Callable[[], float]
) -> dict[str, float]:
    """Return the ratio of the quietest tenths of many short rounds, and both in microseconds."""
    pairs = [(once(*floor, clock), once(*work, clock)) for _ in range(rounds + 10)][10:]
    before, after = (statistics.quantiles(side, n=10)[0] for side in zip(*pairs, strict=True))
    return {"ratio": round(after / before, 2), "floor_us": round(before * 1e6, 1), "ours_us": round(after * 1e6, 1)}


def digests_of(manager: ApiKeyManager, secrets: list[str]) -> list[bytes]:
    """Return what the bare select is given."""
    return [manager._peppers.digest(secret.encode()) for secret in secrets]


@contextmanager
def managers(url: str) -> Iterator[tuple[ApiKeyManager, ApiKeyManager]]:
    """Open a store twice: with no memory, and with one."""
    cold, warm = ApiKeyManager(url, pepper=PEPPER, cache_ttl=0), ApiKeyManager(url, pepper=PEPPER)
    yield cold, warm
    cold.close()
    warm.close()


def few_and_many(
    rounds: int, clock: Callable[[], float], few: tuple[str, list[str]], many: tuple[str, list[str]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Compare a store of a thousand keys with a large one: cold, warm."""
    with managers(few[0]) as (cold_few, warm_few), managers(many[0]) as (cold_many, warm_many):
        for manager, secrets in ((warm_few, few[1]), (warm_many, many[1])):
            for secret in secrets:
                manager.verify(secret)
        cold = compared(rounds, (cold_few.verify, few[1]), (cold_many.verify, many[1]), clock)
        warm = compared(rounds, (warm_few.verify, few[1]), (warm_many.verify, many[1]), time.thread_time)
    return cold, warm


async def blocked(manager: ApiKeyManager, secrets: list[str], seconds: float) -> float:
    """Return for how long an event loop was not to be had while it served eight cold verifications at a time.

    In time that this process had a processor: how long others keep it from one is not its doing.
    """
    worst, done = 0.0, False

    async def watch() -> None:
        nonlocal worst
        last = time.process_time()
        while not done:
            await asyncio.sleep(0)
            now = time.process_time()
            worst, last = max(worst, now - last), now

    async def ask() -> None:
        while not done:
            await manager.verify_async(random.choice(secrets))

    tasks = [asyncio.create_task(ask()) for _ in range(8)]
    await asyncio.sleep(0.3)  # the threads have begun
    tasks.append(asyncio.create_task(watch()))
    await asyncio.sleep(seconds)
    done = True
    await asyncio.gather(*tasks)
    return worst


def loop_blocked(url: str, secrets: list[str]) -> float:
    """Return the milliseconds that a loop was blocked: the median of the worst of some tries."""
    with managers(url) as (cold, _):
        tries = [asyncio.run(blocked(cold, secrets, 1.0)) for _ in range(5)]
    return round(statistics.median(tries) * 1e3, 2)


def measured(  # noqa: PLR0917 - one after the other as they are measured
    kind: str, urls: tuple[str, str], insert: Any, bare: Any, clock: Callable[[], float], args: argparse.Namespace
) -> dict[str, Any]:
    """Measure one kind of store; a file by the time of the thread, a server by the clock on the wall."""
    few = (urls[0], filled(urls[0], 1000, insert(urls[0])))
    with managers(few[0]) as (cold, _):
        against = compared(args.rounds, (bare(urls[0]), digests_of(cold, few[1])), (cold.verify, few[1]), clock)
    found: dict[str, Any] = {
        "cold against the bare select": against,
        "loop blocked, ms": loop_blocked(*few),
    }
    if args.keys > 1000:
        many = (urls[1], filled(urls[1], args.keys, insert(urls[1])))
        large, warm = few_and_many(args.rounds, clock, few, many)
        found |= {f"cold, {args.keys:,} keys against 1,000": large, f"warm, {args.keys:,} keys against 1,000": warm}
    return {kind: found}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many are many")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    metrics.set_meter_provider(MeterProvider())
    trace.set_tracer_provider(TracerProvider())
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("few.db", "many.db")]
        urls = (f"sqlite:///{paths[0]}", f"sqlite:///{paths[1]}")
        results |= measured(
            "SQLite", urls, lambda url: into_sqlite(Path(url.removeprefix("sqlite:///"))),
            lambda url: bare_sqlite(Path(url.removeprefix("sqlite:///"))), time.thread_time, args,
        )  # fmt: skip
    with suppress(ImportError), running() as postgres:
        both = (postgres.database(), postgres.database())
        results |= measured("PostgreSQL", both, into_postgres, bare_postgres, time.perf_counter, args)
    if args.json:
        print(json.dumps(results, indent=2))
        return
    for kind, found in results.items():
        for what, figure in found.items():
            told = (
                figure
                if not isinstance(figure, dict)
                else "{ratio} times ({ours_us} µs / {floor_us} µs)".format(**figure)
            )
            print(f"{kind:11} {what:38} {told}")


if __name__ == "__main__":
    main()
