"""Blocks and decorated functions: one record at the end, whatever the end is."""

import asyncio
import inspect
import threading

import pytest

from mobius_otel.errors import AuditUnavailable, ConfigurationError, InvalidEvent
from mobius_otel.telemetry.audit import (
    Actor,
    AuditEvent,
    AuditLogger,
    Ledger,
    Source,
    Target,
    catalogue,
    register_event,
)
from mobius_otel.telemetry.audit.verify import read_records
from mobius_otel.telemetry.safety import raise_errors
from tests.services.unwritable import unwritable

AUDIT = AuditLogger("payments")
WHO = Actor("u-1")


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(catalogue, "_registered", {})


@pytest.fixture
def production():
    """Errors of telemetry are kept from the service, as in production."""
    before = raise_errors(False)
    yield
    raise_errors(before)


def outcome(telemetry, name="a.b"):
    return telemetry.audit(name)["attributes"]["audit.outcome"]


# --- blocks -------------------------------------------------------------------------------------------------


def test_a_block_says_what_it_learned(telemetry):
    """Target, reason, risk and attributes, as they are at its end."""
    with AUDIT.audited("a.b", actor=WHO) as a:
        a.target, a.reason = Target("order-9", "order"), "asked for"
        a.set_risk(80)
        a.attributes["items"] = [1, 2]
    record = telemetry.audit("a.b")
    attributes = record["attributes"]
    assert (attributes["audit.target.id"], attributes["mobius.audit.reason"]) == ("order-9", "asked for")
    assert (attributes["mobius.audit.risk_score"], attributes["items"], record["severity_number"]) == (80, [1, 2], 15)
    assert a.receipt.record_id == attributes["audit.record.id"]


@pytest.mark.parametrize("score", [-1, 101, "high", True, 1.5])
def test_a_risk_that_is_none_is_refused_where_it_is_set(telemetry, score):
    """At the line that is wrong; the block fails like any other, and is recorded."""
    with pytest.raises(InvalidEvent, match="risk_score"), AUDIT.audited("a.b", actor=WHO, risk_score=10) as a:
        a.set_risk(score)
    attributes = telemetry.audit("a.b")["attributes"]
    assert (attributes["mobius.audit.risk_score"], attributes["audit.outcome"]) == (10, "failure")


def test_a_block_may_fail_without_raising(telemetry):
    """A payment that is declined is no exception."""
    with AUDIT.audited("a.b", actor=WHO) as a:
        a.fail("declined")
    assert outcome(telemetry) == "failure"
    assert telemetry.audit("a.b")["attributes"]["mobius.audit.reason"] == "declined"


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("spoil", [
    lambda a: a.attributes.update(amout=5), lambda a: a.attributes.update(amount="5"), lambda a: a.attributes.clear(),
    lambda a: setattr(a, "attributes", [1]), lambda a: setattr(a, "target", "order-9"),
    lambda a: setattr(a, "reason", 7),
])  # fmt: skip
def test_what_happened_is_recorded_although_a_rule_is_broken(telemetry, spoil):
    """The action cannot be undone, so the record is kept, and says what is wrong with it."""
    raise_errors(False)  # the capture switched it on
    register_event("a.b", attributes={"amount": float}, required=["amount"])
    with AUDIT.audited("a.b", actor=WHO, attributes={"amount": 5}) as a:
        spoil(a)
    attributes = telemetry.audit("a.b")["attributes"]
    assert attributes["audit.outcome"] == "success"
    assert "must be" in attributes["mobius.audit.invalid"]


def test_tests_are_told_of_a_broken_rule(telemetry):
    """After the record was kept."""
    register_event("a.b", attributes={"amount": float})
    with pytest.raises(InvalidEvent, match="did you mean 'amount'"), AUDIT.audited("a.b", actor=WHO) as a:
        a.attributes["amout"] = 5
    assert outcome(telemetry) == "success"


def test_an_error_of_the_block_comes_before_one_of_the_record(telemetry):
    """Whoever calls the block waits for its own exceptions."""
    register_event("a.b", attributes={"amount": float})
    with pytest.raises(ZeroDivisionError), AUDIT.audited("a.b", actor=WHO) as a:
        a.attributes["amout"] = 1 / 0
    with pytest.raises(ZeroDivisionError), AUDIT.audited("a.c", actor=WHO) as a:
        a.attributes["x"] = 1 // 0
    assert telemetry.audit("a.c")["attributes"]["error.type"] == "ZeroDivisionError"


