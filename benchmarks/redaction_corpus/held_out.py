"""The templates of the part that is only ever counted: nothing is changed because of what happens here."""

from __future__ import annotations

import json
from typing import Any

from .kit import EVIDENT, PERSONAL, SHORT, Family, Kit, encoded, variable
from .model import Loose, Whole, compact, fill, join, printed
from .values import b64, card_number, hexa, of

__all__ = ["FAMILIES"]

_COOKIES = ("PHPSESSID", "JSESSIONID", "connect.sid", "laravel_session", "_shop_session", "csrftoken")
_DSNS = (
    "mysql://{user}:{password}@{host}:3306/{db}",
    "rediss://{user}:{password}@{host}:6380/1",
    "amqps://{user}:{password}@{host}/vhost",
    "mongodb://{user}:{password}@{host}:27017,{host}:27018/{db}?replicaSet=rs0",
    "https://{user}:{password}@{host}:8443/git/{db}.git",
    "sftp://{user}:{password}@{host}/out/{db}.csv",
    "smtp://{user}:{password}@{host}:587",
    "clickhouse+native://{user}:{password}@{host}/{db}",
)
_TEXTUAL = ("password", "token", "api_key", "client_secret")


def entity_diff(kit: Kit) -> Any:
    """Return a diff, name by name."""
    name, secret = kit.telling("name")
    return {
        "type": "entity.changed",
        "who": {"uid": kit.user(), "via": "console"},
        "diff": {"locale": {"from": "de", "to": "en"}, name: {"from": kit.hidden(secret.kind, "name"), "to": secret}},
        **kit.beside(),
    }


def audit_attributes(kit: Kit) -> Any:
    """Return an audit event with attributes."""
    (name, secret), other = kit.telling("name"), kit.clean()
    return {
        "event_name": "member.invite",
        "outcome": "failure",
        "risk_score": 40,
        "reason": kit.clean_text(),
        "attributes": {
            "request": {name: secret, other[0]: other[1]},
            "invitee": kit.evident("value", ("email", "phone")),
        },
    }


def changed_fields(kit: Kit) -> Any:
    """Return changes of fields with a path."""
    name, secret = kit.telling("name")
    return {
        "changes": [
            {"field": f"settings.{name}", "before": kit.hidden(secret.kind, "name"), "after": secret},
            {"field": "theme", "before": "dark", "after": "light"},
        ],
        **kit.beside(),
    }


def named_values(kit: Kit) -> Any:
    """Return the environment of a container."""
    name, secret = kit.telling("name")
    return {
        "container": kit.service(),
        "env": [{"name": "LANG", "value": "C.UTF-8"}, {"name": variable(name), "value": secret}],
    }


def access_log(kit: Kit) -> Any:
    """Return a line of a web server's log."""
    name, secret = kit.telling("pair", ("token", "api_key", "session", "jwt", "email"), line=True)
    line = fill(
        '{ip} - {user} [10/Oct/2024:13:55:36 +0000] "GET /cb?{name}={secret}&state=ok HTTP/2.0" '
        '302 {n} "-" "Mozilla/5.0 (X11)"',
        ip=kit.hidden("ipv4", "embedded"),
        user=kit.user(),
        name=name,
        secret=encoded(secret),
        n=kit.rng.randrange(9999),
    )
    return {"log": line, "stream": "stdout", **kit.beside()}


def fragment_url(kit: Kit) -> Any:
    """Return a token behind the hash of a URL."""
    url = fill(
        "https://app.{host}/welcome#access_token={secret}&token_type=Bearer&expires_in=3600&locale=en",
        host=kit.host(),
        secret=encoded(kit.hidden(kit.of(("token", "jwt")), "pair")),
    )
    return {"http.referer": url, **kit.beside()}


def signed_links(kit: Kit) -> Any:
    """Return signed links of other clouds."""
    goog = fill(
        "https://storage.googleapis.com/acme-media/{n}.mp4?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Date=20240711T000000Z"
        "&X-Goog-Expires=600&X-Goog-SignedHeaders=host&X-Goog-Signature={secret}",
        n=kit.rng.randrange(999),
        secret=kit.hidden("signature", "pair"),
    )
    front = fill(
        "https://cdn.example.com/v/{n}.m3u8?Expires=1720000000&Signature={secret}&Key-Pair-Id=K2JCJMDEHXQW5F",
        n=kit.rng.randrange(999),
        secret=encoded(kit.hidden("sas_signature", "pair")),
    )
    sas = fill(
        "SharedAccessSignature sr=hub.azure-devices.net&sig={secret}&se=1720000000&skn=device",
        secret=encoded(kit.hidden("sas_signature", "pair")),
    )
    return {"link": kit.of((goog, front, sas)), "note": kit.clean_text(), **kit.beside()}


