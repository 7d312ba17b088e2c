"""Make docs/demo.svg: run the demo, and keep what it really printed.

To make it anew: python docs/demo_picture.py
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from mobius_otel.cli.demo.command import play
from mobius_otel.cli.demo.view import RichView
from mobius_otel.cli.demo.world import Secrets, World

PICTURE = Path(__file__).parent / "demo.svg"
COLUMNS = 118


def main() -> int:
    """Run the demo into a picture; return 1, without a picture, where the demo was not as it should be."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    with World(Secrets.make()) as world, RichView(console, live=False) as view:
        report = play(world, view)
        view.finish(report)
    if not report.ok:
        print("\n".join(report.problems), file=sys.stderr)
        return 1
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="mobius-otel demo"), flags=re.DOTALL)
    PICTURE.write_text(picture.replace("Fira Code", "ui-monospace"), encoding="utf-8")  # it fetches nothing
    return 0


if __name__ == "__main__":
    sys.exit(main())
