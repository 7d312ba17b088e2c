"""A limiter whose hits are counted by a server."""

import asyncio
import datetime as dt
import math
import re
import ssl
import tempfile
import threading

import pytest

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from mobius_otel.security.rate_limit.backends.valkey.calls import probe_call
from mobius_otel.security.rate_limit.limiter import ALGORITHMS
from tests.services.proxy import SlowProxy
from tests.services.valkeys import server

POLICY = "mobius.rate_limit.policy"


@pytest.fixture
def backend(shared_server):
    """A backend with patience: the machine may be busy."""
    with ValkeyBackend(shared_server.url(), deadline=5.0) as opened:
        yield opened


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_decision_tells_everything_in_one_answer(backend, name, algorithm):
    """Allowed, remaining, retry, reset, which limit: from the server."""
    limiter = RateLimiter(["10/minute", "30/hour"], name=name, algorithm=algorithm, backend=backend)
    first = limiter.acquire("k", 4)
    assert (first.allowed, first.source, first.limit, first.remaining, first.retry_after) == (True, "remote", 10, 6, 0)
    assert 0 < first.reset_after <= 60
    denied = limiter.acquire("k", 7)
    assert (denied.allowed, denied.limit, denied.remaining) == (False, 10, 6)
    assert 0 < denied.retry_after <= 60
    never = limiter.acquire("k", 11)
    assert (never.allowed, never.retry_after) == (False, math.inf)
    assert limiter.peek("k", 6).allowed
    assert limiter.acquire("k", 0).remaining == 6


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_limiters_of_one_name_count_together(shared_server, backend, name, algorithm):
    """As two processes do; another name is another count."""
    one = RateLimiter("3/hour", name=name, algorithm=algorithm, backend=shared_server.url(), deadline=5.0)
    two = RateLimiter("3/hour", name=name, algorithm=algorithm, backend=backend)
    assert [one.allow("k"), two.allow("k"), one.allow("k"), two.allow("k"), one.allow("k")] == [True] * 3 + [False] * 2
    assert RateLimiter("3/hour", name=f"{name}.other", algorithm=algorithm, backend=backend).allow("k")


def test_another_algorithm_never_meets_the_other_ones_value(backend, name):
    """It is part of the name on the server."""
    for algorithm in (*ALGORITHMS, *ALGORITHMS):
        assert RateLimiter("9/hour", name=name, algorithm=algorithm, backend=backend).acquire("k").source == "remote"


def test_none_of_several_limits_is_charged_when_one_denies(backend, name):
    """On the server too."""
    limiter = RateLimiter(["2/minute", "3/hour"], name=name, backend=backend)
    assert [limiter.allow("k"), limiter.allow("k"), limiter.allow("k")] == [True, True, False]
    hour = RateLimiter("3/hour", name=name, backend=backend)
    assert hour.peek("k").remaining == 1


def test_a_reset_forgets_and_a_refund_gives_back(backend, name):
    """Of this key alone."""
    limiter = RateLimiter("3/hour", name=name, backend=backend)
    counts = limiter._counts._remote
    charged = counts.take("k", 2)
    assert counts.refund("k", 2, charged[5]) is True
    assert counts.refund("k", 2, charged[5]) is False
    assert limiter.acquire("k", 3).remaining == 0
    limiter.acquire("other", 3)
    limiter.reset("k")
    assert (limiter.allow("k"), limiter.allow("other")) == (True, False)


def test_limits_can_be_changed_and_be_a_keys_own(backend, name):
    """What was counted goes on, also where the window is another one."""
    counts = RateLimiter("10/minute", name=name, backend=backend)._counts._remote
    counts.take("k", 4), counts.take("vip", 4)
    counts.override("vip", (RateLimit(1000, 3600.0),))
    assert counts.peek("vip", 0)[1:3] == (RateLimit(1000, 3600.0), 4)
    counts.change((RateLimit(5, 30.0),))
    assert counts.take("k", 1)[:3] == (True, RateLimit(5, 30.0), 5)
    assert not counts.take("k", 1)[0]
    assert counts.take("vip", 1)[2] == 5
    counts.override("vip", None)
    assert counts.take("vip", 1)[:2] == (False, RateLimit(5, 30.0))
    counts.reset("vip")
    assert counts.take("vip", 5)[0]


