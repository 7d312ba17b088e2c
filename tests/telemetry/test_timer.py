"""Timers: blocks and functions of every kind, each one measurement."""

import asyncio
import inspect
import threading

import pytest

from mobius_otel import InMemoryMetricsBackend, MetricEmitter, metric_timer
from mobius_otel.telemetry import defaults


@pytest.fixture
def backend():
    """A backend in memory."""
    return InMemoryMetricsBackend()


@pytest.fixture
def timer(backend):
    """A timer that records to it."""
    return MetricEmitter("x", backend=backend).timer("t", buckets="http")


def test_blocks_nest_and_take_attributes_from_inside(timer, backend):
    """Each `time()` is a block of its own."""
    with timer.time({"step": "outer"}) as outer, timer.time({"step": "inner"}):
        outer.attributes["more"] = "yes"
    assert backend.count("t") == 2
    assert backend.count("t", {"step": "outer", "more": "yes"}) == 1
    (outer_time,), (inner_time,) = backend.values("t", step="outer"), backend.values("t", step="inner")
    assert 0 <= inner_time <= outer_time < 60


def test_the_callers_attributes_are_left_alone(timer, backend):
    """What is added inside belongs to the block."""
    attributes = {"step": "pay"}
    with timer.time(attributes) as timing:
        timing.attributes["more"] = "yes"
    assert attributes == {"step": "pay"}


def test_a_failure_names_its_class_and_passes(timer, backend):
    """Never its text."""
    with pytest.raises(LookupError, match="secret"), timer.time():
        raise LookupError("secret")
    with pytest.raises(KeyboardInterrupt), timer.time({"error.type": "mine"}):
        raise KeyboardInterrupt
    assert backend.count("t", {"error.type": "LookupError"}) == 1
    assert backend.count("t", {"error.type": "mine"}) == 1


def test_functions_of_every_kind_stay_what_they_are(timer, backend):
    """Name, text, signature, kind: as a caller and a framework see them."""

    @timer
    def plain(value: int) -> int:
        """Doc."""
        return value

    @timer
    async def later(value):
        return value

    @timer
    def several(value):
        yield value

    @timer
    async def several_later(value):
        yield value

    assert (plain(1), plain.__name__, plain.__doc__) == (1, "plain", "Doc.")
    assert str(inspect.signature(plain)) == "(value: int) -> int"
    assert inspect.iscoroutinefunction(later)
    assert inspect.isgeneratorfunction(several)
    assert inspect.isasyncgenfunction(several_later)
    assert asyncio.run(later(2)) == 2
    assert list(several(3)) == [3]

    async def collect():
        return [item async for item in several_later(4)]

    assert asyncio.run(collect()) == [4]
    assert backend.count("t") == 4


def test_a_method_is_timed_too(timer, backend):
    """The wrapper binds as a function does."""

    class Shop:
        @timer
        def pay(self, amount):
            return amount

        @staticmethod
        @timer
        def close():
            return "closed"

    assert (Shop().pay(3), Shop.close()) == (3, "closed")
    assert backend.count("t") == 2


def test_a_generator_is_one_measurement_however_it_is_driven(timer, backend):
    """What is sent, thrown and returned passes; one that is given up is no failure."""

    @timer
    def echo():
        got = []
        while len(got) < 2:
            try:
                got.append((yield len(got)))
            except KeyError as error:
                got.append(repr(error))
        return got

    running = echo()
    assert backend.count("t") == 0
    assert next(running) == 0
    assert running.send("a") == 1
    with pytest.raises(StopIteration) as stopped:
        running.throw(KeyError("b"))
    assert stopped.value.value == ["a", "KeyError('b')"]
    abandoned = echo()
    next(abandoned)
    abandoned.close()
    failing = echo()
    next(failing)
    with pytest.raises(ZeroDivisionError):
        failing.throw(ZeroDivisionError)
    assert backend.count("t") == 3
    assert backend.count("t", {"error.type": "ZeroDivisionError"}) == 1
    assert [s for s in backend.series("t") if s.attributes.get("error.type") == "GeneratorExit"] == []


def test_an_asynchronous_generator_is_one_measurement_however_it_is_driven(timer, backend):
    """As one that is none."""
    cleaned = []

    @timer
    async def echo():
        got = []
        try:
            while len(got) < 2:
                try:
                    got.append((yield len(got)))
                except KeyError as error:
                    got.append(repr(error))
            yield got
        finally:
            cleaned.append(True)

    async def drive():
        running = echo()
        assert await running.__anext__() == 0
        assert await running.asend("a") == 1
        assert await running.athrow(KeyError("b")) == ["a", "KeyError('b')"]
        with pytest.raises(StopAsyncIteration):
            await running.__anext__()
        abandoned = echo()
        await abandoned.__anext__()
        await abandoned.aclose()
        failing = echo()
        await failing.__anext__()
        with pytest.raises(ZeroDivisionError):
            await failing.athrow(ZeroDivisionError)

    asyncio.run(drive())
    assert (backend.count("t"), len(cleaned)) == (3, 3)
    assert backend.count("t", {"error.type": "ZeroDivisionError"}) == 1


def test_a_task_that_is_cancelled_is_told_as_such(timer, backend):
    """Cancellation passes, and is named."""

    @timer
    async def sleep():
        await asyncio.sleep(60)

    async def drive():
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(drive())
    assert backend.count("t", {"error.type": "CancelledError"}) == 1


def test_one_timer_serves_many_threads_and_tasks(timer, backend):
    """No state is shared between blocks."""

    async def step(number):
        with timer.time({"task": number}):
            await asyncio.sleep(0.001)

    async def steps():
        await asyncio.gather(*(step(number) for number in range(20)))

    threads = [threading.Thread(target=lambda: asyncio.run(steps())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [series.count for series in backend.series("t")] == [4] * 20


def test_metric_timer_is_on_the_default_emitter(telemetry):
    """Short, for the line it stands in."""
    with metric_timer("checkout.duration", step="pay") as timing:
        timing.attributes["method"] = "card"
    assert telemetry.metric("checkout.duration", step="pay", method="card") == 1


def test_metric_timer_finds_a_timer_that_was_made_with_more_care(telemetry):
    """Its own description and buckets stay."""
    made = defaults.emitter().timer("careful.duration", description="How long.", buckets=[1, 2])
    with metric_timer("careful.duration"):
        pass
    made.record(1.5)
    (point,) = [point for point in telemetry.metrics if point["name"] == "careful.duration"]
    assert (point["count"], list(point["bounds"])) == (2, [1, 2])
