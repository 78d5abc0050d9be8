"""The users of the devices: processes with streams of their own, and what is current in their threads."""

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
"""Streams in a process's pool for a device; after the last one it gets the first one again.
Source: torch `c10/cuda/CUDAStream.cpp`, kStreamsPerPool."""


class Process:
    """A process as CUDA sees it: with default streams of its own, and pools of other streams.

    Args:
        timeline: runs its streams.
        is_server: whether it is the server's process.

    Attributes:
        capture_stream: stream on which `torch.cuda.graph` captures by default; made when it first does.
    """

    def __init__(self, timeline: Timeline, *, is_server: bool = False) -> None:
        self.is_server = is_server
        self.capture_stream: Stream | None = None
        self.timeline = timeline
        self._default: dict[int, Stream] = {}
        self._pool: dict[int, list[Stream]] = {}
        self._num_made: dict[int, itertools.count[int]] = {}

    def default_stream(self, ordinal: int) -> Stream:
        """Return the default stream of a device."""
        with self.timeline.lock:
            if ordinal not in self._default:
                self._default[ordinal] = self.timeline.open_stream(
                    ordinal, is_default=True, is_servers=self.is_server
                )
            return self._default[ordinal]

    def open_stream(self, ordinal: int) -> Stream:
        """Return the next stream of the pool for a device."""
        with self.timeline.lock:
            pool = self._pool.setdefault(ordinal, [])
            number = next(self._num_made.setdefault(ordinal, itertools.count())) % POOL_SIZE
            if number >= len(pool):
                pool.append(self.timeline.open_stream(ordinal))
            return pool[number]

    def streams(self, ordinal: int) -> list[Stream]:
        """Return all streams of a device."""
        return [self.default_stream(ordinal), *self._pool.get(ordinal, [])]


@dataclass
class Current:
    """What is current in one thread of a process.

    Attributes:
        process: the process.
        ordinal: of the current device.
        streams: current streams by device, where they are not the default stream.
    """

    process: Process
    ordinal: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)

    def stream(self, ordinal: int) -> Stream:
        """Return the current stream of a device."""
        return self.streams.get(ordinal) or self.process.default_stream(ordinal)


def stream_of_handle(current: Current, handle: int, ordinal: int) -> Stream:
    """Return the stream whose `cuda_stream` is a handle; 0 and DLPack's 1 are the default stream.

    Raises:
        ValueError: there is no such stream.
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
    """Knows whose code runs in each thread.

    A `threading.local`, whose `__init__` runs in each thread with the same arguments: attributes are the
    thread's own, except for the dictionary of processes.

    Args:
        timeline: runs the streams of the processes.
        processes: empty; filled with the processes of all threads, by owner.

    Attributes:
        owner: whose code runs; None outside of all processes.
        is_server: whether the server uses the device, on behalf of the owner.
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
        """What is current for the thread, in the process whose code it runs."""
        user = Users if self.is_server else self.owner  # the class stands for the server, as a key of its own
        if user not in self._known:
            process = self._processes.setdefault(user, Process(self._timeline, is_server=self.is_server))
            self._known[user] = Current(process)
        return self._known[user]

    def find_process(self, stream: Stream) -> Process | None:
        """Return the process that a stream belongs to, or None."""
        known = list(self._processes.values())
        return next((one for one in known if stream in one.streams(stream.ordinal)), None)

    @contextmanager
    def acting(self, owner: object, *, is_server: bool = False) -> Iterator[None]:
        """Run what is inside on behalf of an owner."""
        before = self.owner, self.is_server
        self.owner, self.is_server = owner, is_server
        try:
            yield
        finally:
            self.owner, self.is_server = before
