"""Servers for a session, servers for one test, and names that no other test uses."""

import itertools
import os

import pytest

from tests.services.valkeys import Cluster, server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A server for tests that leave it as it is."""
    with server(tmp_path_factory.mktemp("valkey")) as one:
        yield one


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may pause, kill and start again."""
    with server(tmp_path / "valkey") as one:
        yield one


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three nodes."""
    nodes = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield nodes.start()
    finally:
        nodes.stop()


@pytest.fixture
def name():
    """A limiter's name that nobody has used."""
    return f"limit-{os.getpid()}-{next(_numbers)}"
