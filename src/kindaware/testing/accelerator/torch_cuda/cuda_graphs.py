"""Stand-ins for `torch.cuda.CUDAGraph` and `torch.cuda.graph`."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from kindaware._errors import message
from kindaware.testing.accelerator.machine.graphs import Capture, Graph
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import GraphPool
from kindaware.testing.accelerator.torch_cuda import cuda as _cuda

_sim = Machine.active


class CUDAGraph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._capture: Capture | None = None
        self._graph: Graph | None = None
        self._pool = GraphPool()

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global", **_: Any) -> None:
        """Record what is queued on the current stream from now on, instead of doing it."""
        _sim().call("begin a capture")
        if pool is not None:
            self._pool = pool
        ordinal = _sim().current.ordinal
        self._capture = _sim().devices[ordinal].begin_capture(_sim().current_stream(ordinal), self._pool)

    def capture_end(self) -> None:
        """End the capture."""
        capture, self._capture = self._capture, None
        if capture is None:
            raise RuntimeError(
                message("CUDAGraph", expected="a capture under way", got="none", remedy="call capture_begin")
            )
        self._graph = _sim().devices[capture.graph.ordinal].end_capture(capture)
        _sim().call("end a capture")

    def replay(self) -> None:
        """Queue the captured work on the current stream."""
        if self._graph is None:
            raise RuntimeError(
                message("CUDAGraph", expected="a captured graph", got="none", remedy="capture one before")
            )
        _sim().call("replay a graph")
        _sim().replay(self._graph)

    def reset(self) -> None:
        """Drop the captured work, and release its memory."""
        self._graph = None

    def pool(self) -> Any:
        """Return the pool of the graph's memory, for other graphs to share."""
        return self._pool


class graph:  # noqa: N801 - torch's name
    """Stands for `torch.cuda.graph`."""

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: _cuda.Stream | None = None,
        capture_error_mode: str = "global",
        **_: Any,
    ) -> None:
        self._graph = cuda_graph
        self._pool = pool
        self._stream = stream
        self._entered: Any = None

    def __enter__(self) -> None:
        _cuda.synchronize()
        _cuda.empty_cache()
        self._entered = _cuda.use_stream(_capture_stream() if self._stream is None else self._stream)
        self._entered.__enter__()
        try:
            self._graph.capture_begin(self._pool)
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


def _capture_stream() -> _cuda.Stream:
    """Return the stream on which a process captures by default, on the device of its first capture."""
    process = _sim().current.process
    if process.capture_stream is None:
        process.capture_stream = _cuda.Stream().queue
    return _cuda.Stream(queue=process.capture_stream)
