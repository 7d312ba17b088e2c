"""A project as ``django-admin startproject`` makes it, under the guard and OpenTelemetry's Django instrumentation."""

import os
import subprocess
import sys

import pytest

from tests.services.service import POLICY, open_shop

pytest.importorskip("django")
pytest.importorskip("opentelemetry.instrumentation.django")

_URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("v1/items", lambda request: HttpResponse("HIT"))]
"""
_GUNICORN = ["gunicorn", "site_of.wsgi", "-b", "127.0.0.1:PORT"]
_SERVERS = {
    "uvicorn": ["uvicorn", "site_of.asgi:application", "--port", "PORT"],
    "daphne": ["daphne", "-p", "PORT", "site_of.asgi:application"],
    "runserver": ["python", "manage.py", "runserver", "--noreload", "127.0.0.1:PORT"],
    "reloader": ["python", "manage.py", "runserver", "127.0.0.1:PORT"],
}
if sys.platform != "win32":
    _SERVERS |= {"gunicorn": _GUNICORN, "gunicorn --preload": [*_GUNICORN, "--preload"]}
    _SERVERS["gunicorn -k gevent"] = [*_GUNICORN, "-k", "gevent"]  # which patches before there are settings


@pytest.fixture
def project(tmp_path):
    """A folder with a project; no settings are named in its environment."""
    made = [sys.executable, "-m", "django", "startproject", "site_of", str(tmp_path)]
    subprocess.run(made, check=True, timeout=60)
    (tmp_path / "site_of" / "urls.py").write_text(_URLS)
    assert "DJANGO_SETTINGS_MODULE" not in os.environ
    return tmp_path


def _answers(shop, argv, key=None, **environ):
    service = shop.start(argv=argv, OTEL_TRACES_EXPORTER="console", **environ)
    answer = service.get("/v1/items", key)
    assert (answer.status, answer.body) == (200, b"HIT"), service.log
    service.wait_log('"name": "GET v1/items"')
    return service


@pytest.mark.parametrize("server", _SERVERS)
def test_a_project_runs_as_before_guarded_and_with_spans(project, server):
    """Its settings are its own, though they are named after OpenTelemetry has started."""
    if server == "daphne":
        pytest.importorskip("daphne")
    with open_shop(project, policy=POLICY) as shop:
        key = shop.issue("alice", "read")["secret"]
        service = _answers(shop, _SERVERS[server], key)
        assert service.get("/v1/items").status == 401


@pytest.mark.parametrize("named", [{}, {"DJANGO_SETTINGS_MODULE": "site_of.settings"}], ids=["unnamed", "named"])
def test_without_a_policy_too(project, named):
    """Also where the environment names settings that a server has yet to put on the path."""
    with open_shop(project, policy=None) as shop:
        _answers(shop, _SERVERS["uvicorn"], **named)


def test_settings_that_cannot_be_loaded_are_said_as_before(project):
    """The service's own mistake is told by Django, and no empty settings take its place."""
    (project / "site_of" / "settings.py").write_text("import no_such_module\n")
    with open_shop(project, policy=None) as shop:
        done = shop.cli("run", "--", "python", "manage.py", "check", check=False, PATH=os.path.dirname(sys.executable))
        assert done.returncode != 0
        assert "no_such_module" in done.stderr
