"""Versions, nodes, ids of messages, networks, descriptions of fields: they only look like what is looked for."""

import pytest

from mobius_otel.telemetry.redaction import Redactor

REDACTOR = Redactor()


@pytest.mark.parametrize(
    "text",
    [
        "image: app:10.4.2.1", 'Pulling image "registry.local/acme/app:10.4.2.1"', "upgraded from 10.4.2.1 to 10.4.3.0",
        "Upgrading nginx-ingress-controller from 10.4.2.1 to 10.4.3.0", "bump x version: 10.4.2.1 -> 10.4.3.0",
        "Unpacking foo (10.4.3.0) over (10.4.2.1) ...", "diff: +10485760 bytes", "delta +1234567890 ms",
        "celery@worker-1.prod.local ready", "celery@ip-10-0-3-4.ec2.internal: OK",
        "rabbit@mq-0.rabbitmq.prod.svc.cluster.local", "message-id=<20240117100000.4F2A81C0E3@mail.example.org>",
        "References: <20240117.abc@mail.example.org> <20240118.abc@mail.example.org>",
        'x "Message-Id": "<CAF8x1@mail.example.org>",', "route 2001:db8::/32 via x", "2001:db8:1:2::/64",
        "sid=S-1-5-21-3623811015-3361044348-30300820-1013", 'x "sid":"SM0123456789abcdef0123456789abcdef",',
        'x "password": {"type": "string", "description": "The new password of 17", "minLength": 12},',
    ],
)  # fmt: skip
def test_a_text_of_it_stays(text):
    assert REDACTOR.text(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("call (+49 30 1234567) now", "call ([redacted:phone]) now"),
        ("call (+49 (30) 1234567) now", "call ([redacted:phone]) now"),
        ("delta +14155552671", "delta [redacted:phone]"),
        ("from 10.4.2.1 to 10.4.3.0", "from [redacted:ipv4] to [redacted:ipv4]"),
        ("GET /image from ip:10.4.2.1", "GET /image from ip:[redacted:ipv4]"),
        ("message-id=<ann@example.org>", "message-id=<[redacted:email]>"),
        ("to=<ann17@example.org>", "to=<[redacted:email]>"),
        ("celery@example.com", "[redacted:email]"),
        ("ann@corp.internal", "[redacted:email]"),
        ("2001:db8::1/64", "[redacted:ipv6]/64"),
        ("Authorization=Bearer%20abcDEF123456", "Authorization=[redacted:authorization]"),
        ("?auth=Bearer%20abcDEF123456&x=1", "?auth=[redacted:authorization]&x=1"),
        ("x 'password': {'type': 'string', 'value': 'hunter22'}",
         "x 'password': {'type': 'string', 'value': '[redacted:password]'}"),
    ],
)  # fmt: skip
def test_what_stands_beside_one_stays_and_it_goes(text, clean):
    assert REDACTOR.text(text) == clean
    assert REDACTOR.text(clean) == clean


@pytest.mark.parametrize(
    "value",
    [
        {"password": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"},
        {"sid": "S-1-5-21-3623811015-3361044348-30300820-1013"},
        {"sid": "SM0123456789abcdef0123456789abcdef"},
        {"headers": {"Message-ID": "<20240117.abc@mail.example.org>"}, "messageId": "<20240117.abc@mail.example.org>"},
        {"references": ["<20240117.abc@mail.example.org>"]},
        {"password": {"type": "string", "description": "The new one of user 17", "pattern": "^[a-z0-9]{12,}$"}},
        {"api_key": {"type": "apiKey", "name": "X-API-Key", "in": "header", "description": "Yours"}},
        {"token": {"type": "object", "properties": {"access_token": {"type": "string"}, "n": {"type": "integer"}}}},
    ],
)
def test_a_value_of_it_stays(value):
    assert REDACTOR.redact(value).value == value


def test_a_value_beside_the_description_of_its_field_goes():
    value = {"type": "string", "description": "x", "default": "hunter22", "example": "hunter23", "value": "hunter24"}
    clean = {
        "type": "string",
        "description": "x",
        **dict.fromkeys(("default", "example", "value"), "[redacted:password]"),
    }
    assert REDACTOR.redact({"password": value}).value == {"password": clean}
    assert REDACTOR.redact({"sid": "AC0123456789abcdef0123456789abcdef"}).value != {
        "sid": "AC0123456789abcdef0123456789abcdef"
    }
    assert REDACTOR.redact({"message_id": "<ghp_abcdefghijklmnopqrst0123456789abcdef@h.example>"}).matches
