"""The private event loop of an instance, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

_JOIN_SECONDS = 5.0


class BackgroundLoop:
    """Runs the coroutines that `execute` returns; starts with the first one.

    Source: python_backend `pb_stub.cc`, Stub::GetAsyncEventLoop, RunCoroutine (commit f9088ff).

    Args:
        log: called with what a coroutine raises that nobody waits for.
    """

    def __init__(self, log: Callable[[BaseException], None]) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._question: _Question | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The loop's thread, once it has one."""
        return self._thread

    def is_busy(self) -> bool:
        """Return whether something on the loop may still answer: a coroutine, a task, a timer, a callback.

        The loop is asked, and says so later; until then it counts as busy.
        """
        if self._loop is None:
            return False
        if self._question is None:
            self._question = _Question(self._loop)
        if self._question.is_busy is None:
            return True
        found, self._question = self._question.is_busy, None
        return found

    def forget(self) -> None:
        """Ask anew, since others that can schedule something on the loop have been running."""
        self._question = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, and return its result.

        Raises:
            BaseException: what the coroutine raises.
        """
        result, error = asyncio.run_coroutine_threadsafe(_guarded(coroutine), self._started()).result()
        if error is not None:
            raise error
        return result

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine; what it raises is only logged."""
        future = asyncio.run_coroutine_threadsafe(_guarded(coroutine), self._started())
        future.add_done_callback(self._finish)

    def _finish(self, future: Any) -> None:
        if not future.cancelled() and future.result()[1] is not None:
            self._log(future.result()[1])

    def stop(self) -> None:
        """Stop the loop, as the server does before `finalize`; coroutines that are not done never end."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_JOIN_SECONDS)
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), daemon=True)
            self._thread.start()
        return self._loop


class _Question:
    """Whether a loop has something to do, asked on the loop itself: only there nothing is half done.

    Attributes:
        is_busy: the answer, once there is one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_busy: bool | None = None
        self._loop = loop
        # One round later: in this one the loop has yet to read what woke it.
        loop.call_soon_threadsafe(loop.call_soon, self._look)

    def _look(self) -> None:
        loop: Any = self._loop
        try:
            handles = [*loop._ready, *loop._scheduled]
            num_watched = len(loop._selector.get_map())
        except AttributeError:  # not one of asyncio's own loops, and says nothing
            self.is_busy = True
            return
        is_waiting = any(not handle.cancelled() for handle in handles) or bool(asyncio.all_tasks(loop))
        self.is_busy = is_waiting or num_watched > 1  # the loop itself watches one socket


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _guarded(coroutine: Any) -> tuple[Any, BaseException | None]:
    """Keep errors, SystemExit included, from ending the loop."""
    try:
        # A generator, which asyncio counts among coroutines, can't be awaited, but it can be a task.
        if asyncio.iscoroutine(coroutine) and not hasattr(coroutine, "cr_await"):
            return await asyncio.ensure_future(coroutine), None
        return await coroutine, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error
