"""Memory of a simulated device: a caching allocator per stream, with a limit."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from kindaware.testing.accelerator.machine.races import Block
from kindaware.testing.accelerator.machine.streams import Point, Stream
from kindaware.testing.accelerator.machine.timeline import Timeline

POISON = 0xFF
"""Fills memory that nobody may read yet: its bytes are a NaN in every floating dtype, and -1 in integers."""

_GRAIN = 512


class GraphPool:
    """The memory pool of CUDA graphs: blocks that were taken during their captures.

    Attributes:
        graphs: the graphs that still need it.
    """

    def __init__(self) -> None:
        self.graphs: weakref.WeakSet[Any] = weakref.WeakSet()


@dataclass(eq=False)
class DeviceBlock(Block):
    """Memory of a device.

    Attributes:
        store: the bytes, in host memory.
        pool: the stream or graphs that may reuse it; None for memory that is not the allocator's.
        guards: places in streams that must be reached before it is reused.
        recorded: other streams that use it, as told by `record_stream`.
        address: of the first byte.
    """

    store: torch.Tensor = field(repr=False, kw_only=True)
    pool: Stream | GraphPool | None = None
    guards: list[Point] = field(default_factory=list)
    recorded: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.address = self.store.data_ptr()

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return len(self.store)


class Allocation:
    """Holds a block while a tensor uses it; then it may be reused, even if work on it is still queued."""

    __slots__ = ("__weakref__", "block", "is_reused", "memory")

    def __init__(self, memory: DeviceMemory, block: DeviceBlock, *, is_reused: bool = False) -> None:
        self.memory = memory
        self.block = block
        self.is_reused = is_reused

    def __del__(self) -> None:
        self.memory.give_back(self.block)


class DeviceMemory:
    """The memory of one device, handed out as by torch's caching allocator.

    A block that is no longer used goes back to the pool of the stream that it was allocated on, whether or
    not its queued work is done, and the next tensor of that stream may get it.

    Args:
        ordinal: of the device.
        limit_bytes: memory of the device.
        timeline: knows which places in streams were reached.

    Attributes:
        peak_bytes: most bytes ever in use.
        peak_reserved_bytes: most bytes ever in use or cached.
        num_allocations: allocations so far.
    """

    def __init__(self, ordinal: int, limit_bytes: int, timeline: Timeline) -> None:
        self.ordinal = ordinal
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self.peak_reserved_bytes = 0
        self.num_allocations = 0
        self._allocated_bytes = 0
        self._reserved_bytes = 0
        self._timeline = timeline
        self._free: dict[Stream | GraphPool, list[DeviceBlock]] = {}
        self._returned: deque[DeviceBlock] = deque()
        self._live: weakref.WeakSet[Allocation] = weakref.WeakSet()

    @property
    def allocated_bytes(self) -> int:
        """Bytes in use."""
        self._collect()
        return self._allocated_bytes

    @property
    def reserved_bytes(self) -> int:
        """Bytes in use or cached."""
        return self._reserved_bytes

    def allocate(self, num_bytes: int, pool: Stream | GraphPool) -> Allocation:
        """Return memory from a pool.

        Raises:
            torch.OutOfMemoryError: there is too little, even after the cache was released.
        """
        size = max(1, -(-num_bytes // _GRAIN)) * _GRAIN
        with self._timeline.lock:
            self._collect()
            block = self._reuse(size, pool)
            is_reused = block is not None
            if block is None:
                if self._reserved_bytes + size > self.limit_bytes:
                    self.release_cache()
                if self._reserved_bytes + size > self.limit_bytes:
                    raise self._out_of_memory(size)
                block = DeviceBlock(store=torch.full((size,), POISON, dtype=torch.uint8), pool=pool)
                self._reserved_bytes += size
            self.num_allocations += 1
            self._allocated_bytes += block.num_bytes
            self.peak_bytes = max(self.peak_bytes, self._allocated_bytes)
            self.peak_reserved_bytes = max(self.peak_reserved_bytes, self._reserved_bytes)
            allocation = Allocation(self, block, is_reused=is_reused)
            self._live.add(allocation)
            return allocation

    def borrow(self, store: torch.Tensor) -> Allocation:
        """Return memory that is not the allocator's as memory of the device."""
        return Allocation(self, DeviceBlock(store=store))

    def find(self, address: int) -> Allocation | None:
        """Return the memory in use that contains an address, or None."""
        with self._timeline.lock:  # another thread may allocate
            live = list(self._live)
        for allocation in live:
            start = allocation.block.address
            if start <= address < start + allocation.block.num_bytes:
                return allocation
        return None

    def _out_of_memory(self, num_bytes: int) -> torch.OutOfMemoryError:
        """Return the error that torch raises; only its first words are torch's."""
        return torch.OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {num_bytes} bytes. Simulated GPU {self.ordinal} has "
            f"{self.limit_bytes} bytes, of which {self.limit_bytes - self._allocated_bytes} are free."
        )

    def give_back(self, block: DeviceBlock) -> None:
        """Take back memory that no tensor uses any more. May be called at any moment, by any thread."""
        if block.pool is not None:
            self._returned.append(block)  # a deque: the garbage collector must not wait for a lock

    def _collect(self) -> None:
        """Move blocks that were given back to their pools."""
        with self._timeline.lock:
            while self._returned:
                block = self._returned.popleft()
                self._allocated_bytes -= block.num_bytes
                block.guards = [self._timeline.record(stream) for stream in block.recorded]
                block.recorded.clear()
                assert block.pool is not None
                self._free.setdefault(block.pool, []).append(block)

    def release_cache(self) -> None:
        """Release memory that is not in use, as `empty_cache` does, except that of graphs."""
        with self._timeline.lock:
            self._collect()
            for pool in list(self._free):
                if not (isinstance(pool, GraphPool) and pool.graphs):
                    self._reserved_bytes -= sum(block.num_bytes for block in self._free.pop(pool))

    def _reuse(self, size: int, pool: Stream | GraphPool) -> DeviceBlock | None:
        """Return a free block of about the size, the one freed last if there are several."""
        blocks = self._free.get(pool, [])
        for index in reversed(range(len(blocks))):
            block = blocks[index]
            # As torch's allocator asks the events of `record_stream` before it hands memory out again.
            if size <= block.num_bytes <= 2 * size and all(map(self._timeline.sees, block.guards)):
                return blocks.pop(index)
        return None


def num_bytes_spanned(tensor: torch.Tensor) -> int:
    """Return the number of bytes from a tensor's first element to its last."""
    if not tensor.numel():
        return 0
    steps = zip(tensor.size(), tensor.stride(), strict=True)
    return (1 + sum((size - 1) * step for size, step in steps)) * tensor.itemsize
