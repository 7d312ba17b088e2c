"""How it is decided: the sliding window log and GCRA, as functions of a key's state and the time."""

from __future__ import annotations

from mobius_otel.security.rate_limit.algorithms.gcra import GcraPlan
from mobius_otel.security.rate_limit.algorithms.plan import Plan
from mobius_otel.security.rate_limit.algorithms.window import EXACT, WindowLog, WindowPlan

__all__ = ["EXACT", "GcraPlan", "Plan", "WindowLog", "WindowPlan"]