def test_of_two_limits_for_one_window_the_lower_one_counts(backend, name):
    """And a hit is charged once."""
    limiter = RateLimiter([RateLimit(9, 60.0), RateLimit(4, 60.0)], name=name, backend=backend)
    assert limiter.acquire("k", 3).remaining == 1
    assert limiter.acquire("k", 2).limit == 4


def test_the_asyncio_twin_decides_alike(shared_server, name):
    """Over connections of its own, in one loop after another."""
    backend = ValkeyBackend(shared_server.url(), deadline=5.0)
    limiter = RateLimiter("6/hour", name=name, backend=backend)

    async def work():
        decisions = await asyncio.gather(*[limiter.acquire_async("k") for _ in range(4)])
        counts = limiter._counts._remote
        assert (await counts.peek_async("other", 1))[0]
        charged = await counts.take_async("other", 1)
        assert await counts.refund_async("other", 1, charged[5])
        await counts.reset_async("other")
        await backend.close_async()
        return decisions

    assert all(decision.source == "remote" and decision.allowed for decision in asyncio.run(work()))
    assert [decision.allowed for decision in asyncio.run(work())].count(True) == 2
    assert not limiter.allow("k")


def test_a_cancelled_decision_leaves_no_answer_for_the_next_one(shared_server, name):
    """Its connection is given up."""
    backend = ValkeyBackend(shared_server.url(), deadline=5.0)
    limiter = RateLimiter("1000/hour", name=name, backend=backend)

    async def work():
        await limiter.acquire_async("k")
        for turns in range(6):
            task = asyncio.ensure_future(limiter.acquire_async("k", 7))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            decision = await limiter.acquire_async("other")
            assert (decision.source, decision.remaining) == ("remote", 1000 - turns - 1)
        await backend.close_async()

    asyncio.run(work())


