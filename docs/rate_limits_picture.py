"""Make docs/rate-limits.svg: how many units each way of counting lets through within a minute, by really asking it.

A hundred tries at once at second 59, then ten a second for two minutes; the limit is 100/minute. Drawn is, for every
moment, how many have passed within the last minute. To make it anew: python docs/rate_limits_picture.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from mobius_otel import RateLimiter
from mobius_otel.clock import FrozenClock

PICTURE = Path(__file__).parent / "rate-limits.svg"
LIMIT, WINDOW, LAST = 100, 60.0, 185.0
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 330, 52, 16, 16, 40
COLOURS = {"sliding_window_log": "#1a7f37", "gcra": "#0969da", "two windows, weighted": "#cf222e"}
NOTES = {
    "sliding_window_log": "sliding_window_log: never more than 100",
    "gcra": "gcra: a burst of 100, then 100 a minute",
    "two windows, weighted": "two weighted windows, as elsewhere: not offered",
}


class TwoWindows:
    """The usual counter: this window's count and a share of the last one's."""

    def __init__(self, clock: FrozenClock) -> None:
        self.clock, self.counts = clock, {}

    def allow(self, _: str) -> bool:
        """Count a try if the estimate has room."""
        window, into = divmod(self.clock(), WINDOW)
        estimate = self.counts.get(window - 1, 0) * (1 - into / WINDOW) + self.counts.get(window, 0)
        if estimate + 1 > LIMIT:
            return False
        self.counts[window] = self.counts.get(window, 0) + 1
        return True


def passed(make: Callable[[FrozenClock], Callable[[str], bool]]) -> list[tuple[float, int]]:
    """Return for every tenth of a second how many passed within the minute up to it."""
    clock = FrozenClock(0.0)
    allow, hits, line = make(clock), [], []
    for step in range(round(LAST * 10) + 1):
        now = step / 10
        clock.set(now)
        tries = 100 if now == 59 else 1 if 59 < now < 179 else 0
        hits += [now] * sum(allow("client") for _ in range(tries))
        line.append((now, sum(now - hit < WINDOW for hit in hits)))
    return line


def x(seconds: float) -> float:
    """Return where a moment lies."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / LAST, 1)


def y(units: float) -> float:
    """Return where a number of units lies."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * units / 210, 1)


def polyline(line: list[tuple[float, int]], colour: str) -> str:
    """Return a line as steps, without the points between equal ones."""
    points, last = [], None
    for now, units in line:
        if units != last:
            points += [f"{x(now)},{y(last)}"] if last is not None else []
            points.append(f"{x(now)},{y(units)}")
            last = units
    points.append(f"{x(line[-1][0])},{y(line[-1][1])}")
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>'


def picture() -> str:
    """Return the picture."""
    lines = {
        "two windows, weighted": passed(lambda clock: TwoWindows(clock).allow),
        "gcra": passed(lambda clock: RateLimiter("100/minute", algorithm="gcra", clock=clock, audit=False).allow),
        "sliding_window_log": passed(lambda clock: RateLimiter("100/minute", clock=clock, audit=False).allow),
    }
    text = 'font-family="ui-monospace, monospace" font-size="12"'
    label = 'role="img" aria-label="Units that passed within the last minute, by algorithm"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {label}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<line x1="{x(0)}" y1="{y(LIMIT)}" x2="{x(LAST)}" y2="{y(LIMIT)}" stroke="#57606a" stroke-dasharray="5 4"/>',
    ]
    parts += [
        f'<text x="{LEFT - 8}" y="{y(units) + 4}" text-anchor="end" fill="#57606a" {text}>{units}</text>'
        for units in (0, 50, 100, 150, 200)
    ]
    parts += [
        f'<text x="{x(second)}" y="{HEIGHT - 20}" text-anchor="middle" fill="#57606a" {text}>{second} s</text>'
        for second in (0, 60, 120, 180)
    ]
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}" fill="#57606a" {text}>passed within the last minute</text>')
    for row, (name, line) in enumerate(lines.items()):
        parts.append(polyline(line, COLOURS[name]))
        at = f'x="{LEFT + 10}" y="{TOP + 14 + 18 * row}" fill="{COLOURS[name]}"'
        parts.append(f"<text {at} {text}>{NOTES[name]}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Write the picture; with --check return 1 where it is not current."""
    if "--check" in sys.argv[1:]:
        return 0 if PICTURE.read_text(encoding="utf-8") == picture() else 1
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
