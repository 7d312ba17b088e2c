"""The templates of the part that detectors may be tuned with."""

from __future__ import annotations

import json
from typing import Any

from .kit import EVIDENT, PERSONAL, SHORT, Family, Kit, encoded, variable
from .model import Hidden, Loose, Text, Whole, compact, fill, join, printed, text_of
from .values import card_number, hexa

__all__ = ["FAMILIES"]

_COOKIES = ("sessionid", "session", "sid", "auth_session")
_DSNS = (
    "postgres://{user}:{password}@{host}:5432/{db}",
    "redis://:{password}@{host}:6379/0",
    "amqp://{user}:{password}@{host}:5672/%2F",
    "mongodb+srv://{user}:{password}@{host}/{db}?retryWrites=true",
    "http://{user}:{password}@{host}/api/{db}",
    "postgresql+psycopg2://{user}:{password}@{host}/{db}?sslmode=require",
)


def audit_fields(kit: Kit) -> Any:
    """Return changes as a list of fields with before and after."""
    name, secret = kit.telling("name")
    plain = kit.of(("title", "plan", "locale", "author"))
    return {
        "event_name": "account.update",
        "actor": {"id": kit.user(), "type": "user"},
        "outcome": "success",
        "changes": [
            {"field": plain, "before": kit.clean_text(), "after": kit.clean_text()},
            {"field": name, "before": None, "after": secret},
        ],
        "attributes": kit.beside(),
    }


def audit_mapping(kit: Kit) -> Any:
    """Return what was before and after, as two mappings."""
    name, secret = kit.telling("name")
    other = kit.hidden(secret.kind, "name")
    return {
        "event": "settings.changed",
        "by": kit.user(),
        "before": {name: other, **kit.beside()},
        "after": {name: secret, **kit.beside()},
        "at": kit.rng.randrange(10**9, 2 * 10**9),
    }


def request_log(kit: Kit) -> Any:
    """Return a request with a secret in its query."""
    name, secret = kit.telling("pair", ("token", "api_key", "password", "session", "jwt", "otp_code"), line=True)
    return {
        "http.request.method": "GET",
        "http.route": "/v1/orders/{id}",
        "http.response.status_code": 200,
        "url.full": fill(
            "https://{host}/v1/orders/{n}?{name}={secret}&page=2&sort=asc",
            host=kit.host(),
            n=kit.rng.randrange(999),
            name=name,
            secret=encoded(secret),
        ),
        "client.address": "203.0.113.9",
        **kit.beside(),
    }


def signed_url(kit: Kit) -> Any:
    """Return a link to storage, signed for a while."""
    day = f"2024{kit.rng.randrange(1, 13):02d}11"
    aws = fill(
        "https://acme-exports.s3.amazonaws.com/r/{n}.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={id}"
        "&X-Amz-Date={day}T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={secret}",
        n=kit.rng.randrange(999),
        day=day,
        secret=kit.hidden("signature", "pair"),
        id=Text((kit.hidden("aws_access_key_id", "pair"), Loose(f"%2F{day}%2Feu-west-1%2Fs3%2Faws4_request"))),
    )
    azure = fill(
        "https://acme.blob.core.windows.net/backup/{n}.zip?sv=2022-11-02&st=2024-01-11T00%3A00Z&sr=b&sp=r&sig={secret}",
        n=kit.rng.randrange(999),
        secret=encoded(kit.hidden("sas_signature", "pair")),
    )
    return {"message": "export ready", "download": kit.of((aws, azure)), **kit.beside()}


def connection(kit: Kit) -> Any:
    """Return connection URLs, in a text and alone."""
    return {
        "msg": fill("connecting to {dsn} (attempt {n})", dsn=kit.dsn("embedded", _DSNS), n=kit.rng.randrange(9)),
        kit.of(("upstream", "target", "backend")): kit.dsn("value", _DSNS),
        **kit.beside(),
    }


def jdbc(kit: Kit) -> Any:
    """Return settings of a connection as JDBC and ADO.NET write them."""
    shape = kit.of(
        (
            "jdbc:mysql://{host}:3306/shop?user={user}&password={secret}&useSSL=true",
            "jdbc:sqlserver://{host}:1433;databaseName=shop;user={user};password={secret};encrypt=true",
            "Server={host};Database=shop;User Id={user};Password={secret};Timeout=30",
        )
    )
    return {"pool": "primary", "config": kit.filled(shape, secret=kit.hidden("password", "pair")), **kit.beside()}


