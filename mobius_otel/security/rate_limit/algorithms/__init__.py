"""How it is decided: the sliding window log and GCRA, as functions of a key's state and the time."""

from __future__ import annotations

from mobius_otel.security.rate_limit.algorithms.gcra import GcraPlan, gcra_facts
from mobius_otel.security.rate_limit.algorithms.plan import Plan
from mobius_otel.security.rate_limit.algorithms.window import EXACT, WindowLog, WindowPlan, window_facts

__all__ = ["EXACT", "GcraPlan", "Plan", "WindowLog", "WindowPlan", "gcra_facts", "window_facts"]
