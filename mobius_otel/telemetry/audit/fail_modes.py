"""What happens when a record cannot be kept: by the event's name, by its risk, else by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.risk import BANDS, band

__all__ = ["FAIL_MODES", "FailMode", "FailModes", "configured_mode"]

FailMode = Literal["strict", "spool", "best_effort"]
FAIL_MODES: Final = get_args(FailMode)
_RISK: Final = "risk:"
_EVENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}(?:\.\*)?")


class FailModes:
    """Fail modes by rule.

    Args:
        rules: The mode of an event's name (``payment.refund``), of all names that begin alike (``payment.*``), or of a
            band of the risk scale (``risk:critical``). The exact name comes first, then the longest beginning, then
            the band.

    Raises:
        ConfigurationError: A rule or a mode is none.

    Example:
        >>> modes = FailModes({"payment.*": "strict", "risk:info": "best_effort"})
        >>> modes.of("payment.refund", 5), modes.of("page.seen", 5), modes.of("page.seen", 50)
        ('strict', 'best_effort', None)
    """

    __slots__ = ("_bands", "_beginnings", "_names")

    def __init__(self, rules: Mapping[str, FailMode]) -> None:
        bands = {one.name for one in BANDS}
        for rule, mode in rules.items():
            if mode not in FAIL_MODES:
                raise ConfigurationError(f"fail_modes.{rule}", mode, f"one of {', '.join(FAIL_MODES)}")
            if rule.removeprefix(_RISK) not in bands if rule.startswith(_RISK) else not _EVENT.fullmatch(rule):
                raise ConfigurationError(
                    "fail_modes", rule, 'an event\'s name, a beginning such as "payment.*", or "risk:" and one of'
                    f" {', '.join(one.name for one in BANDS)}",
                )  # fmt: skip
        self._bands: dict[str, FailMode] = {
            rule.removeprefix(_RISK): mode for rule, mode in rules.items() if rule.startswith(_RISK)
        }
        names: dict[str, FailMode] = {rule: mode for rule, mode in rules.items() if not rule.startswith(_RISK)}
        self._names: dict[str, FailMode] = {rule: mode for rule, mode in names.items() if not rule.endswith(".*")}
        self._beginnings: list[tuple[str, FailMode]] = sorted(
            ((rule[:-1], mode) for rule, mode in names.items() if rule.endswith(".*")), key=lambda one: -len(one[0])
        )

    def of(self, event_name: str, risk_score: int | None) -> FailMode | None:
        """Return the mode of an event; None where no rule fits."""
        if found := self._names.get(event_name):
            return found
        for beginning, mode in self._beginnings:
            if event_name.startswith(beginning):
                return mode
        return self._bands.get(band(risk_score).name) if self._bands else None

    def __repr__(self) -> str:
        return f"FailModes({len(self._names) + len(self._beginnings) + len(self._bands)} rules)"


def configured_mode(event_name: str, risk_score: int | None) -> FailMode:
    """Return what ``configure()`` says of an event."""
    slot = defaults.slot()
    return (slot.fail_modes and slot.fail_modes.of(event_name, risk_score)) or slot.fail_mode