def azure_connection(kit: Kit) -> Any:
    """Return the connection string of Azure storage."""
    shape = "DefaultEndpointsProtocol=https;AccountName=acme{n};AccountKey={secret};EndpointSuffix=core.windows.net"
    text = kit.filled(shape, secret=kit.hidden("azure_storage_key", "pair"))
    return kit.of(
        ({"setting": text, **kit.beside()}, {"error": fill("bad settings: {text}", text=text), **kit.beside()})
    )


def trace(kit: Kit) -> Any:
    """Return a Python traceback whose error tells a secret."""
    name, secret = kit.telling("pair", line=True)
    last = kit.of(
        (
            fill("ValueError: cannot connect with {name}={secret}", name=name, secret=fill("'{s}'", s=secret)),
            fill(
                "requests.exceptions.HTTPError: 401 for url: https://{host}/v1?{name}={secret}",
                host=kit.host(),
                name=name,
                secret=encoded(secret),
            ),
            fill(
                "TypeError: login() got an unexpected keyword argument ({name}={secret})",
                name=name,
                secret=fill('"{s}"', s=secret),
            ),
        )
    )
    return {
        "exception.type": "ValueError",
        "exception.stacktrace": fill(
            'Traceback (most recent call last):\n  File "/srv/app/tokens/refresh.py", line {n}, in get_token\n'
            '    return self.client.refresh(password=self.password)\n  File "/srv/app/http.py", line 9, in call\n'
            "    raise error\n{last}\n",
            n=kit.rng.randrange(900),
            last=last,
        ),
        **kit.beside(),
    }


def sql(kit: Kit) -> Any:
    """Return a statement with literals."""
    shape = kit.rng.randrange(4)
    name, secret = kit.telling(
        "pair", ("password", "token", "api_key", "client_secret", "pin", "ssn", "iban"), line=True
    )
    name = name.replace("-", "_")
    if shape == 0:
        text = fill(
            "UPDATE accounts SET {name} = '{secret}', updated_at = now() WHERE id = {n}",
            name=name,
            secret=secret,
            n=kit.rng.randrange(999),
        )
    elif shape == 1:
        text = fill(
            "SELECT id, plan FROM accounts WHERE login = '{user}' AND {name} = '{secret}' LIMIT 1",
            user=kit.user(),
            name=name,
            secret=secret,
        )
    elif shape == 2:
        text = fill(
            "INSERT INTO users (name, {name}, plan) VALUES ('{user}', '{secret}', 'free')",
            user=kit.user(),
            name=name,
            secret=secret,
        )
    else:
        text = fill(
            "INSERT INTO customers (id, note, mail) VALUES ({n}, 'vip', '{secret}')",
            n=kit.rng.randrange(999),
            secret=kit.evident("embedded", ("email", "card", "iban", "ssn", "jwt")),
        )
    return {"db.system.name": "postgresql", "db.query.text": text, "rows": 1, **kit.beside()}


def header_mapping(kit: Kit) -> Any:
    """Return the headers of a request."""
    headers = {
        "Host": kit.host(),
        "Accept": "application/json",
        "User-Agent": "python-requests/2.31.0",
        "Authorization": kit.authorization("name"),
        "X-Request-Id": hexa(kit.rng, 32),
        "Content-Length": "431",
    }
    if kit.chance(0.5):
        headers["Cookie"] = kit.cookie("name", _COOKIES)
    if kit.chance(0.3):
        headers["X-Api-Key"] = kit.hidden("api_key", "name")
    return {"method": "POST", "headers": headers, **kit.beside()}


def header_dump(kit: Kit) -> Any:
    """Return the headers of a request as they were sent."""
    lines: list[Any] = [fill("POST /v1/pay HTTP/1.1\nHost: {host}", host=kit.host())]
    lines.append(fill("Authorization: {value}", value=kit.authorization("pair")))
    if kit.chance(0.6):
        lines.append(fill("Cookie: {value}", value=kit.cookie("pair", _COOKIES)))
    if kit.chance(0.4):
        lines.append(fill("Set-Cookie: {value}", value=kit.set_cookie("pair", _COOKIES)))
    if kit.chance(0.4):
        lines.append(fill("X-Api-Key: {value}", value=kit.hidden("api_key", "pair")))
    lines.append("Content-Type: application/json\nAccept-Encoding: gzip")
    return {"dump": join("\n", lines), **kit.beside()}


