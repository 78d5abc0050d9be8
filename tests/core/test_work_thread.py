"""`WorkThread`: functions in order, work in between, errors of both, and its end."""

import threading

import pytest
from core_kit import LOGGER

from kindaware._execute.work_thread import WorkThread


@pytest.fixture
def make():
    """Makes threads, and ends them."""
    made = []

    def make(**options):
        made.append(WorkThread("worker", LOGGER, **options))
        return made[-1]

    yield make
    for one in made:
        one.end(10)


def test_functions_run_in_order_on_the_thread_and_run_gives_what_one_returns(make):
    thread, seen = make(), []
    for number in range(5):
        thread.call(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert thread.run(lambda: len(seen)) == 5
    assert seen == [(number, "worker") for number in range(5)]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_run_raises_what_the_function_raised_and_the_thread_goes_on(make, error, caplog):
    thread = make()

    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        thread.run(fail)
    assert caught.value is error
    assert thread.run(lambda: 7) == 7
    assert caplog.records == []


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_call_that_raises_is_logged_and_the_thread_goes_on(make, error, caplog):
    thread = make()

    def fail():
        raise error

    thread.call(fail)
    assert thread.run(lambda: 7) == 7
    [message] = caplog.messages
    assert message.startswith("thread worker: ")
    assert type(error).__name__ in message


def test_work_runs_again_at_once_while_it_says_so_and_lets_functions_in(make):
    turns, results = [], iter([True, True, True])
    idle = threading.Event()

    def work():
        turns.append(len(turns))
        if next(results, False):
            return True
        idle.set()
        return False

    thread = make(work=work)
    thread.call(lambda: None)  # or the first turn comes after IDLE_SECONDS
    assert idle.wait(0.5)
    assert turns[:4] == [0, 1, 2, 3]
    assert thread.run(lambda: "let in") == "let in"


def test_work_is_called_after_each_function_and_unasked_now_and_then(make, monkeypatch):
    monkeypatch.setattr("kindaware._execute.work_thread.IDLE_SECONDS", 0.01)
    count, enough = [], threading.Event()

    def work():
        count.append(1)
        if len(count) >= 3:
            enough.set()
        return False

    make(work=work)
    assert enough.wait(10)


def test_work_that_raises_is_logged_and_called_again_later(make, caplog):
    again = threading.Event()
    errors = iter([ValueError("broken")])

    def work():
        for error in errors:
            raise error
        again.set()
        return False

    thread = make(work=work)
    thread.call(lambda: None)
    thread.call(lambda: None)
    assert again.wait(10)
    [message] = caplog.messages
    assert message.startswith("thread worker: ")
    assert "ValueError: broken" in message


def test_end_waits_for_what_was_handed_over_and_says_that_it_has_ended(make):
    thread, seen = make(), []
    entered, may_go_on = threading.Event(), threading.Event()

    def slow():
        entered.set()
        may_go_on.wait(20)
        seen.append("done")

    thread.call(slow)
    assert entered.wait(10)
    assert thread.end(0.05) is False
    assert thread.is_alive
    threading.Timer(0.1, may_go_on.set).start()
    assert thread.end(10) is True
    assert seen == ["done"]
    assert not thread.is_alive
