"""Turns: each thread gets its own, in order, and nobody is forgotten."""

import contextlib
import ctypes
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from mobius_otel.errors import AuditUnavailable
from mobius_otel.telemetry.audit import turns as turns_module
from mobius_otel.telemetry.audit.turns import Fairness, Turns, Waiting


class Work:
    """Notes what it was given, and takes as long as it is told."""

    def __init__(self):
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.turns = Turns(self)

    def __call__(self, waiting):
        self.go_on.wait(10)
        self.batches.append([one.what for one in waiting])
        for one in waiting:
            one.done = one.what * 2


def start(*functions):
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
        time.sleep(0.03)  # they come in this order
    return threads


def test_those_who_wait_are_done_together():
    """One works while five come; the next one does all five."""
    work, found = Work(), []
    work.go_on.clear()
    threads = start(*[lambda n=n: found.append(work.turns.do(Waiting(n))) for n in range(6)])
    work.go_on.set()
    for thread in threads:
        thread.join(10)
    assert work.batches == [[0], [1, 2, 3, 4, 5]]
    assert sorted(found) == [0, 2, 4, 6, 8, 10]


def test_every_thread_gets_its_own_answer():
    """Sixteen threads, two hundred each."""
    work, wrong = Work(), []

    def run(number):
        asked = range(number * 1000, number * 1000 + 200)
        wrong.extend(n for n in asked if work.turns.do(Waiting(n)) != 2 * n)

    threads = start(*[lambda n=n: run(n) for n in range(16)])
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert sum(map(len, work.batches)) == 3200


def test_a_turn_of_ones_own_is_held_alone():
    """What came before it is done before, what came after it after."""
    work, order = Work(), []
    work.go_on.clear()

    def alone():
        work.turns.alone(lambda: order.append(list(work.batches)))

    threads = start(
        lambda: work.turns.do(Waiting(1)), lambda: work.turns.do(Waiting(2)), alone, lambda: work.turns.do(Waiting(3))
    )
    work.go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == [[[1], [2]]]
    assert work.batches == [[1], [2], [3]]


def test_an_error_is_the_one_of_the_thread():
    """The others get their answer."""
    turns = None

    def work(waiting):
        for one in waiting:
            if one.what == 2:
                one.error = AuditUnavailable("two")
            one.done = one.what

    turns = Turns(work)
    assert turns.do(Waiting(1)) == 1
    with pytest.raises(AuditUnavailable, match="two"):
        turns.do(Waiting(2))
    assert turns.do(Waiting(3)) == 3


def test_a_thread_that_is_interrupted_while_it_waits_holds_nobody_up():
    """An exception comes out of nowhere, as of a signal handler: the others go on."""
    work = Work()
    work.go_on.clear()
    raised = []

    def interrupted():
        try:
            work.turns.do(Waiting(1))
        except KeyboardInterrupt:
            raised.append(1)

    first, second, third = start(lambda: work.turns.do(Waiting(0)), interrupted, lambda: work.turns.do(Waiting(2)))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(second.ident), ctypes.py_object(KeyboardInterrupt))
    work.go_on.set()
    for thread in (first, second, third):
        thread.join(15)
        assert not thread.is_alive()
    assert work.turns.do(Waiting(3)) == 6


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_handler_that_records_while_its_thread_records_is_refused_at_once():
    """It cannot wait for itself."""
    turns, refused = None, []

    def work(waiting):
        if waiting[0].what == "outer":
            signal.raise_signal(signal.SIGUSR1)
        for one in waiting:
            one.done = one.what

    def handler(*_):
        try:
            turns.do(Waiting("inner"))
        except AuditUnavailable:
            refused.append(1)

    turns = Turns(work)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert turns.do(Waiting("outer")) == "outer"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert refused == [1]
    assert turns.do(Waiting("after")) == "after"


def test_who_is_interrupted_while_it_works_is_so_alone():
    """The others' work is done by the next one, once."""
    begun, go_on, done, raised = threading.Event(), threading.Event(), [], []

    def work(waiting):
        if not begun.is_set():
            begun.set()
            go_on.wait(10)
        elif not raised:
            raised.append(len(waiting))
            raise KeyboardInterrupt
        done.append([one.what for one in waiting])
        for one in waiting:
            one.done = one.what

    turns, answers = Turns(work), []

    def run(number):
        with contextlib.suppress(KeyboardInterrupt):
            answers.append(turns.do(Waiting(number)))

    threads = start(*[lambda n=n: run(n) for n in range(5)])
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert (raised, done, sorted(answers)) == ([4], [[0], [2, 3, 4]], [0, 2, 3, 4])


def test_a_turn_that_was_not_handed_on_is_taken():
    """By a thread that waits; by the interrupted thread itself at once."""
    work = Work()
    for thread in (threading.get_ident(), -1):
        lost = Waiting(0)
        lost.thread, work.turns._leader = thread, lost
        assert work.turns.do(Waiting(1)) == 2
    lost.what, lost.gate = 5, threading.Lock()
    lost.gate.acquire()
    work.turns._queue.append(lost)  # and one in the queue whose thread is gone
    work.turns._leader = lost
    assert [work.turns.do(Waiting(n)) for n in (2, 3)] == [4, 6]
    assert not work.turns._queue


def test_who_waited_for_an_fsync_lets_nobody_on_once_more(monkeypatch):
    """It costs a switch of threads; who did not wait lets the others on, as long as there are any."""
    fairness, slept = Fairness(), []
    inside, done = threading.Event(), threading.Event()

    def other():
        with fairness:
            inside.set()
            done.wait(10)
            fairness.waited()

    (thread,) = start(other)
    assert inside.wait(10)
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(sleep=slept.append))
    with fairness:
        pass
    assert slept == [0]
    with fairness:
        fairness.waited()
    done.set()
    thread.join(10)
    with fairness:  # alone
        pass
    assert slept == [0]