def service_urls(kit: Kit) -> Any:
    """Return connection URLs of other services."""
    text = fill("sqlalchemy.exc.OperationalError: could not open {dsn} - timeout", dsn=kit.dsn("embedded", _DSNS))
    return {"err": text, "spec": {"broker": kit.dsn("value", _DSNS)}, **kit.beside()}


def odbc(kit: Kit) -> Any:
    """Return settings of a connection as ODBC, libpq and others write them."""
    shape = kit.of(
        (
            "Driver={{ODBC Driver 18}};Server={host},1433;Database=erp;Uid={user};Pwd={secret};Encrypt=yes;",
            "jdbc:oracle:thin:@//{host}:1521/ORCL?user={user}&password={secret}&oracle.net.ssl=true",
            "host={host} port=5432 dbname=erp user={user} password={secret} connect_timeout=10",
            "Endpoint=sb://{host}/;SharedAccessKeyName=root;SharedAccessKey={secret};EntityPath=jobs",
        )
    )
    return {"detail": kit.filled(shape, secret=kit.hidden("password", "pair")), **kit.beside()}


def java_trace(kit: Kit) -> Any:
    """Return a stack trace of Java."""
    name, secret = kit.telling("pair", line=True)
    first = kit.of(
        (
            fill(
                "javax.naming.AuthenticationException: bind failed [{name}={secret}, host={host}]",
                name=name,
                secret=secret,
                host=kit.host(),
            ),
            fill('com.acme.ApiError: {{"{name}": "{secret}", "code": 401}}', name=name, secret=secret),
            fill("IllegalStateException: {name}: {secret}", name=name, secret=secret),
        )
    )
    return {
        "stack": fill(
            "{first}\n\tat com.acme.auth.TokenStore.refreshToken(TokenStore.java:{n})\n"
            "\tat com.acme.PasswordEncoder.encode(PasswordEncoder.java:7)\n\t... 12 more\n",
            first=first,
            n=kit.rng.randrange(999),
        ),
        **kit.beside(),
    }


def node_trace(kit: Kit) -> Any:
    """Return a stack trace of Node."""
    return {
        "error": {
            "name": "AxiosError",
            "stack": fill(
                "Error: {text}\n    at Client.getSession (/app/node_modules/auth/index.js:{n}:17)\n"
                "    at async main (/app/s.js:3:1)",
                text=kit.sentence(),
                n=kit.rng.randrange(999),
            ),
        },
        **kit.beside(),
    }


def sql_statements(kit: Kit) -> Any:
    """Return statements on users and others."""
    shape = kit.rng.randrange(5)
    password = kit.hidden("password", "pair")
    if shape == 0:
        text = kit.filled("ALTER USER {user} WITH PASSWORD '{secret}' VALID UNTIL '2030-01-01'", secret=password)
    elif shape == 1:
        text = kit.filled("CREATE USER '{user}'@'%' IDENTIFIED BY '{secret}'", secret=password)
    elif shape == 2:
        text = kit.filled(
            "INSERT INTO members (login, pwd, plan) VALUES ('{user}', '{secret}', 'pro')", secret=password
        )
    elif shape == 3:
        name, secret = kit.telling("pair", (*_TEXTUAL, "session"), line=True)
        text = kit.filled(
            "DELETE FROM grants WHERE \"{name}\" = '{secret}' AND age > {n}", name=name.replace("-", "_"), secret=secret
        )
    else:
        text = kit.filled(
            "SELECT * FROM people WHERE contact IN ('{secret}') ORDER BY id LIMIT {n}",
            secret=kit.evident("embedded", ("email", "ssn", "card", "iban", "phone")),
        )
    return {"q": {"sql": text, "ms": kit.rng.randrange(99)}, **kit.beside()}


