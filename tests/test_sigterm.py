"""SIGTERM under a policy: a service meets what it would meet without one, and is what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

_READY = "print('ready', flush=True)\nsys.stdin.read()\n"
#: The clean-up of a service that calls whom it found, as TensorBoard does.
CHAINS = """
import atexit, signal, sys
def handle(number, frame):
    print("first")
    if callable(found):
        found(number, frame)
    print("second")
    sys.exit(0)
found = signal.signal(signal.SIGTERM, handle)
atexit.register(print, "exit", found)
"""
#: What was found is put back, and the signal is raised again, as uvicorn does.
PUTS_BACK = """
import signal, sys
def handle(number, frame):
    signal.signal(number, found)
    print(signal.getsignal(number), flush=True)
    signal.raise_signal(number)
found = signal.signal(signal.SIGTERM, handle)
"""
#: What takes it over outside of Python calls whom it found, and goes on, as the runtimes of Rust do.
TAKES_OVER = """
import ctypes, signal, sys
libc = ctypes.CDLL(None)
size = ctypes.sizeof(ctypes.c_void_p)
before = ctypes.create_string_buffer(1024)
libc.sigaction(int(signal.SIGTERM), None, before)
address = int.from_bytes(before.raw[:size], sys.byteorder)
handles = ctypes.CFUNCTYPE(None, ctypes.c_int)
python = handles(address) if address else None
@handles
def native(number):
    if python is not None:
        python(number)
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.signal(int(signal.SIGTERM), ctypes.cast(native, ctypes.c_void_p))
import atexit
atexit.register(print, "exit")
"""


def ended(folder, source, *prefix, wakes=False):
    """Run a script, end it by SIGTERM; return what it said then, and its status."""
    (folder / "work.py").write_text(textwrap.dedent(source) + _READY)
    environ = os.environ | {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}
    with subprocess.Popen(
        [*prefix, sys.executable, "work.py"], cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        if wakes:
            process.stdin.close()
        said = process.stdout.read()
        return said, process.wait(20)


@pytest.mark.parametrize(("source", "wakes"), [(CHAINS, False), (PUTS_BACK, False), (TAKES_OVER, True)])
def test_a_service_ends_as_it_would_without_a_policy(tmp_path, source, wakes):
    """It cleans up, exits with its own status, or dies by the signal that it raises."""
    alone = ended(tmp_path, source, wakes=wakes)
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\n')
    assert ended(tmp_path, source, sys.executable, "-m", "mobius_otel", "run", "--", wakes=wakes) == alone
    assert alone[0]
