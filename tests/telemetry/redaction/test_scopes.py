"""Permissions, events, keys of caches, images: a word that tells stands in them, and they hold no secret."""

import pytest

from mobius_otel.telemetry.redaction import Redactor

REDACTOR = Redactor()
SCOPES = [
    # permissions
    "token:create", "secret:read", "granted scope tokens:read to client billing", "secret:read:own", "token:create:any",
    "scope=openid secrets:write api_key:rotate user:password:update", "token:read,secret:write", "auth:token:read",
    "user:session:revoke_all", "token:read-only", "secret:read_write", "token:*", "repo:secrets:write admin:org_hook",
    "secretsmanager:GetSecretValue sts:AssumeRole secrets:GetSecretValue", "secrets/token:get",
    "secrets:get,list,watch",
    "['token:create','secret:read']", '["token:create","secret:read"]', '{"token:create":1,"token:delete":2}',
    'x "permissions":{"secrets":"read","organization_secrets":"write"}', "secrets: inherit", "secrets: write",
    # events, tasks, texts of a form, selectors, namespaces
    "password:reset", "password:changed", "token.refreshed", "event=session:start", "api_key:revoked", "cookie:consent",
    "task password:rotate started", "npm run token:generate", "php artisan jwt:secret", "rails secrets:edit",
    "rake db:secret:rotate", "password:too_short", "errors.password:required", "a.token:hover {}",
    "input[type=password]:focus", "input[type='password']:focus-visible", 'xmlns:token="http://example.org/token"',
    # keys of caches, images, ports, lines
    "Redis key session:17 evicted", "session:user:42", "token:user:42", "session:{user_id}", "urn:acme:token:1.0",
    "acme/token:latest", "acme/token:1.4.2", "docker.io/acme/auth-token:v1.2.3-rc1", "acme/token:sha-abc1234",
    "acme/session:2026-01-01", "http://token:8080/x", "dial tcp token:8080: refused", "/users/:id/password",
    "x-ratelimit-reset-tokens: 6ms",
]  # fmt: skip


@pytest.mark.parametrize("text", SCOPES)
def test_what_a_word_goes_on_behind_a_colon_stays(text):
    """As a text, as a value, in a list, as a key."""
    assert REDACTOR.text(text) == text
    for value in ({"scope": text}, {"after": ["orders:read", text]}, {text: 1}):
        assert REDACTOR.redact(value).value == value


@pytest.mark.parametrize(
    "text",
    ["password:hunter22", "password:letmein", "password:admin", "secret:letmein", "token:abcDEF1234567",
     "token:create1",
     "session:f3a9c0de77f3a9c0", "session:user:f3a9c0de77", "token:482913", "session:1234567890123", "pin:1234",
     "/acme/token:f3a9c0de77", "user:password:hunter22", "http://token:s3cr3tpw@h"],
)  # fmt: skip
def test_any_other_word_there_is_a_secret(text):
    assert text.rpartition(":")[2] not in REDACTOR.text(text)


def test_what_may_be_done_with_secrets_stays():
    """Under the name of the thing, as access control is written down."""
    value = {
        "permissions": {"secrets": "read", "token": ["create", "delete"], "password": ["reset", "change"]},
        "api_key": ["list", "rotate"],
        "X-RateLimit-Limit-Tokens": "40000",
        "x-ratelimit-reset-tokens": "6ms",
    }
    assert REDACTOR.redact(value).value == value
    assert REDACTOR.redact({"token": ["create", "hunter22"], "password": "reset"}).value == {
        "token": ["create", "[redacted:token]"],
        "password": "[redacted:password]",
    }
