"""Streams and events: what is queued, in which order it must be done, and who may rely on whose work.

Work is carried out when the host waits for it and not before, unless the schedule chooses otherwise. A vector
clock per stream tells which earlier work is ordered before the next piece: two pieces that touch the same
memory without being ordered are a race, whatever order they happened to run in.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kindaware.testing.accelerator._plain import plain_torch

Clock = dict["Stream", int]
"""Per stream, the number of its last piece of work that is ordered before what the clock belongs to."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a stream, as an event records it.

    Attributes:
        stream: which one.
        ticket: number of the last piece of work before the place.
        clock: what was ordered before it.
    """

    stream: Stream
    ticket: int
    clock: Clock = field(repr=False)


@dataclass(slots=True)
class _Work:
    ticket: int
    name: str
    run: Callable[[], None] | None
    after: Point | None = None


class Stream:
    """A queue of work on one device.

    Args:
        ordinal: of the device.
        handle: what `torch.cuda.Stream.cuda_stream` gives; 0 is the default stream of every device.

    Attributes:
        pending: queued and not done.
        submitted: number of the last piece queued.
        done: number of the last piece done.
    """

    def __init__(self, ordinal: int, handle: int) -> None:
        self.ordinal = ordinal
        self.handle = handle
        self.pending: deque[_Work] = deque()
        self.submitted = 0
        self.done = 0
        self.clock: Clock = {}

    def __repr__(self) -> str:
        return f"stream {self.handle:#x} of cuda:{self.ordinal}" if self.handle else self._default_name()

    def _default_name(self) -> str:
        return f"the default stream of cuda:{self.ordinal}"


class Schedule(Protocol):
    """Chooses how far a device runs ahead of what the host has waited for."""

    def advance(self, busy: list[Stream]) -> Stream | None:
        """Name a stream that does its next piece of work now; None to go back to the host.

        Called whenever the host hands something to a device, and again after every piece that was done.

        Args:
            busy: the streams that have work, in the order in which they were made.
        """


class Latest:
    """Nothing is done before it is waited for: the worst that the rules of CUDA allow a host to see."""

    def advance(self, busy: list[Stream]) -> Stream | None:
        """Choose none."""
        return None


class Timeline:
    """All streams of all devices.

    Args:
        schedule: how far the devices run ahead.
        on_error: is given what a piece of work raised; a device would be lost by it.

    Attributes:
        num_done: pieces of work carried out.
        num_early: those that the schedule chose.
    """

    def __init__(self, schedule: Schedule, on_error: Callable[[Stream, str, Exception], None]) -> None:
        self.schedule = schedule
        self.num_done = 0
        self.num_early = 0
        self.streams: list[Stream] = []
        self._on_error = on_error
        self._host: Clock = {}
        self._handles = itertools.count(0x1000, 0x10)

    def open_stream(self, ordinal: int, *, is_default: bool = False) -> Stream:
        """Make a stream."""
        stream = Stream(ordinal, 0 if is_default else next(self._handles))
        self.streams.append(stream)
        return stream

    def clock_of(self, stream: Stream) -> Clock:
        """Give what is ordered before the next piece of the stream."""
        _merge(stream.clock, self._host)
        return stream.clock

    def submit(self, stream: Stream, name: str, run: Callable[[], None] | None) -> int:
        """Queue a piece of work; gives its number."""
        self.clock_of(stream)
        stream.submitted += 1
        stream.clock[stream] = stream.submitted
        stream.pending.append(_Work(stream.submitted, name, run))
        self.advance()
        return stream.submitted

    def record(self, stream: Stream) -> Point:
        """Name the place behind all that was queued so far."""
        return Point(stream, stream.submitted, dict(self.clock_of(stream)))

    def wait_for(self, stream: Stream, point: Point) -> None:
        """Let the stream's further work wait for a place, without the host."""
        self.clock_of(stream)
        _merge(stream.clock, point.clock)
        stream.submitted += 1
        stream.clock[stream] = stream.submitted
        stream.pending.append(_Work(stream.submitted, "wait for an event", None, point))

    def finish(self, point: Point) -> None:
        """Let the host wait for a place: whatever must come before it is done, and no more."""
        self.advance()
        self._run_to(point.stream, point.ticket)
        _merge(self._host, point.clock)

    def is_done(self, point: Point) -> bool:
        """Say whether a place was reached."""
        return point.stream.done >= point.ticket

    def advance(self) -> None:
        """Let the schedule run what it likes."""
        while busy := [stream for stream in self.streams if stream.pending]:
            chosen = self.schedule.advance(busy)
            if chosen is None:
                return
            self.num_early += 1
            self._run_to(chosen, chosen.done + 1)

    def drop(self, streams: Iterable[Stream]) -> None:
        """Forget what is queued: the device is lost."""
        for stream in streams:
            stream.pending.clear()
            stream.done = stream.submitted
            _merge(self._host, {stream: stream.submitted})

    def _run_to(self, stream: Stream, ticket: int) -> None:
        while stream.done < ticket and stream.pending:
            work = stream.pending.popleft()
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
