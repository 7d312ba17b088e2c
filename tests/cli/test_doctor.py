"""What `policy check` and `doctor` say before a service starts: what would keep it from that, and what holds."""

import json
import os
import shlex
import socket
import subprocess
import sys

import pytest

from mobius_otel import secret_files
from mobius_otel.cli.main import main
from mobius_otel.telemetry.audit.signing import key_from_environment


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """A folder with a policy; the fixture writes it, runs a command and returns status, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("", "TRACES_", "METRICS_", "LOGS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL", raising=False)

    def run(policy, *argv):
        (tmp_path / "mobius.toml").write_text(policy)
        status = main(list(argv))
        return status, *capsys.readouterr()

    return run


def found(said, policy, what):
    """What the doctor found of one thing."""
    _, out, _ = said(policy, "doctor", "--json")
    return [(finding["verdict"], finding["text"]) for finding in json.loads(out)["findings"] if finding["what"] == what]


SINK = '[api_keys]\nstore = "memory://"\nrequire = ["/v1/*"]\nmaintain_every_hours = 1\nsink = "http://example.com/s3cret"\n'


@pytest.mark.parametrize("command", ["policy check", "doctor"])
@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (SINK, "mobius.toml:5: api_keys.sink: 'http://…': it must be https://…, or http:// to this very machine"),
        ('[redaction.patterns]\nbad = "("\n', "mobius.toml:2: redaction.patterns.bad: "),
        ('[[redaction.rules]]\naction = "mask"\nkind = "emial"\n', "redaction.rules: 'emial': it must be a kind"),
        ('[api_keys]\nimported = ["("]\n', "mobius.toml:2: api_keys.imported: '(': it must be a regular expression"),
        (
            '[api_keys]\nimported = ["sk-([A-Za-z0-9]+-?)+"]\n',
            "mobius.toml:2: api_keys.imported: 'sk-([A-Za-z0-9]+-?)+': it must be a regular expression without",
        ),
        (
            '[[rate_limit.rules]]\nname = "a"\nlimit = []\n',
            "mobius.toml:3: rate_limit.rules[0].limit: the list is empty",
        ),
    ],
)
def test_what_keeps_a_service_from_starting_is_found_before(said, command, policy, text):
    """By both commands, with the line; a URL's path may be a secret and is not shown."""
    status, out, err = said(policy, *command.split())
    assert status == 1
    assert text in out + err
    assert "s3cret" not in out + err


def test_the_summary_says_what_the_policy_demands(said):
    """Routes of scopes demand a key too, a store of this host is named, and without a ledger nothing survives."""
    text = '[api_keys.scopes]\n"POST /v1/refunds" = ["refund"]\n[audit]\n'
    _, out, _ = said(text, "policy", "check")
    assert "keys demanded   POST /v1/refunds (refund)\n" in out
    assert "key store       sqlite:///keys.db\n" in out
    assert "audit survives  no end of the process: that takes a ledger\n" in out
    _, out, _ = said(f'{text}ledger = "audit.db"\ndurability = "power"\n', "policy", "check")
    assert "audit survives  a power cut; where it cannot be kept: spool\n" in out


def test_the_doctor_names_store_and_metrics_as_the_policy_does(said):
    """No object of the inside."""
    policy = '[api_keys]\nrequire = ["/v1/*"]\n[metrics]\npath = "/metrics"\nsidecar = "http://127.0.0.1:9464"\n'
    assert found(said, policy, "key store") == [("ok", "sqlite:///keys.db")]
    text = "/metrics, of all workers, by http://127.0.0.1:9464; in the place of a page of the service"
    assert found(said, policy, "metrics") == [("ok", text)]


def test_a_folder_is_no_ledger(said, tmp_path):
    """Nobody is told to change the mode of a folder."""
    (tmp_path / "ledger").mkdir(mode=0o755)
    ((verdict, text),) = found(said, '[audit]\nledger = "ledger"\n', "audit ledger")
    assert (verdict, "a file, and this is a folder" in text, "chmod" in text) == ("fail", True, False)


