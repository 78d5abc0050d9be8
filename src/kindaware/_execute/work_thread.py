"""`WorkThread`: a thread that runs what it is handed, and work of its own in between."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from logging import Logger
from typing import TypeVar

from kindaware._hooks.blame import report

IDLE_SECONDS = 1.0
"""How often a thread without work looks for some unasked."""

Result = TypeVar("Result")


def _no_work() -> bool:
    """Return that there is nothing to do."""
    return False


class WorkThread:
    """Runs functions in the order in which they are handed to it, and its own work while there are none.

    Args:
        name: name of the thread.
        logger: gets a record of what a function, or the work, has raised.
        work: called while no function waits; returns whether to call it again at once. If not, it is called
            after the next function, and every `IDLE_SECONDS`.
        limit: how many functions may wait; 0 for any number.
    """

    def __init__(
        self, name: str, logger: Logger, *, work: Callable[[], bool] = _no_work, limit: int = 0
    ) -> None:
        self._functions: queue.Queue[Callable[[], object]] = queue.Queue(limit)
        self._logger = logger
        self._work = work
        self._is_ending = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs, be it its last function."""
        return self._thread.is_alive()

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called. Sync: until there is room for it among those that wait."""
        self._functions.put(function)

    def run(self, function: Callable[[], Result]) -> Result:
        """Have a function called, and return what it returns.

        Raises:
            BaseException: what the function raised.

        Sync:
            Until it has returned, without the GIL.
        """
        result: Future[Result] = Future()
        self.call(partial(_settle, result, function))
        return result.result()

    def end(self, seconds: float) -> bool:
        """End the thread when it has run what it was handed; return whether it has ended.

        Sync:
            Until it has ended, for at most so many seconds.
        """
        self.call(self._end)
        self._thread.join(seconds)
        return not self.is_alive

    def _end(self) -> None:
        self._is_ending = True

    def _serve(self) -> None:
        has_work = False
        while not self._is_ending:
            try:
                has_work = self._turn(has_work)
            except BaseException as error:
                self._logger.error("thread %s: %s", self._thread.name, report(error))
                has_work = False

    def _turn(self, has_work: bool) -> bool:
        """Run one function, or the work if none waits; return whether there may be more work."""
        try:
            function = self._functions.get(block=not has_work, timeout=IDLE_SECONDS)
        except queue.Empty:
            return self._work()
        function()
        return True


def _settle(result: Future[Result], function: Callable[[], Result]) -> None:
    try:
        result.set_result(function())
    except BaseException as error:
        result.set_exception(error)
