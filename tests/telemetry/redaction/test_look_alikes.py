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
    "text",
    [
        # what services print every day
        '"GET /reset-password HTTP/1.1" 200 17', "POST /v1/password 302ms", "session: 17m32s",
        "keyspace hits session: 0.97",
        "Data\n====\nca.crt: 1066 bytes\ntoken: 1234 bytes\npassword:  8 bytes", "secret: 3 versions", "tokens: 1,234",
        "  volumes:\n  - name: token\n    secret:\n      secretName: app-token-7x2k9",
        "existingSecret: 'postgres-auth-1'",
        "rename src/{password => credential}/hash.py (98%)", " src/{password => credential}/hash.py | 2 +-",
        "fix: password: rejects 7 characters", "feat(auth)!: password: 12 characters", "password: reset by admin",
        "otp: sent to device", '"js-tokens": "^3.0.0 || ^4.0.0"', "jsonwebtoken: ^9.0.0", '"password": "~0.1.1",',
        '"jsonwebtoken": "9.0.2",', "com.acme:session:1.2.3-SNAPSHOT",
        'password-hash = { version = "0.5", features = ["std"] }', "string password = 2;",
        "message L {\n  string password = 12 [deprecated = true];\n  optional bytes secret = 4;\n}",
        "enum Kind { PASSWORD = 0; TOKEN = 1; }", "input L { email: String! password: String! otp: String }",
        "type M {\n  reset(token: String!, password: String!): Boolean\n  token: ID!\n}", "salt=16 rounds=12",
        "Permissions-Policy: otp-credentials=(self)", "auth: method=oauth2 provider=google", "auth: scram-sha-256",
        "authorization=rbac", "signature: v1", "password: op://vault/item/password", "passwordHash: bcrypt",
        "password: vault:secret/data/db#password", "secret: projects/123/secrets/db/versions/4",
        "password: ref+vault://secret/db#/password", "private key: RSA 2048 bits",
    ],
)  # fmt: skip
def test_what_services_write_daily_stays(text):
    assert REDACTOR.text(text) == text
    assert REDACTOR.redact({"message": text, "n": 1}).value == {"message": text, "n": 1}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: 123456 attempts", "123456"), ("otp: 482913 attempts", "482913"),
        ("password: ^hunter22", "hunter22"),
        ("password=17m32x", "17m32x"), ("string password = 123456;", "123456"),
        ("$h = {password => hunter22}", "hunter22"),
        ("password: String!x", "String!x"), ("password: op://ann:hunter22@h", "hunter22"), ("auth: abc=17d", "17d"),
        ("password = { value = 'hunter22' }", "hunter22"), ("password 17.hunter", "17.hunter"),
    ],
)  # fmt: skip
def test_what_is_like_it_and_none_of_it_goes(text, secret):
    assert secret not in REDACTOR.text(text)


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
        {
            "dependencies": {
                "js-tokens": "4.0.0",
                "password": "0.1.1",
                "cookie": "^0.5.0",
                "jsonwebtoken": "^9.0.0 || ^8.5.1",
            }
        },
        {"gen_ai.usage.output_tokens": "34"},
        {"paths": {"/token": {"get": {"operationId": "getToken2"}}, "/users/{id}/password": {"put": {"tags": ["a"]}}}},
        {
            "volumes": [{"name": "x", "secret": {"secretName": "app-token-7x2k9"}}],
            "jwt": {"alg": "RS256", "kid": "k-1"},
        },
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
    assert REDACTOR.redact({"/password": {"before": "hunter22", "after": "hunter23"}}).value == {
        "/password": {"before": "[redacted:password]", "after": "[redacted:password]"}
    }
    assert REDACTOR.redact({"dependencies": {"password": "hunter22"}, "password": "0.1.1"}).value == {
        "dependencies": {"password": "[redacted:password]"},
        "password": "[redacted:password]",
    }
