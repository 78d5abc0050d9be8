"""CUDA graphs: work that is noted once and queued again as often as wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from kindaware.testing.accelerator._memory import Block

if TYPE_CHECKING:
    from kindaware.testing.accelerator._accelerator import SimulatedAccelerator


@dataclass(slots=True)
class _Node:
    name: str
    run: Callable[[], Any] | None
    reads: list[Block]
    writes: list[Block]


@dataclass(eq=False)
class Graph:
    """What a capture noted; memory that was taken during the capture stays its own."""

    ordinal: int
    nodes: list[_Node] = field(default_factory=list)

    def add(self, name: str, run: Callable[[], Any] | None, reads: list[Block], writes: list[Block]) -> None:
        """Note a piece of work."""
        self.nodes.append(_Node(name, run, reads, writes))

    def replay(self, accelerator: SimulatedAccelerator) -> None:
        """Queue all of it on the current stream."""
        for node in self.nodes:
            accelerator.submit(self.ordinal, f"graph: {node.name}", node.run, node.reads, node.writes)


@dataclass(eq=False)
class Capture:
    """A capture under way.

    Attributes:
        graph: what it notes into.
        is_lost: something happened that must not happen in a capture.
    """

    graph: Graph
    is_lost: bool = False


def begin_capture(accelerator: SimulatedAccelerator) -> Capture:
    """Note what is queued on the current stream from now on, instead of doing it.

    Raises:
        torch.AcceleratorError: it captures already, or is the default stream.
    """
    ordinal = accelerator.current.ordinal
    stream = accelerator.current_stream(ordinal)
    captures = accelerator.devices[ordinal].captures
    if stream in captures or stream.handle == 0:
        what = "when stream is capturing" if stream in captures else "on the default stream"
        raise torch.AcceleratorError(f"CUDA error: operation not permitted {what}\n(simulated: {stream!r})")
    captures[stream] = capture = Capture(Graph(ordinal))
    return capture


def end_capture(accelerator: SimulatedAccelerator, capture: Capture) -> Graph:
    """End a capture and give what it noted.

    Raises:
        torch.AcceleratorError: it was lost.
    """
    captures = accelerator.devices[capture.graph.ordinal].captures
    for stream in [stream for stream, one in captures.items() if one is capture]:
        del captures[stream]
    if capture.is_lost:
        raise torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")
    return capture.graph
