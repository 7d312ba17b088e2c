"""Texts: what is found by its value or by what stands before it, and what stays."""

import pytest

from mobius_otel.telemetry.redaction import RedactionPolicy, Redactor
from tests.telemetry.redaction.secrets_kit import BY_VALUE, CANARY, JWT, PEM

REDACTOR = Redactor()
CARRIERS = [
    "{}", "the value {} was given", "id={},", "({})", "x {}.", "'{}'", '"{}"', "note: {}\n", "<a>{}</a>", "a/{}/b?x=1",
    "[ {} .", "thing:{};", "{},{}", "\u8ba2\u5355 {}",
]  # fmt: skip
KINDS = [(kind, value) for kind, values in BY_VALUE.items() for value in values]


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(KINDS)])
def test_a_secret_is_found_by_its_value_in_every_carrier(kind, value):
    """The value goes, the text around it stays, and a second pass changes nothing."""
    for carrier in CARRIERS:
        text = carrier.replace("{}", value)
        clean = REDACTOR.text(text)
        assert value not in clean, carrier
        assert clean == carrier.replace("{}", f"[redacted:{kind}]"), carrier
        assert REDACTOR.text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password={} user=bob", "password=[redacted:password] user=bob"),
        ('{"password": "{}", "a": 1}', '{"password": "[redacted:password]", "a": 1}'),
        ('body={"password": "a\\"{}", "a": 1} end', 'body={"password": "[redacted:password]", "a": 1} end'),
        ('x {\\"password\\": \\"{}\\"} y', 'x {\\"password\\": \\"[redacted:password]\\"} y'),
        ("Authorization: Bearer {} next", "Authorization: Bearer [redacted:authorization] next"),
        ("authorization=Basic {};x=1", "authorization=Basic [redacted:authorization];x=1"),
        ('Authorization: Digest username="bob", response="{}"', "Authorization: Digest [redacted:authorization]"),
        ("GET /x?token={}&x=1 HTTP/1.1", "GET /x?token=[redacted:token]&x=1 HTTP/1.1"),
        ("/cb?code={}&state=1", "/cb?code=[redacted:token]&state=1"),
        ("?SIG={}&sig=&se=2", "?SIG=[redacted:signature]&sig=&se=2"),
        ("postgres://u:{}@host/db", "postgres://u:[redacted:url_credential]@host/db"),
        ("postgres://u:p@s/{}@host/db", "postgres://u:[redacted:url_credential]@host/db"),
        ("redis://:{}@h:6379/0", "redis://:[redacted:url_credential]@h:6379/0"),
        ("https://{}@host/path", "https://[redacted:url_credential]@host/path"),
        ("https://{}:x-oauth-basic@github.com", "https://[redacted:url_credential]:x-oauth-basic@github.com"),
        ("user:{}@tcp(db:3306)/x", "user:[redacted:url_credential]@tcp(db:3306)/x"),
        ("Server=x;Password={};Timeout=5", "Server=x;Password=[redacted:password];Timeout=5"),
        ("curl -u bob:{} https://x", "curl -u bob:[redacted:url_credential] https://x"),
        ("curl -H 'Cookie: a=b; sid={}' x", "curl -H 'Cookie: [redacted:cookie]' x"),
        ("tool --api-key {} --verbose", "tool --api-key [redacted:api_key] --verbose"),
        ("tool --token={} run", "tool --token=[redacted:token] run"),
        ("Set-Cookie: sid={}; Path=/\r\nHost: x", "Set-Cookie: [redacted:cookie]\r\nHost: x"),
        ("<password>{}</password><a>1</a>", "<password>[redacted:password]</password><a>1</a>"),
        ("CREATE USER x IDENTIFIED BY '{}'", "CREATE USER x IDENTIFIED BY '[redacted:password]'"),
        ("UPDATE u SET password = '{}' WHERE id=1", "UPDATE u SET password = '[redacted:password]' WHERE id=1"),
        ("User(name='bob', password='{}')", "User(name='bob', password='[redacted:password]')"),
        ("{'password': b'{}', 'a': 1}", "{'password': b'[redacted:password]', 'a': 1}"),
        ("cookies={'sid': '{}'}", "cookies={[redacted:cookie]}"),
        ("API key: {}", "API key: [redacted:api_key]"),
        ("the password is {}, ok", "the password is [redacted:password], ok"),
        ("line\\npassword={}\\nnext", "line\\npassword=[redacted:password]\\nnext"),
        ("\u5bc6\u7801password={}", "\u5bc6\u7801password=[redacted:password]"),
        ('{"a":"{\\"token\\":\\"{}\\"}"}', '{"a":"{\\"token\\":\\"[redacted:token]\\"}"}'),
        ('{"note":"token={}","note":"x"}', '{"note":"token=[redacted:token]","note":"x"}'),
        ('{"password": "{} and the text is cut', '{"password": "[redacted:password]'),
        ('"{\\x22user\\x22:\\x22a\\x22,\\x22password\\x22:\\x22{}\\x22}"',
         '"{\\x22user\\x22:\\x22a\\x22,\\x22password\\x22:\\x22[redacted:password]\\x22}"'),
        ("\\x22pin\\x22:1234,\\x22a\\x22:1", "\\x22pin\\x22:[redacted:pin],\\x22a\\x22:1"),
        ("b={\\u0022token\\u0022:\\u0022{}\\u0022} ok", "b={\\u0022token\\u0022:\\u0022[redacted:token]\\u0022} ok"),
        ("{&quot;token&quot;: &quot;{}&quot;}", "{&quot;token&quot;: &quot;[redacted:token]&quot;}"),
        ('7,"{""password"":""{}"", ""d"": 1}",ok', '7,"{""password"":""[redacted:password]"", ""d"": 1}",ok'),
        ('raise ValueError("password=" + pw)\nValueError: password={}',
         'raise ValueError("password=" + pw)\nValueError: password=[redacted:password]'),
    ],
)  # fmt: skip
def test_a_secret_is_found_by_what_stands_before_it(text, clean):
    """Only the secret itself is taken out, and a second pass changes nothing."""
    found = REDACTOR.text(text.replace("{}", CANARY))
    assert found == clean
    assert REDACTOR.text(found) == found


