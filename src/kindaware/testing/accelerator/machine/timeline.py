"""What is queued on the streams, in which order it must be done, and who may rely on whose work.

Work is carried out when the host waits for it and not before, unless the schedule chooses otherwise. Two
pieces of work on the same memory that the clocks of their streams do not order are a race, whatever order
they happened to run in.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.machine.schedules import Schedule
from kindaware.testing.accelerator.machine.streams import Busy, Clock, Point, Stream, Work


class Timeline:
    """All streams of all devices.

    Args:
        schedule: how far the devices run ahead.
        on_error: called with the stream, the name and the exception of a piece of work that failed.

    Attributes:
        lock: held while anything here changes; threads of a model share the devices.
        streams: all of them.
        history: when streams were busy, with work that takes time.
        num_done: pieces of work carried out.
        num_early: those of them that the schedule chose.
    """

    def __init__(self, schedule: Schedule, on_error: Callable[[Stream, str, Exception], None]) -> None:
        self.schedule = schedule
        self.lock = threading.RLock()
        self.num_done = 0
        self.num_early = 0
        self.streams: list[Stream] = []
        self.history: list[Busy] = []
        self._busy: dict[Stream, None] = {}
        self._on_error = on_error
        self._host: Clock = {}
        self._handles = itertools.count(0x1000, 0x10)

    def open_stream(self, ordinal: int, *, is_default: bool = False, is_servers: bool = False) -> Stream:
        """Return a new stream."""
        with self.lock:
            stream = Stream(ordinal, 0 if is_default else next(self._handles), is_servers=is_servers)
            self.streams.append(stream)
            return stream

    def find_stream(self, handle: int) -> Stream | None:
        """Return the stream with a handle; default streams, whose handle is 0, are not found."""
        return next((stream for stream in self.streams if handle and stream.handle == handle), None)

    def clock_of(self, stream: Stream) -> Clock:
        """Return what is ordered before the next piece of work of a stream."""
        _merge(stream.clock, self._host)  # whatever the host has waited for is done before it submits more
        return stream.clock

    def submit(self, stream: Stream, name: str, run: Callable[[], Any] | None, seconds: float = 0.0) -> int:
        """Queue a piece of work that takes so many seconds, and return its number."""
        with self.lock:
            ticket = self._queue(stream, name, run, None)
            if seconds:
                start = max(time.perf_counter(), stream.due)
                stream.due = start + seconds
                self.history.append(Busy(stream, name, start, stream.due))
            self.advance()
            return ticket

    def wait_for(self, stream: Stream, point: Point) -> None:
        """Make further work of a stream wait for a place, without the host."""
        with self.lock:
            _merge(stream.clock, point.clock)
            stream.due = max(stream.due, point.due)
            self._queue(stream, "wait for an event", None, point)

    def _queue(self, stream: Stream, name: str, run: Callable[[], Any] | None, after: Point | None) -> int:
        stream.submitted += 1
        stream.clock[stream] = stream.submitted
        stream.pending.append(Work(stream.submitted, name, run, after))
        self._busy[stream] = None
        return stream.submitted

    def record(self, stream: Stream) -> Point:
        """Return the place behind all that is queued on a stream."""
        with self.lock:
            return Point(stream, stream.submitted, dict(self.clock_of(stream)), stream.due)

    def finish(self, point: Point) -> None:
        """Make the host wait for a place: do the work that must come before it, and no more."""
        if (left := point.due - time.perf_counter()) > 0:
            time.sleep(left)
        with self.lock:
            self._run_to(point.stream, point.ticket)
            _merge(self._host, point.clock)

    def ask(self, point: Point) -> bool:
        """Return to the host whether a place was reached.

        If it wasn't, one more piece of work is done, since a device makes progress while a host polls.
        """
        with self.lock:
            if self.is_done(point) and time.perf_counter() >= point.due:
                _merge(self._host, point.clock)
                return True
            self._run_to(point.stream, point.stream.done + 1)
            return False

    def is_done(self, point: Point) -> bool:
        """Return whether a place was reached."""
        return point.stream.done >= point.ticket

    def sees(self, point: Point) -> bool:
        """Return to the host whether a place was reached; what it submits then comes after it."""
        with self.lock:
            if not self.is_done(point):
                return False
            _merge(self._host, point.clock)
            return True

    def advance(self) -> None:
        """Do the work that the schedule chooses to do now."""
        with self.lock:
            while self._busy:
                chosen = self.schedule.advance(list(self._busy))
                if chosen is None:
                    return
                self.num_early += 1
                self._run_to(chosen, chosen.done + 1)

    def drop(self, streams: Iterable[Stream]) -> None:
        """Drop what is queued on streams of a lost device."""
        with self.lock:
            for stream in streams:
                stream.pending.clear()
                stream.done = stream.submitted
                stream.due = 0.0
                self._busy.pop(stream, None)
                _merge(self._host, {stream: stream.submitted})

    def _run_to(self, stream: Stream, ticket: int) -> None:
        while stream.done < ticket and stream.pending:
            work = stream.pending.popleft()
            if not stream.pending:
                self._busy.pop(stream, None)
            if work.after is not None:
                self._run_to(work.after.stream, work.after.ticket)
            if work.run is not None:
                try:
                    with plain_torch():
                        work.run()
                except Exception as error:
                    self._on_error(stream, work.name, error)
            stream.done = max(stream.done, work.ticket)
            self.num_done += 1


def _merge(clock: Clock, other: Clock) -> None:
    for stream, ticket in other.items():
        if clock.get(stream, 0) < ticket:
            clock[stream] = ticket
