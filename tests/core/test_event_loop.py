"""The event loop of an instance, and what is current at each step of a coroutine that runs on it."""

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import CancelledError

import pytest
import torch

from kindaware._hooks import event_loop as _event_loop
from kindaware._hooks.event_loop import EventLoop, Stepped, drive

LOGGER = logging.getLogger("kindaware.tests")


@pytest.fixture
def loop():
    one = EventLoop("kindaware-tests", LOGGER)
    yield one
    one.close()


class Scope:
    """Counts how deep the thread is in it."""

    def __init__(self):
        self.depth = self.entered = 0

    @contextlib.contextmanager
    def __call__(self):
        self.depth += 1
        self.entered += 1
        try:
            yield
        finally:
            self.depth -= 1


def test_stepped_holds_at_each_step_and_nowhere_between(loop):
    scope, between = Scope(), []

    async def work():
        for _ in range(3):
            assert scope.depth == 1
            await asyncio.sleep(0.001)
        return "done"

    async def watch():
        for _ in range(20):
            between.append(scope.depth)
            await asyncio.sleep(0)

    async def both():
        return await asyncio.gather(Stepped(work(), scope), Stepped(work(), scope), watch())

    assert loop.run(both())[:2] == ["done", "done"]
    assert set(between) == {0}
    assert scope.entered == 8


def test_stepped_passes_errors_on_and_leaves_the_scope(loop):
    scope = Scope()

    async def fails():
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop.run(_await(Stepped(fails(), scope)))
    assert scope.depth == 0


async def _await(awaitable):
    return await awaitable


def test_stepped_cancellation_reaches_what_is_awaited_inside_of_the_scope(loop):
    scope, seen = Scope(), []

    async def waits():
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(scope.depth)

    async def cancels():
        task = asyncio.ensure_future(_await(Stepped(waits(), scope)))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    loop.run(cancels())
    assert seen == [1]
    assert scope.depth == 0


def test_stepped_that_takes_no_further_step_cleans_up_inside_of_the_scope(loop):
    scope, seen = Scope(), []

    async def waits():
        try:
            await asyncio.sleep(0)
        finally:
            seen.append(scope.depth)

    with pytest.raises(CancelledError):
        loop.run(_await(Stepped(waits(), scope, lambda: True)))
    assert seen == [1]
    assert scope.depth == 0


def test_stepped_ends_an_asynchronous_generator():
    async def numbers():
        yield 1

    async def all_of():
        generator, got = numbers(), []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                got.append(await Stepped(generator.__anext__(), torch.inference_mode))
        return got

    assert asyncio.run(all_of()) == [1]


def test_stepped_with_torchs_modes_does_not_leak_between_coroutines(loop):
    async def work(mode, flag):
        for _ in range(20):
            assert flag() is True
            await asyncio.sleep(0)

    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    async def plain():
        for _ in range(20):
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
            await asyncio.sleep(0)

    async def both():
        await asyncio.gather(
            Stepped(work(None, torch.is_inference_mode_enabled), torch.inference_mode),
            Stepped(work(None, lambda: torch.is_autocast_enabled("cpu")), autocast),
            plain(),
        )

    loop.run(both())


def test_run_gives_the_result_and_raises_what_leaves_the_coroutine(loop):
    async def answer():
        return threading.current_thread().name

    async def leaves():
        raise KeyError("gone")

    assert loop.run(answer()) == "kindaware-tests"
    with pytest.raises(KeyError, match="gone"):
        loop.run(leaves())


def test_close_cancels_what_runs_and_ends_the_thread():
    loop, ended = EventLoop("kindaware-tests", LOGGER), []
    started = threading.Event()

    async def endless():
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(loop.is_closing)

    loop.submit(endless())
    started.wait(5)
    loop.close()
    loop.close()
    assert ended == [True]
    assert not loop._thread.is_alive()


def test_cancel_submitted_gives_up_on_a_coroutine_that_holds_the_loop(loop, monkeypatch):
    monkeypatch.setattr(_event_loop, "_CLOSING_SECONDS", 0.05)
    begun, may_go_on = threading.Event(), threading.Event()

    async def blocks():
        begun.set()
        may_go_on.wait(20)

    running = loop.submit(blocks())
    assert begun.wait(20)
    loop.cancel_submitted()
    assert not running.done()
    may_go_on.set()
    running.result(20)


def test_many_calls_can_wait_at_once(loop):
    barrier = threading.Barrier(40)  # asyncio's own pool has six threads on two cores

    async def all_wait():
        running = asyncio.get_running_loop()
        await asyncio.gather(*[running.run_in_executor(None, barrier.wait, 10) for _ in range(40)])

    loop.run(all_wait())


def test_drive_runs_a_coroutine_without_a_loop():
    async def pauses():
        await asyncio.sleep(0)
        return 3

    assert drive(pauses()) == 3


@pytest.mark.parametrize("error", [SystemExit(4), KeyboardInterrupt()])
def test_task_that_ends_the_process_is_logged_and_the_loop_goes_on(loop, caplog, error):
    async def leave():
        raise error

    async def begin():
        task = asyncio.ensure_future(leave())
        await asyncio.wait([task], timeout=5)
        return task.exception() is error

    assert loop.submit(begin()).result(20)
    [record] = caplog.records
    assert "a task tried to end the process: " + type(error).__name__ in record.getMessage()


def test_close_ends_asynchronous_generators_that_nobody_has_read_to_their_end():
    loop, ended = EventLoop("kindaware-tests", LOGGER), []

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    generator = numbers()

    async def begin():
        return await generator.__anext__()

    assert loop.run(begin()) == 1
    loop.close()
    assert ended == [True]


def test_close_waits_for_the_threads_that_wait_for_other_models():
    loop, ended = EventLoop("kindaware-tests", LOGGER), []
    begun = threading.Event()

    def waits():
        begun.set()
        time.sleep(0.3)
        ended.append(True)

    async def begin():
        await asyncio.get_running_loop().run_in_executor(None, waits)

    loop.submit(begin())
    assert begun.wait(20)
    loop.close()
    assert ended == [True]
    assert loop._loop.is_closed()