def chat(kit: Kit) -> Any:
    """Return messages of people."""
    texts: list[Any] = [kit.sentence(), kit.clean_text(), kit.sentence()]
    if kit.chance(0.4):
        shape = kit.of(
            ("my password is {secret} and it does not work", "password: {secret}", "the pin = {secret}, ok?")
        )
        kind = "pin" if "pin" in shape else "password"
        texts.append(fill(shape, secret=kit.hidden(kind, "pair")))
    return {"channel": "support", "messages": [{"text": text} for text in texts]}


def plain_values(kit: Kit) -> Any:
    """Return secrets under names that tell nothing."""
    found = {f"{kit.neutral()}": kit.evident("value", (*EVIDENT, *PERSONAL)) for _ in range(2)}
    return {"op": "set", **found, **kit.beside()}


def stored_values(kit: Kit) -> Any:
    """Return rows of them."""
    return {
        "rows": [
            {kit.neutral(): kit.evident("value", (*EVIDENT, *PERSONAL)), "n": kit.rng.randrange(99)} for _ in range(3)
        ]
    }


def numbers(kit: Kit) -> Any:
    """Return secrets that are numbers."""
    name = kit.of(("pin", "cvv"))
    return {
        "step": 2,
        name: kit.number(name, "name"),
        "otp": kit.number("otp_code", "name"),
        "attempts": 3,
        **kit.beside(),
    }


def environment_list(kit: Kit) -> Any:
    """Return the environment of a container, as names and values."""
    (name, secret), other = kit.telling("name"), kit.clean()
    return {
        "spec": {"env": [{"name": variable(name), "value": secret}, {"name": "LANG", "value": "C"}]},
        other[0]: other[1],
    }


def raw_headers(kit: Kit) -> Any:
    """Return headers as ASGI has them."""
    return {"headers": [["host", kit.host()], ["authorization", kit.authorization("name")], ["accept", "*/*"]]}


def xml_attributes(kit: Kit) -> Any:
    """Return attributes of XML."""
    name, secret = kit.telling("pair", ("password", "token", "api_key"), line=True)
    return {
        "xml": kit.filled('<db host="{host}" user="{user}" {name}="{secret}" pool="{n}"/>', name=name, secret=secret),
        **kit.beside(),
    }


def value_list(kit: Kit) -> Any:
    """Return the arguments of a call."""
    return {"args": [kit.clean_text(), kit.evident("value", (*SHORT, *PERSONAL)), kit.clean()[1]], **kit.beside()}


def card_int(kit: Kit) -> Any:
    """Return a card as a number."""
    return {
        "amount": 1999,
        "currency": "EUR",
        kit.neutral(): Whole("card", "value", int(card_number(kit.rng))),
        **kit.beside(),
    }


def payment(kit: Kit) -> Any:
    """Return a payment at its provider."""
    return {
        "id": "ch_3" + kit.rng.choice(("Abc", "Xyz")) + "0017",
        "object": "charge",
        "amount": kit.rng.randrange(99999),
        "card": {
            "number": kit.hidden("card", "name"),
            "exp_month": 12,
            "exp_year": 2027,
            "cvc": kit.hidden("cvv", "name"),
            "brand": "visa",
            "last4": "4242",
        },
        "receipt_email": kit.hidden("email", "name"),
        **kit.beside(),
    }


def provider(kit: Kit) -> Any:
    """Return what a provider answered."""
    return kit.of(
        (
            lambda: {
                "Credentials": {
                    "AccessKeyId": kit.hidden("aws_access_key_id", "name"),
                    "SecretAccessKey": kit.hidden("aws_secret_key", "name"),
                    "SessionToken": kit.hidden("token", "name"),
                    "Expiration": "2024-05-01T12:00:00Z",
                },
                "PackedPolicySize": 6,
            },
            lambda: {
                "access_token": kit.hidden("github", "name"),
                "scope": "repo,gist",
                "token_type": "bearer",
                "expires_in": 28800,
            },
            lambda: {
                "type": "service_account",
                "project_id": "acme-prod",
                "private_key_id": "k1",
                "private_key": kit.hidden("private_key", "name"),
                "client_id": "104857600000000000001",
                "token_uri": "https://oauth2.example.com/token",
            },
            lambda: {
                "id": "we_1" + "Nabc",
                "object": "webhook_endpoint",
                "secret": kit.hidden("stripe", "name"),
                "url": "https://shop.example.com/hooks",
                "status": "enabled",
            },
        )
    )()


