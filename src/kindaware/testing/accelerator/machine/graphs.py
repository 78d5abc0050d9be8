"""CUDA graphs: work that is noted once and queued again as often as wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.accelerator.machine.errors import cuda_error
from kindaware.testing.accelerator.machine.memory import GraphPool
from kindaware.testing.accelerator.machine.races import Span
from kindaware.testing.accelerator.machine.streams import Stream

Prepare = Callable[[], Callable[[], Any]]
"""Returns what does a piece of work, anew each time that it is queued."""


@dataclass(slots=True)
class Node:
    """A piece of work that a capture noted; see `Machine.submit`."""

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
    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        name: str,
        run: Callable[[], Any] | None,
        reads: Sequence[Span],
        writes: Sequence[Span],
        prepare: Prepare | None,
    ) -> None:
        """Note a piece of work."""
        self.nodes.append(Node(name, run, reads, writes, prepare))


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