# --- decorated functions ------------------------------------------------------------------------------------


def test_a_function_is_audited(telemetry):
    """From its arguments; it stays what it was for everybody else."""

    @AUDIT.audits("a.b", action="UPDATE", actor=lambda user, order, **_: user, target=lambda user, order, **_: order,
                  source=lambda *_, ip, **__: ip, tenant=lambda user, *_, **__: f"of {user}", risk_score=40,
                  attributes=lambda user, order, **more: {"arguments": len(more)})  # fmt: skip
    def refund(user, order, *, ip):
        """Pay back."""
        return order * 2

    assert refund("u-1", "o", ip="203.0.113.9") == "oo"
    assert (refund.__name__, refund.__doc__, list(inspect.signature(refund).parameters)) == (
        "refund", "Pay back.", ["user", "order", "ip"],
    )  # fmt: skip
    attributes = telemetry.audit("a.b")["attributes"]
    assert {name: attributes[name] for name in (
        "audit.actor.id", "audit.target.id", "audit.source.type", "mobius.audit.tenant", "arguments", "audit.outcome",
    )} == {
        "audit.actor.id": "u-1", "audit.target.id": "o", "audit.source.type": "ipv4", "mobius.audit.tenant": "of u-1",
        "arguments": 1, "audit.outcome": "success",
    }  # fmt: skip


def test_a_method_that_raises_is_a_failure(telemetry):
    """The exception goes on, its text is not recorded."""

    class Shop:
        owner = "shop-1"

        @AUDIT.audits("a.b", actor=lambda self, _: Actor(self.owner, "service"))
        def pay(self, secret):
            raise PermissionError(secret)

    with pytest.raises(PermissionError):
        Shop().pay("made-up secret")
    attributes = telemetry.audit("a.b")["attributes"]
    assert (attributes["audit.outcome"], attributes["error.type"]) == ("failure", "PermissionError")
    assert attributes["audit.actor.id"] == "shop-1"
    assert "made-up secret" not in str(attributes)


def test_a_coroutine_function_is_audited_when_it_has_ended(telemetry):
    """It stays a coroutine function; tasks do not get into each other's way."""

    @AUDIT.audits("a.b", actor=lambda n: Actor(f"u-{n}"))
    async def work(n):
        await asyncio.sleep(0.001 * (5 - n))
        if n == 3:
            raise ValueError
        return n

    async def main():
        return await asyncio.gather(*map(work, range(5)), return_exceptions=True)

    assert inspect.iscoroutinefunction(work)
    assert len(asyncio.run(main())) == 5
    ends = {
        record["attributes"]["audit.actor.id"]: record["attributes"]["audit.outcome"] for record in telemetry.audits
    }
    assert ends == {"u-0": "success", "u-1": "success", "u-2": "success", "u-3": "failure", "u-4": "success"}


@pytest.mark.parametrize(("end", "found"), [("all", "success"), ("close", "unknown"), ("raise", "failure")])
def test_a_generator_is_audited_to_its_last_item(telemetry, end, found):
    """Not when it is made; one that is left early has an unknown end."""

    @AUDIT.audits("a.b", actor=WHO)
    def export():
        got = yield 1
        if end == "raise":
            raise ValueError
        yield got

    items = export()
    assert telemetry.audits == []
    assert next(items) == 1
    if end == "close":
        items.close()
    elif end == "raise":
        with pytest.raises(ValueError):  # noqa: PT011 - any
            items.send("x")
    else:
        assert items.send("x") == "x"
        assert list(items) == []
    assert outcome(telemetry) == found


@pytest.mark.parametrize(("items", "found"), [(3, "success"), (1, "unknown")])
def test_an_asynchronous_generator_too(telemetry, items, found):
    """The same."""

    @AUDIT.audits("a.b", actor=WHO)
    async def export():
        for n in range(2):
            yield n

    async def main():
        made = export()
        for _ in range(items):
            await anext(made, None)
        await made.aclose()

    asyncio.run(main())
    assert outcome(telemetry) == found


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("actor", [lambda: 1 / 0, lambda: None, lambda: "", lambda: 7, lambda wrong: "u-1"])
def test_a_call_is_recorded_although_nobody_can_say_whose_it_is(telemetry, actor):
    """The service goes on; the record says that the actor is not known."""
    raise_errors(False)

    @AUDIT.audits("a.b", actor=actor, target=actor)
    def work():
        return "done"

    assert work() == "done"
    attributes = telemetry.audit("a.b")["attributes"]
    assert attributes["audit.actor.id"] == "unknown"
    assert "audit.target.id" not in attributes


