"""CUDA graphs: work that is noted once and queued again as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kindaware.testing.accelerator.machine.errors import cuda_error
from kindaware.testing.accelerator.machine.memory import GraphPool
from kindaware.testing.accelerator.machine.races import Span

if TYPE_CHECKING:
    from kindaware.testing.accelerator.machine.machine import Machine, Prepare
    from kindaware.testing.accelerator.machine.timeline import Stream


@dataclass(slots=True)
class _Node:
    name: str
    run: Callable[[], Any] | None
    reads: Sequence[Span]
    writes: Sequence[Span]
    prepare: Prepare | None


@dataclass(eq=False)
class Graph:
    """What a capture noted; memory that was taken during the capture stays its own.

    Attributes:
        ordinal: of the device.
        pool: the memory.
    """

    ordinal: int
    pool: GraphPool
    nodes: list[_Node] = field(default_factory=list)

    def add(
        self,
        name: str,
        run: Callable[[], Any] | None,
        reads: Sequence[Span],
        writes: Sequence[Span],
        prepare: Prepare | None,
    ) -> None:
        """Note a piece of work."""
        self.nodes.append(_Node(name, run, reads, writes, prepare))

    def replay(self, machine: Machine) -> None:
        """Queue all of it on the current stream."""
        for node in self.nodes:
            name = f"graph: {node.name}"
            machine.submit(self.ordinal, name, node.run, node.reads, node.writes, prepare=node.prepare)


@dataclass(eq=False)
class Capture:
    """A capture under way.

    Attributes:
        stream: whose work is noted.
        graph: what it is noted into.
        is_lost: something happened that must not happen in a capture.
    """

    stream: Stream
    graph: Graph
    is_lost: bool = False

    def lose(self, words: str, what: str) -> Exception:
        """Give up the capture, and make the error that says why."""
        self.is_lost = True
        return cuda_error(words, what)


def begin_capture(machine: Machine, pool: GraphPool) -> Capture:
    """Note what is queued on the current stream from now on, instead of doing it.

    Raises:
        torch.AcceleratorError: it captures already, or is the default stream.
    """
    ordinal = machine.current.ordinal
    stream = machine.current_stream(ordinal)
    captures = machine.devices[ordinal].captures
    if stream in captures or stream.handle == 0:
        reason = "it captures already" if stream in captures else "it is a default stream"
        raise cuda_error("operation not permitted when stream is capturing", f"{stream!r}: {reason}")
    graph = Graph(ordinal, pool)
    pool.graphs.add(graph)
    captures[stream] = Capture(stream, graph)
    return captures[stream]


def end_capture(machine: Machine, capture: Capture) -> Graph:
    """End a capture and give what it noted.

    Raises:
        torch.AcceleratorError: it was lost.
    """
    captures = machine.devices[capture.graph.ordinal].captures
    if captures.get(capture.stream) is capture:
        del captures[capture.stream]
    if capture.is_lost:
        raise cuda_error("operation failed due to a previous error during capture")
    return capture.graph
