"""`Watch`: cancels a stream that is waiting when its client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WATCH_SECONDS = 1.0
"""Interval at which a waiting stream asks for its client: a thousand streams take a twentieth of a core."""

_ENDS = (asyncio.CancelledError, StopAsyncIteration)
"""The exceptions with which a cancelled generator ends, depending on whether it catches the cancellation."""


class ClientGoneError(Exception):
    """The client has cancelled its request while the stream was waiting."""


class Watch:
    """Context manager that cancels the current task, once, if the client goes away; can be re-entered.

    The check runs on the event loop, so only a block that awaits something can be cancelled. What the block
    awaits after the cancellation, in a `finally`, runs to completion.

    Args:
        is_gone: returns whether the client has cancelled.

    Raises:
        ClientGoneError: at the end of a block that was cancelled, unless it raises an error of its own.
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
        # An error of the block's own stays; without one, the block has swallowed the cancellation.
        if self._has_cancelled and (kind is None or issubclass(kind, _ENDS)):
            raise ClientGoneError

    def _asks_gone(self) -> bool:
        try:
            return self._is_gone()
        except Exception:
            # An error of the question says nothing about the client: it is asked again.
            return False

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def _look(self) -> None:
        # No new timer after the cancellation: a second one would interrupt the block's `finally`.
        if not self._asks_gone():
            self._look_later()
        elif self._task is not None:
            self._has_cancelled = True
            self._task.cancel()
