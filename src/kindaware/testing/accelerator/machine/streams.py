"""Streams, what is queued on them, and places in them.

Each stream has a vector clock, which tells what work of other streams is ordered before its next piece.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Clock = dict["Stream", int]
"""For each stream, the number of its last piece of work that is ordered before the clock's owner."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a stream, as an event records it.

    Attributes:
        stream: the stream.
        ticket: number of the last piece of work before the place.
        clock: what is ordered before the place.
        due: when it is reached at the earliest, in seconds of `time.perf_counter`.
    """

    stream: Stream
    ticket: int
    clock: Clock = field(repr=False)
    due: float = 0.0


@dataclass(slots=True)
class Work:
    """A piece of work that a stream has to do.

    Attributes:
        ticket: its number in the stream.
        name: what it is, for errors.
        run: does it; None for work that only waits.
        after: place in another stream that must be reached first.
    """

    ticket: int
    name: str
    run: Callable[[], Any] | None
    after: Point | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """When a stream was busy with a piece of work, if work takes time.

    Attributes:
        stream: the stream.
        name: what it did.
        start: in seconds of `time.perf_counter`.
        end: the same.
    """

    stream: Stream
    name: str
    start: float
    end: float


class Stream:
    """A queue of work on one device.

    Args:
        ordinal: of the device.
        handle: value of `torch.cuda.Stream.cuda_stream`; 0 for a default stream.
        is_servers: whether it belongs to the server rather than to the model.

    Attributes:
        pending: work that is queued and not done.
        submitted: number of the last piece queued.
        done: number of the last piece done.
        clock: what is ordered before the next piece.
        due: when all that is queued is done at the earliest, in seconds of `time.perf_counter`.
    """

    def __init__(self, ordinal: int, handle: int, *, is_servers: bool = False) -> None:
        self.ordinal = ordinal
        self.handle = handle
        self.is_servers = is_servers
        self.pending: deque[Work] = deque()
        self.submitted = 0
        self.done = 0
        self.clock: Clock = {}
        self.due = 0.0

    def __repr__(self) -> str:
        if not self.handle:
            whose = "server's " if self.is_servers else ""
            return f"the {whose}default stream of cuda:{self.ordinal}"
        return f"stream {self.handle:#x} of cuda:{self.ordinal}"
