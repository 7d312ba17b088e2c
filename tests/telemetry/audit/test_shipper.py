"""The shipper before a receiver that misbehaves as told."""

import itertools
import socket
import time

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from mobius_otel.clock import FrozenClock
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.testing.receiver import OtlpReceiver


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "audit.db") as ledger:
        yield ledger


@pytest.fixture
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def backend():
    backend = InMemoryMetricsBackend()
    before = defaults.install(defaults.Defaults(emitter=MetricEmitter("test", backend=backend)))
    yield backend
    defaults.install(before)


def emit(ledger, count, **attributes):
    audit = AuditLogger("test", ledger=ledger)
    return [audit.record("order.placed", actor=Actor("u-1"), attributes={"n": n, **attributes}) for n in range(count)]


def shipper_to(receiver, ledger, **options):
    return Shipper(ledger, endpoint=receiver.logs_endpoint, **{"interval": 0.01, "timeout": 1.0, **options})


def numbers(receiver):
    return [log["attributes"]["n"] for log in receiver.logs]


def test_the_cursor_moves_on_a_true_acknowledgement(ledger, receiver, backend):
    """What was accepted is acknowledged, counted and not sent again."""
    receipts = emit(ledger, 5)
    shipper = shipper_to(receiver, ledger)
    assert not receipts[0].delivered(0)
    assert shipper.run_once() == 5
    assert shipper.run_once() == 0
    assert all(receipt.delivered(0) for receipt in receipts)
    assert [log["attributes"]["log.record.uid"] for log in receiver.logs] == [r.record_id for r in receipts]
    assert backend.value("mobius.audit.records", {"mobius.audit.result": "exported"}) == 5


