"""Records as services and libraries write them: the name stands in one place, what it tells of in another."""

import json

import pytest

from mobius_otel.telemetry.redaction import Redactor
from tests.telemetry.redaction.secrets_kit import BY_VALUE, CANARY

REDACTOR = Redactor()
C = CANARY
RAW = CANARY.encode()


@pytest.mark.parametrize(
    ("record", "path", "kind"),
    [
        ({"Name": "DB_PASSWORD", "Value": C}, "Value", "password"),
        ({"ParameterKey": "DbPassword", "ParameterValue": C}, "ParameterValue", "password"),
        ({"Key": "password", "Value": C}, "Value", "password"),
        ({"KEY": "api_key", "VALUE": C}, "VALUE", "api_key"),
        ({"key": "api_key", "val": C}, "val", "api_key"),
        ({"k": "password", "v": C}, "v", "password"),
        ({"tagKey": "secret", "tagValue": C}, "tagValue", "secret"),
        ({"column_name": "password", "old_value": C, "new_value": None}, "old_value", "password"),
        ({"columnName": "password", "oldValue": None, "newValue": C}, "newValue", "password"),
        ({"attr": "password", "from": C, "to": None}, "from", "password"),
        ({"field": "password", "original": None, "updated": C}, "updated", "password"),
        ({"field": "password", "previousValue": C, "currentValue": None}, "previousValue", "password"),
        ({"field": "api_key", "fromString": "", "toString": C}, "toString", "api_key"),
        ({"label": "Password", "value": C}, "value", "password"),
        ({"Cmd": ["redis-server", "--requirepass", C]}, "Cmd[2]", "password"),
        ({"attribute": "pin", "old": "8391"}, "old", "pin"),
        ({"property": "apiKey", "before": C, "after": "***"}, "before", "api_key"),
        ({"kind": "E", "path": ["password"], "lhs": C, "rhs": ""}, "lhs", "password"),
        ({"kind": "E", "path": ("users", "session_id", 0), "lhs": "", "rhs": C}, "rhs", "session"),
        ({"op": "replace", "path": "/user/password", "value": C}, "value", "password"),
        ({"loc": ["body", "password"], "msg": "too short", "input": C}, "input", "password"),
        ({"key": "api_key", "value": {"stringValue": C}}, "value.stringValue", "api_key"),
        ({"key": "session_id", "value": {"stringValue": C}}, "value.stringValue", "session"),
        ({"key": "user_pin", "value": {"intValue": 3399}}, "value.intValue", "pin"),
        (
            {"key": "authorization", "value": {"arrayValue": {"values": [{"stringValue": C}]}}},
            "value.arrayValue.values[0].stringValue",
            "authorization",
        ),
        ({"changes": {"session_id": {"before": C, "after": None}}}, "changes.session_id.before", "session"),
        ({"changes": {"signature": {"old": C, "new": None}}}, "changes.signature.old", "signature"),
        ({"changes": {"cvv": {"from": "", "to": "839"}}}, "changes.cvv.to", "cvv"),
        ({"changes": {"otp": [{"lhs": "839201"}]}}, "changes.otp[0].lhs", "otp"),
        ({"changes": {"pin": {"old": 8391}}}, "changes.pin.old", "pin"),
        ({"headers": [(b"x-api-key", RAW)]}, "headers[0][1]", "api_key"),
        ({"headers": [[b"X-Auth-Token", RAW], [b"host", b"x"]]}, "headers[0][1]", "token"),
        ([(b"authorization", RAW)], "[0][1]", "authorization"),
        ({"argv": [b"--password", RAW]}, "argv[1]", "password"),
        ({b"password": C}, "password", "password"),
        ({"headers": {b"x-api-key": RAW}}, "headers.x-api-key", "api_key"),
    ],
)
def test_what_a_record_tells_of_its_neighbour_is_found(record, path, kind):
    """Names and values as tags, parameters, changes, patches, attributes and headers are written."""
    result = REDACTOR.redact(record)
    assert [(match.path, match.kind) for match in result.matches] == [(path, kind)]
    assert C not in repr(result)
    assert REDACTOR.redact(result.value).value is result.value


def test_a_pair_of_name_and_value_in_a_text_is_found():
    """The same holds for JSON that somebody has written into a text."""
    text = json.dumps({"Name": "DB_PASSWORD", "Value": C})
    assert REDACTOR.text(text) == '{"Name": "DB_PASSWORD", "Value": "[redacted:password]"}'


