"""How it is decided: the sliding window log and GCRA, as functions of a key's state and the time."""

from __future__ import annotations

from mobius_otel.security.rate_limit.algorithms.gcra import GcraPlan, gcra_facts
from mobius_otel.security.rate_limit.algorithms.plan import Plan
from mobius_otel.security.rate_limit.algorithms.window import (
    EXACT,
    FEW,
    WindowLog,
    WindowPlan,
    few_facts,
    few_left,
    window_facts,
)  # fmt: skip

__all__ = [
    "EXACT", "FEW", "GcraPlan", "Plan", "WindowLog", "WindowPlan", "few_facts", "few_left", "gcra_facts",
    "window_facts",
]  # fmt: skip
