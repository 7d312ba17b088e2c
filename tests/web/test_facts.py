"""Whose word counts about where a request comes from."""

import pytest

from mobius_otel.web.facts import Facts, Proxies


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", ["6.6.6.6"], "203.0.113.5"),
        ("10.0.0.2", ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.2", ["203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("10.0.0.2", ["203.0.113.9", "10.0.0.7"], "203.0.113.9"),
        ("10.0.0.2", ["203.0.113.9, nonsense, 10.0.0.7"], "10.0.0.7"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.2", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.2", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.2", ["203.0.113.9"], "203.0.113.9"),
        (None, ["203.0.113.9"], None),
        ("unix", ["203.0.113.9"], "unix"),
    ],
)
def test_the_client_is_the_first_hop_that_is_none_of_ours(peer, forwarded, client):
    """From the right, past our own proxies, never the left-most claim."""
    facts = Facts("GET", "/", peer=peer, headers={"x-forwarded-for": forwarded} if forwarded else {})
    assert Proxies(["10.0.0.0/8"]).client(facts) == client


def test_the_scheme_is_believed_from_our_proxies_alone():
    """X-Forwarded-Proto of a stranger is a claim."""
    headers = {"x-forwarded-proto": ["https"]}
    assert Proxies(["10.0.0.0/8"]).scheme(Facts("GET", "/", peer="10.0.0.2", headers=headers)) == "https"
    assert Proxies(["10.0.0.0/8"]).scheme(Facts("GET", "/", peer="192.0.2.1", headers=headers)) == "http"
    assert Proxies([]).scheme(Facts("GET", "/", scheme="https", peer="192.0.2.1")) == "https"
