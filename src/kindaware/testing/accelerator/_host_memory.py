"""Host memory that copies are queued for, page-locked or not, and what the host may not do to it then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing import reductions

from kindaware.testing.accelerator._memory import POISON, num_bytes_spanned
from kindaware.testing.accelerator._races import Block, Span

_StorageWeakRef: Any = reductions.StorageWeakRef
_Storage: Any = torch.UntypedStorage
_AS_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_SOURCE_CHANGED = (
    "send other data than the model had written: the host changed memory from which a queued copy had still "
    "to read",
    "wait for the copy (an event, or the stream) before writing to its source again",
)
_TARGET_CHANGED = (
    "overwrite data: the host wrote to memory that a queued copy was about to fill",
    "wait for the copy (an event, or the stream) before using its target for anything else",
)


@dataclass(eq=False)
class QueuedCopy:
    """A copy that will read or write host memory.

    Attributes:
        view: the memory.
        twin: what it must hold until then.
        span: where it lies.
        outcome: what happens if it holds something else, and the remedy.
    """

    view: torch.Tensor
    twin: torch.Tensor
    span: Span
    outcome: tuple[str, str]


class _HostBlock(Block):
    """A storage of the host that is page-locked, or for which copies are queued."""

    def __init__(self, storage: torch.UntypedStorage, *, is_pinned: bool) -> None:
        super().__init__()
        self.address = storage.data_ptr()
        self.num_bytes = storage.nbytes()
        self.is_pinned = is_pinned
        self.queued: list[QueuedCopy] = []
        self._storage = _StorageWeakRef(storage)
        self._shadow: torch.UntypedStorage | None = None

    def holds(self, address: int) -> bool:
        """Say whether it is still there, and has this address."""
        return self.address <= address < self.address + self.num_bytes and not self.is_freed()

    def is_freed(self) -> bool:
        """Say whether no tensor uses it any more."""
        return bool(self._storage.expired())

    def twin_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Give the place where it is remembered what a tensor's memory must hold."""
        if self._shadow is None:
            self._shadow = _Storage(self.num_bytes)
        offset = (tensor.data_ptr() - self.address) // tensor.itemsize
        return torch.empty(0, dtype=tensor.dtype).set_(self._shadow, offset, tensor.size(), tensor.stride())


class HostMemory:
    """Knows which host memory is page-locked, and for which copies are queued.

    Args:
        report: takes the text of a violation.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._blocks: list[_HostBlock] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Page-lock the memory of a tensor, for as long as tensors use it."""
        if tensor.numel():
            self._block_of(tensor).is_pinned = True
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Say whether a tensor lies in page-locked memory."""
        address = tensor.data_ptr()
        return any(block.is_pinned and block.holds(address) for block in self._blocks)

    @property
    def pinned_bytes(self) -> int:
        """How much is page-locked."""
        return sum(block.num_bytes for block in self._blocks if block.is_pinned and not block.is_freed())

    def will_read(self, source: torch.Tensor) -> QueuedCopy:
        """Note that a copy is queued that reads a tensor."""
        return self._queue(source, _SOURCE_CHANGED)

    def will_write(self, target: torch.Tensor) -> QueuedCopy:
        """Note that a copy is queued that writes a tensor, and poison it: it holds no answer before."""
        return self._queue(target, _TARGET_CHANGED)

    def reads(self, copy: QueuedCopy) -> torch.Tensor:
        """Give what the copy reads, now that it is carried out."""
        self._finish(copy)
        return copy.view

    def writes(self, copy: QueuedCopy, value: torch.Tensor) -> None:
        """Fill what the copy writes, now that it is carried out."""
        self._finish(copy)
        copy.view.copy_(value)
        _bits(copy.twin).copy_(_bits(copy.view))

    def _queue(self, tensor: torch.Tensor, outcome: tuple[str, str]) -> QueuedCopy:
        block = self._block_of(tensor)
        start = tensor.data_ptr() - block.address
        span = Span(block, start, start + num_bytes_spanned(tensor))
        for other in block.queued:
            if other.span.start < span.stop and span.start < other.span.stop:
                self._check(other)
        copy = QueuedCopy(tensor, block.twin_of(tensor), span, outcome)
        if outcome is _TARGET_CHANGED:
            _bits(tensor).fill_(-1 if tensor.itemsize > 1 else POISON)
        _bits(copy.twin).copy_(_bits(tensor))
        block.queued.append(copy)
        return copy

    def _finish(self, copy: QueuedCopy) -> None:
        self._check(copy)
        block = copy.span.block
        assert isinstance(block, _HostBlock)
        block.queued.remove(copy)

    def _check(self, copy: QueuedCopy) -> None:
        found, wanted = _bits(copy.view), _bits(copy.twin)
        if not torch.equal(found, wanted):
            self._report(*copy.outcome)
            wanted.copy_(found)

    def _block_of(self, tensor: torch.Tensor) -> _HostBlock:
        address = tensor.data_ptr()
        for block in self._blocks:
            if block.holds(address):
                return block
        self._blocks = [block for block in self._blocks if not block.is_freed()]
        self._blocks.append(_HostBlock(tensor.untyped_storage(), is_pinned=False))
        return self._blocks[-1]


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Look at elements as integers, which compare as bits: a NaN equals itself."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(_AS_BITS[tensor.itemsize])