def mobius_issue(kit: Kit) -> Any:
    """Return an API key that was issued."""
    return {
        "id": "key_4fT0",
        "owner": kit.user(),
        "secret": kit.hidden("mobius_key", "name"),
        "scopes": ["read"],
        **kit.beside(),
    }


def json_text(kit: Kit) -> Any:
    """Return JSON in a string, at times twice."""
    name, secret = kit.telling("pair")
    inner = {"user": kit.user(), name: secret, "items": [1, 2], "remember": True, "ref": kit.rng.randrange(999)}
    text = printed(inner, json.dumps if kit.chance(0.5) else compact)
    if kit.chance(0.3):
        text = printed({"level": "info", "body": text}, json.dumps)
    return {"request.body": text, **kit.beside()}


def form(kit: Kit) -> Any:
    """Return a form as it is posted."""
    name, secret = kit.telling("pair")
    parts = [
        f"user={kit.user()}",
        fill("{name}={secret}", name=name, secret=encoded(secret)),
        "remember=1",
        "next=%2Fhome",
    ]
    return {"form": join("&", parts), **kit.beside()}


def logfmt(kit: Kit) -> Any:
    """Return a line of logfmt."""
    name, secret = kit.telling("pair", line=True)
    text = kit.filled(
        "level=info svc={service} user={user} {name}={secret} took={n}ms status=ok", name=name, secret=secret
    )
    return {"line": text, **kit.beside()}


def command(kit: Kit) -> Any:
    """Return a command line."""
    name, secret = kit.telling("pair", ("password", "token", "api_key", "client_secret"), line=True)
    text = kit.of(
        (
            lambda: kit.filled(
                "/usr/bin/worker --host {host} --{name} {secret} --retries 3",
                name=name.replace("_", "-"),
                secret=secret,
            ),
            lambda: kit.filled("worker --{name}={secret} --verbose -n {n}", name=name.replace("_", "-"), secret=secret),
            lambda: kit.filled("curl -s -H 'Authorization: {auth}' https://{host}/v1/items", auth=kit.bearer("pair")),
            lambda: kit.filled(
                "curl -u {who}:{secret} https://{host}/v1/items",
                who=Loose("admin"),
                secret=kit.hidden("password", "pair"),
            ),
            lambda: kit.filled(
                "mysql -h {host} -u {user} --password={secret} shop", secret=kit.hidden("password", "pair")
            ),
        )
    )()
    return {"process.command_line": text, "exit": kit.rng.randrange(3), **kit.beside()}


def environment(kit: Kit) -> Any:
    """Return an environment, dumped."""
    pairs = [kit.telling("pair", line=True) for _ in range(2)]
    lines = [
        "PATH=/usr/local/bin:/usr/bin",
        "LANG=en_US.UTF-8",
        "TOKENIZERS_PARALLELISM=false",
        f"HOSTNAME={kit.host()}",
    ]
    found = [fill("{name}={secret}", name=variable(name), secret=secret) for name, secret in pairs]
    mixed = [lines[0], found[0], lines[1], lines[2], found[1], lines[3]]
    return {"environ": join("\n", mixed), **kit.beside()}


def yaml(kit: Kit) -> Any:
    """Return a piece of YAML."""
    name, secret = kit.telling("pair", line=True)
    text = kit.filled(
        "database:\n  host: {host}\n  port: 5432\n  {name}: {secret}\n  pool_size: {n}\nlog_level: debug\n",
        name=name,
        secret=kit.of((secret, fill('"{s}"', s=secret))),
    )
    return {"config": text, **kit.beside()}


def ini(kit: Kit) -> Any:
    """Return a piece of an INI file."""
    name, secret = kit.telling("pair", line=True)
    text = kit.filled("[mail]\nhost = {host}\nuser = {user}\n{name} = {secret}\nport = 587\n", name=name, secret=secret)
    return {"file": "/etc/app/mail.ini", "text": text, **kit.beside()}


