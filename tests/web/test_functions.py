"""Functions that are timed by name: what telemetry cannot do never reaches who calls them."""

import asyncio
import sys
import types

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.instrumentation import time_function
from mobius_otel.instrumentation.unseen import why_unseen
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


_TAKEN = """
import functools
from flask import Flask
app = Flask("made_up")
@app.get("/pay")
def routed(): return "paid"
def tabled(): pass
TABLE = {"tabled": tabled}
def aliased(): pass
alias = aliased
class Charge:
    def __call__(self): pass
charge = Charge()
"""
_SEEN = """
import functools
def plain(n): return plain(n)
async def coroutine(): pass
@functools.lru_cache
def cached(): pass
def decorate(function):
    @functools.wraps(function)
    def inner(): return function()
    return inner
@decorate
def decorated(): pass
bound = functools.partial(print)
class Shop:
    def method(self): pass
    @staticmethod
    def static(): pass
    @classmethod
    def of_class(cls): pass
class Branch(Shop): pass
"""


@pytest.mark.parametrize(
    ("name", "taker"),
    [("routed", "by dict"), ("tabled", "by dict"), ("aliased", "by the name alias"), ("charge", "an object of")],
)
def test_a_function_that_was_taken_before_is_said_at_once(module, telemetry, caplog, name, taker):
    """Who has the function itself calls it past the wrapper, and a log without records looks like one without calls."""
    exec(_TAKEN, vars(module))
    time_function(f"{module.__name__}:{name}", "jobs.run")
    (said,) = caplog.messages
    assert f"{module.__name__}:{name} may pass unseen: " in said
    assert taker in said


@pytest.mark.parametrize(
    "name",
    ["plain", "coroutine", "cached", "decorated", "bound", "Shop", "Shop.method", "Shop.static", "Shop.of_class",
     "Branch.method"],
)  # fmt: skip
def test_what_nobody_has_taken_is_not_warned_of(module, telemetry, caplog, name):
    """A warning that is often wrong is read by nobody; what is wrapped twice is taken by the first wrapper."""
    exec(_SEEN, vars(module))
    time_function(f"{module.__name__}:{name}", "jobs.run")
    time_function(f"{module.__name__}:{name}", "jobs.again")
    assert caplog.messages == []


def test_what_is_not_there_is_not_taken(module):
    """That is said otherwise."""
    assert why_unseen(module, "nothing") is None
    assert why_unseen(module, "run.nothing") is None
