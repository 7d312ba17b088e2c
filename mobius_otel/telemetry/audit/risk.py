"""The risk scale: what a score from 0 to 100 means, and the severities that follow from it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BANDS", "Band", "BandName", "band", "severity"]

BandName = Literal["info", "low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Band:
    """A part of the risk scale.

    Args:
        name: ``info``, ``low``, ``medium``, ``high`` or ``critical``.
        lowest: The lowest score that belongs to it; it reaches to the next one's.
        meaning: What an action of this risk is.
        success: OpenTelemetry's severity number of such an action that worked.
        failure: OpenTelemetry's severity number of one that failed or was refused.
        ocsf_severity: OCSF's ``severity_id``.
        ocsf_risk_level: OCSF's ``risk_level_id``.
    """

    name: BandName
    lowest: int
    meaning: str
    success: int
    failure: int
    ocsf_severity: int
    ocsf_risk_level: int


#: The scale, from the bottom. An action that worked is never an error (17 and above), whatever it risks; OCSF's
#: Fatal (6) is for what cannot be mended any more, so no score becomes one.
BANDS: Final = (
    Band("info", 0, "Everyday reading, or the end of something that needs no attention.", 9, 10, 1, 0),
    Band("low", 20, "An everyday change that its owner can undo.", 10, 13, 2, 1),
    Band("medium", 40, "A change of access, money or personal data of one person.", 13, 14, 3, 2),
    Band("high", 60, "A change for many, or one that is hard to undo; somebody should look today.", 14, 17, 4, 3),
    Band("critical", 80, "Control over the system or its trail itself; somebody should look now.", 15, 18, 5, 4),
)


_OF_SCORE: Final = tuple(next(one for one in reversed(BANDS) if score >= one.lowest) for score in range(101))


def band(risk_score: int | None) -> Band:
    """Return the band of a score.

    Args:
        risk_score: 0 to 100; None counts as 0.

    Example:
        >>> band(85).name, band(None).name
        ('critical', 'info')
    """
    return _OF_SCORE[min(max(risk_score or 0, 0), 100)]


@functools.lru_cache(maxsize=1024)  # three outcomes of each score
def severity(risk_score: int | None, outcome: str) -> int:
    """Return the OpenTelemetry severity number of a risk and an outcome.

    Args:
        risk_score: 0 to 100; None counts as 0.
        outcome: ``unknown`` counts as ``success``.

    Example:
        >>> severity(10, "success"), severity(70, "failure"), severity(100, "success")
        (9, 17, 15)
    """
    found = band(risk_score)
    return found.failure if outcome == "failure" else found.success
