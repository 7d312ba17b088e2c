"""A Flask service for several workers; it counts with OpenTelemetry's own API and knows nothing of a sidecar."""

from __future__ import annotations

import os

from flask import Flask
from opentelemetry import metrics

app = Flask(__name__)
placed = metrics.get_meter("shop").create_counter("orders.placed", unit="{order}", description="Orders.")


@app.post("/orders")
def order() -> dict[str, int]:
    """Place an order."""
    placed.add(1, {"currency": "EUR"})
    return {"worker": os.getpid()}
