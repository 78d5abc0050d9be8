"""Threads of a model that keep its stub from ending."""

from __future__ import annotations

import sys
import threading
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
        return ", ".join(f"{one.name!r}{_where(frames.get(one.ident or 0))}" for one in started)


def _where(frame: FrameType | None) -> str:
    """Return the innermost line outside of Python's own threading."""
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno}"