CLEAN = [
    "550e8400-e29b-41d4-a716-446655440000", "2026-11-24T04:06:31.123Z", "1700000000123", "1700000000123456789",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 'W/"33a64df551425fcc55e4d42a148795d9f25f89d4"',
    "4111111111111112", "order 1234567890123456", "41111111111111111", "1.4111111111111111", "GB82WEST12345698765433",
    "000-12-3456", "666-12-3456", "900-12-3456", "git@github.com:acme/x.git", "@acme/pkg@1.2.0",
    "arn:aws:iam::123456789012:role/admin", "eyJub3QiOiJhIGp3dCJ9", "v10.4.2.1", "pkg==10.4.2.1", "released 10.4.2.1",
    "http://10.4.2.1/x", "127.0.0.1", "author: Bob", "monkey=1",
    "token_count=5", "password_changed_at=2024-01-01", "auth_method: password", "session_count: 3", "max_tokens=100",
    "token_type=bearer", "key_id=abc123", "GET /v1/orders/123?page=2&limit=10 HTTP/1.1", "ssh://git@github.com/a/b.git",
    "https://medium.com/@user/post", "http://localhost:8080/a@b", "postgres://db:5432/x", "icon@2x.png",
    "Error: invalid token: unexpected end", "password is required", "Password must contain 8 characters",
    "SELECT * FROM users WHERE id = 5 AND token IS NOT NULL", "UPDATE users SET password = ? WHERE id = $1",
    "Set the API key: see docs", "def login(self, password: str, token: str | None = None) -> None:",
    "client = Client(token=token, password=self.password)", "cursor=eyJpZCI6MTIzfQ", "next_token=abc123",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "test_live_something_really_long_name_here",
    "Authorization: denied for user", "bearer authentication", "Bearer token required", "basic authentication failed",
    "--password-stdin x", "--token-file /etc/x", "tests pass: 12, fail: 3", "tokens: 512 used", "auth=none",
    "a == b and password == expected", "the secret to success is work", "Token bucket is full", "password: ********",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "WWPN 50:06:01:60:3b:a0:11:2c logged in", "00000000: 7f45 4c46 0201 0100 0000 0000 0000 0000",
    "72 06 92 85 09 77 8a 27 48 f0", "2.5.4.42=Ann", "081109 203615 148 INFO dfs.DataNode: ok", "firmware: 6.1.34.0",
    "block blk_4568377692254637284 terminating", "/usr/93.184.216.34/x", "time 08:15:30 0612345678",
    "request 89516ad2-0546-404b-be65-cb3e9e5ec5b6 done", "1.2.3.4-rc1",
]  # fmt: skip


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_stays_and_is_the_same_object(text):
    """Ids, times, hashes, addresses of code, prose about secrets: nothing useful is lost."""
    result = REDACTOR.redact(text)
    assert result.value is text, result
    assert result.matches == ()


