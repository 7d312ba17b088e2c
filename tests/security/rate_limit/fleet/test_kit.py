"""The kit over every backend there is, and over ones that are wrong."""

import subprocess
import sys

import pytest

from mobius_otel.security.rate_limit.backends import MemoryBackend, ValkeyBackend
from mobius_otel.testing import LimiterBackendKit


class TestMemory(LimiterBackendKit):
    """One process."""

    def make_backend(self):
        return MemoryBackend()


class TestValkey(LimiterBackendKit):
    """A server."""

    @pytest.fixture(autouse=True)
    def _server(self, shared_server):
        self.url = shared_server.url()

    def make_backend(self):
        return ValkeyBackend(self.url, deadline=5.0)


class TestLeases(TestValkey):
    """A server that is asked less often."""

    lease = 0.1


class TestCluster(LimiterBackendKit):
    """Three servers."""

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster):
        self.url = cluster.url

    def make_backend(self):
        return ValkeyBackend(self.url, deadline=5.0)


class Wrong(MemoryBackend):
    """A backend whose counts have one fault."""

    def __init__(self, fault):
        self.fault = fault

    def counts(self, spec):
        return self.fault(super().counts(spec))


class _Faulty:
    source = "local"

    def __init__(self, counts):
        self._counts = counts

    def __getattr__(self, name):
        return getattr(self._counts, name)

    def __len__(self):
        return len(self._counts)


class ChargesLooks(_Faulty):
    def peek(self, key, cost):
        return self._counts.take(key, cost)


class OneForAll(_Faulty):
    def take(self, key, cost):
        return self._counts.take("everybody", cost)


class RefundsForEver(_Faulty):
    def refund(self, key, cost, at):
        self._counts.reset(key)
        return True


class ForgetsOnChange(_Faulty):
    def override(self, key, limits):
        self._counts.reset(key)
        self._counts.override(key, limits)


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (ChargesLooks, "test_a_denied_try_charges_nothing"),
        (OneForAll, "test_keys_are_counted_apart"),
        (RefundsForEver, "test_a_refund_gives_back_once"),
        (ForgetsOnChange, "test_limits_of_its_own_and_changed_ones_keep_what_was_counted"),
    ],
)
def test_a_fault_is_found(fault, test):
    """A kit that cannot fail is none."""
    kit = LimiterBackendKit()
    kit.make_backend = lambda: Wrong(fault)
    with pytest.raises(AssertionError):
        getattr(kit, test)()


def test_a_kit_without_a_backend_says_what_is_missing():
    """To whoever inherits from it."""
    with pytest.raises(NotImplementedError, match="how a backend is made"):
        LimiterBackendKit().test_exactly_the_limit_passes()


def test_the_kit_is_imported_without_pytest_and_without_a_server():
    """Nothing of the tests' door needs more than the package itself."""
    code = "import sys, mobius_otel.testing; print([name for name in ('pytest', 'valkey') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
