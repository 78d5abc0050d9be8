"""Stand-ins for the streams, events and current devices of `torch.cuda`."""

from __future__ import annotations

from typing import Any

import torch

from kindaware.testing.accelerator.machine.errors import cuda_error, not_simulated
from kindaware.testing.accelerator.machine.graphs import Capture
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.processes import stream_of_handle
from kindaware.testing.accelerator.machine.streams import Point
from kindaware.testing.accelerator.machine.streams import Stream as Queue

_sim = Machine.active


class Stream:
    """Stands for `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0, *, queue: Queue | None = None) -> None:
        if queue is None:
            ordinal = _sim().ordinal_of(device)
            _sim().call("make a stream", ordinal)
            queue = _sim().current.process.open_stream(ordinal)
        self.queue = queue
        self.priority = priority

    @property
    def device(self) -> torch.device:
        """Its device."""
        return torch.device("cuda", self.queue.ordinal)

    @property
    def device_index(self) -> int:
        """The number of its device."""
        return self.queue.ordinal

    @property
    def cuda_stream(self) -> int:
        """Its handle."""
        return self.queue.handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.queue is self.queue

    def __hash__(self) -> int:
        return hash(self.queue)

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream simulated, {self.queue!r}>"

    def synchronize(self) -> None:
        """Wait for all that is queued."""
        _sim().call("wait for a stream", self.queue.ordinal)
        _sim().finish(_sim().timeline.record(self.queue))

    def query(self) -> bool:
        """Return whether all that is queued is done."""
        _sim().call("ask a stream", self.queue.ordinal)
        return _ask(_sim().timeline.record(self.queue))

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event, by default a new one, and return it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Make further work wait for an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Make further work wait for what is queued on another stream."""
        self.wait_event(stream.record_event())


class ExternalStream(Stream):
    """Stands for `torch.cuda.ExternalStream`: a stream given by its handle."""

    def __init__(self, stream_ptr: int, device: Any = None, **_: Any) -> None:
        ordinal = _sim().ordinal_of(device)
        super().__init__(queue=stream_of_handle(_sim().current, stream_ptr, ordinal))


class Event:
    """Stands for `torch.cuda.Event`."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, **_: Any) -> None:
        self._point: Point | None = None
        self._capture: Capture | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Record the place behind all that is queued on a stream."""
        queue = (current_stream() if stream is None else stream).queue
        _sim().call("record an event", queue.ordinal)
        self._point = _sim().timeline.record(queue)
        self._capture = _sim().devices[queue.ordinal].captures.get(queue)

    def wait(self, stream: Stream | None = None) -> None:
        """Make further work of a stream wait for the place.

        Raises:
            torch.AcceleratorError: either the event or the stream is part of a capture, but not both.
            NotImplementedError: the capture would span two streams.
        """
        queue = (current_stream() if stream is None else stream).queue
        _sim().call("wait for an event on the device", queue.ordinal)
        if self._point is None or self._point.stream is queue:
            return
        capture = _sim().devices[queue.ordinal].captures.get(queue)
        if capture is not None and capture is not self._capture:
            raise capture.lose(
                "dependency created on uncaptured work in another stream", f"{queue!r} waits in a capture"
            )
        if self._capture is not None:
            raise not_simulated(
                expected="a capture of one stream",
                got=f"an event of the capture for which {queue!r} waits",
                remedy="capture the streams apart, or test this graph on a real GPU",
            )
        _sim().timeline.wait_for(queue, self._point)

    def synchronize(self) -> None:
        """Wait for the place; one that was never recorded counts as reached."""
        _sim().call("wait for an event", None if self._point is None else self._point.stream.ordinal)
        self._refuse_captured()
        if self._point is not None:
            _sim().finish(self._point)

    def query(self) -> bool:
        """Return whether the place was reached."""
        _sim().call("ask an event", None if self._point is None else self._point.stream.ordinal)
        self._refuse_captured()
        return self._point is None or _ask(self._point)

    def _refuse_captured(self) -> None:
        if self._capture is not None:
            raise cuda_error("operation not permitted on an event last recorded in a capturing stream")

    def elapsed_time(self, end: Event) -> float:
        """Return the milliseconds between two places; 0 unless work takes time."""
        if self._point is None or end._point is None or _sim().cost is None:
            return 0.0
        return (end._point.due - self._point.due) * 1e3


def _ask(point: Point) -> bool:
    _sim().refuse_capture(point.stream.ordinal, "asking the device")
    is_done = _sim().timeline.ask(point)
    _sim().raise_error(point.stream.ordinal)
    return is_done


class use_device:  # noqa: N801 - stands for a class of torch
    """Stands for `torch.cuda.device`."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device in (None, -1) else _sim().ordinal_of(device)
        self._before = -1

    def __enter__(self) -> None:
        self._before = _sim().current.ordinal
        if self.idx >= 0:
            _sim().current.ordinal = self.idx

    def __exit__(self, *_: object) -> None:
        _sim().current.ordinal = self._before


class use_device_of(use_device):  # noqa: N801 - stands for a class of torch
    """Stands for `torch.cuda.device_of`."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.device if obj.is_cuda else None)


class use_stream:  # noqa: N801 - stands for a class of torch
    """Stands for `torch.cuda.stream`: makes a stream and its device current; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: Any = None

    def __enter__(self) -> None:
        if self.stream is None:
            return
        current, queue = _sim().current, self.stream.queue
        self._before = current.ordinal, current.stream(queue.ordinal)
        current.ordinal = queue.ordinal
        current.streams[queue.ordinal] = queue

    def __exit__(self, *_: object) -> None:
        if self.stream is None:
            return
        current = _sim().current
        current.ordinal, current.streams[self.stream.queue.ordinal] = self._before


def current_stream(device: Any = None) -> Stream:
    """Return the current stream of a device."""
    return Stream(queue=_sim().current_stream(_sim().ordinal_of(device)))


def default_stream(device: Any = None) -> Stream:
    """Return the default stream of a device."""
    return Stream(queue=_sim().current.process.default_stream(_sim().ordinal_of(device)))


def set_stream(stream: Stream) -> None:
    """Make a stream and its device current from now on."""
    use_stream(stream).__enter__()


def set_device(device: Any) -> None:
    """Make a device current from now on."""
    ordinal = _sim().ordinal_of(device)
    _sim().call("set the device", ordinal)
    _sim().current.ordinal = ordinal


def synchronize(device: Any = None) -> None:
    """Wait for all streams of a device."""
    ordinal = _sim().ordinal_of(device)
    _sim().call("wait for the device", ordinal)
    _sim().synchronize(ordinal)


def empty_cache() -> None:
    """Release cached memory on every device."""
    _sim().call("empty the cache")
    for device in _sim().devices:
        if device.error_of(_sim().current.process) is None:
            _sim().refuse_capture(device.ordinal, "freeing memory")
            device.memory.release_cache()


def is_current_stream_capturing() -> bool:
    """Return whether the current stream captures."""
    ordinal = _sim().current.ordinal
    return _sim().current_stream(ordinal) in _sim().devices[ordinal].captures
