"""Ends the wait of a stream whose client has cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WATCH_SECONDS = 1.0
"""How often a stream that waits for longer than this asks: a thousand of them take a twentieth of a core."""

_ENDS = (asyncio.CancelledError, StopAsyncIteration)
"""How a generator ends that was cancelled."""


class ClientGoneError(Exception):
    """The client has cancelled while its stream was waiting."""


class Watch:
    """A block of a coroutine that is cancelled, once, when the client has gone; may be entered again.

    Asks on the event loop, so only a block that awaits something can be left early. What the block awaits
    afterwards, in a `finally`, is let come to its end.

    Args:
        is_gone: says whether the client has cancelled.

    Raises:
        ClientGoneError: at the end of a block that was cancelled, unless something else is wrong in it.
    """

    def __init__(self, is_gone: Callable[[], bool]) -> None:
        self._is_gone = is_gone
        self._has_cancelled = False
        self._timer: asyncio.TimerHandle

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._look_later()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._has_cancelled and (kind is None or issubclass(kind, _ENDS)):
            raise ClientGoneError

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def _look(self) -> None:
        if not self._is_gone():
            self._look_later()
        elif self._task is not None:
            self._has_cancelled = True
            self._task.cancel()