def reprs(kit: Kit) -> Any:
    """Return Python's representation of a mapping or of an object."""
    name, secret = kit.telling("pair")
    inner = printed({"user": kit.user(), name: secret, "active": True, "tries": kit.rng.randrange(9)}, repr)
    simple, value = kit.telling("pair", line=True)
    shape = "Account(name='{user}', {name}='{secret}', limit={n})"
    data = kit.filled(shape, name=simple.replace("-", "_"), secret=value)
    return {"debug": kit.of((fill("payload: {inner}", inner=inner), data)), **kit.beside()}


def octets(kit: Kit) -> Any:
    """Return bytes."""
    secret = kit.evident("value", ("jwt", "github", "stripe", "slack", "mobius_key", "gcp_api_key"))
    return {"raw": Whole(secret.kind, "value", secret.text.encode()), "frame": b"\x00\x01hello", **kit.beside()}


def otpauth(kit: Kit) -> Any:
    """Return what an authenticator scans."""
    text = kit.filled(
        "otpauth://totp/Acme:{user}?secret={secret}&issuer=Acme&digits=6", secret=kit.hidden("totp_seed", "pair")
    )
    return {"enrolment": text, **kit.beside()}


def webhook(kit: Kit) -> Any:
    """Return an address that is a secret."""
    text = fill(
        "https://{host}/{secret}", host=Loose("hooks.slack.com/services"), secret=kit.hidden("slack_webhook", "value")
    )
    sentence = fill("posting to {url} failed with 404", url=text.carried("embedded"))
    return {"target": text, "error": sentence, **kit.beside()}


def clean_bag(kit: Kit) -> Any:
    """Return look-alikes."""
    return {"event": "tick", **kit.cleans(4)}


def clean_nested(kit: Kit) -> Any:
    """Return look-alikes, nested."""
    return {"a": kit.cleans(3), "b": [kit.cleans(2), kit.cleans(2)], "msg": kit.clean_text()}


def clean_log(kit: Kit) -> Any:
    """Return a line of a log with attributes."""
    return {"level": "INFO", "logger": "app.auth", "message": kit.clean_text(), **kit.cleans(3)}


def clean_texts(kit: Kit) -> Any:
    """Return texts that speak of secrets."""
    return {"messages": [kit.clean_text() for _ in range(4)], "locale": "en"}


def clean_json(kit: Kit) -> Any:
    """Return JSON in a string, clean."""
    return {"body": str(text_of(printed(kit.cleans(3), json.dumps))), **kit.cleans(2)}


def free_text(kit: Kit) -> Any:
    """Return secrets in sentences."""
    return {"message": kit.sentence(), "title": kit.sentence() if kit.chance(0.5) else kit.clean_text(), **kit.beside()}


def nested_names(kit: Kit) -> Any:
    """Return telling names, deeper, and over a list."""
    name, secret = kit.telling("name")
    other, second = kit.telling("name")
    held: Hidden | list[Any] = [second, kit.hidden(second.kind, "name")] if kit.chance(0.2) else second
    return {
        "user": {"name": kit.user(), "profile": {name: secret, **kit.beside()}},
        "auth": {other: held},
        **kit.beside(),
    }


#: The families with their weights.
FAMILIES: dict[Family, int] = {
    audit_fields: 3,
    audit_mapping: 3,
    request_log: 4,
    signed_url: 3,
    connection: 3,
    jdbc: 2,
    azure_connection: 1,
    trace: 4,
    sql: 4,
    header_mapping: 3,
    header_dump: 3,
    chat: 4,
    plain_values: 9,
    value_list: 6,
    stored_values: 4,
    numbers: 1,
    environment_list: 1,
    raw_headers: 1,
    xml_attributes: 1,
    card_int: 1,
    payment: 2,
    provider: 3,
    mobius_issue: 1,
    json_text: 4,
    form: 2,
    logfmt: 4,
    command: 4,
    environment: 3,
    yaml: 2,
    ini: 2,
    reprs: 3,
    octets: 1,
    otpauth: 1,
    webhook: 1,
    clean_bag: 9,
    clean_nested: 4,
    clean_log: 10,
    clean_texts: 4,
    clean_json: 4,
    free_text: 18,
    nested_names: 4,
}
