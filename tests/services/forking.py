"""Processes that fork while their threads work."""

import os


def environment() -> dict[str, str]:
    """Return the environment without coverage: it holds a lock of its own while it records, also over a fork."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