@pytest.mark.parametrize(("arguments", "field"), [
    ({"event_name": "two words"}, "event_name"), ({"action": "update"}, "action"), ({"actor": "u-1"}, "actor"),
    ({"risk_score": 101}, "risk_score"), ({"target": "order"}, "target"), ({"source": "::1"}, "source"),
])  # fmt: skip
def test_what_is_the_same_for_every_call_is_checked_at_once(arguments, field):
    """At import, not at the first refund of the night."""
    with pytest.raises(InvalidEvent) as caught:
        AUDIT.audits(**{"event_name": "a.b", "actor": WHO, **arguments})
    assert caught.value.field == field


def test_methods_of_every_kind_are_audited(telemetry):
    """The decorator of the kind stands above; the other way round is told at once."""

    class Shop:
        @classmethod
        @AUDIT.audits("a.b", actor=WHO)
        def one(cls):
            return cls.__name__

        @staticmethod
        @AUDIT.audits("a.b", actor=WHO)
        def two():
            return 2

    assert (Shop.one(), Shop().two(), len(telemetry.audits)) == ("Shop", 2, 2)
    with pytest.raises(ConfigurationError, match="stands above"):
        AUDIT.audits("a.b", actor=WHO)(classmethod(lambda cls: 1))


def test_strict_keeps_a_function_from_running_unrecorded(tmp_path):
    """The intent is kept before the call; where it cannot be, there is no call."""
    with Ledger(tmp_path / "audit.db") as ledger:
        audit, calls = AuditLogger(ledger=ledger, fail_mode="strict"), []
        work = audit.audits("a.b", actor=WHO)(lambda: calls.append(1))
        work()
        found = [record["attributes"]["audit.outcome"] for _, record in read_records(tmp_path / "audit.db")]
        assert (found, calls) == (["unknown", "success"], [1])
        repair = unwritable(ledger)
        with pytest.raises(AuditUnavailable):
            work()
        assert calls == [1]
        repair()


def test_threads_may_share_a_decorated_function(telemetry):
    """Each call has a block of its own."""
    work = AUDIT.audits("a.b", actor=lambda n: Actor(f"u-{n}"), source=lambda n: Source("203.0.113.9"))(lambda n: n)
    threads = [threading.Thread(target=lambda n=n: [work(n) for _ in range(50)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(telemetry.audits) == 400
    assert len({record["attributes"]["audit.record.id"] for record in telemetry.audits}) == 400


# --- in an event loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "in_thread"), [("process", False), ("power", True), ("sink", True)])
def test_an_event_loop_does_not_wait_for_a_disk_or_a_collector(tmp_path, durability, in_thread):
    """Other tasks go on while a record is on its way; the record knows the span of its task."""
    with Ledger(tmp_path / "audit.db", durability=durability, sink_timeout=0.3) as ledger:
        audit, ticks, threads = AuditLogger(ledger=ledger), [], set()
        ledger.after_append(lambda: threads.add(threading.current_thread() is threading.main_thread()))

        @audit.audits("a.b", actor=WHO)
        async def work():
            await asyncio.sleep(0)

        async def tick():
            while True:
                await asyncio.sleep(0.01)
                ticks.append(1)

        async def main():
            ticking = asyncio.create_task(tick())
            await work()
            async with audit.audited("a.b", actor=WHO):
                pass
            receipt = await audit.emit_async(AuditEvent("a.b", "READ", WHO))
            ticking.cancel()
            return receipt

        receipt = asyncio.run(main())
        assert receipt.durability == {"process": "process", "power": "power", "sink": "process"}[durability]
        assert threads == {not in_thread}
        if durability == "sink":  # three times 0.3 s, and nobody is there to acknowledge
            assert len(ticks) > 10


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_cancelled_task_keeps_its_record(tmp_path, durability):
    """Whatever the way to the ledger is."""
    with Ledger(tmp_path / "audit.db", durability=durability) as ledger:
        audit = AuditLogger(ledger=ledger)

        async def main():
            async def slow():
                async with audit.audited("a.b", actor=WHO):
                    await asyncio.sleep(60)

            task = asyncio.create_task(slow())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        (record,) = [record for _, record in read_records(tmp_path / "audit.db")]
        assert record["attributes"]["error.type"] == "CancelledError"
