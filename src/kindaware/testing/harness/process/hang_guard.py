"""Calls of a model's code that never return: interrupted, so that the test goes on and says where it was."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_SIGNAL = signal.SIGURG  # what comes too late is ignored
_BUSY_SHARE = 0.03
_REPEAT_SECONDS = 1.0
_STEP_SECONDS = 0.5
_LIBRARY = f"{Path(__file__).resolve().parents[3]}/"
_FOREIGN = (
    _LIBRARY,
    *{f"{sysconfig.get_path(name)}/" for name in ("stdlib", "purelib", "platlib")},
    "<frozen",
)


class Interruption(BaseException):
    """Ends a call that has been found to hang."""


class _Watch:
    """One call.

    Attributes:
        thread: which runs it.
        seconds: how long it may take.
        is_patient: whether time in which the process works does not count.
        others: children of the process that are none of the model's, so that their work does count.
        place: where it was when it was interrupted; empty if it was not.
    """

    def __init__(self, seconds: float, is_patient: bool, others: frozenset[int]) -> None:
        self.thread = threading.get_ident()
        self.seconds = seconds
        self.is_patient = is_patient
        self.others = others
        self.place = ""
        self.start()

    def start(self) -> None:
        """Begin to count; a patient watch does so when it is first asked, which most calls end before."""
        self._since = self._last = time.monotonic()
        self._work: float | None = None

    def is_due(self) -> bool:
        """Return whether the time is over."""
        now = time.monotonic()
        if self.is_patient:
            work = _work_seconds(self.others)
            if self._work is None or work - self._work > _BUSY_SHARE * (now - self._last):
                self._since = now
            self._work, self._last = work, now
        return now - self._since >= self.seconds

    def interrupt(self) -> None:
        """Raise in the thread, and again after a while in case that it is caught."""
        frame = sys._current_frames().get(self.thread)
        self.place = self.place or _describe(frame)
        self._since = time.monotonic() + _REPEAT_SECONDS - self.seconds
        if self.thread == threading.main_thread().ident:
            signal.pthread_kill(self.thread, _SIGNAL)
        else:  # the thread learns of it when it is back in Python
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread), ctypes.py_object(Interruption)
            )


class HangGuard:
    """Interrupts the calls of one simulated server that never return."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._watches: list[_Watch] = []
        self._is_closed = False
        # Such as a tritonserver of the same test session, which is never quite idle.
        self._others = frozenset(_children(os.getpid()))

    @contextmanager
    def limited(
        self, seconds: float, blame: Callable[[str], BaseException], *, is_patient: bool = True
    ) -> Iterator[None]:
        """Interrupt the block when its time is over.

        Args:
            seconds: how long it may take.
            blame: makes the error to raise then, given where the thread was.
            is_patient: whether only time counts in which neither this process nor its children work.
        """
        watch = _Watch(seconds, is_patient, self._others)
        try:
            with _can_be_interrupted():
                self._add(watch)
                try:
                    yield
                finally:
                    self._remove(watch)
        except Interruption:
            pass
        finally:
            if watch.place:
                raise blame(watch.place) from None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self.thread is not None:
            self.thread.join()

    def _add(self, watch: _Watch) -> None:
        with self._changed:
            self._watches.append(watch)
            self._changed.notify()
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="kindaware-hang-guard", daemon=True)
                self.thread.start()

    def _remove(self, watch: _Watch) -> None:
        with self._changed:
            self._watches.remove(watch)
            for outer in self._innermost():
                if outer.thread == watch.thread:
                    outer.start()

    def _innermost(self) -> list[_Watch]:
        """Return the calls that are not waiting for one inside of them."""
        return list({watch.thread: watch for watch in self._watches}.values())

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                current = self._innermost()
                for watch in current:
                    if watch.is_due():
                        watch.interrupt()
                steps = [min(watch.seconds / 10, _STEP_SECONDS) for watch in current]
                self._changed.wait(max(min(steps), 0.01) if steps else None)


@contextmanager
def _can_be_interrupted() -> Iterator[None]:
    """Let the signal raise in the main thread: it also ends waits for locks, and sleep."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(_SIGNAL, _raise)
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interruption


def _work_seconds(others: frozenset[int]) -> float:
    """Return the processor time of this process and its children; a read from a disk counts as some.

    That of the calling thread, which only watches, doesn't count: where there are many threads and children,
    looking at all of them is work enough to keep it waiting for ever.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    reads = usage.ru_majflt + usage.ru_inblock
    children = sum(map(_ticks, _children(os.getpid(), others))) / _HERTZ
    own = usage.ru_utime + usage.ru_stime - time.thread_time()
    return own + reads * 0.001 + children


_HERTZ = os.sysconf("SC_CLK_TCK")


def _children(pid: int, others: frozenset[int] = frozenset()) -> list[int]:
    """Return the processes below a process, without the others and those below them."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in set(map(int, (task / "children").read_text().split())) - others:
                found += [child, *_children(child, others)]
    return found


def _ticks(pid: int) -> int:
    with suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def _describe(frame: FrameType | None) -> str:
    """Return the innermost place in the model's own code, or in any code if none of the model's is there."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "an unknown place"
    own = next((one for one in frames if not one.f_code.co_filename.startswith(_FOREIGN)), frames[0])
    is_warming = any(_is_warmup(one) for one in frames)
    place = f"{os.path.basename(own.f_code.co_filename)}:{own.f_lineno}, in {own.f_code.co_name}"
    return f"{place}, in the warm-up" if is_warming else place


def _is_warmup(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return frame.f_code.co_filename.startswith(_LIBRARY) and "warm" in module.lower() + frame.f_code.co_name
