"""A whole rotation while clients go on: nobody is refused, and it is seen when the old secret is no longer used.

Three clients call with the key of `shop`. The key is rotated; the new secret goes into a file that each client reads
again some time later. The share of calls that still come with the old secret falls from all to none, the rotator says
that its grace can be ended, and it is ended.

    python examples/key_rotation/rotate_under_traffic.py
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from mobius_otel import ApiKeyManager, InMemoryMetricsBackend, KeyRotator, MetricEmitter
from mobius_otel.errors import InvalidApiKey
from mobius_otel.security.api_keys import file_sink
from mobius_otel.telemetry import defaults

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
DAY = 86400
GENERATIONS = "mobius.api_key.retiring.verifications"


class Client(threading.Thread):
    """Calls all the time, and reads its secret again `after` seconds."""

    def __init__(self, manager: ApiKeyManager, file: Path, after: float) -> None:
        super().__init__(daemon=True)
        self.manager, self.file, self.after = manager, file, after
        self.calls = self.refused = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        secret, read = self.file.read_text().strip(), time.monotonic()
        while not self.stopping.wait(0.002):
            if time.monotonic() - read > self.after:
                secret, read = self.file.read_text().strip(), time.monotonic()
            try:
                self.manager.verify(secret, scopes={"orders:read"})
            except InvalidApiKey:
                self.refused += 1
            self.calls += 1


def share_of_old(backend: InMemoryMetricsBackend, told: dict[str, float]) -> float | None:
    """Return which share of the calls since the last time came with the old secret."""
    now = {
        age: sum(p.value for p in backend.series(GENERATIONS) if p.attributes["mobius.api_key.generation"] == age)
        for age in ("old", "new")
    }
    since = {age: now[age] - told.get(age, 0) for age in now}
    told.update(now)
    total = sum(since.values())
    return since["old"] / total if total else None


def main() -> int:
    """Run it, and return 0 when nobody was refused."""
    backend = InMemoryMetricsBackend()
    defaults.install(defaults.Defaults(emitter=MetricEmitter("mobius_otel", backend=backend)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shop"
        shift = [-85 * DAY]  # the key was issued 85 days ago and lives 90
        manager = ApiKeyManager(
            f"sqlite:///{folder}/keys.db", pepper="a made-up pepper", clock=lambda: time.time() + shift[0]
        )
        old = manager.issue("shop", {"orders:*"})
        shift[0] = 0
        file_sink(file)("shop", old)
        clients = [Client(manager, file, SECONDS * part) for part in (0.25, 0.45, 0.65)]
        [client.start() for client in clients]
        time.sleep(SECONDS / 10)

        rotator = KeyRotator(manager, sink=file_sink(folder), rotate_before=7 * DAY, unused_after=SECONDS / 10)
        (rotated,) = rotator.run_once().rotated
        print(f"{rotated} was rotated; its new secret is in the clients' file\n\nold secret   calls")

        begin, told, unused = time.monotonic(), {}, ()
        while not unused and time.monotonic() - begin < 4 * SECONDS:
            time.sleep(SECONDS / 12)
            share = share_of_old(backend, told)
            if share is not None:
                print(f"{share:10.0%}   {'#' * round(30 * share)}{'.' * round(30 * (1 - share))}")
            manager.close()  # writes down when each was last used; by itself it does so every few seconds
            unused = rotator.run_once().unused

        manager.revoke(rotated, reason="nobody uses it any more")
        time.sleep(SECONDS / 20)
        [client.stopping.set() for client in clients]
        [client.join() for client in clients]
        calls, refused = (sum(getattr(client, name) for client in clients) for name in ("calls", "refused"))
        print(f"\n{rotated} is not used any more: its grace was ended, {manager.get(rotated).state}")
        print(f"{calls:,} calls, {refused} refused")
        manager.close()
    return 1 if refused or not unused else 0


if __name__ == "__main__":
    sys.exit(main())
