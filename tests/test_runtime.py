"""configure(): one policy sets a process up, and puts everything back."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mobius_otel import AuditLogger, configure
from mobius_otel.errors import AuditUnavailable, ConfigurationError, InvalidApiKey, PolicyError
from mobius_otel.policy import parse_policy
from mobius_otel.security import ApiKeyManager
from mobius_otel.telemetry import Actor, defaults
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver
from mobius_otel.web import current_guard
from tests.services import forking

POLICY = """
[service]
name = "shop"
[api_keys]
require = ["/v1/*"]
[audit]
ledger = "audit.db"
[metrics]
path = "/metrics"
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Run in an empty folder, without anything of the environment."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OTEL_", "MOBIUS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tests")


def test_the_policys_ledger_is_found_by_every_audit_logger(tmp_path):
    """An AuditLogger that was made before finds the ledger that configure() opened."""
    audit = AuditLogger("payments")
    (tmp_path / "mobius.toml").write_text(POLICY)
    with configure() as runtime:
        assert current_guard() is runtime.guard
        receipt = audit.record(
            "payment.refund", action="UPDATE", actor=Actor("u-1"), attributes={"password": "hunter2secret"}
        )
        assert (receipt.durability, receipt.sequence) == ("process", 1)
    assert current_guard() is None
    assert defaults.slot().ledger is None
    ((_, record),) = read_records(tmp_path / "audit.db")
    assert record["attributes"]["password"] == "[redacted:password]"
    assert b"hunter2secret" not in b"".join(path.read_bytes() for path in tmp_path.glob("audit.db*"))


def test_the_log_of_the_process_is_redacted(capfd):
    """Every handler of every logger, those made before too."""
    handler = logging.StreamHandler()
    logger = logging.getLogger("tests.runtime")
    logger.addHandler(handler)
    try:
        with configure(policy=parse_policy("")):
            logger.warning("login with password=%s", "hunter2secret")
    finally:
        logger.removeHandler(handler)
    err = capfd.readouterr().err
    assert "login with password=[redacted:password]" in err


def test_a_second_call_is_refused_until_the_first_has_ended():
    """One guard a process."""
    with configure(policy=parse_policy("")), pytest.raises(ConfigurationError, match="shutdown"):
        configure(policy=parse_policy(""))
    configure(policy=parse_policy("")).shutdown()


def test_what_cannot_be_opened_leaves_nothing_behind(tmp_path):
    """An error at construction, and the next attempt works."""
    (tmp_path / "bad.toml").write_text("[audit]\nledger = 'no/such/audit.db'\n")
    with pytest.raises(ConfigurationError, match="in a folder that exists"):
        configure(policy="bad.toml")
    with pytest.raises(PolicyError, match="nowhere"):
        configure(policy="nowhere.toml")
    assert current_guard() is None
    configure(policy=parse_policy("")).shutdown()


def test_the_pepper_comes_from_the_environment_or_a_file(tmp_path, monkeypatch):
    """Never from the policy; a file that cannot be read is named."""
    policy = parse_policy('[api_keys]\nrequire = ["/*"]\nstore = "memory://"', file=tmp_path / "mobius.toml")
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_FILE", str(tmp_path / "pepper"))
    with pytest.raises(ConfigurationError, match="MOBIUS_OTEL_KEY_PEPPER_FILE"):
        configure(policy=policy)
    (tmp_path / "pepper").write_text("made-up-from-a-file\n")
    with configure(policy=policy) as runtime:
        assert runtime.keys.verify(runtime.keys.issue("alice").secret).owner == "alice"
        assert "from-a-file" not in repr(runtime.keys)


def test_the_policy_says_how_keys_live(tmp_path, monkeypatch):
    """Every setting reaches the manager; what does not go together is refused."""
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "a made-up pepper")
    text = """
    [api_keys]
    require = ["/*"]
    store = "memory://"
    mac = "on"
    imported = ["sk-[A-Za-z0-9]{40}"]
    on_reuse = "revoke_lineage"
    cache_seconds = 0
    grace_hours = 0
    purge_after_days = 0
    """
    with configure(policy=parse_policy(text)) as runtime:
        keys = runtime.keys
        keys.import_key("sk-" + "9f86d081884c7d659a2feaa0c55ad0151234abcd", "bob")
        old = keys.issue("alice")
        new = keys.rotate(old.key.id)
        with pytest.raises(InvalidApiKey):
            keys.verify(old.secret)
        with pytest.raises(InvalidApiKey):
            keys.verify(new.secret)  # the lineage is revoked
        assert keys.purge() == 2
        assert keys.grace == 0
    with pytest.raises(ConfigurationError, match="sink"):
        configure(policy=parse_policy(text + "maintain_every_hours = 1\n"))


