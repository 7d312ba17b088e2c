"""A guard over a key store in memory."""

import pytest

from mobius_otel.policy import parse_policy
from mobius_otel.security import ApiKeyManager
from mobius_otel.web import Guard, install_guard
from mobius_otel.web.recorder import RouteRecorder
from mobius_otel.web.throttle import FailureThrottle

POLICY = """
[service]
name = "shop"
trusted_proxies = ["10.0.0.0/8"]
[api_keys]
require = ["/v1/*"]
public = ["/v1/open"]
failures = "5/minute"
[api_keys.scopes]
"POST /v1/refunds" = ["refund"]
[[rate_limit.rules]]
name = "per-key"
paths = ["/v1/*"]
limit = "3/minute"
[[rate_limit.rules]]
name = "watched"
paths = ["/v1/*"]
limit = "1/minute"
mode = "shadow"
[audit]
routes = ["POST /v1/refunds"]
[metrics]
path = "/metrics"
"""


@pytest.fixture
def keys():
    """A manager whose keys are gone with the test."""
    throttle = FailureThrottle("5/minute")
    with ApiKeyManager(
        "memory://", pepper="a made-up pepper", throttle=throttle.wait, on_rejected=throttle.note
    ) as manager:
        yield manager


@pytest.fixture
def guard(keys):
    """A guard by the policy above, installed as the process's."""
    made = Guard(parse_policy(POLICY), keys, RouteRecorder())
    install_guard(made)
    yield made
    install_guard(None)
