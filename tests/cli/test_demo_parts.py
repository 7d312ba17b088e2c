"""The parts of the demo, each by itself: what it reads, what it looks for, how it shows it, what it starts and ends."""

from __future__ import annotations

import gzip
import http.client
import os
import random
import signal
import sys
import time

import pytest

from mobius_otel.cli.demo import world as demo_world
from mobius_otel.cli.demo.process import end, free_ports, listens, start, wait
from mobius_otel.cli.demo.received import Log, Point, Received, Span, read_lines, read_rotel
from mobius_otel.cli.demo.report import Report, look_for_secrets
from mobius_otel.cli.demo.story import Check, Step, Story
from mobius_otel.cli.demo.view import PlainView, RichView, facts_of, tree_of
from mobius_otel.cli.demo.world import Answer, Secrets, World
from mobius_otel.errors import ConfigurationError

# As rotel-agent prints it.
ROTEL = """\
\x1b[2m2026-01-01T00:00:00Z\x1b[0m INFO Starting Rotel.
ResourceSpans #0
Resource attributes:
     -> service.name: Str(shop)
ScopeSpans #0
InstrumentationScope x
Span #0
    Trace ID       : 1866325db6329b5df8fd0e4e7529c84b
    Parent ID      : 12faf086d3a01ae0
    ID             : 8abf30109043cc0c
    Name           : child
    Kind           : SPAN_KIND_INTERNAL
Start time: 1795493311043560392
End time: 1795493311043858555
    Status code    : STATUS_CODE_UNSET
    Status message :
Events:
SpanEvent #0
     -> Name: exception
     -> Timestamp: 1795493311043589555
     -> DroppedAttributesCount: 0
     -> Attributes::
          -> exception.message: Str(multi
line)
Span #1
    Trace ID       : 1866325db6329b5df8fd0e4e7529c84b
    Parent ID      :
    ID             : 12faf086d3a01ae0
    Name           : POST /v1/refunds
    Kind           : SPAN_KIND_SERVER
Start time: 1795493311043515585
End time: 1795493311044146263
    Status code    : STATUS_CODE_ERROR
    Status message : bad
Attributes:
     -> http.route: Str(/v1/refunds)
     -> n: Int(3)
     -> b: Bool(true)
     -> l: Slice(Str(a), Str(b))
     -> weird: Str(a "quoted"
line -> b: Str(x))
ResourceMetrics #0
Resource attributes:
     -> service.name: Str(shop)
ScopeMetrics #0
InstrumentationScope m
Metric #0
Descriptor:
     -> Name: a.count
     -> Description: d
     -> DataType: Sum
NumberDataPoints #0
Data point attributes:
     -> k: Str(v)
StartTimestamp: 1795493311043662894
Timestamp: 1795493311047833959
Value: 7
Exemplars:
Exemplar #0
     -> Trace ID: 1866325db6329b5df8fd0e4e7529c84b
     -> Value: 1
Metric #1
Descriptor:
     -> Name: a.duration
HistogramDataPoints #0
Data point attributes:
Count: 4
Sum: 0.2
Buckets #0, Count: 0
ResourceLog #0
Resource attributes:
     -> service.name: Str(shop)
ScopeLogs #0
InstrumentationScope aud
LogRecord #0
ObservedTimestamp: 1795493311044109919
SeverityText: INFO
SeverityNumber: SEVERITY_NUMBER_INFO(9)
EventName: payment.refund
Body: Str(two
lines)
Attributes:
     -> audit.actor.id: Str(bob)
     -> log.record.uid: Str(u-1)
    Trace ID       : 1866325db6329b5df8fd0e4e7529c84b
    Span ID        : 12faf086d3a01ae0
Flags: 3
"""
TRACE = "1866325db6329b5df8fd0e4e7529c84b"


@pytest.fixture
def world():
    """A world in which nothing has been started."""
    with World(Secrets.make()) as made:
        yield made


@pytest.fixture
def story(world):
    """A story whose keys are issued."""
    told = Story(world)
    told.keys = {"alice": {"id": "k1", "secret": "mob_live_" + "a1B2" * 10 + "xyz" + "000000"}}
    return told