def lower_headers(kit: Kit) -> Any:
    """Return headers in lower case."""
    headers = {
        "content-type": "text/html; charset=utf-8",
        "accept-language": "de,en;q=0.8",
        "authorization": kit.authorization("name"),
    }
    if kit.chance(0.5):
        headers["set-cookie"] = kit.set_cookie("name", _COOKIES)
    if kit.chance(0.4):
        headers[kit.of(("x-auth-token", "x-vault-token", "x-amz-security-token", "proxy-authorization"))] = kit.hidden(
            "token", "name"
        )
    return {"http": {"request": {"headers": headers}}, **kit.beside()}


def attribute_headers(kit: Kit) -> Any:
    """Return headers as attributes of a span."""
    return {
        "http.request.header.authorization": [kit.authorization("name")],
        "http.request.header.accept": ["*/*"],
        "http.request.header.cookie": [kit.cookie("name", _COOKIES)],
        "http.request.header.x-request-id": [hexa(kit.rng, 32)],
    }


def verbose_curl(kit: Kit) -> Any:
    """Return what curl -v prints."""
    lines: list[Any] = ["* Connected to api.example.com port 443", "> GET /v1/me HTTP/1.1", "> Accept: */*"]
    lines.insert(2, fill("> Authorization: {value}", value=kit.authorization("pair")))
    if kit.chance(0.5):
        lines.append(fill("> X-Auth-Token: {value}", value=kit.hidden("token", "pair")))
    if kit.chance(0.5):
        lines.append(fill("< set-cookie: {value}", value=kit.set_cookie("pair", _COOKIES)))
    lines.append("< HTTP/1.1 200 OK\n< content-length: 17")
    return {"transcript": join("\n", lines), **kit.beside()}


def ticket(kit: Kit) -> Any:
    """Return a ticket of a help desk."""
    thread: list[Any] = [kit.sentence(), kit.clean_text()]
    if kit.chance(0.4):
        shape = kit.of(
            (
                "Mein Passwort: {secret} - bitte zurücksetzen",
                "login {user}, pwd {secret}",
                "the passphrase is: {secret}",
            )
        )
        thread.append(kit.filled(shape, secret=kit.hidden("password", "pair")))
    return {"ticket": kit.rng.randrange(9999), "thread": thread, "state": "open"}


def form_fields(kit: Kit) -> Any:
    """Return secrets under names that tell nothing."""
    return {
        "action": "save",
        kit.neutral(): kit.evident("value", (*EVIDENT, *PERSONAL)),
        "form": {kit.neutral(): kit.evident("value", EVIDENT)},
        **kit.beside(),
    }


def snapshot(kit: Kit) -> Any:
    """Return cells of a sheet."""
    return {"cells": [kit.evident("value", (*EVIDENT, *PERSONAL)) for _ in range(3)], "sheet": "Q3", **kit.beside()}


def keypad(kit: Kit) -> Any:
    """Return secrets that are numbers."""
    return {
        "device": "T-9",
        "card_pin": kit.number("pin", "name"),
        "auth": {"mfa_code": kit.number("otp_code", "name")},
        "ok": True,
    }


def queue_args(kit: Kit) -> Any:
    """Return the arguments of a task."""
    return {"task": "sync", "args": [[kit.evident("value", (*SHORT, *PERSONAL)), 3], kit.clean_text()], **kit.beside()}


def terminal(kit: Kit) -> Any:
    """Return a card as a number."""
    number = Whole("card", "value", int(card_number(kit.rng)))
    return {"txn": {"amt": 4200, kit.neutral(): number, "track": None}, "terminal": "T-17", **kit.beside()}


def checkout(kit: Kit) -> Any:
    """Return a basket being paid."""
    return {
        "basket": kit.rng.randrange(99999),
        "method": {
            "type": "card",
            "primaryAccountNumber": kit.hidden("card", "name"),
            "expiry": "11/29",
            "cvv2": kit.hidden("cvv", "name"),
            "holder": kit.user(),
        },
        "sepa": {"debtorIban": kit.hidden("iban", "name"), "mandate": "M-17"},
        "mobile": kit.hidden("phone", "name"),
    }


