"""A test file that asserts on metrics: ``pytest test_orders.py``, with mobius_otel and pytest installed.

The fixture ``telemetry`` comes with the package. Its numbers are this test's alone, also for counters that were
made when the module was imported.
"""

import pytest

from mobius_otel import MetricEmitter, metric_timer

placed = MetricEmitter("shop").counter("orders.placed", unit="{order}")


def place(currency):
    """What is tested."""
    with metric_timer("orders.place.duration", currency=currency):
        if currency == "XXX":
            raise ValueError(currency)
        placed.add(1, {"currency": currency})


def test_orders_are_counted_by_currency(telemetry):
    """Selected by attributes; what is not named is summed over."""
    for currency in ("EUR", "EUR", "USD"):
        place(currency)
    assert telemetry.metric("orders.placed") == 3
    assert telemetry.metric("orders.placed", currency="EUR") == 2
    assert telemetry.metric("orders.place.duration", currency="EUR") == 2  # a timer: how often


def test_a_failure_is_timed_and_not_counted(telemetry):
    """Nothing of the test above is left over."""
    with pytest.raises(ValueError, match="XXX"):
        place("XXX")
    assert telemetry.metric("orders.placed") == 0
    assert telemetry.metric("orders.place.duration", {"error.type": "ValueError"}) == 1