def test_spans_are_read_with_their_tree_attributes_and_events():
    """A span keeps its ids, kind, status, typed attributes, several lines of text, and the names of its events."""
    child, server = read_rotel(ROTEL).spans

    assert (child.name, child.parent_id, child.events) == ("child", server.span_id, ("exception",))
    assert (server.kind, server.status, server.trace_id) == ("SERVER", "ERROR", TRACE)
    assert server.attributes == {
        "http.route": "/v1/refunds", "n": 3, "b": True, "l": "a, b", "weird": 'a "quoted"\nline -> b: Str(x)',
    }  # fmt: skip
    assert server.end - server.start == 630678


def test_metrics_are_read_with_their_values_not_those_of_exemplars():
    """A counter shows its value, a histogram its count, by attributes."""
    assert read_rotel(ROTEL).metric_values() == {"a.count": {"v": 7.0}, "a.duration": {"": 4.0}}


def test_series_are_summed_over_what_is_left_out():
    """The newest value of each series counts, once, and the series are summed over an attribute."""
    points = (
        Point("m", 1, {"r": "a", "x": "1"}),
        Point("m", 3, {"r": "a", "x": "1"}),
        Point("m", 4, {"r": "a", "x": "2"}),
    )

    assert Received(points=points).metric_values() == {"m": {"a, 1": 3.0, "a, 2": 4.0}}
    assert Received(points=points).metric_values(without=frozenset({"x"})) == {"m": {"a": 7.0}}


def test_logs_are_read_with_event_name_body_and_trace():
    """A log record keeps its event name, its body's lines, its attributes and the trace it belongs to."""
    (log,) = read_rotel(ROTEL).logs

    assert (log.event_name, log.body, log.scope, log.trace_id) == ("payment.refund", "two\nlines", "aud", TRACE)
    assert log.attributes == {"audit.actor.id": "bob", "log.record.uid": "u-1"}


def test_a_record_that_was_sent_twice_is_one_event():
    """Two log records with one log.record.uid are counted once."""
    twice = read_rotel(ROTEL + ROTEL.replace("ObservedTimestamp", "ObservedTimestamp"))

    assert len(twice.logs) == 2
    assert twice.event_counts() == {"payment.refund": 1}


def test_an_event_of_another_library_is_no_audit_event():
    """A named log record without audit attributes counts as an ordinary one."""
    received = Received(logs=(Log(event_name="http.server.request.exception", attributes={"exception.type": "E"}),))

    assert (received.event_counts(), received.plain_logs()) == ({}, 1)


def test_whatever_a_collector_prints_is_read_without_an_error():
    """10,000 random cuts and mixtures of lines raise nothing."""
    chance = random.Random(7)
    lines = [
        *ROTEL.splitlines(),
        "",
        "Value: x",
        "Start time: -",
        "     -> : ()",
        "     -> a: Str",
        "Kind",
        "\x00",
        "é(",
        '{"span": 1}',
    ]
    for _ in range(10_000):
        text = "\n".join(chance.choices(lines, k=chance.randrange(12)))
        read_rotel(text[: chance.randrange(len(text) + 1)])


def test_the_lines_of_the_built_in_receiver_are_read():
    """One JSON object a line; other lines and an unfinished one are left out."""
    received = read_lines(
        'starting\n{"listening": "http://127.0.0.1:1"}\n{"span": {"name": "GET /", "events": ["exception"]}}\n'
        '{"log": {"event_name": "e", "attributes": {"audit.action": "READ"}}}\n{"point": {"name": "m", "value": 2}}\n'
        '{"span": {"name": "cut'
    )

    assert received.span_counts() == {"GET /": 1}
    assert received.spans[0].events == ("exception",)
    assert received.event_counts() == {"e": 1}
    assert received.metric_values() == {"m": {"": 2}}


def test_a_trace_is_drawn_as_a_tree_with_its_logs():
    """Children stand under their parents, records under the span they were written in."""
    received = read_rotel(ROTEL)

    assert tree_of(*received.trace(TRACE)) == [
        (0, "POST /v1/refunds  SERVER  0.6 ms"),
        (1, "child  0.3 ms"),
        (1, "audit event payment.refund    by bob"),
    ]