MISBEHAVIOURS = {
    "503": {"status": 503},
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"Retry-After": "0.2"}},
    "302": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "307": {"status": 307, "headers": {"Location": "/v1/logs"}},
    "400": {"status": 400},
    "401": {"status": 401},
    "413": {"status": 413},
    "rejects all": {"rejected": -1},
    "rejects one": {"rejected": 1},
    "cuts": {"cut": True},
    "hangs": {"delay": 2.0},
    "garbage": {"body": b"\xff\xfe garbage"},
    "a proxy's page": {"body": b"<html>OK</html>", "headers": {"Content-Type": "text/html"}},
    "a proxy's OK": {"body": b"ok"},
    "unknown fields": {"body": b"\x98\x06\x01"},
    "JSON that rejects": {
        "body": b'{"partialSuccess":{"rejectedLogRecords":"3"}}', "headers": {"Content-Type": "application/json"},
    },
    "a status line that is cut": {"raw": b"HTTP/1.1 200"},
    "nothing but a status line": {"raw": b"HTTP/1.1 200 OK\r\n"},
    "a head that is cut in a name": {"raw": b"HTTP/1.1 200 OK\r\nConte"},
    "a head that is cut in a value": {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 0"},
    "a head that is cut between lines": {"raw": b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"},
    "a head that is cut after a 100": {"raw": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"},
    "a head with what is no header": {"raw": b"HTTP/1.1 200 OK\r\nConte\r\nContent-Length: 4\r\n\r\n"},
    "a body that is cut": {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a"},
    "a body that does not come": {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"},
    "chunks that do not come": {"raw": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
    "chunks whose size is cut": {"raw": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0"},
    "chunks whose end is cut": {"raw": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"},
    "a login page's empty head": {"body": b"", "headers": {"Content-Type": "text/html"}},
    "203": {"status": 203},
    "205": {"status": 205},
    "206": {"status": 206},
    "299": {"status": 299},
}  # fmt: skip


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS)
def test_nothing_is_acknowledged_that_was_not_accepted(ledger, receiver, misbehaviour):
    """While it misbehaves nothing is acknowledged; once it behaves everything arrives and the backlog is empty."""
    receipts = emit(ledger, 6)
    shipper = shipper_to(receiver, ledger, timeout=0.3)
    receiver.answer(**MISBEHAVIOURS[misbehaviour])
    assert shipper.run_once() == 0
    assert (ledger.backlog(), receiver.logs, ledger.quarantined()) == (6, [], [])
    receiver.behave()
    assert shipper.run_once() == 6
    assert ledger.backlog() == 0
    assert [log["attributes"]["log.record.uid"] for log in receiver.logs] == [r.record_id for r in receipts]


@pytest.mark.parametrize("misbehaviour", ["503", "500", "302", "400", "rejects all", "413"])
def test_a_long_time_of_misbehaviour_loses_nothing(ledger, receiver, misbehaviour):
    """Fifteen passes into the void, then everything arrives without a restart: nothing waits in quarantine."""
    shipper = shipper_to(receiver, ledger)
    emit(ledger, 20)
    receiver.answer(**MISBEHAVIOURS[misbehaviour])
    assert [shipper.run_once() for _ in range(15)] == [0] * 15
    receiver.behave()
    shipper.run_once()
    shipper.run_once()
    assert (ledger.backlog(), ledger.quarantined(), sorted(set(numbers(receiver)))) == (0, [], list(range(20)))


def test_an_accepted_answer_in_json_counts(ledger, receiver):
    """Some receivers answer protobuf with JSON: an empty object rejects nothing."""
    emit(ledger, 2)
    receiver.answer(body=b"{}", headers={"Content-Type": "application/json"})
    assert shipper_to(receiver, ledger).run_once() == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nServer: Fluent-Bit v3\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\x0a\x00\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_collectors_in_use_answer_counts(ledger, receiver, answer):
    """An acknowledgement may have an empty body, one in chunks, or JSON, and a status that OTLP does not know."""
    emit(ledger, 2)
    receiver.answer(raw=answer)
    assert shipper_to(receiver, ledger).run_once() == 2


@pytest.mark.parametrize("how", [{"status": 400}, {"rejected": 1}, {"status": 413}, {"status": 500}])
@pytest.mark.parametrize("poisoned", [{0}, {13}, {49}, {3, 4, 30}])
def test_a_record_that_is_refused_alone_goes_to_quarantine_and_the_others_arrive(
    ledger, receiver, backend, how, poisoned
):
    """The bad ones are found by halving; nothing else is set aside, and nothing is dropped."""
    emit(ledger, 50)
    receiver.answer(**how, only_if=lambda log: log["attributes"]["n"] in poisoned)
    shipper = shipper_to(receiver, ledger)
    for _ in range(6):  # HTTP 500 is held against a record only when it has lasted
        shipper.run_once()
    assert sorted(set(numbers(receiver))) == sorted(set(range(50)) - poisoned)
    assert {entry.record()["attributes"]["n"] for entry in ledger.quarantined()} == poisoned
    assert ledger.backlog() == len(poisoned)
    assert backend.value("mobius.audit.records", {"mobius.audit.result": "quarantined"}) == len(poisoned)


def test_quarantine_is_offered_again_at_the_next_start(tmp_path, ledger, receiver):
    """A collector that takes it meanwhile gets it; one that does not leaves it where it was."""
    receipts = emit(ledger, 10)
    receiver.answer(status=400, only_if=lambda log: log["attributes"]["n"] == 4)
    shipper_to(receiver, ledger).stop()
    assert [entry.record_id for entry in ledger.quarantined()] == [receipts[4].record_id]
    assert not receipts[4].delivered(0)
    assert receipts[5].delivered(0)
    shipper_to(receiver, ledger).stop()
    assert len(ledger.quarantined()) == 1
    receiver.behave()
    assert shipper_to(receiver, ledger).run_once() == 1
    assert (ledger.quarantined(), ledger.backlog()) == ([], 0)
    assert receipts[4].delivered(0)


def test_a_record_alone_in_the_ledger_is_set_aside_only_after_long(ledger, receiver):
    """With no other record to show that the collector works it gets three times as many chances."""
    emit(ledger, 1)
    receiver.answer(status=400)
    shipper = shipper_to(receiver, ledger)
    for _ in range(8):
        shipper.run_once()
    assert ledger.quarantined() == []
    shipper.run_once()
    assert len(ledger.quarantined()) == 1


def test_a_batch_that_is_too_large_is_split(ledger, receiver):
    """413 for more than three records: everything arrives in pieces."""
    emit(ledger, 16)

    class Small(OtlpReceiver):
        def _choose(self, items):
            return super()._choose(items) if len(items) <= 3 else type(super()._choose(items))(413)

    with Small() as small:
        assert Shipper(ledger, endpoint=small.logs_endpoint).run_once() == 16
        assert sorted(numbers(small)) == list(range(16))
    assert ledger.quarantined() == []


def test_one_request_holds_at_most_two_megabytes(ledger, receiver):
    """A gRPC server takes four by default; a record that is larger alone goes alone."""
    for n in range(6):
        record = {"event_name": "e", "scope": "s", "timestamp": "1", "observed_timestamp": "1", "severity_number": 9}
        note = {"audit.record.id": f"id-{n}", "note": "x" * 900_000}
        ledger.append({**record, "severity_text": "INFO", "attributes": note})
    assert shipper_to(receiver, ledger).run_once() == 6
    assert [len(request.items) for request in receiver.requests] == [2, 2, 2]


def test_a_collector_that_is_gone_and_comes_back_gets_everything(ledger):
    """The background worker backs off, and goes on when the port listens again."""
    receiver = OtlpReceiver()
    with receiver:
        pass
    emit(ledger, 5)
    shipper = shipper_to(receiver, ledger)
    shipper.start()
    time.sleep(0.1)
    assert ledger.backlog() == 5
    with receiver:
        assert receiver.wait_for(lambda r: len(r.logs) == 5)
        emit(ledger, 5)
        assert receiver.wait_for(lambda r: len(r.logs) == 10)
        assert shipper.stop(5)
    assert numbers(receiver) == [0, 1, 2, 3, 4] * 2


def test_retry_after_is_obeyed(ledger, receiver):
    """A receiver that asks for half a second is left alone for so long."""
    emit(ledger, 1)
    receiver.answer(status=429, headers={"Retry-After": "0.5"}, times=1)
    shipper = shipper_to(receiver, ledger)
    began = time.monotonic()
    shipper.start()
    assert receiver.wait_for(lambda r: r.logs)
    assert time.monotonic() - began >= 0.5
    shipper.stop()
    assert [request.status for request in receiver.requests] == [429, 200]


def test_stop_flushes(ledger, receiver):
    """What was emitted just before is at the receiver when stop returns, and the lease is free."""
    shipper = shipper_to(receiver, ledger, interval=60.0)
    shipper.start()
    receiver.wait_for(lambda r: True)
    time.sleep(0.05)
    emit(ledger, 3)
    assert shipper.stop(5)
    assert numbers(receiver) == [0, 1, 2]
    assert ledger.lease("another", 10)


def test_stop_keeps_its_deadline_before_a_receiver_that_hangs(ledger, receiver):
    """It gives up in time and says that something is left."""
    receiver.answer(delay=5.0)
    emit(ledger, 3)
    shipper = shipper_to(receiver, ledger, timeout=10.0)
    shipper.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert not shipper.stop(0.5)
    assert time.monotonic() - began < 2.0
    assert ledger.backlog() == 3


def test_a_stopped_shipper_starts_again(ledger, receiver):
    """Start, stop, start: the second life ships."""
    shipper = shipper_to(receiver, ledger)
    for count in (1, 2):
        shipper.start()
        emit(ledger, 1)
        assert receiver.wait_for(lambda r, n=count: len(r.logs) == n)
        assert shipper.stop(5)


def test_two_shippers_of_one_ledger_send_nothing_twice(tmp_path, receiver):
    """One holds the lease; when it stops the other takes over."""
    with Ledger(tmp_path / "audit.db") as ledger, Ledger(tmp_path / "audit.db") as other:
        first, second = shipper_to(receiver, ledger), shipper_to(receiver, other)
        emit(ledger, 3)
        assert first.run_once() == 3
        emit(other, 3)
        assert second.run_once() == 0
        first.stop()
        emit(other, 3)
        assert second.run_once() == 3
    assert len(receiver.logs) == 9


def test_a_record_that_somebody_spoiled_does_not_stop_the_others(ledger, receiver):
    """What is no record any more goes to quarantine."""
    emit(ledger, 5)
    ledger.flush()
    with ledger._file.writing() as connection:
        connection.execute("UPDATE records SET payload = '[]' WHERE id = 2")
        connection.execute("UPDATE records SET payload = X'FF00' WHERE id = 3")
    assert shipper_to(receiver, ledger).run_once() == 3
    assert numbers(receiver) == [0, 3, 4]
    assert [entry.position for entry in ledger.quarantined()] == [2, 3]


def test_its_own_requests_make_no_spans_but_one_span_tells_of_the_export(telemetry, ledger, receiver):
    """One ``audit.export`` with the count, and none while there is nothing to send."""
    shipper = shipper_to(receiver, ledger)
    shipper.run_once()
    assert telemetry.spans == []
    emit(ledger, 4)
    shipper.run_once()
    span = telemetry.span("audit.export")
    assert span["attributes"] == {"mobius.count": 4, "mobius.outcome": "success"}
    receiver.answer(status=503)
    emit(ledger, 1)
    shipper.run_once()
    failed = telemetry.spans[-1]
    assert (failed["attributes"]["mobius.outcome"], failed["attributes"]["error.type"]) == ("failure", "HTTP 503")


def test_headers_and_resource_are_sent(ledger, receiver):
    """The collector sees the credentials; no repr shows them."""
    emit(ledger, 1)
    shipper = shipper_to(
        receiver, ledger, headers={"x-tenant": "made-up-token-1234"}, resource={"service.name": "shop", "pid": 7}
    )
    shipper.run_once()
    assert receiver.requests[0].headers["x-tenant"] == "made-up-token-1234"
    assert receiver.logs[0]["resource"] == {"service.name": "shop", "pid": 7}
    assert "made-up-token" not in repr(shipper) + repr(shipper._courier.settings)


def test_the_state_is_told_once(ledger, receiver, caplog):
    """One line when shipping begins to fail, one when it works again."""
    emit(ledger, 1)
    receiver.answer(status=503, times=5)
    shipper = shipper_to(receiver, ledger)
    for _ in range(7):
        shipper.run_once()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, lines
    assert "cannot be shipped" in lines[0]
    assert "HTTP 503" in lines[0]
    assert "again" in lines[1]


def test_backoff_grows_and_is_bounded(ledger, receiver, monkeypatch):
    """From the interval up to a minute."""
    emit(ledger, 1)
    receiver.answer(status=503)
    shipper = shipper_to(receiver, ledger, interval=1.0)
    pauses = []
    for _ in range(10):
        shipper.run_once()
        pauses.append(shipper._pause())
    assert all(1.0 <= pause <= 60.0 for pause in pauses)
    assert pauses[-1] >= 30.0
    assert pauses[0] <= 2.0


def test_a_receiver_that_drips_its_answer_is_given_up(ledger):
    """An answer without an end does not hold the shipper for longer than its timeout."""
    emit(ledger, 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def drip():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            try:
                for _ in itertools.repeat(None, 100):
                    connection.sendall(b"\x00")
                    time.sleep(0.05)
            except OSError:
                pass

        threading.Thread(target=drip, daemon=True).start()
        port = server.getsockname()[1]
        began = time.monotonic()
        assert Shipper(ledger, endpoint=f"http://127.0.0.1:{port}/v1/logs", timeout=0.4).run_once() == 0
        assert time.monotonic() - began < 1.5
    assert ledger.backlog() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"batch": 0},
        {"refusals": 0},
        {"timeout": 0},
        {"protocol": "http/xml"},
        {"endpoint": "x"},
        {"compression": "zip"},
        {"client_key": "k.pem"},
        {"protocol": "grpc", "compression": "deflate"},
        {"batch_bytes": 0},
    ],
)
def test_a_wrong_setting_is_refused(ledger, options):
    """At construction, by name."""
    with pytest.raises(ConfigurationError):
        Shipper(ledger, **options)


def test_a_clock_that_was_set_back_does_not_wedge_the_lease(tmp_path):
    """A deadline that lies further ahead than anybody asks for is not believed."""
    clock = FrozenClock()
    with Ledger(tmp_path / "a.db", clock=clock) as one, Ledger(tmp_path / "a.db", clock=clock) as two:
        assert one.lease("one", 30)
        assert not two.lease("two", 30)
        clock.advance(-3600)
        assert two.lease("two", 30)
        assert not one.lease("one", 30)
        clock.advance(365 * 86400)
        assert one.lease("one", 30)


# --- gRPC -----------------------------------------------------------------------------------------------------


@pytest.fixture
def grpc_server():
    """A real gRPC server that answers as the test says."""
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    class Service(grpc.GenericRpcHandler):
        def __init__(self):
            self.answer = lambda request, context: ExportLogsServiceResponse()
            self.requests = []
            self.metadata = {}

        def service(self, details):
            def export(request, context):
                self.requests.append(request)
                self.metadata = dict(context.invocation_metadata())
                return self.answer(request, context)

            return grpc.unary_unary_rpc_method_handler(
                export,
                request_deserializer=ExportLogsServiceRequest.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )

    service = Service()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[service])
    service.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service
    server.stop(0)


def grpc_shipper(service, ledger, **options):
    return Shipper(ledger, protocol="grpc", endpoint=f"http://127.0.0.1:{service.port}", timeout=1.0, **options)


@pytest.mark.parametrize("code", [
    "UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAUTHENTICATED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "UNKNOWN",
])  # fmt: skip
def test_over_grpc_nothing_is_acknowledged_that_was_not_accepted(ledger, grpc_server, code):
    """Whatever the status, the records wait; once it is OK they arrive, with the metadata."""
    import grpc

    emit(ledger, 5)
    shipper = grpc_shipper(grpc_server, ledger, headers={"X-Tenant": "acme"})
    good, grpc_server.answer = grpc_server.answer, lambda _, context: context.abort(grpc.StatusCode[code], "no")
    assert [shipper.run_once() for _ in range(5)] == [0] * 5
    assert (ledger.backlog(), ledger.quarantined()) == (5, [])
    grpc_server.answer = good
    assert shipper.run_once() == 5
    assert ledger.backlog() == 0
    assert grpc_server.metadata["x-tenant"] == "acme"
    shipper.stop()


def test_over_grpc_a_partial_success_is_a_failure(ledger, grpc_server):
    """The one that is refused goes to quarantine, the others arrive."""

    def answer(request, context):
        response = ExportLogsServiceResponse()
        for log in request.resource_logs[0].scope_logs[0].log_records:
            if any(pair.key == "n" and pair.value.int_value == 3 for pair in log.attributes):
                response.partial_success.rejected_log_records = 1
        return response

    emit(ledger, 8)
    grpc_server.answer = answer
    shipper = grpc_shipper(grpc_server, ledger)
    assert shipper.run_once() == 7
    assert [entry.position for entry in ledger.quarantined()] == [4]
    shipper.stop()


def test_over_grpc_a_hang_is_given_up(ledger, grpc_server):
    """At the timeout."""
    emit(ledger, 1)
    grpc_server.answer = lambda _, context: time.sleep(3) or ExportLogsServiceResponse()
    began = time.monotonic()
    assert grpc_shipper(grpc_server, ledger).run_once() == 0
    assert time.monotonic() - began < 2.5
    assert ledger.backlog() == 1


def test_over_grpc_retry_info_is_obeyed(ledger, grpc_server):
    """The seconds of google.rpc.RetryInfo are the pause."""
    import grpc
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    status = Status(code=8)
    status.details.add().Pack(RetryInfo(retry_delay={"seconds": 7, "nanos": 500_000_000}))

    def answer(_, context):
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")

    emit(ledger, 1)
    grpc_server.answer = answer
    shipper = grpc_shipper(grpc_server, ledger)
    shipper.run_once()
    assert shipper._pause() == 7.5
    shipper.stop()


def test_over_grpc_a_batch_beyond_the_servers_limit_is_split(ledger, grpc_server):
    """RESOURCE_EXHAUSTED because it is larger than the server's maximum."""
    import grpc

    def answer(request, context):
        if sum(len(scope.log_records) for scope in request.resource_logs[0].scope_logs) > 3:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)")
        return ExportLogsServiceResponse()

    emit(ledger, 9)
    grpc_server.answer = answer
    shipper = grpc_shipper(grpc_server, ledger)
    assert shipper.run_once() == 9
    shipper.stop()
