"""What stands for the objects of `torch.cuda`: streams, events, graphs, and what is current."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._graphs import Capture, Graph, begin_capture, end_capture

if TYPE_CHECKING:
    from kindaware.testing.accelerator._timeline import Point
    from kindaware.testing.accelerator._timeline import Stream as Queue

_sim = SimulatedAccelerator.active


class Stream:
    """Stands for `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0, *, queue: Queue | None = None) -> None:
        if queue is None:
            ordinal = _sim().ordinal_of(device)
            _sim().call("make a stream", ordinal)
            queue = _sim().timeline.open_stream(ordinal)
        self.queue = queue

    @property
    def device(self) -> torch.device:
        """The device."""
        return torch.device("cuda", self.queue.ordinal)

    @property
    def device_index(self) -> int:
        """The device's number."""
        return self.queue.ordinal

    @property
    def cuda_stream(self) -> int:
        """The handle."""
        return self.queue.handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.queue is self.queue

    def __hash__(self) -> int:
        return hash(self.queue)

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream simulated, {self.queue!r}>"

    def synchronize(self) -> None:
        """Wait for all that was queued."""
        _sim().call("wait for a stream", self.queue.ordinal)
        _sim().finish(_sim().timeline.record(self.queue))

    def query(self) -> bool:
        """Say whether all is done."""
        _sim().call("ask a stream", self.queue.ordinal)
        return not self.queue.pending

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let further work wait for an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let further work wait for what is queued on another stream."""
        self.wait_event(stream.record_event())


class Event:
    """Stands for `torch.cuda.Event`."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, **_: Any) -> None:
        self._point: Point | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Name the place behind all that was queued on a stream."""
        stream = current_stream() if stream is None else stream
        _sim().call("record an event", stream.queue.ordinal)
        self._point = _sim().timeline.record(stream.queue)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream's further work wait for the place."""
        stream = current_stream() if stream is None else stream
        _sim().call("wait for an event on the device", stream.queue.ordinal)
        if self._point is not None:
            _sim().timeline.wait_for(stream.queue, self._point)

    def synchronize(self) -> None:
        """Wait for the place; one that was never recorded is reached."""
        _sim().call("wait for an event", None if self._point is None else self._point.stream.ordinal)
        if self._point is not None:
            _sim().finish(self._point)

    def query(self) -> bool:
        """Say whether the place was reached."""
        _sim().call("ask an event")
        return self._point is None or _sim().timeline.is_done(self._point)

    def elapsed_time(self, end: Event) -> float:
        """There is no time on a simulated device: always 0 ms."""
        return 0.0


class CUDAGraph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._capture: Capture | None = None
        self._graph: Graph | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Note what the current stream is given from now on."""
        _sim().call("begin a capture")
        self._capture = begin_capture(_sim())

    def capture_end(self) -> None:
        """End the capture."""
        capture, self._capture = self._capture, None
        if capture is None:
            raise RuntimeError("capture_end: expected a capture under way, got none; call capture_begin")
        self._graph = end_capture(_sim(), capture)
        _sim().call("end a capture")

    def replay(self) -> None:
        """Queue what was noted on the current stream."""
        if self._graph is None:
            raise RuntimeError("replay: expected a captured graph, got none; capture before")
        _sim().call("replay a graph")
        self._graph.replay(_sim())

    def reset(self) -> None:
        """Forget what was noted."""
        self._graph = None

    def pool(self) -> Any:
        """Name the graph's memory."""
        return self._graph


class graph:  # noqa: N801 - torch's name
    """Stands for `torch.cuda.graph`."""

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        self._graph = cuda_graph
        self._stream = stream
        self._entered: Any = None

    def __enter__(self) -> None:
        synchronize()
        empty_cache()
        self._entered = use_stream(Stream() if self._stream is None else self._stream)
        self._entered.__enter__()
        try:
            self._graph.capture_begin()
        except BaseException:
            self._entered.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._graph.capture_end()
        finally:
            self._entered.__exit__(kind, error, trace)


class use_device:  # noqa: N801 - stands for a class of torch
    """Stands for `torch.cuda.device`."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else _sim().ordinal_of(device)
        self._before = -1

    def __enter__(self) -> None:
        self._before = _sim().current.ordinal
        if self.idx >= 0:
            _sim().current.ordinal = self.idx

    def __exit__(self, *_: object) -> None:
        _sim().current.ordinal = self._before


class use_stream:  # noqa: N801 - stands for a class of torch
    """Stands for `torch.cuda.stream`: makes a stream and its device current."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: Any = None

    def __enter__(self) -> None:
        if self.stream is None:
            return
        current, queue = _sim().current, self.stream.queue
        self._before = current.ordinal, _sim().current_stream(queue.ordinal)
        current.ordinal = queue.ordinal
        current.streams[queue.ordinal] = queue

    def __exit__(self, *_: object) -> None:
        if self.stream is None:
            return
        current = _sim().current
        current.ordinal, current.streams[self.stream.queue.ordinal] = self._before


def current_stream(device: Any = None) -> Stream:
    """Give the current stream of a device."""
    return Stream(queue=_sim().current_stream(_sim().ordinal_of(device)))


def default_stream(device: Any = None) -> Stream:
    """Give the default stream of a device."""
    return Stream(queue=_sim().devices[_sim().ordinal_of(device)].default_stream)


def set_stream(stream: Stream) -> None:
    """Make a stream and its device current, for good."""
    use_stream(stream).__enter__()


def set_device(device: Any) -> None:
    """Make a device current, for good."""
    ordinal = _sim().ordinal_of(device)
    _sim().call("set the device", ordinal)
    _sim().current.ordinal = ordinal


def synchronize(device: Any = None) -> None:
    """Wait for all streams of a device."""
    ordinal = _sim().ordinal_of(device)
    _sim().call("wait for the device", ordinal)
    _sim().synchronize(ordinal)


def empty_cache() -> None:
    """Hand back the memory that is cached, on every device."""
    _sim().call("empty the cache")
    for device in _sim().devices:
        if device.error is None:
            _sim().refuse_capture(device.ordinal, "freeing memory")
            device.memory.release_cache()


def is_current_stream_capturing() -> bool:
    """Say whether the current stream captures."""
    ordinal = _sim().current.ordinal
    return _sim().current_stream(ordinal) in _sim().devices[ordinal].captures
