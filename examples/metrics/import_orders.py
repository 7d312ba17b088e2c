"""A plain script that counts what it does and prints it: no collector, no server.

pip install mobius_otel
python import_orders.py
"""

from __future__ import annotations

import random

from mobius_otel import InMemoryMetricsBackend, MetricEmitter

BACKEND = InMemoryMetricsBackend()  # leave it out, and the metrics go to OpenTelemetry's global provider
METRICS = MetricEmitter("import_orders", "1.0", backend=BACKEND)
ORDERS = METRICS.counter("orders.imported", unit="{order}", description="Orders that were read.")
BACKLOG = METRICS.gauge("orders.backlog", unit="{order}", description="Orders that wait.")
IMPORT = METRICS.timer("orders.import.duration", description="How long one order takes.", buckets="fast")


@IMPORT
def import_order(amount: float) -> None:
    """Read one order."""
    if amount < 1:
        raise ValueError("an order of nothing")


def main() -> None:
    """Import a thousand orders."""
    amounts = random.Random(1)
    euros, dollars = ORDERS.bind({"currency": "EUR"}), ORDERS.bind({"currency": "USD"})  # made once, counted often
    BACKLOG.set(1000)
    for number in range(1000):
        try:
            import_order(amounts.uniform(0.5, 50))
        except ValueError:
            continue
        finally:
            BACKLOG.add(-1)
        (dollars if number % 4 == 0 else euros).add()

    print(f"imported   {BACKEND.value('orders.imported'):,} orders")
    print(f"in euros   {BACKEND.value('orders.imported', currency='EUR'):,}")
    print(f"refused    {BACKEND.count('orders.import.duration', **{'error.type': 'ValueError'}):,}")
    print(f"backlog    {BACKEND.value('orders.backlog'):,}")
    print(f"95 % took  {BACKEND.percentile('orders.import.duration', 95) * 1e6:.1f} µs or less")


if __name__ == "__main__":
    main()