@pytest.mark.parametrize(
    "record",
    [
        {"session": {"started_at": "2026-01-01T10:00:00Z", "pages": 3}},
        {"sessions": [{"user": "ann", "old": True}]},
        {"card": {"brand": "visa", "last4": "4242"}},
        {"name": "DB_PASS", "updated": "2026-01-01T10:00:00Z"},
        {"label": "API key", "value": "api_key"},
        {"session": {"updated": "2026-01-01", "number": 3}},
        {"Key": "exports/2026/a.png", "Bucket": "logs", "Value": "x"},
        {"name": "llm.tokens", "value": 512},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "512"}},
        {"loc": ["body", "password"], "type": "missing", "msg": "Field required", "input": {"user": "ann"}},
        {"headers": [(b"host", b"example.com"), (b"content-length", b"12")]},
        {b"x": 1, b"host": b"example.com", (1, 2): "a", None: 2, 1.5: ["b"]},
    ],
)
def test_a_record_that_tells_nothing_is_the_same_object(record):
    """Starts of sessions, brands of cards, counts; and keys that are no texts stay what they are."""
    assert REDACTOR.redact(record).value is record


def test_a_key_in_bytes_that_holds_a_secret_becomes_a_text_without_it():
    """A key is changed where it has to be, and nowhere else."""
    assert REDACTOR.redact({b"token=" + RAW: 1, b"x": 2}).value == {"token=[redacted:token]": 1, b"x": 2}


@pytest.mark.parametrize(
    "record",
    [
        {"password": ["This field is required."]},
        {"password": ["Dieses Feld ist erforderlich."]},
        {"errors": {"password": ["is too short (minimum is 8 characters)", "doesn't match confirmation"]}},
        {"errors": {"token": "has expired"}},
        {"password": "must not be blank"},
        {"password": "Ensure this field has at least 8 characters."},
        {"labels": {"password": "Passwort", "token": "Token"}},
        {"csrf": "enabled"},
        {"session": "expired"},
        {"pass": 12, "fail": 1},
        {"token": "the"},
        {"tokens": ["the", "cat", "sat"]},
        {"credentials": "include"},
        {"credentials": "same-origin"},
        {"GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcp/sa.json"},
        {"tls.key": "/etc/k.pem"},
        {"secret": "/run/secrets/db"},
        {"PASSWORD_FILE": "/run/secrets/db"},
        {"secret_arn": "arn:aws:secretsmanager:eu-west-1:490905287549:secret:prod/db-umVEJz"},
        {"DB_PASSWORD": {"valueFrom": "arn:aws:secretsmanager:eu-west-1:490905287549:secret:prod/db-umVEJz"}},
        {"secret_ref": "projects/shop/secrets/db/versions/3"},
        {"secret_uri": "https://shop.vault.azure.net/secrets/db/3"},
        {"id": "627376819221355562"},
        {"message_id": 627376819221355562},
        {"ids": ["627376819221355562"]},
        {"by_id": {"ids": {"id": "627376819221355562"}}},
        {"api_key": {"id": 17, "name": "ci", "last_used": "2025-07-01"}},
        {"secret": {"name": "tls", "namespace": "prod"}},
        {"session": "2025-07-01T10:00:00Z"},
        {"signature": "def f(x)"},
        {"pin": "GPIO17"},
        {"password": "${{ secrets.DB }}"},
        {"password": "var.db_password"},
        {"password": "(known after apply)"},
        {"password": "!Ref DbPassword"},
    ],
)
def test_what_only_speaks_of_a_secret_stays(record):
    """Messages of validation, states, labels, counts, references, paths and ids, though their name tells."""
    assert REDACTOR.redact(record).value is record


@pytest.mark.parametrize(
    "record",
    [
        {"password": "correct horse battery staple"},
        {"password": ["correct horse battery staple"]},
        {"argv": ["--password", "correct horse battery staple."]},
        {"password": "hunter2"},
        {"password": "this is my hunter"},
        {"password": "must be 1234"},
        {"password": "Passwort"},
        {"labels": {"password": "hunter"}},
        {"labels": {"password": "MyNewPassword"}},
        {"pass": 12345678},
        {"pass": "12"},
        {"token": "sesame"},
        {"tokens": ["abcdefghijkl"]},
        {"token": "/9j4AAQSkZJRgABAQ/x"},
        {"secret": "/kLs9f/2hs+h=="},
        {"pin": "1234"},
        {"cvv": "839"},
        {"signature": 'keyId="a",headers="(request-target) host",signature="Zm9v"'},
        {"session": "2025-07-01T10:00:00Z-9f8e7d6c"},
        {"id": "4111111111111111"},
        {"card_id": "627376819221355562"},
        {"id": {7: "627376819221355562"}},
        {"secret_arn": "arn:aws:secretsmanager:eu-west-1:490905287549:secret:x password=hunter2"},
        {"password": "secrets.Hunter22"},
        {"url": "postgres://ann:valid@db/shop"},
        {"credentials": "/home/" + BY_VALUE["github"][0] + "/key.json"},
        {"password": ["Please write to ann@example.com for help."]},
    ],
)
def test_what_only_looks_like_a_message_goes(record):
    """Whatever is not known to be harmless is a secret: passphrases, numbers, words beside known ones."""
    result = REDACTOR.redact(record)
    assert result.matches
    assert REDACTOR.redact(result.value).matches == ()