def test_a_private_key_goes_whole_and_also_cut_off():
    """A block that lost its end is a key all the same; what follows it stays."""
    assert REDACTOR.text(f"key:\n{PEM}\ndone") == "key:\n[redacted:private_key]\ndone"
    cut = PEM[:150]
    assert cut[60:] not in REDACTOR.text(f"key: {cut}")
    assert REDACTOR.text(f"{cut}") == "[redacted:private_key]"
    assert REDACTOR.text(f"{PEM}203.0.113.9") == "[redacted:private_key][redacted:ipv4]"


def test_a_marker_behind_a_flag_is_no_login_and_hides_none():
    """``-u`` takes user and password; a marker has a colon of its own."""
    assert REDACTOR.text(f"-u {PEM}") == "-u [redacted:private_key]"
    assert REDACTOR.text("-u [redacted:email]:hunter2") == "-u [redacted:email]:[redacted:url_credential]"


def test_what_a_secret_beside_it_hid_is_found():
    """An address that only the end of a key made something else; both go in one pass."""
    key, telegram = BY_VALUE["mobius_key"][0], BY_VALUE["telegram"][0]
    assert REDACTOR.text(f"{key}::1234") == "[redacted:mobius_key][redacted:ipv6]"
    assert REDACTOR.text(f"fd12::{key}") == "[redacted:ipv6][redacted:mobius_key]"
    assert REDACTOR.text(REDACTOR.text(f"-u {PEM}{telegram}")) == REDACTOR.text(f"-u {PEM}{telegram}")
    assert REDACTOR.text("ghp_SG.doN8D22F816h8GURZaGAnt.nTnBw8vu2C7wXMTzUKqks3KLrmOv6upx1yvimSzB4eX") == (
        "ghp_[redacted:sendgrid]"
    )


def test_a_token_in_short_parts_is_found():
    """Where no part of it is a long word: a header of few letters, a secret with dots in it."""
    assert REDACTOR.text("is eyJ0eXAiOjF9.e30.c2ln") == "is [redacted:jwt]"
    assert REDACTOR.text("abc1Q~abcdefghij.klmnopqrst~uvwxyzabcd") == "[redacted:azure]"


def test_a_card_is_found_beside_other_numbers():
    """A number before or behind a card does not hide it."""
    for text in ("4111111111111111 123", "1234 4111 1111 1111 1111", "4111 1111 1111 1111 123", "x4111111111111111"):
        assert "1111" not in REDACTOR.text(text), text


def test_a_key_with_a_wrong_checksum_is_still_a_key():
    """A mistyped key of ours is nearly a key."""
    key = BY_VALUE["mobius_key"][0]
    assert REDACTOR.text(key[:-1] + "!") != key[:-1] + "!"
    assert REDACTOR.text(key + "x") == "[redacted:mobius_key]"


def test_what_is_switched_off_stays():
    """A policy can leave a kind out, and only that."""
    redactor = Redactor(RedactionPolicy(kinds_off=frozenset({"email", "github", "jwt"})))
    github = BY_VALUE["github"][0]
    text = f"bob@example.com {github} {JWT} {BY_VALUE['npm'][0]}"
    assert redactor.text(text) == f"bob@example.com {github} {JWT} [redacted:npm]"


def test_a_pattern_of_the_user_is_found_once():
    """Own kinds are looked for everywhere but inside markers."""
    redactor = Redactor(RedactionPolicy(patterns=(("badge", r"B-[0-9]{6}"), ("word", r"redacted|card"))))
    clean = redactor.text("badge B-123456 and 4111111111111111")
    assert clean == "badge [redacted:badge] and [redacted:card]"
    assert redactor.text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("token=Bearer {} next", "token=Bearer [redacted:token] next"),
        ("x-api-key: Token {}", "x-api-key: Token [redacted:api_key]"),
        ("auth_token=Basic dXNlcjpwYXNz", "auth_token=Basic [redacted:token]"),
        ("access_token=Bearer%20{}&x=1", "access_token=[redacted:token]&x=1"),
    ],
)
def test_behind_a_name_and_a_scheme_stands_the_secret(text, clean):
    """The scheme is none; to take that alone would leave the secret behind it."""
    assert Redactor().text(text.format(CANARY)) == clean
    assert Redactor().text(clean) == clean


ROW = (
    "Failing row contains (4, null, {}).\n[SQL: INSERT INTO users (id, name, api_token)"
    " VALUES (%(id)s, %(name)s, %(api_token)s)]\n[parameters: {{'id': 4, 'api_token': '{}'}}]"
)


