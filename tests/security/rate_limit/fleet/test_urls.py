"""What a server's URL says, and that no error says more."""

import ipaddress
import uuid

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.backends.valkey.keys import Namer
from mobius_otel.security.rate_limit.backends.valkey.link import _whole
from mobius_otel.security.rate_limit.backends.valkey.urls import parse_url


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "options", "shown"),
    [
        ("valkey://", "single", [("localhost", 6379)], {}, "valkey://localhost:6379"),
        ("redis://h:1/2", "single", [("h", 1)], {"db": 2}, "valkey://h:1"),
        ("valkey://u:p%40w@h", "single", [("h", 6379)], {"username": "u", "password": "p@w"}, "valkey://h:6379"),
        ("valkey://:p@w/x?y@h", "single", [("h", 6379)], {"password": "p@w/x?y"}, "valkey://h:6379"),
        ("valkey://h?db=3", "single", [("h", 6379)], {"db": 3}, "valkey://h:6379"),
        ("rediss://[::1]:7", "single", [("::1", 7)], {"ssl_check_hostname": True}, "valkeys://[::1]:7"),
        ("valkeys://h?ssl_cert_reqs=none", "single", [("h", 6379)],
         {"ssl_check_hostname": False, "ssl_cert_reqs": "none"}, "valkeys://h:6379"),
        ("unix:///run/v%20k.sock?db=1", "unix", [], {"path": "/run/v k.sock", "db": 1}, "unix:///run/v k.sock"),
        ("unix://u:p@/run/v.sock", "unix", [], {"path": "/run/v.sock", "username": "u", "password": "p"},
         "unix:///run/v.sock"),
        ("redis+sentinel://:p@a,b:5/shop/4", "sentinel", [("a", 26379), ("b", 5)], {"password": "p", "db": 4},
         "valkey+sentinel://a:26379,b:5/shop"),
        ("valkey+cluster://a:1,b", "cluster", [("a", 1), ("b", 6379)], {}, "valkey+cluster://a:1,b:6379"),
        ("rediss+cluster://a?ssl_ca_certs=/ca.pem", "cluster", [("a", 6379)],
         {"ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem"}, "valkeys+cluster://a:6379"),
    ],
)  # fmt: skip
def test_a_url_says_where_and_how(url, kind, addresses, options, shown):
    """One server, one behind a socket file, a service that sentinels watch, a cluster."""
    target = parse_url(url)
    assert (target.kind, list(target.addresses), dict(target.options)) == (kind, addresses, options)
    assert target.shown == shown
    assert "p@w" not in repr(target)


def test_sentinels_have_a_login_of_their_own():
    """It is not that of the server."""
    target = parse_url("valkey+sentinel://:p@a/shop?sentinel_username=s&sentinel_password=q")
    assert (target.options, target.sentinel) == ({"password": "p"}, {"username": "s", "password": "q"})


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://u:hunter2@h", "valkey://"),
        ("valkey:hunter2", "valkey://"),
        ("valkey://u:hunter2@h:0", "host"),
        ("valkey://u:hunter2@h:99999", "host"),
        ("valkey://u:hunter2@h h", "host"),
        ("valkey://u:hunter2@a,b", "one host"),
        ("valkey://u:hunter2@h/one", "number"),
        ("valkey://u:hunter2@h/1?db=x", "number"),
        ("valkey://u:hunter2@h?timeout=3", "known: db"),
        ("valkey://u:hunter2@h?hunter2=3", "known: db"),
        ("valkey://u:hunter2@h?ssl_ca_certs=x", "TLS"),
        ("valkeys://u:hunter2@h?ssl_cert_reqs=maybe", "TLS"),
        ("valkey+sentinel://u:hunter2@h", "service"),
        ("valkey+cluster://u:hunter2@h/3", "one alone"),
        ("unix://u:hunter2@run/x", "whole path"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused_without_its_password(url, named):
    """The error shows the scheme, and what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_different_keys_have_different_names_and_equal_ones_the_same():
    """In every process; no key stands on the server in clear."""
    names = Namer("api", "sliding_window_log")
    keys = ["1", b"1", 1, 1.5, None, "", (), ("1",), ("1", 1), (("1",), 1), ("1", ("1",)), ("a", "bc"), ("ab", "c"),
            uuid.UUID(int=1), ipaddress.ip_address("203.0.113.9"), "203.0.113.9"]  # fmt: skip
    stems = [names.stem(key) for key in keys]
    assert len(set(stems)) == len(keys)
    assert names.stem(1) == names.stem(1.0) == names.stem(True)
    assert stems[0].startswith(b"mobius:rl:1:log:{")
    assert len({len(stem) for stem in stems}) == 1
    assert Namer("api", "gcra").stem("1") != stems[0] != Namer("other", "sliding_window_log").stem("1")


def test_a_key_that_two_processes_would_write_differently_is_refused():
    """An object's address would be another subject in every process, and never limited."""
    with pytest.raises(ConfigurationError, match="every process"):
        Namer("api", "gcra").stem(object())
    with pytest.raises(ConfigurationError, match="every process"):
        Namer("api", "gcra").stem(("a", frozenset("a")))


@pytest.mark.parametrize("answer", [b"$2\r\nab\r\n", b"$0\r\n\r\n", b":17\r\n", b"-OOM no room\r\n", b"+OK\r\n"])
def test_an_answer_is_whole_at_its_end_and_not_before(answer):
    """However it is cut into pieces."""
    assert [_whole(answer[:end]) for end in range(1, len(answer) + 1)] == [False] * (len(answer) - 1) + [True]
