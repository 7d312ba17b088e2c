"""The same behaviour over every store."""

import pytest

from mobius_otel.security import ApiKeyManager
from tests.services.postgres import running

PEPPER = "a made-up pepper"


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL that the tests of this process share."""
    with running() as postgres:
        yield postgres


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request, tmp_path):
    """The URL of an empty store."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres").database()
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'keys.db'}"


@pytest.fixture
def manager(told, clock, url):
    """A manager whose keys live 1000 s and whose grace is 100 s."""
    with ApiKeyManager(url, ttl=1000, grace_period=100, pepper=PEPPER, clock=clock) as manager:
        yield manager
