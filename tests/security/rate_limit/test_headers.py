"""What a client is told."""

import re

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.headers import DRAFTS, limit_headers


@pytest.fixture
def limiter(clock):
    return RateLimiter("2/minute", name="api", clock=clock)


def test_the_newest_draft_names_its_policies(limiter, clock):
    """Lists of items since -08; the wait of a denial is rounded up."""
    assert limiter.acquire("k").headers() == {"RateLimit-Policy": '"api";q=2;w=60', "RateLimit": '"api";r=1;t=60'}
    clock.advance(0.5)
    assert limiter.acquire("k").headers(8)["RateLimit"] == '"api";r=0;t=60'
    assert limiter.acquire("k").headers() == {
        "RateLimit-Policy": '"api";q=2;w=60',
        "RateLimit": '"api";r=0;t=60',
        "Retry-After": "60",
    }


def test_older_drafts_and_none(limiter):
    """One dictionary in -07, three fields before, nothing with 0."""
    decision = limiter.acquire("k")
    assert decision.headers(7) == {"RateLimit-Policy": "2;w=60", "RateLimit": "limit=2, remaining=1, reset=60"}
    assert decision.headers(6) == {"RateLimit-Limit": "2", "RateLimit-Remaining": "1", "RateLimit-Reset": "60"}
    assert decision.headers(0) == {}
    with pytest.raises(ConfigurationError, match="draft"):
        decision.headers(5)


def test_the_old_names_on_demand(limiter, monkeypatch):
    """Beside the others or alone; the reset is a point in time."""
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.2)
    fields = limiter.acquire("k").headers(0, legacy=True)
    assert fields == {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "1700000061"}


@pytest.mark.parametrize("draft", DRAFTS)
def test_no_number_is_broken_and_no_wait_is_infinite(draft, clock):
    """RFC 9651: integers of at most 15 digits; a cost that never passes has no Retry-After."""
    limiter = RateLimiter([RateLimit(3, 0.25), RateLimit(5, 7.5)], name="api", clock=clock)
    decisions = [limiter.acquire("k", cost) for cost in (2, 2, 9)]
    for decision in decisions:
        for name, value in decision.headers(draft, legacy=True).items():
            assert not re.search(r"\d\.|\de|inf|nan|\d{16}", value), (name, value)
    assert "Retry-After" not in decisions[2].headers(draft)
    assert decisions[1].headers(draft)["Retry-After"] == "1"


def test_a_window_below_a_second_is_not_said():
    """The draft's windows are whole seconds."""
    shown = RateLimit(3, 0.25)
    fields = limit_headers("api", (shown,), shown, remaining=1, reset_after=0.2, retry_after=0.0)
    assert fields == {"RateLimit-Policy": '"api";q=3', "RateLimit": '"api";r=1;t=1'}
