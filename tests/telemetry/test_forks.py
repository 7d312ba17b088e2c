"""Forks: a child counts from zero and hangs nowhere, whatever the parent was doing."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.services import forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

BEGIN = """
import os, signal, sys, threading, time
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from mobius_otel import MetricEmitter

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
emitter = MetricEmitter("x")
counter, gauge, timer = emitter.counter("n"), emitter.gauge("g"), emitter.timer("t")
bound = counter.bind({"a": 1})
emitter.observe("o", lambda: [(1, {})])

def use():
    bound.add(); counter.add(1, {"a": 1}); gauge.add(1); timer.record(1)

def seen():
    data = reader.get_metrics_data()
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        for point in metric.data.data_points:
            found[metric.name] = found.get(metric.name, 0) + (point.value if hasattr(point, "value") else point.count)
    return dict(sorted(found.items()))

def wait(pid, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"
"""


def run(code):
    """Run a program after BEGIN and return what it printed."""
    program = textwrap.dedent(BEGIN) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
                          env=forking.environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_a_child_counts_from_zero_and_the_parent_goes_on():
    """What the parent counted is the parent's, told or not yet."""
    lines = run("""
    use(); seen(); use()
    pid = os.fork()
    use()
    if pid == 0:
        print(seen(), flush=True)
        os._exit(0)
    assert wait(pid) == 0
    print(seen())
    """)
    assert lines[0] == "{'g': 1, 'n': 2, 'o': 1, 't': 1}"
    assert lines[1] == "{'g': 3, 'n': 6, 'o': 1, 't': 3}"


def test_no_child_hangs_though_threads_record_and_collect_while_it_is_forked():
    """Every lock of ours and of the SDK's metrics is a new one in the child."""
    lines = run("""
    stop = threading.Event()

    def busy(work):
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=busy, args=(work,)) for work in (use, use, use, seen)]
    [thread.start() for thread in threads]
    outcomes = []
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            emitter.counter("made.in.child").add(1)
            use(); use()
            found = seen()
            os._exit(0 if (found["n"], found["t"], found["made.in.child"]) == (4, 2, 1) else 3)
        outcomes.append(wait(pid))
    stop.set()
    [thread.join() for thread in threads]
    print(set(outcomes))
    """)
    assert lines[0] == "{0}"


def test_a_lock_that_was_held_at_the_fork_is_free_in_the_child():
    """The worst moment, made on purpose: the SDK's lock of this very series is held."""
    lines = run("""
    use(); seen()
    provider = metrics.get_meter_provider()
    (storage,) = provider._measurement_consumer._reader_storages.values()
    held = [provider._measurement_consumer._lock, storage._lock]
    for matches in storage._instrument_view_instrument_matches.values():
        for match in matches:
            held.append(match._lock)
            held.extend(aggregation._lock for aggregation in match._attributes_aggregation.values())
    [lock.acquire() for lock in held]
    pid = os.fork()
    if pid == 0:
        use()
        os._exit(0 if seen()["n"] == 2 else 3)
    [lock.release() for lock in held]
    print(wait(pid), seen()["n"])
    """)
    assert lines[0] == "0 2"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_counts_in_every_child(tmp_path, method):
    """Also where the child ends without cleaning up."""
    (tmp_path / "work.py").write_text(
        textwrap.dedent(BEGIN)
        + textwrap.dedent("""
    def child(queue, number):
        for _ in range(number):
            use()
        queue.put(seen()["n"])
        queue.close(); queue.join_thread()
        os._exit(0)
    """)
    )
    (tmp_path / "main.py").write_text(
        textwrap.dedent(f"""
    import multiprocessing
    import work
    if __name__ == "__main__":
        work.use()
        context = multiprocessing.get_context("{method}")
        queue = context.Queue()
        children = [context.Process(target=work.child, args=(queue, n)) for n in (1, 2, 3)]
        [child.start() for child in children]
        print(sorted(queue.get(timeout=30) for _ in children))
        [child.join(30) for child in children]
        print([child.exitcode for child in children], work.seen()["n"])
    """)
    )
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip
    assert done.stdout.splitlines() == ["[2, 4, 6]", "[0, 0, 0] 2"], done.stderr


def test_a_child_of_a_process_that_was_exporting_can_export(tmp_path):
    """The SDK's reader holds a lock while it exports; instruments that are not ours count from zero as well."""
    lines = run("""
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExportResult
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from mobius_otel.telemetry.streams import renew_on_fork

    inside, seen_counts = threading.Event(), []

    class Slow(ConsoleMetricExporter):
        def export(self, data, timeout_millis=1000, **_):
            for metric in data.resource_metrics[0].scope_metrics[0].metrics:
                seen_counts.append(sum(point.value for point in metric.data.data_points))
            inside.set()
            time.sleep(0.5)
            return MetricExportResult.SUCCESS

    slow = PeriodicExportingMetricReader(Slow(), 50)
    own = MeterProvider([slow])
    renew_on_fork(own)
    raw = own.get_meter("not ours").create_counter("raw")
    raw.add(5)
    inside.wait()
    time.sleep(0.1)
    pid = os.fork()
    if pid == 0:
        seen_counts.clear()
        raw.add(1)
        own.force_flush()
        own.get_meter("another").create_counter("made.in.child").add(1)
        os._exit(0 if set(seen_counts) == {1} else 3)
    print(wait(pid))
    """)
    assert lines[0] == "0"


def test_a_child_imports_what_a_thread_was_importing_when_the_process_forked(tmp_path):
    """Python hands the child the lock of a module that is half imported, and nobody who would release it."""
    (tmp_path / "re2.py").write_text("import time; started = True; time.sleep(0.5)")
    code = f"""
    sys.path.insert(0, {str(tmp_path)!r})
    from mobius_otel import compat
    threading.Thread(target=compat.has_linear_patterns).start()
    while "re2" not in sys.modules:
        time.sleep(0.001)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if compat.has_linear_patterns() and sys.modules["re2"].started else 1)
    print(wait(pid, 10))
    """
    assert run(code)[0] == "0"


def test_a_fork_whose_preparation_was_interrupted_leaves_nothing_locked():
    """A signal handler raises while objects get ready: what they hold is given back, and the child goes on."""
    code = """
    from mobius_otel import forks
    class Object:
        held = False
        def _before_fork(self):
            self.held = True
        def _after_fork_in_parent(self):
            self.held = False
        _after_fork_in_child = _after_fork_in_parent
    class Interrupted:
        def _before_fork(self):
            raise KeyboardInterrupt
    objects = [Object() for _ in range(5)] + [Interrupted()]
    for one in objects:
        forks.on_fork(one)
    pid = os.fork()
    if pid == 0:
        os._exit(any(one.held for one in objects[:5]))
    print(wait(pid), any(one.held for one in objects[:5]))
    """
    assert run(code)[0] == "0 False"