def vendor_answer(kit: Kit) -> Any:
    """Return what a vendor answered."""
    return kit.of(
        (
            lambda: {
                "sid": Loose("AC" + hexa(kit.rng, 32)),
                "auth_token": kit.hidden("twilio_auth_token", "name"),
                "status": "active",
                "friendly_name": "prod",
            },
            lambda: {
                "auth": {"client_token": kit.hidden("vault", "name"), "policies": ["default"], "lease_duration": 3600},
                "wrap_info": None,
            },
            lambda: {
                "ok": True,
                "access_token": kit.hidden("slack", "name"),
                "team": {"id": "T1"},
                "scope": "chat:write",
            },
            lambda: {
                "client_secret": kit.hidden("client_secret", "name"),
                "client_id": f"{kit.rng.randrange(10**11)}-x.apps.example.com",
                "redirect_uris": ["http://localhost:8080"],
            },
            lambda: {
                "token_value": kit.hidden("databricks", "name"),
                "token_info": {"comment": "ci", "expiry_time": 1720000000000},
            },
            lambda: {
                "AccessKey": {
                    "UserName": kit.user(),
                    "AccessKeyId": kit.hidden("aws_access_key_id", "name"),
                    "SecretAccessKey": kit.hidden("aws_secret_key", "name"),
                    "Status": "Active",
                }
            },
        )
    )()


def own_key(kit: Kit) -> Any:
    """Return an API key of ours under a neutral name."""
    return {
        "event": "key issued",
        "result": kit.hidden("mobius_key", "value"),
        "message": kit.sentence(("mobius_key",)),
        **kit.beside(),
    }


def queue_message(kit: Kit) -> Any:
    """Return JSON in a message, up to three times."""
    name, secret = kit.telling("pair")
    inner = {"op": "login", "data": {"who": kit.user(), name: secret, "ok": None}, "seq": kit.rng.randrange(999)}
    text = printed(inner, compact if kit.chance(0.5) else lambda value: json.dumps(value, indent=2, ensure_ascii=False))
    for _ in range(kit.of((0, 0, 1, 2))):
        text = printed({"topic": "auth", "value": text}, compact)
    return {"kafka": {"offset": kit.rng.randrange(99999), "payload": text}, **kit.beside()}


def body_bytes(kit: Kit) -> Any:
    """Return bytes."""
    secret = kit.evident("value", ("openai", "anthropic", "npm", "sendgrid", "huggingface", "gitlab"))
    return {"chunk": Whole(secret.kind, "value", secret.text.encode()), "head": b"GET / HTTP/1.1", **kit.beside()}


def posted(kit: Kit) -> Any:
    """Return a token request."""
    name, secret = kit.telling("pair")
    text = join(
        "&",
        [
            "grant_type=client_credentials",
            fill("{name}={secret}", name=name, secret=encoded(secret)),
            "scope=read+write",
        ],
    )
    return {"http.request.body.content": text, **kit.beside()}


def multipart(kit: Kit) -> Any:
    """Return a form of many parts."""
    name, secret = kit.telling("pair", line=True)
    text = kit.filled(
        '--b1\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{secret}\r\n--b1--\r\n', name=name, secret=secret
    )
    return {"body": text, **kit.beside()}


def key_value_line(kit: Kit) -> Any:
    """Return lines with pairs."""
    name, secret = kit.telling("pair", line=True)
    shape = kit.of(
        (
            'ts=2024-07-11T08:00:00Z lvl=warn msg="login failed" {name}="{secret}" host={host} n={n}',
            "[{service}] {name}: {secret}, tries: {n}, user: {user}",
            "evt=auth|{name}={secret}|host={host}|n={n}",
            "INFO {service} - called with {name}={secret}, limit={n}",
        )
    )
    return {"msg": kit.filled(shape, name=name, secret=secret), **kit.beside()}


