"""``python -m mobius_otel`` is the command ``mobius-otel``."""

from __future__ import annotations

import sys

from mobius_otel.cli.main import main

sys.exit(main())
