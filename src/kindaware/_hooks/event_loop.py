"""An event loop on a thread of its own, for hooks that are asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from logging import Logger
from typing import Any, Generic, TypeVar

from kindaware._errors import describe

NUM_WAITING_THREADS = 128
"""Threads that can wait for answers of other models at once; they only wait. asyncio's own pool has the
number of cores plus four, at most 32."""

_CLOSING_SECONDS = 5.0

Result = TypeVar("Result")
Scope = Callable[[], AbstractContextManager[Any]]


class EventLoop:
    """Runs coroutines on one thread, side by side.

    Not the loop that the stub has for `async def execute`: with that one, `execute` can't hold back further
    requests, and the server's log gets lines of level E ("Cannot remove future from background", measured on
    tritonserver 2.51.0).

    Args:
        name: of the thread.
        logger: told what would have ended the loop.

    Attributes:
        is_closing: whether what still runs is being cancelled.
    """

    def __init__(self, name: str, logger: Logger) -> None:
        self._logger = logger
        self.is_closing = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(NUM_WAITING_THREADS, f"{name}-waiting"))
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Let a coroutine run, from any thread; returns at once."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end, from another thread, and give its result.

        Raises:
            BaseException: what leaves it.
        """
        return self.submit(coroutine).result()

    def close(self) -> None:
        """Cancel what still runs, wait until it has ended, and stop. Waits at most some seconds."""
        if self.is_closing:
            return
        self.is_closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self.is_closing:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:  # of a task that a hook has started
                self._logger.error("event loop: a task tried to end the process: %s", describe(error))
        self._loop.run_until_complete(self._end_tasks())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Stepped(Generic[Result]):
    """An awaitable whose steps each run inside of a scope.

    Where it waits, the scope is left, since another coroutine runs on the same thread meanwhile: what is
    current on a thread (torch's device, stream, inference mode, autocast) holds at each step, and nowhere
    else.

    Args:
        awaitable: what is awaited.
        scope: makes the context managers, one per step.
    """

    def __init__(self, awaitable: Awaitable[Result], scope: Scope) -> None:
        self._awaitable = awaitable
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, Result]:
        steps = self._awaitable.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            with self._scope():
                try:
                    waiting_for = resume()
                except StopIteration as stop:
                    result: Result = stop.value
                    return result
            try:
                yield waiting_for
            except BaseException as error:  # thrown in by the loop, which cancels
                resume = partial(steps.throw, error)
            else:
                resume = partial(next, steps)


def awaited(hook: Callable[..., Awaitable[Result]], loop: EventLoop, scope: Scope) -> Callable[..., Result]:
    """Make a function of an asynchronous hook: it runs on the loop, and its caller waits for the result."""

    def call(*args: Any, **named: Any) -> Result:
        return loop.run(_await(Stepped(hook(*args, **named), scope)))

    return call


async def _await(awaitable: Awaitable[Result]) -> Result:
    return await awaitable


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that waits for nothing, without an event loop.

    Raises:
        BaseException: what leaves it.
    """
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            result: Result = stop.value
            return result