def shell(kit: Kit) -> Any:
    """Return a command in a shell."""
    name, secret = kit.telling("pair", _TEXTUAL, line=True)
    flag, upper = name.replace("_", "-").replace(".", "-"), variable(name)
    text = kit.of(
        (
            lambda: kit.filled(
                "docker run -d -e {name}={secret} -p 80:80 acme/{service}:1.4", name=upper, secret=secret
            ),
            lambda: kit.filled("export {name}='{secret}' && ./start.sh {n}", name=upper, secret=secret),
            lambda: kit.filled(
                "kubectl create secret generic {service} --from-literal={name}={secret} -n prod",
                name=flag,
                secret=secret,
            ),
            lambda: kit.filled("deployctl login --{name} '{secret}' --region eu", name=flag, secret=secret),
            lambda: kit.filled(
                'curl -X POST -H "X-Api-Key: {secret}" -d @body.json https://{host}/in',
                secret=kit.hidden("api_key", "pair"),
            ),
            lambda: kit.filled(
                "curl --user {who}:{secret} https://{host}/", who=Loose("deploy"), secret=kit.hidden("password", "pair")
            ),
            lambda: kit.filled(
                "git clone https://{who}:{secret}@github.com/acme/{service}.git",
                who=Loose("x-access-token"),
                secret=kit.hidden("github", "embedded"),
            ),
            lambda: kit.filled(
                "PGPASSWORD={secret} psql -h {host} -U {user} erp", secret=kit.hidden("password", "pair")
            ),
        )
    )()
    return {"cmd": text, "rc": kit.rng.randrange(3), **kit.beside()}


def dotenv(kit: Kit) -> Any:
    """Return a file of settings for the environment."""
    (first, one), (second, two) = kit.telling("pair", line=True), kit.telling("pair", line=True)
    lines = [
        "# settings",
        fill('APP_{name}="{secret}"', name=variable(first), secret=one),
        "DEBUG=false",
        fill("export {name}={secret}", name=variable(second), secret=two),
        "KEYBOARD=de",
        "WORKERS=4",
    ]
    return {"file": ".env", "lines": join("\n", lines), **kit.beside()}


def toml(kit: Kit) -> Any:
    """Return a piece of TOML."""
    name, secret = kit.telling("pair", line=True)
    shape = '[server]\nlisten = ":8080"\n"{name}" = "{secret}"\nworkers = {n}\n[log]\nlevel = "info"\n'
    return {"toml": kit.filled(shape, name=name, secret=secret), **kit.beside()}


def tool_files(kit: Kit) -> Any:
    """Return files that tools keep their credentials in."""
    text = kit.of(
        (
            lambda: kit.filled(
                "registry=https://{host}/\n//{host}/:_authToken={secret}\nalways-auth=true",
                secret=kit.hidden("npm", "pair"),
            ),
            lambda: kit.filled(
                "machine {host} login {user} password {secret}\n", secret=kit.hidden("password", "pair")
            ),
            lambda: kit.filled(
                "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\nregion = eu-west-1\n",
                id=kit.hidden("aws_access_key_id", "pair"),
                secret=kit.hidden("aws_secret_key", "pair"),
            ),
            lambda: kit.filled(
                "[pypi]\nusername = __token__\npassword = {secret}\n", secret=kit.hidden("pypi", "pair")
            ),
            lambda: kit.filled(
                "spring.datasource.username={user}\nspring.datasource.password={secret}\nserver.port=8080\n",
                secret=kit.hidden("password", "pair"),
            ),
            lambda: kit.filled('auths:\n  {host}:\n    auth: "{secret}"\n', secret=kit.hidden("basic_auth", "pair")),
        )
    )()
    return {"snippet": text, **kit.beside()}


def objects(kit: Kit) -> Any:
    """Return Python objects and calls."""
    name, secret = kit.telling("pair")
    kwargs = printed({"timeout": 5, name: secret, "verify": True}, repr)
    simple, value = kit.telling("pair", line=True)
    model = kit.filled(
        "Settings(host='{host}', port={n}, {name}='{secret}', debug=False)",
        name=simple.replace("-", "_").replace(".", "_"),
        secret=value,
    )
    text = kit.of(
        (
            fill("retrying call with kwargs={kwargs} in 2s", kwargs=kwargs),
            model,
            fill("environ({kwargs})", kwargs=kwargs),
        )
    )
    return {"trace": text, **kit.beside()}


def xml(kit: Kit) -> Any:
    """Return elements of XML."""
    name, secret = kit.telling("pair", _TEXTUAL, line=True)
    text = kit.filled(
        "<Login><User>{user}</User><{name}>{secret}</{name}><Try>{n}</Try></Login>",
        name=name.replace("-", "_"),
        secret=secret,
    )
    return {"soap.body": text, **kit.beside()}