def test_a_trace_that_bites_its_tail_is_drawn_once():
    """Spans that are each other's parents do not hang the demo."""
    spans = [Span("a", span_id="1", parent_id="2"), Span("b", span_id="2", parent_id="1"), Span("c", span_id="3")]

    assert [text.split()[0] for _, text in tree_of(spans, [])] == ["c"]


def test_text_of_others_cannot_move_the_cursor():
    """Control characters that came with telemetry are not written to the terminal."""
    written: list[str] = []
    log = Log(body="refund: \x1b[2J\r\x07", span_id="1", severity="INFO")
    report = Report([], [], trace=([Span("x\x1b[1A", span_id="1")], [log]), pairs=[("w", "\x1b]0;t\x07", "b")])

    PlainView(written.append).finish(report)

    assert not set("\x1b\r\x07") & set("".join(written))


def test_the_report_is_good_only_if_every_step_and_check_is():
    """One wrong answer or one failed check is a problem that is named."""
    good, bad = Step("a", "GET /", "200", "200", ""), Step("eve", "GET /v1", "200", "401", "")
    fine, failed = Check("c", True, ""), Check("no secret", False, "found")

    assert Report([good], [fine]).ok
    assert Report([good, bad], [fine]).problems == ["eve: GET /v1: 200, expected 401"]
    assert Report([good], [fine, failed]).as_json()["problems"] == ["no secret: found"]


@pytest.mark.parametrize("place", ["collector.log", "service.log", "audit.db", "audit.db-wal", "keys.db"])
@pytest.mark.parametrize("what", ["card", "digits", "password", "database", "pepper", "key"])
def test_a_secret_is_found_wherever_it_lies(world, story, place, what):
    """Each of the demo's secrets in each of its files makes the check fail and is named, without its value."""
    hidden = world.secrets
    text = {
        "card": hidden.card, "digits": hidden.card.replace(" ", ""), "password": hidden.password,
        "database": hidden.database, "pepper": hidden.pepper, "key": story.keys["alice"]["secret"],
    }[what]  # fmt: skip
    assert look_for_secrets(world, story, "").ok

    (world.folder / place).write_bytes(b"\0\xff" + text.encode() + b"\0")

    check = look_for_secrets(world, story, "")
    assert not check.ok
    assert place in check.detail
    assert text not in check.detail


def test_a_secret_is_found_in_answers_and_on_the_metrics_page(world, story):
    """What the service itself answers is searched too, percent-encoded forms as well."""
    assert not look_for_secrets(world, story, f'x{{a="{world.secrets.password}"}} 1').ok
    story.answers.append(Answer(200, (("Location", "/?card=4111%201111%201111%201111"),), b""))
    assert "answers" in look_for_secrets(world, story, "").detail