def test_a_collectors_address_is_judged_as_the_exporter_will(said, monkeypatch):
    """Each variable that names one; an address that no exporter can use is a failure, whoever listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        assert found(said, "", "collector") == [("ok", f"127.0.0.1:{port} answers")]
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        for wrong in (f"127.0.0.1:{port}", "http://127.0.0.1:port", "http://", f"localhost:{port}"):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)
            ((verdict, text),) = found(said, "", "collector")
            assert (verdict, "OTEL_EXPORTER_OTLP_ENDPOINT is no URL" in text) == ("fail", True), wrong
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        assert found(said, "", "collector") == [("ok", f"localhost:{port} answers")]
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1")
    ((_, text),) = found(said, "", "collector")
    assert text.startswith("127.0.0.1:443 ")


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_secret_that_others_may_read_is_a_warning_and_no_refusal(said, tmp_path, monkeypatch, caplog):
    """Kubernetes mounts secrets for everybody in the container, and a service that starts nowhere is no safer."""
    policy = '[api_keys]\nrequire = ["/*"]\n[audit]\nledger = "audit.db"\n'
    pepper, key = tmp_path / "pepper", tmp_path / "audit key"
    for name, file in (("KEY_PEPPER", pepper), ("AUDIT_KEY", key)):
        file.write_text(f"a made-up secret of {name}\n")
        file.chmod(0o600)
        monkeypatch.setenv(f"MOBIUS_OTEL_{name}_FILE", str(file))
    assert found(said, policy, "secret file") == []
    assert "others may use" not in caplog.text
    key.chmod(0o640)
    mounted = tmp_path / "mounted"  # as Kubernetes has it: a link to a file
    mounted.symlink_to(pepper)
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER_FILE", str(mounted))
    pepper.chmod(0o644)
    texts = [
        f"MOBIUS_OTEL_KEY_PEPPER_FILE: others may use {mounted} (mode 0644): chmod 600 {mounted}",
        f"MOBIUS_OTEL_AUDIT_KEY_FILE: others may use {key} (mode 0640): chmod 600 {shlex.quote(str(key))}",
    ]
    for (verdict, text), expected in zip(found(said, policy, "secret file"), texts, strict=True):
        assert (verdict, text) == ("warn", f"{expected}; of a Kubernetes secret, defaultMode: 0400")
    assert "others may use" not in caplog.text  # the finding says it
    monkeypatch.setattr(secret_files, "_told", set())
    for _ in range(2):
        assert said(policy, "keys", "issue", "alice")[0] == 0
    for expected in texts:
        assert caplog.text.count(expected) == 1
    real = os.stat
    monkeypatch.setattr(os, "geteuid", lambda: real(key).st_uid + 1)  # a group's file that is somebody else's: fsGroup
    assert [text.partition(":")[0] for _, text in found(said, policy, "secret file")] == ["MOBIUS_OTEL_KEY_PEPPER_FILE"]


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_public_half_of_a_key_is_no_secret(tmp_path, caplog):
    """Who checks signatures alone may leave it readable."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "audit.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "audit.pub").chmod(0o644)
    assert key_from_environment({"MOBIUS_OTEL_AUDIT_KEY_FILE": str(tmp_path / "audit.pub")}) is not None
    assert "others may use" not in caplog.text


def test_a_short_pepper_is_one_line(said, monkeypatch):
    """Of every command that opens the store; the pepper is not repeated."""
    monkeypatch.setenv("MOBIUS_OTEL_KEY_PEPPER", "hunter2")
    status, _, err = said('[api_keys]\nrequire = ["/*"]\n', "keys", "issue", "alice")
    assert (status, "at least 16 bytes" in err, "token_urlsafe" in err, "hunter2" in err) == (2, True, True, False)