@pytest.mark.parametrize(
    ("text", "kind", "secret"),
    [
        ("password = '{}'\nKeyError: '{}'", "password", "hunter22"),
        (ROW, "token", "9f8e7d6c5b4a39281706"),
        ("db: postgres://ann:{}@db/shop\nretry with {}, not with as3cr3tpw", "url_credential", "s3cr3tpw"),
    ],
)
def test_a_secret_that_a_text_tells_once_does_not_stay_elsewhere_in_it(text, kind, secret):
    redactor = Redactor()
    clean = text.format(*[f"[redacted:{kind}]"] * 2)

    assert redactor.text(text.format(secret, secret)) == clean
    assert redactor.text(clean) == clean


@pytest.mark.parametrize("word", ["horseshoe", "20240117", "abc1234"])
def test_a_word_a_number_and_what_is_short_may_be_anything_elsewhere(word):
    assert Redactor().text(f"password={word} and {word}") == f"password=[redacted:password] and {word}"


def test_what_a_policy_lets_pass_is_no_secret_elsewhere_in_its_text():
    redactor = Redactor(RedactionPolicy(actions={"password": "pass"}))

    assert redactor.text("password=hunter22 used hunter22") == "password=hunter22 used hunter22"


def test_what_has_letters_where_an_account_of_its_country_has_digits_is_none():
    """A hexadecimal id of sixteen characters that begins like a Belgian account, and passes the check."""
    redactor = Redactor()
    ids = [f"be68{n:012x}" for n in range(0xA000_0000_0000, 0xA000_0000_0000 + 2000)]

    assert [redactor.text(f"order {one} paid") for one in ids] == [f"order {one} paid" for one in ids]
    assert redactor.text("pay BE68 5390 0754 7034") == "pay [redacted:iban]"


def test_of_a_text_full_of_secrets_goes_what_is_glued_to_them():
    """Nobody looks again and again at what each of a thousand secrets may have hidden; the rest of the text stays."""
    text = " ".join(["dsn amqp://ann:s3cr3tpw@mq/shop mail bea@shop.de:ghp_" + "a1B2" * 5 + " done"] * 300)

    clean = Redactor().text(text)

    assert "a1B2" not in clean
    start = "dsn amqp://ann:[redacted:url_credential]@mq/shop mail [redacted:email][redacted:unreadable] done dsn "
    assert clean.startswith(start)
    assert Redactor().text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("refused: /93.184.216.34:443", "refused: /[redacted:ipv4]:443"),
        ("L:/10.0.0.5:8080 - R:/93.184.216.34:5 READ", "L:/[redacted:ipv4]:8080 - R:/[redacted:ipv4]:5 READ"),
        ("93.184.216.34-93.184.216.40", "[redacted:ipv4]-[redacted:ipv4]"),
        ("ip:2001:db8::1 ok", "ip:[redacted:ipv6] ok"),
        ("pass//0eY7pDkvqtDkJtDWIRsU6NXF@h", "pass//[redacted:url_credential]@h"),
        ("SMS to +14155552671: delivered", "SMS to [redacted:phone]: delivered"),
        ("call (415) 555-2671: busy", "call [redacted:phone]: busy"),
        ("TEL;TYPE=CELL:+14155552671", "TEL;TYPE=CELL:[redacted:phone]"),
        ("call 06 12 34 56 78 now", "call [redacted:phone] now"),
        ("IP 93.184.216.34\u88ab\u5c01", "IP [redacted:ipv4]\u88ab\u5c01"),
        ("\u624b\u673a+8613812345678\u5df2", "\u624b\u673a[redacted:phone]\u5df2"),
        ("\u53e3\u5ea7DE89370400440532013000\u3078", "\u53e3\u5ea7[redacted:iban]\u3078"),
        ("\u53f7123-45-6789\u5165", "\u53f7[redacted:ssn]\u5165"),
    ],
)
def test_addresses_and_numbers_are_found_as_java_vcards_and_chinese_write_them(text, clean):
    redactor = Redactor()
    assert redactor.text(text) == clean
    assert redactor.redact({"a": "x", "b": text}).value["b"] == clean
    assert redactor.text(clean) == clean


@pytest.mark.parametrize("sign", ["@", "a@ ", "::", "x:: ", "1:2:3:4:5:6:7:", "a:b@"])
def test_a_flood_of_one_sign_hides_nothing(sign):
    """Where a sign comes a thousand times, each is not asked for alone; what it is a part of is found all the same."""
    flood = sign * 1000
    clean = REDACTOR.text(f"{flood} mail ann@shop.example from 2001:db8::17 and {flood}")
    assert "ann@shop.example" not in clean
    assert "2001:db8::17" not in clean
    assert " mail [redacted:email] from [redacted:ipv6] and " in clean
