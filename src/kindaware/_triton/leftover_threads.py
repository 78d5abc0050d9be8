"""Threads of a model that keep its stub from ending."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import thread as pools
from types import FrameType


class LeftoverThreads:
    """The threads that are started from now on, are no daemons, and still run when they are asked for.

    Python waits for them before a process ends, and Triton waits for the process: a load that failed is never
    reported, an unload never ends.
    """

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def describe(self) -> str:
        """Return each thread's name and the line where it is now; empty without one."""
        started = [one for one in threading.enumerate() if one not in self._before and not one.daemon]
        frames = sys._current_frames()
        holding = [(one, frames.get(one.ident or 0)) for one in started]
        return ", ".join(f"{one.name!r}{_where(at)}" for one, at in holding if not _ends_at_exit(one, at))


def _ends_at_exit(one: threading.Thread, frame: FrameType | None) -> bool:
    """Whether Python itself ends the thread: that of a pool, which waits for work."""
    is_waiting = frame is not None and frame.f_code is pools._worker.__code__
    return is_waiting and one in pools._threads_queues


def _where(frame: FrameType | None) -> str:
    """Return the innermost line outside of Python's own threading."""
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno}"
