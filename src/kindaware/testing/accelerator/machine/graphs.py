"""CUDA graphs: work that is recorded once and replayed any number of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.accelerator.machine.errors import cuda_error
from kindaware.testing.accelerator.machine.memory import GraphPool
from kindaware.testing.accelerator.machine.races import Span
from kindaware.testing.accelerator.machine.streams import Stream

Prepare = Callable[[], Callable[[], Any]]
"""Called each time that a piece of work is queued, and returns what does it."""


@dataclass(slots=True)
class Node:
    """A piece of work in a graph; its attributes are arguments of `Machine.submit`."""

    name: str
    run: Callable[[], Any] | None
    reads: Sequence[Span]
    writes: Sequence[Span]
    prepare: Prepare | None


@dataclass(eq=False)
class Graph:
    """The work of a capture, and the memory that was allocated during it.

    Attributes:
        ordinal: of the device.
        pool: keeps the memory.
        nodes: the work, in order.
    """

    ordinal: int
    pool: GraphPool
    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        name: str,
        run: Callable[[], Any] | None,
        reads: Sequence[Span],
        writes: Sequence[Span],
        prepare: Prepare | None,
    ) -> None:
        """Append a piece of work."""
        self.nodes.append(Node(name, run, reads, writes, prepare))


@dataclass(eq=False)
class Capture:
    """A capture under way.

    Attributes:
        stream: the stream that captures.
        graph: records the work.
        is_lost: whether something happened that must not happen during a capture.
    """

    stream: Stream
    graph: Graph
    is_lost: bool = False

    def lose(self, words: str, what: str) -> Exception:
        """Mark the capture as lost, and return the error that says why."""
        self.is_lost = True
        return cuda_error(words, what)
