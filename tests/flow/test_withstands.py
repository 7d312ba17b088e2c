"""Whatever goes wrong on the way up, a guarded path never answers 200."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobius_otel.cli.run import _isolating
from tests.services.service import FASTAPI, POLICY, command, open_shop

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the doors are driven with POSIX signals here")


def closed(service, wait: float = 12.0) -> bool:
    """Return whether the service ended with another status than 0, or answers 401."""
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            return service.process.returncode != 0
        try:
            status = service.get("/v1/items").status
        except OSError:
            time.sleep(0.1)
            continue
        assert status == 401, (status, service.log)
        return True
    raise AssertionError(f"it neither ended nor answered:\n{service.log}")


@pytest.mark.parametrize("door", ["run", "opentelemetry-instrument"])
@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "mobius_otel,fastapi"},
        {"MOBIUS_OTEL_POLICY": "nowhere.toml"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_an_environment_that_silences_telemetry_opens_nothing(fastapi_shop, door, environ):
    """Both doors stay shut."""
    assert closed(fastapi_shop.start(door=door, ready=False, **environ))


def test_an_exporter_that_does_not_exist_opens_nothing(fastapi_shop):
    """It costs telemetry; the guard was armed before."""
    assert closed(fastapi_shop.start(ready=False, OTEL_TRACES_EXPORTER="no_such_exporter"))


def test_a_propagator_that_does_not_exist_opens_nothing(fastapi_shop):
    """OpenTelemetry raises where its propagators are imported: the guard needs none of them."""
    assert closed(fastapi_shop.start(ready=False, OTEL_PROPAGATORS="no_such_propagator"))


def test_a_package_that_breaks_while_it_is_imported_opens_nothing(fastapi_shop):
    """Python goes on after an error in sitecustomize; the service must not."""
    site = fastapi_shop.folder / "site"
    site.mkdir()
    (site / "wrapt.py").write_text("raise RuntimeError('boom')\n")
    python = "import sys; print('served')"
    start = f'PYTHONPATH=$PYTHONPATH:{site} {sys.executable} -c "{python}"'
    done = fastapi_shop.cli("run", "--", "sh", "-c", start, check=False)
    assert (done.returncode, "served" in done.stdout) == (78, False)
    assert "RuntimeError: boom" in done.stderr


def test_another_instrumentor_that_raises_opens_nothing(fastapi_shop):
    """A broken neighbour costs spans and never the guard."""
    site = fastapi_shop.folder / "site"
    info = site / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "broken_instrumentor.py").write_text(
        "class Broken:\n    def __init__(self):\n        raise RuntimeError('boom')\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[opentelemetry_instrumentor]\nbroken = broken_instrumentor:Broken\n")
    for door in ("run", "opentelemetry-instrument"):
        assert closed(fastapi_shop.start(door=door, ready=False, PYTHONPATH=str(site)))


@pytest.mark.parametrize("door", ["run", "opentelemetry-instrument"])
@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            POLICY.replace("require =", "requre ="),
            "mobius.toml:4: api_keys.requre: unknown key 'requre'; did you mean 'require'?",
        ),
        (POLICY.replace('"20/minute"', '"20/minit"'), "rate_limit.rules[0].limit"),
        ("[service\n", "not valid TOML"),
        (POLICY + '[redaction.patterns]\nbad = "(a+)+(?=b)"\n', "a repetition inside a repetition"),
        (
            POLICY.replace("[api_keys]", '[api_keys]\nstore = "sqlite:///no/such/folder/keys.db"'),
            "in a folder that exists",
        ),
        (POLICY.replace('"audit.db"', '"no/such/folder/audit.db"'), "in a folder that exists"),
    ],
)
def test_a_policy_that_is_wrong_keeps_the_service_from_starting(tmp_path, door, policy, said):
    """Status 78, and a message that names what is wrong."""
    with open_shop(tmp_path, policy=policy) as shop:
        service = shop.start(door=door, ready=False)
        assert service.process.wait(20) == 78
        assert said in service.log
        assert "Traceback" not in service.log


def test_a_store_that_others_may_read_or_that_is_no_store_is_refused(fastapi_shop):
    """A key store with loose permissions, or of another kind, keeps the door shut."""
    store = fastapi_shop.folder / "keys.db"
    store.write_bytes(b"this is no database" * 100)
    store.chmod(0o600)
    assert fastapi_shop.start(ready=False).process.wait(20) == 78
    store.unlink()
    fastapi_shop.issue()
    store.chmod(0o644)
    service = fastapi_shop.start(ready=False)
    assert service.process.wait(20) == 78
    assert "chmod 600" in service.log


def test_a_store_that_breaks_while_the_service_runs_closes_the_door(shop):
    """503 without details, and the service's open paths go on."""
    key = shop.issue()["secret"]
    service = shop.start()
    assert service.get("/v1/items", key).status == 200
    store = shop.folder / "keys.db"
    for name in ("keys.db", "keys.db-wal", "keys.db-shm"):
        (shop.folder / name).unlink(missing_ok=True)
    store.mkdir()
    reply = service.get("/v1/items", key)
    assert (reply.status, reply.json["detail"]) == (503, "Please try again later.")
    assert service.get("/health").status == 200


def test_a_missing_extra_is_named(fastapi_shop):
    """A policy that asks for /metrics without the extra does not start."""
    site = fastapi_shop.folder / "site"
    site.mkdir()
    (site / "prometheus_client.py").write_text("raise ImportError('not here', name='prometheus_client')\n")
    service = fastapi_shop.start(ready=False, PYTHONPATH=str(site))
    assert service.process.wait(20) == 78
    assert "pip install 'mobius_otel[prometheus]'" in service.log