def test_eight_threads_let_exactly_the_limit_pass(backend, name):
    """Each over a connection of its own."""
    limiter = RateLimiter("500/hour", name=name, backend=backend)
    allowed = []
    threads = [
        threading.Thread(target=lambda: allowed.append(sum(limiter.allow("k") for _ in range(100)))) for _ in range(8)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(allowed) == 500


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(1), now + dt.timedelta(9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return file


def test_a_connection_can_be_encrypted(shared_server, name, certificate, caplog):
    """The certificate is checked, and so is the host's name, unless the URL says otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with SlowProxy(shared_server.address, tls=context) as proxy:
        trusted = f"ssl_ca_certs={certificate}"
        for place, query, source in [
            ("localhost", trusted, "remote"),
            ("127.0.0.1", trusted, "fallback"),
            ("127.0.0.1", f"{trusted}&ssl_check_hostname=false", "remote"),
            ("localhost", "", "fallback"),
            ("localhost", "ssl_cert_reqs=none", "remote"),
        ]:
            limiter = RateLimiter("9/hour", name=name, backend=f"rediss://{place}:{proxy.port}?{query}", deadline=5.0)
            assert limiter.acquire("k").source == source
            assert asyncio.run(limiter.acquire_async("k")).source == source
        valkey = pytest.importorskip("valkey")
        client = valkey.Valkey(host="localhost", port=proxy.port, ssl=True, ssl_ca_certs=str(certificate))
        limiter = RateLimiter("9/hour", name=name, backend=client, deadline=5.0)
        assert [limiter.acquire("k").source, asyncio.run(limiter.acquire_async("k")).source] == ["remote"] * 2


@pytest.mark.parametrize("package", ["valkey", "redis"])
def test_a_client_that_exists_lends_its_settings(shared_server, name, package):
    """Its own retries and timeouts are left out, and so is its decoding."""
    module = pytest.importorskip(package)
    client = getattr(module, package.capitalize())(port=shared_server.port, db=3, decode_responses=True)
    limiter = RateLimiter("2/hour", name=name, backend=client, deadline=5.0)
    assert [limiter.acquire("k").source, limiter.allow("k"), limiter.allow("k")] == ["remote", True, False]
    assert asyncio.run(limiter.acquire_async("other")).source == "remote"
    assert all(key.startswith("mobius:rl:1:log:{") for key in client.keys("*"))


def test_no_key_stands_on_the_server_in_clear(shared_server, name):
    """An address is a customer."""
    limiter = RateLimiter("2/hour", name=name, backend=shared_server.url(db=4), deadline=5.0)
    limiter.allow("203.0.113.9")
    stored = shared_server.client(db=4).keys("*")
    assert len(stored) == 1
    assert b"203.0.113" not in stored[0]


def test_a_server_behind_a_socket_file(tmp_path, name):
    """Without a port."""
    folder = tempfile.mkdtemp()  # a path to a socket may be a hundred characters long, and the tests' own is longer
    path = f"{folder}/s.sock"
    with server(tmp_path, unixsocket=path):
        limiter = RateLimiter("2/hour", name=name, backend=f"unix://{path}?db=2", deadline=5.0)
        assert [limiter.acquire("k").source, limiter.allow("k"), limiter.allow("k")] == ["remote", True, False]
        assert asyncio.run(limiter.acquire_async("other")).source == "remote"


def test_the_rights_that_are_documented_are_enough(shared_server, name):
    """And the login is sent as the URL has it, decoded."""
    rights = re.search(r"``(~mobius[^`]*)``", ValkeyBackend.__doc__)[1].split()
    shared_server.client().execute_command("ACL", "SETUSER", "limiter", "reset", "on", ">hunter2@:", *rights)
    backend = ValkeyBackend(shared_server.url("limiter:hunter2%40%3A@"), deadline=5.0)
    assert "hunter2" not in repr(backend)
    for algorithm in ALGORITHMS:
        counts = RateLimiter(["9/hour", "5/minute"], name=name, algorithm=algorithm, backend=backend)._counts._remote
        charged = counts.take("k", 2)
        counts.change((RateLimit(7, 90.0),))
        counts.take("k", 1), counts.refund("k", 1, charged[5]), counts.peek("k", 1), counts.reset("k")
        backend._route._link.tried(probe_call(0))


def test_each_call_of_the_server_is_timed(told, backend, name):
    """By policy and backend; the key is no attribute."""
    limiter = RateLimiter("2/hour", name=name, backend=backend)
    limiter.acquire("k"), limiter.peek("k"), asyncio.run(limiter.acquire_async("k"))
    attributes = {POLICY: name, "mobius.rate_limit.backend": "valkey"}
    assert told.metrics.value("mobius.rate_limit.saturation", {POLICY: name}) == 1.0
    assert told.metrics.count("mobius.rate_limit.backend.duration", attributes) == 3


def test_without_the_package_the_error_names_the_pip_line(monkeypatch):
    """At construction."""
    from mobius_otel.security.rate_limit.backends.valkey import dialing

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(dialing, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'mobius_otel\[valkey\]'"):
        RateLimiter("1/hour", backend="valkey://h")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"deadline": 0}, "seconds"),
        ({"deadline": True}, "seconds"),
        ({"deadline": 11.0}, "seconds"),
        ({"local_share": 0}, "above 0"),
        ({"local_share": 1.5}, "up to 1"),
        ({"lease": 0.6}, "up to 0.5"),
        ({"lease": -0.1}, "from 0"),
        ({"clock": lambda: 0.0}, "server's clock"),
    ],
)
def test_what_cannot_be_is_refused(given, named):
    """By name, before any server is asked."""
    with pytest.raises(ConfigurationError, match=named):
        RateLimiter("1/hour", backend="valkey://localhost:1", **given)


def test_an_asyncio_client_is_refused():
    """There is nothing to decide with where no loop runs."""
    import valkey.asyncio

    with pytest.raises(ConfigurationError, match="not an asyncio one"):
        RateLimiter("1/hour", backend=valkey.asyncio.Valkey())


def test_a_key_that_cannot_be_named_is_the_callers_error(backend, name):
    """It is no failure of the server, so nothing else decides."""
    limiter = RateLimiter("1/hour", name=name, backend=backend)
    for call in (limiter.acquire, limiter.peek, limiter.reset):
        with pytest.raises(ConfigurationError, match="every process"):
            call(object())
    assert limiter.acquire("k").source == "remote"