def test_the_service_rotates_its_keys_where_the_policy_says_so(tmp_path, monkeypatch):
    """By itself, from the moment it is up; stopped with it."""
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "a made-up pepper")
    (tmp_path / "mobius.toml").write_text(
        '[api_keys]\nrequire = ["/*"]\nttl_days = 3\nsink = "file:out"\nmaintain_every_hours = 1\n'
    )
    (tmp_path / "out").mkdir()
    with ApiKeyManager(f"sqlite:///{tmp_path / 'keys.db'}", ttl=86400, pepper="a made-up pepper") as manager:
        manager.issue("alice")
    with configure(policy=tmp_path / "mobius.toml") as runtime:
        deadline = time.monotonic() + 20
        while not (tmp_path / "out" / "alice").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        secret = (tmp_path / "out" / "alice").read_text().strip()
        assert runtime.keys.verify(secret).generation == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "mobius-otel-key-rotator"]


def test_functions_are_timed_and_audited_by_name(tmp_path):
    """The service's module knows nothing of it; sync and async, success and failure."""
    (tmp_path / "billing.py").write_text(
        textwrap.dedent("""
        async def charge(): return 1
        def refund(amount):
            if amount < 0: raise ValueError("no")
            return amount
        def export():
            yield 1
            yield 2
        def user(): return "u-7"
        """)
    )
    (tmp_path / "mobius.toml").write_text(
        '[audit]\nledger = "audit.db"\nfunctions = ["billing:refund", "billing:charge", "billing:export"]\n'
        'actor = "billing:user"\nlogging = true\nseverity = "omit"\n'
        '[[instrument]]\ntarget = "billing:charge"\ntimer = "billing.charge"\n'
    )
    code = """
    import asyncio, contextlib, json, logging
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    from mobius_otel import configure
    from mobius_otel.telemetry.audit.verify import read_records
    with configure():
        import billing
        assert billing.refund(3) == 3 and asyncio.run(billing.charge()) == 1
        with contextlib.suppress(ValueError):
            billing.refund(-1)
        rows = billing.export()
        next(rows)
        before = len(read_records("audit.db"))
        assert list(rows) == [2]
        logging.getLogger("shop").warning("x", extra={"audit": {"event_name": "by.log", "actor": "u-8"}})
        names = [m.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics]
    logging.getLogger("shop").warning("x", extra={"audit": {"event_name": "by.log", "actor": "too late"}})
    records = [r for _, r in read_records("audit.db") if not r["event_name"].startswith("audit.")]
    rows = [(r["event_name"], r["attributes"]["audit.outcome"], r["attributes"]["audit.actor.id"]) for r in records]
    print(json.dumps([names, before, rows, [r for r in records if "severity_number" in r]]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names, before, records, severe = json.loads(done.stdout)
    assert "billing.charge" in names
    calls = ["success", "success", "failure", "success"]
    assert records == [*(["function.called", end, "u-7"] for end in calls), ["by.log", "success", "u-8"]]
    assert (before, severe) == (3, [])  # a generator's call ends with its last item


@pytest.mark.parametrize("exporter", ["", "console"])
@pytest.mark.parametrize("convention", ["", "http/dup"])
def test_a_clients_host_header_makes_no_series(tmp_path, exporter, convention):
    """Where the meter provider is ours: each value would be one, before any key is asked for."""
    (tmp_path / "mobius.toml").write_text('[metrics]\npath = "/metrics"\n')
    code = """
    from fastapi import FastAPI
    from flask import Flask
    from opentelemetry import metrics
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from starlette.testclient import TestClient
    from mobius_otel import configure
    with configure():
        app, other = FastAPI(), Flask("other")
        app.add_api_route("/items", lambda: 1)
        other.add_url_rule("/items", view_func=lambda: "1")
        FastAPIInstrumentor.instrument_app(app)
        FlaskInstrumentor.instrument_app(other)
        own = metrics.get_meter("own").create_counter("http.server.own")
        own.add(1, {"tenant": "a"})
        client, flask = TestClient(app), other.test_client()
        for number in range(50):
            client.get("/items", headers={"Host": f"h{number}.example"})
            flask.get("/items", headers={"Host": f"h{number}.example"})
        page = client.get("/metrics").text
    assert "h7.example" not in page
    assert 'tenant="a"' in page
    names = ("duration_milliseconds", "request_duration_seconds")
    print(*(page.count(f"http_server_{name}_count{{") for name in names))
    """
    environ = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": convention, "OTEL_METRICS_EXPORTER": exporter}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == ("2 2" if convention else "2 0")


def test_importing_the_package_is_cheap_and_brings_no_extra():
    """Not even the SDK, until a name is used; and no optional package at all, ever."""
    code = """
    import sys, mobius_otel
    assert "opentelemetry.sdk" not in sys.modules
    for name in mobius_otel.__all__:
        getattr(mobius_otel, name)
    extras = ("prometheus_client", "opentelemetry.exporter", "grpc", "rich", "fastapi", "flask", "starlette", "pytest",
              "opentelemetry.proto", "sqlalchemy", "valkey", "re2")
    print([name for name in extras if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr + done.stdout


def test_an_endpoint_alone_decides_where_the_signals_go(monkeypatch):
    """One variable is enough, and whoever says more is heard."""
    from mobius_otel import runtime

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    for name in ("METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "")  # restored by monkeypatch
        monkeypatch.delenv(f"OTEL_{name}_EXPORTER")
    for name in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL", "")
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL")
    runtime._default_environment()
    assert os.environ["OTEL_TRACES_EXPORTER"] == "console"
    assert (os.environ["OTEL_LOGS_EXPORTER"], os.environ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"]) == ("otlp", "grpc")


@pytest.mark.parametrize("end", ["", "runtime.shutdown()", "raise SystemExit(3)"])
def test_the_policy_holds_for_what_leaves_last(tmp_path, end):
    """A script that is over before the first collection sends its metrics when it ends."""
    (tmp_path / "mobius.toml").write_text(
        '[redaction]\nnames = ["badge_no"]\n[redaction.patterns]\nbadge = "B-[0-9]{6}"\n'
    )
    source = f"""
    import logging, sys
    import mobius_otel
    from opentelemetry import metrics, trace
    runtime = mobius_otel.configure()
    logging.basicConfig(stream=sys.stdout)
    told = {{"badge_no": "CANARY77", "note": "lost B-123456"}}
    metrics.get_meter("m").create_counter("c").add(1, told)
    {end or "pass"}
    with trace.get_tracer("t").start_as_current_span("lost B-123456", attributes=told):
        logging.warning("lost B-123456")
    """
    with OtlpReceiver() as receiver:
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        command = [sys.executable, "-c", textwrap.dedent(source)]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        sent = repr(receiver.requests)
    assert receiver.metrics
    assert not any(secret in sent + done.stdout + done.stderr for secret in ("CANARY77", "B-123456"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("server", [False, True])
def test_sigterm_ends_the_audit_stream_and_sends_what_it_can(tmp_path, server):
    """A script that has no handler, and uvicorn, which raises the signal again when it is done."""
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\nlogging = true\n')
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
        import logging, time
        def tell():
            logging.getLogger("shop").warning("x", extra={"audit": {"event_name": "a.b", "actor": "u-1"}})
            print("told", flush=True)
        async def app(scope, receive, send):
            while scope["type"] == "lifespan":
                kind = (await receive())["type"]
                if kind == "lifespan.startup":
                    tell()
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        if __name__ == "__main__":
            tell()
            time.sleep(60)
        """)
    )
    command = [sys.executable, *(["-m", "uvicorn", "shop:app", "--port", "0"] if server else ["shop.py"])]
    with OtlpReceiver() as receiver:
        receiver.answer(503)  # what is told is still there when the end comes
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_TRACES_EXPORTER": "none",
                   "OTEL_METRICS_EXPORTER": "none"}  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "mobius_otel", "run", "--", *command],
            cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            for line in process.stdout:
                if "told" in line:
                    break
            receiver.behave()
            if server:
                for line in process.stdout:
                    if "running on" in line:
                        break
            process.terminate()
            process.stdout.read()
            assert process.wait(20) == -signal.SIGTERM
        names = [log["event_name"] for log in receiver.logs if "event_name" in log]
    assert ("a.b" in names, names[-1]) == (True, "audit.stream.ended")


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("leaving", [False, True])
def test_a_second_sigterm_does_not_cut_off_what_the_first_began(tmp_path, leaving):
    """Nor does one cut off a process that is just ending by itself: systemd and a master send one each."""
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\nlogging = true\n')
    (tmp_path / "work.py").write_text(
        "import logging, sys\n"
        'logging.getLogger("shop").warning("x", extra={"audit": {"event_name": "a.b", "actor": "u-1"}})\n'
        'print("told", flush=True)\nsys.stdin.read()\n'
    )
    with OtlpReceiver() as receiver:
        receiver.answer(503, headers={"Retry-After": "3600"})
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_TRACES_EXPORTER": "none",
                   "OTEL_METRICS_EXPORTER": "none"}  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "mobius_otel", "run", "--", sys.executable, "work.py"],
            cwd=tmp_path, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert any(b"told" in line for line in process.stdout)
            assert receiver.wait_for(lambda seen: seen.requests)
            draining = threading.Event()

            def note(_):
                draining.set()
                return True

            receiver.behave()
            receiver.answer(delay=0.5, only_if=note)
            if leaving:
                process.stdin.close()
            else:
                process.send_signal(signal.SIGTERM)
            assert draining.wait(20)
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == (0 if leaving else -signal.SIGTERM)
        assert [log["event_name"] for log in receiver.logs] == ["a.b", "audit.stream.ended"]


#: Nobody listens: an exporter would try again and again when the process ends.
NO_COLLECTOR = {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sigterm_ends_the_stream_of_a_forked_child(tmp_path):
    """And nothing else: the parent goes on."""
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\nlogging = true\n')
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
        import logging, os, signal, time
        def tell(who):
            logging.getLogger("shop").warning("x", extra={"audit": {"event_name": "a.b", "actor": who}})
        tell("parent")
        ready, told = os.pipe()
        if (child := os.fork()) == 0:
            tell("child")
            os.write(told, b"x")
            time.sleep(60)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        tell("parent")
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "mobius_otel", "run", "--", sys.executable, "work.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True, env=forking.environment() | NO_COLLECTOR,
    )  # fmt: skip
    assert done.stdout.split()[-1] == str(-signal.SIGTERM)
    records = [record for _, record in read_records(tmp_path / "audit.db", notes=True)]
    told = [(r["event_name"], r["attributes"]["audit.actor.id"]) for r in records]
    assert told[:2] == [("a.b", "parent"), ("a.b", "child")]
    assert told[2:] == [("audit.stream.ended", "mobius_otel"), ("a.b", "parent"), ("audit.stream.ended", "mobius_otel")]


@pytest.mark.skipif(os.name != "posix", reason="only there multiprocessing has a process of its own to count")
def test_the_process_that_counts_for_multiprocessing_is_not_armed(tmp_path):
    """Every other Python that the service starts is, one whose command only looks like it too."""
    (tmp_path / "mobius.toml").write_text('[service]\nname = "shop"\n')
    (tmp_path / "sitecustomize.py").write_text(  # the one that ours gives way to
        "import os, sys\n"
        "with open(os.environ['SEEN'], 'a') as seen:\n"
        "    print('mobius_otel.runtime' in sys.modules, sys.orig_argv[-1], file=seen)\n"
    )
    like = "from multiprocessing.resource_tracker import main;main(0);print(1)"
    (tmp_path / "work.py").write_text(
        "import multiprocessing, subprocess, sys\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    child.start()\n"
        "    child.join()\n"
        f"    subprocess.run([sys.executable, '-c', {like!r}], stdin=subprocess.DEVNULL)\n"
    )
    environ = {**forking.environment(), "PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}
    subprocess.run(
        [sys.executable, "-m", "mobius_otel", "run", "--", sys.executable, "work.py"],
        cwd=tmp_path, capture_output=True, timeout=60, check=True, env=environ,
    )  # fmt: skip
    seen = dict(reversed(line.split(" ", 1)) for line in (tmp_path / "seen").read_text().splitlines())
    (left_alone,) = (what for what, armed in seen.items() if armed == "False")
    assert left_alone.startswith("from multiprocessing.resource_tracker import main;main(")
    assert seen.keys() - {left_alone} == {"work.py", "--multiprocessing-fork", like}


@pytest.mark.parametrize("fail_mode", ["strict", "spool", "best_effort"])
def test_what_comes_after_the_end_is_no_silent_loss(tmp_path, caplog, fail_mode):
    """Strict stays strict; the others are told once. A runtime that comes later has the say again."""
    place = tmp_path / "audit.db"
    text = f'[audit]\nledger = "{place.as_posix()}"\nfail_mode = "spool"\n[audit.fail_modes]\n"pay.*" = "{fail_mode}"\n'
    audit = AuditLogger("shop")

    def record():
        return audit.record("pay.order", actor=Actor("u-1")).durability

    before = defaults.install(None)
    try:
        for _ in range(2):
            with configure(policy=parse_policy(text)):
                assert record() == "process"
            caplog.clear()
            if fail_mode == "strict":
                with pytest.raises(AuditUnavailable, match="shut down"):
                    record()
                with pytest.raises(AuditUnavailable), audit.audited("pay.order", actor=Actor("u-1")):
                    pytest.fail("it must not run")
            else:
                assert [record(), record()] == ["none", "none"]
                assert [line.levelname for line in caplog.records if "not to the ledger" in line.getMessage()] == [
                    "ERROR"
                ]
        with configure(policy=parse_policy("")):
            assert record() == "none"
    finally:
        defaults.install(before)
    assert verify_ledger(place).records == 2
