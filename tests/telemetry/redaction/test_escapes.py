"""What stands behind percent signs is read as its receiver reads it; the rest of the text stays as it was."""

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel.telemetry.redaction import Redactor
from tests.telemetry.redaction.secrets_kit import BY_VALUE, CANARY, PEM

SECRETS = [(kind, secret) for kind, secrets in BY_VALUE.items() for secret in secrets] + [("private_key", PEM)]


def escaped_whole(text):
    """Escape every character, as nobody has to and everybody may."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


WAYS = {
    "as in a path": lambda text: quote(text, safe=""),
    "as in a form": quote_plus,
    "twice": lambda text: quote(quote(text, safe=""), safe=""),
    "three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "every character": escaped_whole,
    "every character, twice": lambda text: quote(escaped_whole(text), safe=""),
}


CASES = [
    pytest.param(kind, shown, id=f"{kind}, {way}, {number}")
    for way, escape in WAYS.items()
    for number, (kind, secret) in enumerate(SECRETS)
    if "%" in (shown := escape(secret))
]


@pytest.mark.parametrize(("kind", "shown"), CASES)
def test_a_secret_is_found_however_it_is_escaped(kind, shown):
    """In a parameter of an address; the parameters around it stay, and a second time nothing is found."""
    redactor = Redactor()
    clean = redactor.text(f"GET /go?a=caf%C3%A9&to={shown}&page=2%20b HTTP/1.1")
    assert clean.startswith("GET /go?a=caf%C3%A9&to=")
    assert clean.endswith("&page=2%20b HTTP/1.1")
    assert f"[redacted:{kind}]" in clean
    assert redactor.text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/in?next=https%3A%2F%2Fapp.example%2Fcb%3Faccess_token%3D{}%26x%3D1&y=2",
         "/in?next=https%3A%2F%2Fapp.example%2Fcb%3Faccess_token%3D[redacted:token]%26x%3D1&y=2"),
        ("/in?dsn=postgres%3A%2F%2Fapp%3A{}%40db.example%2Fx",
         "/in?dsn=postgres%3A%2F%2Fapp%3A[redacted:url_credential]%40db.example%2Fx"),
        ("data=%7B%22password%22%3A%22{}%22%2C%22user%22%3A%22ann%22%7D",
         "data=%7B%22password%22%3A%22[redacted:password]%22%2C%22user%22%3A%22ann%22%7D"),
        ("q=the+password+is%3A+{}", "q=the+password+is%3A+[redacted:password]"),
        ("x=%ff%fe&next=%2Fcb%3Ftoken%3D{}", "x=%ff%fe&next=%2Fcb%3Ftoken%3D[redacted:token]"),
        # neither a sign that escapes nothing nor the spelling of an escape is written anew
        ("a=5%%2fx%3a%20token%3d{}%0Ab%", "a=5%%2fx%3a%20token%3d[redacted:token]%0Ab%"),
        ("a=%2fb%2fann%40shop.example%2fx+y%zz%2Fbob%40shop.example",
         "a=%2fb%2f[redacted:email]%2fx+y%zz%2F[redacted:email]"),
        ("curl -d '%7B%22password%22%3A%22{}%22%7D'", "curl -d '%7B%22password%22%3A%22[redacted:password]%22%7D'"),
        # signs that stand for anything
        ("m LIKE '%bea@shop.example%'", "m LIKE '%[redacted:email]%'"),
        ("m LIKE '%20bea@shop.example'", "m LIKE '%[redacted:email]'"),
        ("m like concat('%bea@shop.example', n)", "m like concat('%[redacted:email]', n)"),
        ("ip LIKE '%203.0.113.7%'", "ip LIKE '%[redacted:ipv4]%'"),
    ],
)  # fmt: skip
def test_what_names_tell_in_what_is_escaped(text, clean):
    """An address in an address, a DSN, a document and a sentence in a form; the rest is written as it was."""
    assert Redactor().text(text.format(CANARY)) == clean


@pytest.mark.parametrize(
    "text",
    [
        "GET /caf%C3%A9/a%20b?q=50%25+off&name=J%C3%BCrgen%20M%C3%BCller&u=https%3A%2F%2Fa.example%2Fb",
        "100%% of %d, %s, %(name)s, 5%-10%, %zz, %4, %",
        "LIKE '%25abc%25' and path=%2Fhome%2Fann%2Freport.pdf",
    ],
)
def test_what_is_harmless_stays_to_the_letter(text):
    """Names, places, formats."""
    assert Redactor().text(text) == text


@given(st.text(st.sampled_from("%0123456789abcdefABCDEF4 =&+@:/\ud800\xe9"), max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_mixture_of_escapes_is_read_and_written(text):
    """Halves of escapes, bytes that are no UTF-8, lone surrogates: nothing raises, nothing is found twice."""
    redactor = Redactor()
    clean = redactor.text(text + "%2Ftoken%3Dx1y2z3")
    assert "x1y2z3" not in clean
    assert redactor.text(clean) == clean


def test_what_is_escaped_too_often_is_blanked_and_not_passed():
    """An address in an address is read three times over; whoever hides a secret deeper gets nothing through."""
    redactor, address = Redactor(), f"https://a.example/cb?access_token={CANARY}&x=1"
    for _ in range(8):
        clean = redactor.text(f"go {address}")
        assert CANARY not in clean
        assert redactor.text(clean) == clean
        address = quote(address, safe="")
    assert clean == "go [redacted:depth]"
    assert redactor.text("100%25 sure, %252525 of 50%25252525") == "100%25 sure, %252525 of 50%25252525"


def test_json_in_json_and_so_on_is_blanked_where_nobody_reads_it_any_more():
    document = {"password": CANARY}
    redactor = Redactor()
    for _ in range(12):
        text = json.dumps(document)
        clean = redactor.text(text)
        assert CANARY not in clean
        assert redactor.text(clean) == clean
        document = {"a": text}
