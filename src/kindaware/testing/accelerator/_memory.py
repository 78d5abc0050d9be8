"""Memory of a simulated device: a caching allocator per stream, with a limit, and the check for races."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from kindaware.testing.accelerator._timeline import Point, Stream, Timeline

POISON = 0xFF
"""What memory is filled with that nobody may read yet: a NaN in every floating dtype, -1 in integers."""

_GRAIN = 512


@dataclass(eq=False, slots=True)
class Block:
    """Memory that streams read and write.

    Attributes:
        store: the bytes, in host memory.
        pool: whose pool it goes back to; None for memory that is not the device's own.
        last_write: by which stream, and the number of its work.
        reads: since then.
        guards: places that must be reached before the memory is given out again.
        recorded: further streams that use it, as `record_stream` says.
    """

    store: torch.Tensor = field(repr=False)
    pool: Any = None
    last_write: tuple[Stream, int] | None = None
    reads: dict[Stream, int] = field(default_factory=dict)
    guards: list[Point] = field(default_factory=list)
    recorded: list[Stream] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """How large it is."""
        return len(self.store)


class Allocation:
    """Holds a block as long as a tensor uses it; then the block may be given out again, done with or not."""

    __slots__ = ("__weakref__", "block", "memory")

    def __init__(self, memory: DeviceMemory, block: Block) -> None:
        self.memory = memory
        self.block = block

    def __del__(self) -> None:
        self.memory.give_back(self.block)


class RaceCheck:
    """Finds work on the same memory that no event and no wait has put in order.

    Args:
        timeline: knows what is ordered.
        report: takes the text of a violation.
    """

    def __init__(self, timeline: Timeline, report: Callable[[str, str], None]) -> None:
        self._timeline = timeline
        self._report = report

    def before(self, stream: Stream, name: str, reads: list[Block], writes: list[Block]) -> None:
        """Check a piece of work that is about to be queued."""
        clock = self._timeline.clock_of(stream)

        def is_unordered(other: Stream, ticket: int) -> bool:
            return other is not stream and clock.get(other, 0) < ticket

        for block in [*reads, *writes]:
            if block.last_write is not None and is_unordered(*block.last_write):
                self._say(stream, name, block.last_write[0], "writes")
                block.last_write = None
        for block in writes:
            for other, ticket in block.reads.items():
                if is_unordered(other, ticket):
                    self._say(stream, name, other, "reads")

    def after(self, stream: Stream, ticket: int, reads: list[Block], writes: list[Block]) -> None:
        """Remember a piece of work that was queued."""
        for block in reads:
            block.reads[stream] = ticket
        for block in writes:
            block.last_write = (stream, ticket)
            block.reads.clear()

    def _say(self, stream: Stream, name: str, other: Stream, does: str) -> None:
        self._report(
            f"run {name} on {stream!r} while {other!r} still {does} the same memory",
            "order the two: stream.wait_event(event), stream.wait_stream(other), or tensor.record_stream",
        )


class DeviceMemory:
    """The memory of one device, as torch's caching allocator hands it out.

    A block that is no longer used goes back to the pool of the stream that it was made on, whether or not
    its queued work is done, and the next tensor of that stream may get it.

    Args:
        ordinal: of the device.
        limit_bytes: how much there is.
        timeline: tells which places were reached.

    Attributes:
        allocated_bytes: in use.
        reserved_bytes: in use or cached.
        peak_bytes: most that was ever in use.
        num_allocations: how many were made.
    """

    def __init__(self, ordinal: int, limit_bytes: int, timeline: Timeline) -> None:
        self.ordinal = ordinal
        self.limit_bytes = limit_bytes
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self.peak_bytes = 0
        self.num_allocations = 0
        self._timeline = timeline
        self._free: list[Block] = []
        self._live: weakref.WeakSet[Allocation] = weakref.WeakSet()

    def allocate(self, num_bytes: int, pool: Any) -> Allocation:
        """Hand out memory from a pool; a stream's, or a graph's own.

        Raises:
            torch.OutOfMemoryError: the limit is reached, also without what is cached.
        """
        size = max(1, -(-num_bytes // _GRAIN)) * _GRAIN
        block = self._reuse(size, pool)
        if block is None:
            if self.reserved_bytes + size > self.limit_bytes:
                self.release_cache()
            if self.reserved_bytes + size > self.limit_bytes:
                raise self.out_of_memory(size)
            block = Block(torch.full((size,), POISON, dtype=torch.uint8), pool)
            self.reserved_bytes += size
        self.num_allocations += 1
        self.allocated_bytes += block.num_bytes
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)
        allocation = Allocation(self, block)
        self._live.add(allocation)
        return allocation

    def find(self, address: int) -> Allocation | None:
        """Give the memory in use in which an address lies."""
        for allocation in self._live:
            start = allocation.block.store.data_ptr()
            if start <= address < start + allocation.block.num_bytes:
                return allocation
        return None

    def out_of_memory(self, num_bytes: int) -> torch.OutOfMemoryError:
        """Make the error that torch raises; only its first words are torch's."""
        return torch.OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {num_bytes} bytes. Simulated GPU {self.ordinal} has "
            f"{self.limit_bytes} bytes, of which {self.limit_bytes - self.allocated_bytes} are free."
        )

    def give_back(self, block: Block) -> None:
        """Take memory back that no tensor uses any more."""
        if block.pool is None:
            return
        self.allocated_bytes -= block.num_bytes
        block.guards = [self._timeline.record(stream) for stream in block.recorded]
        block.recorded.clear()
        self._free.append(block)

    def release_cache(self) -> None:
        """Let go of memory that is not in use, as `empty_cache` does."""
        self.reserved_bytes -= sum(block.num_bytes for block in self._free)
        self._free.clear()

    def _reuse(self, size: int, pool: Any) -> Block | None:
        for index in reversed(range(len(self._free))):
            block = self._free[index]
            fits = size <= block.num_bytes <= 2 * size
            if block.pool is pool and fits and all(map(self._timeline.is_done, block.guards)):
                block.guards.clear()
                return self._free.pop(index)
        return None


class PinnedMemory:
    """Which host memory is page-locked."""

    def __init__(self) -> None:
        self._stores: dict[int, torch.UntypedStorage] = {}

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Page-lock the memory of a host tensor; it stays so until the accelerator goes."""
        storage = tensor.untyped_storage()
        self._stores[storage.data_ptr()] = storage
        return tensor

    def __contains__(self, tensor: torch.Tensor) -> bool:
        """Say whether a host tensor lies in page-locked memory."""
        return tensor.untyped_storage().data_ptr() in self._stores

    @property
    def num_bytes(self) -> int:
        """How much was ever locked."""
        return sum(storage.nbytes() for storage in self._stores.values())
