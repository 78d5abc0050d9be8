"""An event loop on its own thread, for asynchronous hooks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager
from functools import partial
from logging import Logger
from typing import Any, Generic, TypeVar

from kindaware._errors import describe

NUM_WAITING_THREADS = 128
"""Threads for blocking calls of other models; they only wait. asyncio's default pool has as many threads as
cores plus four, at most 32."""

_CLOSING_SECONDS = 5.0

Result = TypeVar("Result")
Scope = Callable[[], AbstractContextManager[Any]]


class EventLoop:
    """Runs coroutines concurrently on one thread.

    Not the loop that the stub has for `async def execute`: with it, `execute` can't hold back further
    requests, and the server logs errors ("Cannot remove future from background", measured on tritonserver
    2.51.0).

    Args:
        name: name of the thread.
        logger: gets a record of exceptions that would have ended the loop.

    Attributes:
        is_closing: whether the coroutines that still run are being cancelled.
        is_refusing: whether those that have swallowed that take no further step.
    """

    def __init__(self, name: str, logger: Logger) -> None:
        self._logger = logger
        self.is_closing = self.is_refusing = self._is_stopped = False
        self._submitted: set[asyncio.Task[Any]] = set()
        self._cleaning_up: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(NUM_WAITING_THREADS, f"{name}-waiting"))
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Schedule a coroutine, from any thread. Sync: none, returns at once."""
        return asyncio.run_coroutine_threadsafe(self._tracked(coroutine), self._loop)

    async def _tracked(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.current_task()
        assert task is not None
        self._submitted.add(task)
        try:
            return await coroutine
        finally:
            self._submitted.discard(task)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to completion, from another thread, and return its result.

        Raises:
            BaseException: what the coroutine raised.

        Sync:
            Until the coroutine has finished, without the GIL.
        """
        return self.submit(coroutine).result()

    @contextlib.contextmanager
    def cleanup(self) -> Iterator[None]:
        """Mark the current task as one that ends already, so that its cleanup isn't cancelled at once."""
        task = asyncio.current_task()
        assert task is not None
        self._cleaning_up.add(task)
        try:
            yield
        finally:
            self._cleaning_up.discard(task)

    def cancel_submitted(self) -> None:
        """Cancel the coroutines that were submitted, and wait until they have ended; the loop goes on.

        Tasks that the model has started go on until `close`: its `unload` may need them. One that swallows
        its cancellation is cancelled again and again, after the time that a cleanup may take; at last it is
        closed where it waits.

        Sync:
            Until all have ended, for at most 5 s.
        """
        self.is_closing = True
        with contextlib.suppress(FutureTimeoutError):
            self.submit(self._end_submitted()).result(_CLOSING_SECONDS)

    async def _end_submitted(self) -> None:
        # The first cancellation leaves half of the time for what a `finally` awaits; one that has begun
        # since its client went away has the same time.
        if not await self._cancel_submitted(0.5 * _CLOSING_SECONDS, spared=self._cleaning_up):
            return
        for _ in range(8):
            if not await self._cancel_submitted(0.05 * _CLOSING_SECONDS):
                return
        self.is_refusing = True
        await self._cancel_submitted(0.1 * _CLOSING_SECONDS)

    async def _cancel_submitted(
        self, seconds: float, spared: AbstractSet[asyncio.Task[Any]] = frozenset()
    ) -> bool:
        """Cancel all but the spared; return whether any still runs after so many seconds."""
        tasks = {task for task in self._submitted if task is not asyncio.current_task()}
        for task in tasks - spared:
            task.cancel()
        return bool(tasks) and bool((await asyncio.wait(tasks, timeout=seconds))[1])

    def close(self) -> None:
        """Cancel the coroutines that still run, wait until they have ended, and stop the loop.

        Sync:
            Until all have ended, for at most 5 s.
        """
        if self._is_stopped:
            return
        # Set first: the thread reads it when `stop` has ended run_forever.
        self.is_closing = self._is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_SECONDS)

    def _serve(self) -> None:
        """Run the loop until `close`, then cancel and collect what is left."""
        asyncio.set_event_loop(self._loop)
        # asyncio re-raises these two out of run_forever, which ends it; the loop itself can go on.
        # They come from a task that a hook has started, and would leave all other streams without an end.
        while not self._is_stopped:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                self._logger.error("event loop: a task tried to end the process: %s", describe(error))
        # Tasks before generators before threads, since each may still need the next.
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
    """An awaitable each of whose steps runs inside a scope.

    A step is the code between two awaits. The scope is left while the awaitable is suspended, since other
    coroutines run on the same thread meanwhile: thread-local state (torch's device, stream, inference mode,
    autocast) is set during each step, and at no other time.

    Args:
        awaitable: the awaitable to run.
        scope: returns a new context manager for each step.
        is_refused: whether no further step may run; the awaitable is closed then where it waits.
    """

    def __init__(
        self, awaitable: Awaitable[Result], scope: Scope, is_refused: Callable[[], bool] = lambda: False
    ) -> None:
        self._awaitable = awaitable
        self._scope = scope
        self._is_refused = is_refused

    def __await__(self) -> Generator[Any, Any, Result]:
        # What `yield from` does, unrolled, so that the scope can be left at each yield.
        steps = self._awaitable.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            with self._scope():
                try:
                    waiting_for = resume()
                except StopIteration as stop:
                    result: Result = stop.value
                    return result
            # The loop cancels by throwing in here; the awaitable must see it inside the scope, too.
            try:
                yield waiting_for
            except BaseException as error:
                resume = partial(steps.throw, error)
            else:
                resume = partial(next, steps)
            if self._is_refused():
                # Not close(), which does nothing to a step of an asynchronous generator before Python 3.13.
                with self._scope(), contextlib.suppress(GeneratorExit, StopIteration, StopAsyncIteration):
                    steps.throw(GeneratorExit())
                raise asyncio.CancelledError


def awaited(hook: Callable[..., Awaitable[Result]], loop: EventLoop, scope: Scope) -> Callable[..., Result]:
    """Return a blocking function that runs an asynchronous hook on the loop, each step inside a scope."""

    def call(*args: Any, **named: Any) -> Result:
        return loop.run(_await(Stepped(hook(*args, **named), scope)))

    return call


async def _await(awaitable: Awaitable[Result]) -> Result:
    """Wrap an awaitable in a coroutine, which is all that an event loop takes."""
    return await awaitable


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never suspends to completion, without an event loop.

    Raises:
        BaseException: what the coroutine raised.
    """
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            result: Result = stop.value
            return result
