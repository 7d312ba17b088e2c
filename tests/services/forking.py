"""Processes that fork while their threads work."""

import json
import os
from collections.abc import Callable
from typing import Any


def environment() -> dict[str, str]:
    """Return the environment without coverage: it holds a lock of its own while it records, also over a fork."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def in_processes(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Let `number` forked children begin `work` at the same time; return what it returned in each.

    Args:
        number: How many.
        work: Called with the child's number.
    """
    start_read, start_write = os.pipe()
    children = []
    for index in range(number):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(start_write)
                os.read(start_read, 1)  # its end: everybody is there
                os.write(write, json.dumps(work(index)).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        children.append((child, read))
    os.close(start_write)
    results = []
    for child, read in children:
        with os.fdopen(read) as pipe:
            text = pipe.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        results.append(json.loads(text))
    os.close(start_read)
    return results