@pytest.mark.parametrize("door", ["run", "opentelemetry-instrument"])
@pytest.mark.parametrize(
    "argv",
    [
        ["uvicorn", "shop:app", "--port", "PORT", "--workers", "2"],
        ["uvicorn", "shop:app", "--port", "PORT", "--reload"],
        ["uvicorn", "shop:create_app", "--factory", "--port", "PORT"],
        ["gunicorn", "shop:app", "-k", "uvicorn.workers.UvicornWorker", "-w", "2", "-b", "127.0.0.1:PORT"],
        ["gunicorn", "shop:app", "-k", "uvicorn.workers.UvicornWorker", "-w", "2", "--preload", "-b", "127.0.0.1:PORT"],
    ],
    ids=["workers", "reload", "factory", "gunicorn", "preload"],
)
def test_workers_reloaders_and_preloading_are_guarded(fastapi_shop, door, argv):
    """Every process that serves has the guard."""
    if (
        "uvicorn.workers.UvicornWorker" in argv
        and shutil.which("gunicorn", path=str(Path(command("uvicorn")).parent)) is None
    ):
        pytest.skip("gunicorn is not installed")
    argv = [command(argv[0]), *argv[1:]]
    key = fastapi_shop.issue()["secret"]
    service = fastapi_shop.start(door=door, argv=argv)
    for _ in range(6):
        reply = answered(service, None)
        assert reply.status == 401, service.log
        assert answered(service, key).status == 200, service.log


def answered(service, key, wait: float = 15.0):
    """Return the first answer; a reloader's socket listens before its worker serves."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return service.get("/v1/items", key)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("argv", [["-w", "2"], ["-w", "2", "--preload"]])
def test_flask_under_gunicorn_is_guarded(tmp_path, argv):
    """The same for WSGI workers."""
    with open_shop(tmp_path, "flask") as shop:
        key = shop.issue()["secret"]
        service = shop.start(argv=[command("gunicorn"), "shop:app", *argv, "-b", "127.0.0.1:PORT"])
        for _ in range(4):
            assert answered(service, None).status == 401
            assert answered(service, key).status == 200


def test_the_order_of_imports_makes_no_difference(fastapi_shop):
    """An application that imported its framework before anything of ours is guarded too."""
    (fastapi_shop.folder / "early.py").write_text(
        "from fastapi import FastAPI\nimport fastapi, starlette.applications\n" + FASTAPI + "\nassert FastAPI\n"
    )
    service = fastapi_shop.start(argv=[command("uvicorn"), "early:app", "--port", "PORT"])
    assert service.get("/v1/items").status == 401


def test_a_program_that_keeps_the_guard_away_is_refused(fastapi_shop):
    """`python -I` ignores PYTHONPATH, so the guard could not be armed; the value of an option does not hide it."""
    result = fastapi_shop.cli("run", "--", command("python"), "-X", "dev", "-I", "-c", "print(1)", check=False)
    assert result.returncode == 78
    assert "isolates Python" in result.stderr


@pytest.mark.parametrize(
    ("line", "found"),
    [("-I", "-I"), ("-E -c x", "-E"), ("-BSu", "-BSu"), ("-X dev -I", "-I"), ("-Xdev -I", "-I"), ("-W ignore -E", "-E"),
     ("-bW ignore -E", "-E"), ("--check-hash-based-pycs default -I", "-I"), ("-c x -I", None), ("-cI", None),
     ("-X I -W S x.py", None), ("x.py -E", None), ("-mE -S", None), ("-Bm x -I", None), ("-XI x.py", None),
     ("--check-hash-based-pycs never x -I", None), ("-- -I", None), ("- -I", None), ("-X", None), ("", None)],
)  # fmt: skip
def test_options_are_read_as_python_reads_them(line, found):
    """A value is no option, and what follows the program is the program's."""
    assert _isolating(line.split()) == found


def test_a_start_script_that_sets_pythonpath_does_not_take_the_guard_away(fastapi_shop):
    """Usual in containers. A sitecustomize of the service's that stands in front comes after the guard."""
    own = fastapi_shop.folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("from mobius_otel.web import current_guard; print(current_guard() is None)")
    (fastapi_shop.folder / "probe.py").write_text(
        "import sys; from mobius_otel.web import current_guard; print(current_guard() is not None, *sys.argv[1:])"
    )
    (fastapi_shop.folder / "start.sh").write_text(
        'export PYTHONPATH="$PWD"; python probe.py 1; env -u PYTHONPATH python -X dev -I probe.py 2\n'
        "PYTHONPATH=own exec python probe.py 3\n"
    )
    path = os.pathsep.join([str(Path(command("python")).parent), os.environ["PATH"]])
    printed = fastapi_shop.cli("run", "--", "sh", "start.sh", PATH=path).stdout
    assert printed.splitlines() == ["True 1", "True 2", "False", "True 3"]


def test_a_python_without_the_package_says_so(fastapi_shop):
    """A start script that starts another environment's Python: nobody could guard that one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "other"], cwd=fastapi_shop.folder, check=True)
    python = fastapi_shop.folder / "other" / "bin" / "python"
    result = fastapi_shop.cli("run", "--", "sh", "-c", f"{python} -c 'print(1)'; exit 3", check=False)
    assert (result.returncode, result.stdout) == (3, "1\n")
    assert f"no guard in this process: {python} cannot import mobius_otel" in result.stderr
    assert fastapi_shop.cli("run", "--", str(python), "-c", "print(1)", check=False).returncode == 78
