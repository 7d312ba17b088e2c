"""Puts this folder in front of ``sys.path``, so that Python finds the sitecustomize of ``mobius-otel run`` first.

Called by mobius_otel_run.pth, which Python reads where the package is installed: it reaches what PYTHONPATH does not, a
start script that sets PYTHONPATH itself, and ``python -I``. It does not arm: other .pth files have yet to be read.
"""

import os
import sys


def stand() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
