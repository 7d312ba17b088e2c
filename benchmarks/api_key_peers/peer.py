"""One peer of the API keys, in an interpreter of its own; `api_keys.py` runs it.

Prints JSON: what one verification of a good key costs and what a malformed one does, in microseconds, beside what
SHA-256 with a comparison in constant time costs in the same process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
Verify = Callable[[str], Any]


def keyshield(*, delays: bool) -> tuple[Verify, str]:
    """Its cached service over its own memory; `delays`: as it comes, else without its random sleeps."""
    from keyshield.hasher.argon2 import Argon2ApiKeyHasher
    from keyshield.repositories.in_memory import InMemoryApiKeyRepository
    from keyshield.services.cached import CachedApiKeyService

    more = {} if delays else {"min_delay": 0.0, "max_delay": 0.0}
    hasher = Argon2ApiKeyHasher(pepper="a made-up pepper")
    service = CachedApiKeyService(InMemoryApiKeyRepository(), hasher, **more)
    loop = asyncio.new_event_loop()
    _, secret = loop.run_until_complete(service.create(name="alice", scopes=["read"]))
    return lambda presented: loop.run_until_complete(service.verify_key(presented)), secret


def keygate(*, folder: Path) -> tuple[Verify, str]:
    """Its look-up alone, without its limiter and its usage row."""
    from keygate.gate import KeyGate

    gate = KeyGate(db_url=f"sqlite:///{folder / 'keys.db'}", admin_secret="a made-up secret")
    created = gate.create_key(owner_id="alice", name="alice", scopes=["read"])
    secret = getattr(created, "key", None) or getattr(created, "plaintext", None) or created.secret

    def verify(presented: str) -> Any:
        found = gate._lookup(presented)
        if found is None:
            raise ValueError
        return found

    return verify, secret


def rest_framework(*, folder: Path) -> tuple[Verify, str]:
    """Its manager's question, over a SQLite file."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "keys.db")}},
        INSTALLED_APPS=["rest_framework", "rest_framework_api_key"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from rest_framework_api_key.models import APIKey

    _, secret = APIKey.objects.create_key(name="alice")

    def verify(presented: str) -> Any:
        if not APIKey.objects.is_valid(presented):
            raise ValueError

    return verify, secret


PEERS = {
    "keyshield": lambda _: keyshield(delays=True),
    "keyshield, delays set to 0": lambda _: keyshield(delays=False),
    "fastapi-keygate": lambda folder: keygate(folder=folder),
    "djangorestframework-api-key": lambda folder: rest_framework(folder=folder),
}


def timed(work: Callable[[], object], number: int, clock: Callable[[], float]) -> float:
    """Return what one call takes, in microseconds."""
    begin = clock()
    for _ in range(number):
        work()
    return (clock() - begin) / number * 1e6


def main() -> None:
    """Measure the peer that is named."""
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        verify, secret = PEERS[name](Path(folder))
        verify(secret)
        digest = hashlib.sha256(secret.encode()).digest()
        wrong = secret[:-1] + "!"

        def floor() -> None:
            hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), digest)

        def refused() -> None:
            with contextlib.suppress(Exception):
                verify(wrong)

        sleeps = name == "keyshield"  # on purpose, at every verification
        clock = time.perf_counter if sleeps else time.process_time
        number = 3 if sleeps else 200
        rounds: dict[str, list[float]] = {"floor": [], "warm": [], "malformed": []}
        for _ in range(2 if sleeps else 5):
            rounds["floor"].append(timed(floor, 20_000, clock))
            rounds["warm"].append(timed(lambda: verify(secret), number, clock))
            rounds["malformed"].append(timed(refused, min(number, 10), clock))
        print(json.dumps({row: statistics.median(times) for row, times in rounds.items()}))


if __name__ == "__main__":
    main()
