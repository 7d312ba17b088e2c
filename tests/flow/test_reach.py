"""Whether the guard stands in front of what a process serves: the gauge and the log say what a client sees."""

import subprocess
import sys
import textwrap

import pytest

from tests.services.service import free_port

_SERVICE = """
import sys, threading, time
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
import mobius_otel
from mobius_otel.instrumentation import reach

reach._LOOKS = ({seconds},) * {looks}
port = int(sys.argv[1])

def outwards(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back

runtime = mobius_otel.configure()
{serve}
looks = reach.Reach._watch.__code__
while any(frame.f_code is looks for last in sys._current_frames().values() for frame in outwards(last)):
    time.sleep(0.05)
found = [
    point.value
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics if metric.name == "mobius.guard.armed"
    for point in metric.data.data_points
]
print("armed", found, flush=True)
runtime.shutdown()
"""
_WSGIREF = """
from wsgiref.simple_server import make_server
server = make_server("127.0.0.1", port, application)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
_FLASK = """
from flask import Flask
application = Flask("shop")
"""
_PLAIN = """
def application(environ, start):
    start("200 OK", [])
    return [b"open"]
"""
_ASYNCIO = """
import asyncio
async def serve():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    await server.serve_forever()
threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
"""
_WAITRESS = """
import waitress
server = waitress.create_server(application, host="127.0.0.1", port=port)
"""
_DEMANDING = '[api_keys]\nrequire = ["/*"]\nstore = "memory://"\n'


def _run(folder, serve, policy=_DEMANDING, *, seconds=0.3, looks=60):
    (folder / "mobius.toml").write_text(policy)
    service = folder / "service.py"
    service.write_text(textwrap.dedent(_SERVICE).format(serve=serve, seconds=seconds, looks=looks))
    done = subprocess.run(
        [sys.executable, str(service), str(free_port())], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="where a process listens is seen on Linux alone")
@pytest.mark.parametrize("serve", [_PLAIN + _WSGIREF, _ASYNCIO], ids=["wsgiref", "asyncio"])
def test_an_open_service_is_told_and_not_called_armed(tmp_path, serve):
    """What the guard does not reach is served as if there were no policy; nobody shall believe otherwise."""
    armed, log = _run(tmp_path, serve)
    assert armed == "armed [0]"
    assert log.count("THE SERVICE IS OPEN") == 1
    assert "API keys" in log


@pytest.mark.parametrize("serve", [_FLASK + _WSGIREF, _PLAIN + _WAITRESS], ids=["flask on wsgiref", "waitress"])
@pytest.mark.skipif(sys.platform != "linux", reason="where a process listens is seen on Linux alone")
def test_a_guarded_service_is_armed_before_its_first_request(tmp_path, serve):
    """An application of a framework is guarded by whatever serves it, any other one where a known server does."""
    armed, log = _run(tmp_path, serve)
    assert armed == "armed [1]"
    assert "OPEN" not in log


def test_a_process_that_serves_nothing_is_told_nothing(tmp_path):
    """A job under the policy of the service: nothing is guarded, and nothing is open."""
    armed, log = _run(tmp_path, "", seconds=0.01, looks=3)
    assert armed == "armed [0]"
    assert "OPEN" not in log


def test_who_demands_nothing_is_told_nothing(tmp_path):
    """Redaction alone needs no guard."""
    armed, log = _run(tmp_path, _PLAIN + _WSGIREF, '[headers]\npreset = "off"\n')
    assert armed == "armed [0]"
    assert "OPEN" not in log


def test_who_leaves_the_serving_to_others_says_nothing(tmp_path):
    """gunicorn's master listens and serves nothing; its workers say what holds."""
    serve = """
    import gunicorn.arbiter
    gunicorn.arbiter.Arbiter.start = lambda self: sys.exit(0)
    try:
        gunicorn.arbiter.Arbiter.run(type("Of", (), {"start": lambda self: sys.exit(0)})())
    except SystemExit:
        pass
    """
    pytest.importorskip("gunicorn")
    armed, log = _run(tmp_path, textwrap.dedent(serve) + _ASYNCIO)
    assert armed == "armed []"
    assert "OPEN" not in log
