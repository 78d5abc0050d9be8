"""Who uses the devices: processes with streams of their own, and what is current in each of their threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kindaware._errors import message
from kindaware.testing.accelerator.machine.streams import Stream
from kindaware.testing.accelerator.machine.timeline import Timeline

POOL_SIZE = 32
"""Streams that a process gets of a device; the next one is the first one again.
Source: torch `c10/cuda/CUDAStream.cpp`, kStreamsPerPool."""


class Process:
    """A process as CUDA sees it: with default streams of its own, and a pool of further ones.

    Args:
        timeline: where its streams are.
        is_server: it is the server's.
    """

    def __init__(self, timeline: Timeline, *, is_server: bool = False) -> None:
        self.is_server = is_server
        self.capture_stream: Stream | None = None
        self.timeline = timeline
        self._default: dict[int, Stream] = {}
        self._pool: dict[int, list[Stream]] = {}
        self._num_made: dict[int, itertools.count[int]] = {}

    def default_stream(self, ordinal: int) -> Stream:
        """Give the default stream of a device."""
        if ordinal not in self._default:
            self._default[ordinal] = self.timeline.open_stream(
                ordinal, is_default=True, is_servers=self.is_server
            )
        return self._default[ordinal]

    def open_stream(self, ordinal: int) -> Stream:
        """Give the next stream of a device's pool."""
        pool = self._pool.setdefault(ordinal, [])
        number = next(self._num_made.setdefault(ordinal, itertools.count())) % POOL_SIZE
        if number >= len(pool):
            pool.append(self.timeline.open_stream(ordinal))
            return pool[-1]
        return pool[number]

    def streams(self, ordinal: int) -> list[Stream]:
        """Give all streams of a device."""
        return [self.default_stream(ordinal), *self._pool.get(ordinal, [])]


@dataclass
class Current:
    """What is current in one thread of a process.

    Attributes:
        process: whose thread it is.
        ordinal: of the current device.
        streams: by device, those that are not the default.
    """

    process: Process
    ordinal: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)

    def stream(self, ordinal: int) -> Stream:
        """Give the stream on which work for a device is queued."""
        return self.streams.get(ordinal) or self.process.default_stream(ordinal)


def stream_of_handle(current: Current, handle: int, ordinal: int) -> Stream:
    """Find a stream by what `cuda_stream` gives; 0 and DLPack's 1 are the default one.

    Raises:
        ValueError: there is none.
    """
    if handle in (0, 1):
        return current.process.default_stream(ordinal)
    stream = current.process.timeline.find_stream(handle)
    if stream is None:
        raise ValueError(
            message(
                "stream",
                expected="the cuda_stream of a simulated stream",
                got=hex(handle),
                remedy="make streams with torch.cuda.Stream",
            )
        )
    return stream


class Users(threading.local):
    """Tells, for each thread, whose code runs there.

    Attributes:
        owner: whose; None outside of all.
        is_server: it is the server that works on the device, for the owner.
    """

    _processes: dict[object, Process]

    def __init__(self, timeline: Timeline, processes: dict[object, Process]) -> None:
        self.owner: Any = None
        self.is_server = False
        self._timeline = timeline
        self._processes = processes
        self._known: dict[object, Current] = {}

    @property
    def current(self) -> Current:
        """What is current for the thread and whose code it runs."""
        user = Users if self.is_server else self.owner
        if user not in self._known:
            process = self._processes.setdefault(user, Process(self._timeline, is_server=self.is_server))
            self._known[user] = Current(process)
        return self._known[user]

    def find_process(self, stream: Stream) -> Process | None:
        """Give the process that a stream is of."""
        known = list(self._processes.values())
        return next((one for one in known if stream in one.streams(stream.ordinal)), None)

    @contextmanager
    def acting(self, owner: object, *, is_server: bool = False) -> Iterator[None]:
        """Let what happens inside be done by somebody."""
        before = self.owner, self.is_server
        self.owner, self.is_server = owner, is_server
        try:
            yield
        finally:
            self.owner, self.is_server = before
