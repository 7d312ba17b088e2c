"""The standard settings, and records as OTLP."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.otlp import encode
from mobius_otel.telemetry.audit.settings import Settings, settings_from_environment

E = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(("environ", "endpoint", "protocol"), [
    ({E + "ENDPOINT": "http://c:4318"}, "http://c:4318/v1/logs", "http/protobuf"),
    ({E + "ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/logs", "http/protobuf"),
    ({E + "ENDPOINT": "https://c/base"}, "https://c/base/v1/logs", "http/protobuf"),
    ({E + "LOGS_ENDPOINT": "http://c:4318/own"}, "http://c:4318/own", "http/protobuf"),
    ({E + "LOGS_ENDPOINT": "http://a/x", E + "ENDPOINT": "http://b"}, "http://a/x", "http/protobuf"),
    ({E + "ENDPOINT": "http://c:4317", E + "PROTOCOL": "grpc"}, "http://c:4317", "grpc"),
    ({E + "ENDPOINT": "http://c:4317", E + "PROTOCOL": "http/protobuf", E + "LOGS_PROTOCOL": "grpc"},
    "http://c:4317", "grpc"),
    ({E + "ENDPOINT": "c:4317", "OTEL_LOGS_EXPORTER": "otlp_proto_grpc"}, "c:4317", "grpc"),
])  # fmt: skip
def test_endpoint_and_protocol(environ, endpoint, protocol):
    """The signal's own variable wins and is taken as it is; the common one gets the path."""
    found = settings_from_environment(environ)
    assert (found.endpoint, found.protocol) == (endpoint, protocol)


@pytest.mark.parametrize("environ", [
    {}, {E + "ENDPOINT": " "}, {E + "ENDPOINT": "http://c", "OTEL_LOGS_EXPORTER": "none"},
    {E + "ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, {E + "TRACES_ENDPOINT": "http://c"},
])  # fmt: skip
def test_no_settings_where_logs_are_not_exported(environ):
    """No endpoint, no exporter, no SDK."""
    assert settings_from_environment(environ) is None


def test_headers_timeout_and_tls():
    """Headers are decoded, seconds are seconds, the signal's own variable wins."""
    found = settings_from_environment({
        E + "ENDPOINT": "https://c", E + "HEADERS": "authorization=Bearer%20made-up, x-a=1=2,,broken",
        E + "TIMEOUT": "30",
        E + "LOGS_TIMEOUT": "2.5", E + "CERTIFICATE": "/ca.pem",
    })  # fmt: skip
    assert found.headers == {"authorization": "Bearer made-up", "x-a": "1=2"}
    assert (found.timeout, found.certificate) == (2.5, "/ca.pem")
    assert "made-up" not in repr(found)


@pytest.mark.parametrize(("endpoint", "insecure", "secure"), [
    ("http://c:4317", False, False), ("https://c:4317", True, True), ("c:4317", False, True), ("c:4317", True, False),
])  # fmt: skip
def test_grpc_uses_tls_as_the_scheme_says_else_the_setting(endpoint, insecure, secure):
    """As the specification has it."""
    assert Settings(endpoint, "grpc", insecure=insecure).secure is secure


@pytest.mark.parametrize("environ", [
    {E + "ENDPOINT": "ftp://c"}, {E + "ENDPOINT": "c:4318"}, {E + "ENDPOINT": "http://c", E + "TIMEOUT": "soon"},
    {E + "ENDPOINT": "http://c", E + "TIMEOUT": "-1"}, {E + "ENDPOINT": "http://c", E + "PROTOCOL": "http/xml"},
    {E + "ENDPOINT": "http://c", E + "TIMEOUT": "nan"},
])  # fmt: skip
def test_a_wrong_setting_is_refused(environ):
    """By name, with what it should be."""
    with pytest.raises(ConfigurationError, match="OTLP"):
        settings_from_environment(environ)


def test_credentials_in_an_endpoint_are_shown_nowhere():
    """Neither in the name of the host nor in an error."""
    found = Settings("http://user:made-up-pass@c:4318/v1/logs")
    assert found.host == "c:4318"
    with pytest.raises(ConfigurationError) as caught:
        Settings("ftp://user:made-up-pass@c:4318/v1/logs")
    assert "made-up-pass" not in str(caught.value)


RECORD = {
    "event_name": "a.b", "scope": "s", "timestamp": "1700000000123456789", "observed_timestamp": "1700000000123456790",
    "severity_number": 9, "severity_text": "INFO", "trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "2",
    "trace_flags": 1,
    "attributes": {"s": "x", "i": 2**53, "f": 1.5, "b": True, "n": None, "l": [], "m": {}, "d": [{"k": [1]}]},
}  # fmt: skip


def test_a_record_is_encoded_without_loss():
    """Every field and every shape of value, to the nanosecond."""
    request = ExportLogsServiceRequest.FromString(encode([RECORD, RECORD | {"scope": "t"}], {"service.name": "x"}))
    (resource,) = request.resource_logs
    assert [scope.scope.name for scope in resource.scope_logs] == ["s", "t"]
    (log,) = resource.scope_logs[0].log_records
    assert (log.time_unix_nano, log.observed_time_unix_nano) == (1700000000123456789, 1700000000123456790)
    assert (log.event_name, log.severity_number, log.flags) == ("a.b", 9, 1)
    assert (log.trace_id.hex(), log.span_id.hex()) == (RECORD["trace_id"], RECORD["span_id"])
    kinds = {pair.key: pair.value.WhichOneof("value") for pair in log.attributes}
    assert kinds == {"s": "string_value", "i": "int_value", "f": "double_value", "b": "bool_value", "n": None,
                     "l": "array_value", "m": "kvlist_value", "d": "array_value"}  # fmt: skip


@pytest.mark.parametrize("spoiled", [
    {"attributes": {}}, RECORD | {"timestamp": "soon"}, RECORD | {"timestamp": "-1"}, RECORD | {"trace_id": "xyz"},
    RECORD | {"severity_number": "9"}, RECORD | {"event_name": 7}, RECORD | {"attributes": []},
    RECORD | {"trace_flags": 2**40},
    RECORD | {"attributes": {"i": 2**80}},
])  # fmt: skip
def test_what_is_no_record_is_a_value_error(spoiled):
    """Somebody changed the ledger; the shipper sets such a record aside."""
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        encode([spoiled], {})