def test_nobody_elses_settings_reach_what_the_demo_starts(world, monkeypatch):
    """The caller's telemetry settings stay out; a proxy is never asked for the loopback address."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=mine")
    monkeypatch.setenv("MOBIUS_OTEL_POLICY", "elsewhere.toml")
    monkeypatch.setenv("NO_PROXY", "example.org")

    environment = world.environment()

    assert "OTEL_EXPORTER_OTLP_HEADERS" not in environment
    assert "MOBIUS_OTEL_POLICY" not in environment
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    """Without FastAPI the demo says what to type, and starts nothing."""
    monkeypatch.setitem(sys.modules, "fastapi", None)

    with pytest.raises(ConfigurationError, match=r"fastapi.*pip install 'mobius_otel\[all,demo\]'"):
        demo_world.need_packages()


def test_without_rotel_there_is_no_program(monkeypatch):
    """Where the wheel is missing, None says so."""
    monkeypatch.setitem(sys.modules, "rotel", None)

    assert demo_world.find_rotel() is None


def test_rotel_looks_for_this_python_last():
    """After what the caller named, and never in the folder it is started in, which an empty place would mean."""
    ours = os.path.join(sys.base_prefix, "lib")

    assert demo_world.beside_python({"A": "b"}) == {"A": "b", "LD_LIBRARY_PATH": ours}
    assert demo_world.beside_python({"LD_LIBRARY_PATH": "/x"})["LD_LIBRARY_PATH"] == os.pathsep.join(["/x", ours])
    assert demo_world.beside_python({"LD_LIBRARY_PATH": ""})["LD_LIBRARY_PATH"] == ours


def test_the_shop_is_found_and_knows_nothing_of_us():
    """The example service is there, with its policy, and does not import the package."""
    folder = demo_world.find_shop()

    assert "mobius" not in (folder / "shop.py").read_text(encoding="utf-8")
    assert (folder / "mobius.toml").is_file()


def test_what_was_started_is_ended_and_the_folder_goes(tmp_path):
    """Leaving the world ends every process, also one that does not want to, and removes the folder."""
    with World(Secrets.make()) as made:
        child = made._start([sys.executable, "-c", "import time; time.sleep(600)"], made.service_log)
        folder = made.folder
        assert child.poll() is None
    assert child.poll() is not None
    assert not folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_a_process_that_ignores_the_request_is_killed_with_its_children(tmp_path, monkeypatch):
    """SIGTERM ignored: the whole group goes."""
    monkeypatch.setattr("mobius_otel.cli.demo.process._STOP_SECONDS", 0.5)
    (port,) = free_ports(1)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"subprocess.Popen([sys.executable, '-m', 'http.server', '{port}', '--bind', '127.0.0.1']); time.sleep(600)"
    )
    child = start([sys.executable, "-c", code], tmp_path / "log", tmp_path, dict(os.environ))
    assert wait(lambda: listens(port), 15)

    end(child)

    assert child.returncode == -signal.SIGKILL
    assert wait(lambda: not listens(port), 5)


def test_a_wait_ends_when_its_time_is_over():
    """A condition that never holds is given up."""
    before = time.monotonic()

    assert not wait(lambda: False, 0.1)
    assert time.monotonic() - before < 2


def test_facts_of_a_record_are_shown_in_order_and_cut():
    """The first facts of an audit record, lists as text, long values short."""
    record = {
        "event_name": "http.request",
        "attributes": {"audit.actor.id": "a" * 200, "mobius.redaction.kinds": ["card", "email"]},
    }

    facts = dict(facts_of(record))

    assert facts["event"] == "http.request"
    assert len(facts["audit.actor.id"]) == 70
    assert facts["mobius.redaction.kinds"] == "card, email"


def test_the_rich_view_shows_the_same_report():
    """The table, the tree and the checks are drawn, with a wrong step marked."""
    console = pytest.importorskip("rich.console").Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    received = read_rotel(ROTEL)
    with RichView(console) as view:
        view.say("collector: rotel")
        view.step(Step("eve", "GET /v1/items", "200", "401", "revoked"))
        view.finish(Report([Step("eve", "GET /v1/items", "200", "401", "revoked")], [Check("c", True, "d")], received,
                           received.trace(TRACE), {"event_name": "x"}, [("log", "a [b]", "c")]))  # fmt: skip

    text = console.export_text()
    assert "200, not 401" in text
    assert "└── " in text
    assert "a [b]" in text
    assert "Not as it should be" in text


def test_the_shop_folder_is_named_when_it_is_missing(monkeypatch, tmp_path):
    """A damaged installation says what is missing."""
    monkeypatch.setattr(demo_world, "__file__", str(tmp_path / "a" / "b" / "c" / "world.py"))

    with pytest.raises(ConfigurationError, match="shop_fastapi"):
        demo_world.find_shop()


def test_nothing_received_is_shown_as_nothing():
    """An empty report does not break the views."""
    written: list[str] = []

    PlainView(written.append).finish(Report([], [], Received()))

    assert any("Checks" in line for line in written)


def test_the_built_in_receiver_survives_what_is_no_otlp(world):
    """Garbage, an unknown path, a length that is none: an error status each, and it still takes what is good."""
    export = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    world.collector = "builtin"
    world.start_collector()
    request = export.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="pay", span_id=b"12345678")

    def post(path, body, **headers):
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"), timeout=10)
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert post("/v1/traces", b"\xff\xffgarbage") == 400
    assert post("/v1/traces", b"not gzip", **{"Content-Encoding": "gzip"}) == 400
    assert post("/v2/else", b"") == 404
    assert post("/v1/traces", b"", **{"Content-Length": "99999999999"}) == 413
    good = request.SerializeToString()
    assert post("/v1/traces", gzip.compress(good), **{"Content-Encoding": "gzip"}) == 200
    assert wait(lambda: world.received().span_counts() == {"pay": 1}, 5)