def graphql(kit: Kit) -> Any:
    """Return a mutation."""
    text = kit.filled(
        'mutation {{ signIn(login: "{user}", {name}: "{secret}") {{ id }} }}',
        name=kit.of(("password", "pwd", "passphrase")),
        secret=kit.hidden("password", "pair"),
    )
    return {"graphql.document": text, **kit.beside()}


def rails(kit: Kit) -> Any:
    """Return parameters as Ruby prints them."""
    text = kit.filled(
        'Parameters: {{"utf8"=>"x", "user"=>{{"login"=>"{user}", "{name}"=>"{secret}"}}, "commit"=>"Sign in"}}',
        name=kit.of(("password", "current_password")),
        secret=kit.hidden("password", "pair"),
    )
    return {"line": text, **kit.beside()}


def enrolment(kit: Kit) -> Any:
    """Return what an authenticator scans, and a webhook."""
    uri = kit.filled(
        "otpauth://hotp/{service}:{user}?counter=1&secret={secret}&algorithm=SHA1",
        secret=kit.hidden("totp_seed", "pair"),
    )
    place = Loose(f"discord.com/api/webhooks/{1180 * 10**15 + kit.rng.randrange(10**15)}")
    hook = fill("https://{place}/{secret}", place=place, secret=kit.hidden("discord_webhook", "value"))
    return {"qr": uri, "notify": hook, **kit.beside()}


def docker_auth(kit: Kit) -> Any:
    """Return docker's settings."""
    return {
        "auths": {kit.host(): {"auth": kit.hidden("basic_auth", "name"), "email": kit.hidden("email", "name")}},
        "credsStore": "desktop",
    }


def clean_event(kit: Kit) -> Any:
    """Return look-alikes."""
    return {"name": "heartbeat", **kit.cleans(4)}


def clean_tree(kit: Kit) -> Any:
    """Return look-alikes, nested."""
    return {"items": [kit.cleans(2), kit.cleans(3)], "meta": {"page": kit.cleans(2)}, "text": kit.clean_text()}


def clean_line(kit: Kit) -> Any:
    """Return a line of a log with attributes."""
    return {"severity": "WARN", "body": kit.clean_text(), "attributes": kit.cleans(3)}


def clean_chatter(kit: Kit) -> Any:
    """Return texts that speak of secrets."""
    return {"lines": [kit.clean_text() for _ in range(3)], "lang": "de", "id": b64(of(kit.rng, "abc", 3))}


def clean_body(kit: Kit) -> Any:
    """Return JSON in a string, clean."""
    return {"body": str(printed({"data": kit.cleans(3)}, compact)), "bytes": kit.rng.randrange(999)}


def told(kit: Kit) -> Any:
    """Return secrets in sentences."""
    return {"text": kit.sentence(), "subject": kit.sentence() if kit.chance(0.5) else kit.clean_text(), **kit.beside()}


def deep_names(kit: Kit) -> Any:
    """Return telling names, deeper."""
    (name, secret), (other, second) = kit.telling("name"), kit.telling("name")
    return {"cfg": {"a": [{"b": {name: secret, "on": True}}]}, "conn": {other: second, **kit.beside()}}


#: The families with their weights.
FAMILIES: dict[Family, int] = {
    entity_diff: 3,
    audit_attributes: 3,
    changed_fields: 2,
    named_values: 1,
    access_log: 3,
    fragment_url: 1,
    signed_links: 3,
    service_urls: 3,
    odbc: 2,
    java_trace: 3,
    node_trace: 3,
    sql_statements: 4,
    lower_headers: 3,
    attribute_headers: 2,
    verbose_curl: 2,
    ticket: 4,
    form_fields: 9,
    queue_args: 6,
    snapshot: 4,
    keypad: 1,
    terminal: 1,
    checkout: 2,
    vendor_answer: 3,
    own_key: 1,
    queue_message: 4,
    body_bytes: 1,
    posted: 2,
    multipart: 1,
    key_value_line: 5,
    shell: 4,
    dotenv: 3,
    toml: 2,
    tool_files: 3,
    objects: 3,
    xml: 1,
    graphql: 1,
    rails: 1,
    enrolment: 1,
    docker_auth: 1,
    clean_event: 9,
    clean_tree: 4,
    clean_line: 10,
    clean_chatter: 4,
    clean_body: 4,
    told: 18,
    deep_names: 4,
}
