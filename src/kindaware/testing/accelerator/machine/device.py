"""One simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, field

from kindaware.testing.accelerator.machine.errors import cuda_error
from kindaware.testing.accelerator.machine.graphs import Capture, Graph
from kindaware.testing.accelerator.machine.memory import DeviceMemory, GraphPool
from kindaware.testing.accelerator.machine.processes import Process
from kindaware.testing.accelerator.machine.random import DeviceRandom
from kindaware.testing.accelerator.machine.streams import Stream


@dataclass
class Device:
    """One simulated GPU.

    Attributes:
        ordinal: its number.
        memory: its allocator.
        random: its random numbers.
        errors: the error that it was lost to, by process; under None for all processes.
        captures: captures under way, by stream.
    """

    ordinal: int
    memory: DeviceMemory
    random: DeviceRandom = field(default_factory=DeviceRandom)
    errors: dict[Process | None, Exception] = field(default_factory=dict)
    captures: dict[Stream, Capture] = field(default_factory=dict)

    def lose(self, error: Exception, process: Process | None) -> None:
        """Record an error that the device was lost to, and drop captures under way.

        Args:
            error: the error.
            process: the process that lost it; None for all processes.
        """
        self.errors.setdefault(process, error)
        lost = [
            stream for stream in self.captures if process is None or stream in process.streams(self.ordinal)
        ]
        for stream in lost:
            del self.captures[stream]

    def error_of(self, process: Process) -> Exception | None:
        """Return the error that a process lost it to, or None; the server's process never loses it."""
        return None if process.is_server else self.errors.get(None) or self.errors.get(process)

    def begin_capture(self, stream: Stream, pool: GraphPool) -> Capture:
        """Record what is queued on a stream from now on, instead of doing it.

        Args:
            stream: the stream.
            pool: keeps the memory that is allocated during the capture.

        Raises:
            torch.AcceleratorError: the stream captures already, or is a default stream.
        """
        if stream in self.captures or stream.handle == 0:
            reason = "it captures already" if stream in self.captures else "it is a default stream"
            raise cuda_error("operation not permitted when stream is capturing", f"{stream!r}: {reason}")
        graph = Graph(self.ordinal, pool)
        pool.graphs.add(graph)
        self.captures[stream] = Capture(stream, graph)
        return self.captures[stream]

    def end_capture(self, capture: Capture) -> Graph:
        """End a capture and return its graph.

        Raises:
            torch.AcceleratorError: the capture was lost.
        """
        if self.captures.get(capture.stream) is capture:
            del self.captures[capture.stream]
        if capture.is_lost:
            raise cuda_error("operation failed due to a previous error during capture")
        return capture.graph
