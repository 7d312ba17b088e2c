"""Functions that are timed by name: what telemetry cannot do never reaches who calls them."""

import asyncio
import sys
import types

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.instrumentation import time_function
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.safety import raise_errors


@pytest.fixture
def module(request):
    """A module of the service, imported when a test asks for it."""
    name = f"made_up_{request.node.name}"
    found = types.ModuleType(name)
    exec("def run(a):\n    return a\nasync def arun(a):\n    return a\n", vars(found))
    sys.modules[name] = found
    yield found
    del sys.modules[name]


def test_a_call_goes_on_where_its_timer_is_something_else(module, telemetry):
    """Somebody has made a counter of this name: the business function is not the one to pay."""
    defaults.emitter().counter("jobs.run")
    time_function(f"{module.__name__}:run", "jobs.run")
    time_function(f"{module.__name__}:arun", "jobs.run")
    before = raise_errors(False)
    try:
        assert module.run(7) == 7
        assert asyncio.run(module.arun(7)) == 7
    finally:
        raise_errors(before)


def test_a_name_that_is_no_metric_is_refused_at_once(module):
    """Not by the first call."""
    with pytest.raises(ConfigurationError, match="a letter followed by"):
        time_function(f"{module.__name__}:run", "9x")
    assert module.run(7) == 7