def test_the_doctor_says_a_thing_once(said, monkeypatch, caplog):
    """Without a pepper there is a finding, and no line of the log for every time that the store was opened."""
    monkeypatch.delenv("MOBIUS_OTEL_KEY_PEPPER", raising=False)
    policy = '[api_keys]\nrequire = ["/*"]\n[[rate_limit.rules]]\nname = "a"\nlimit = "1/hour"\nmode = "shadow"\n'
    assert [verdict for verdict, _ in found(said, policy, "pepper")] == ["warn"]
    assert "without a pepper" not in caplog.text
    said(policy, "keys", "list")
    assert "without a pepper" in caplog.text
    assert found(said, policy, "rate limits") == [("ok", "a (1/hour, only counted); counted in each worker by itself")]


def test_a_timer_that_is_a_gauge_too_is_refused_with_the_line(said):
    """One name is one instrument."""
    policy = '[metrics.gauges]\n"Queue.depth" = "sum"\n[[instrument]]\ntarget = "jobs:run"\ntimer = "queue.depth"\n'
    status, _, err = said(policy, "policy", "check")
    assert (status, "mobius.toml:5: instrument[0].timer" in err, "another name than a gauge" in err) == (1, True, True)


@pytest.mark.parametrize(
    "variable", ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_PROPAGATORS"]
)
def test_an_exporter_or_a_propagator_that_is_not_there_is_found(said, monkeypatch, variable):
    """With it OpenTelemetry sets nothing up, and the guard stands without telemetry."""
    good = "baggage, none" if variable == "OTEL_PROPAGATORS" else "console,otlp"
    monkeypatch.setenv(variable, good)
    assert found(said, "", "exporters") == []
    monkeypatch.setenv(variable, f"{good},nosuch")
    ((verdict, text),) = found(said, "", "exporters")
    assert (verdict, f"{variable} names 'nosuch'" in text) == ("fail", True)


NOISY = "import sys\nprint('NOISE')\ndef find_vouchers(text):\n    print('NOISE')\n    return []\n"


@pytest.mark.parametrize("command", ["policy check --json", "doctor --json", "redact test --json"])
def test_what_a_detector_prints_is_not_in_the_answer(said, tmp_path, command):
    """Standard output holds one line of JSON."""
    name = f"edge_noisy_{command.partition(' ')[0]}"
    (tmp_path / f"{name}.py").write_text(NOISY)
    example = '[[redaction.examples]]\nvalue = "some text"\nexpect = "some text"\n'
    _, out, err = said(f'[redaction]\ndetectors = ["{name}:find_vouchers"]\n{example}', *command.split())
    assert "NOISE" in err
    assert len(out.splitlines()) == 1
    json.loads(out)


def test_the_sidecar_without_its_extra_says_what_to_install():
    """One line, and no traceback."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from mobius_otel.cli.main import main; sys.exit(main(['sidecar']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = (
        "mobius-otel: mobius-otel sidecar needs the package 'prometheus_client': pip install 'mobius_otel[prometheus]'"
    )
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", [line])


def test_what_serves_and_is_not_reached_is_named(said):
    """A policy in front of aiohttp guards nothing."""
    ((_, text),) = found(said, "", "not reached")
    assert "http.server" in text
    assert "stays open" in text


@pytest.mark.parametrize(
    ("there", "policy", "verdict"),
    [
        ({"http", "tornado"}, '[api_keys]\nstore = "memory://"\nrequire = ["/*"]\n', "fail"),
        ({"http", "tornado"}, "", "warn"),
        ({"http", "tornado", "flask"}, '[api_keys]\nstore = "memory://"\nrequire = ["/*"]\n', "warn"),
        ({"http"}, '[api_keys]\nstore = "memory://"\nrequire = ["/*"]\n', "ok"),
    ],
)
def test_a_server_that_is_not_reached_is_named_where_there_is_no_other_too(said, monkeypatch, there, policy, verdict):
    """Jupyter and Flower serve by tornado alone: a policy that demands keys there opens every door."""
    monkeypatch.setattr("mobius_otel.cli.doctor.find_spec", lambda name: name if name in there else None)
    ((found_verdict, text),) = found(said, policy, "not reached")
    assert (found_verdict, "tornado.web" in text) == (verdict, "tornado" in there)
    status, _, _ = said(policy, "doctor")
    assert status == (1 if verdict == "fail" else 0)
