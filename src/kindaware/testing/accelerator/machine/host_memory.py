"""Host memory that queued copies read or write, and the check that the host leaves it alone meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.multiprocessing import reductions

from kindaware.testing.accelerator.machine.memory import POISON, num_bytes_spanned
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.machine.races import Block, Span

# Expires with the storage itself: a weak reference to a storage in Python expires with that Python object.
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


class HostCopy:
    """A copy from or to host memory, which is queued once or, in a graph, several times.

    Args:
        block: the memory.
        view: the part that is copied.
        carry_out: does the copy.
        outcome: what happens if the host changes the memory meanwhile, and the remedy.
        report: called with each violation, as (what would happen, remedy).
        is_write: whether the copy writes to the host's memory.
    """

    def __init__(
        self,
        block: _HostBlock,
        view: torch.Tensor,
        carry_out: Callable[[torch.Tensor], Any],
        outcome: tuple[str, str],
        report: Callable[[str, str], None],
        *,
        is_write: bool,
    ) -> None:
        self.view = view
        start = view.data_ptr() - block.address
        self.span = Span(block, start, start + num_bytes_spanned(view))
        self._block = block
        self._carry_out = carry_out
        self._outcome = outcome
        self._report = report
        self._is_write = is_write
        self._twin = block.twin_of(view)

    def queue(self) -> Callable[[], None]:
        """Queue the copy and return what does it; a target on the host is poison until then."""
        with plain_torch():
            for other in self._block.queued:
                if other.span.start < self.span.stop and self.span.start < other.span.stop:
                    other._check()
            if self._is_write:
                _bits(self.view).fill_(-1 if self.view.itemsize > 1 else POISON)
            _bits(self._twin).copy_(_bits(self.view))
        self._block.queued.append(self)
        return self._run

    def _run(self) -> None:
        self._check()
        self._block.queued.remove(self)
        self._carry_out(self.view)
        if self._is_write:
            _bits(self._twin).copy_(_bits(self.view))

    def _check(self) -> None:
        """Report a violation if the host has changed the memory."""
        found, wanted = _bits(self.view), _bits(self._twin)
        if not torch.equal(found, wanted):
            self._report(*self._outcome)
            wanted.copy_(found)


class _HostBlock(Block):
    """A storage on the host that is page-locked, or that copies are queued for."""

    def __init__(self, storage: torch.UntypedStorage, *, is_pinned: bool) -> None:
        super().__init__()
        self.address = storage.data_ptr()
        self.num_bytes = storage.nbytes()
        self.is_pinned = is_pinned
        self.queued: list[HostCopy] = []
        self._storage = _StorageWeakRef(storage)
        self._shadow: torch.UntypedStorage | None = None

    def holds(self, address: int) -> bool:
        """Return whether the storage is still alive, and contains an address."""
        return self.address <= address < self.address + self.num_bytes and not self.is_freed()

    def is_freed(self) -> bool:
        """Return whether no tensor uses the storage any more."""
        return bool(self._storage.expired())

    def twin_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same layout, which remembers what a tensor's memory must hold."""
        if self._shadow is None:
            self._shadow = _Storage(self.num_bytes)
        offset = (tensor.data_ptr() - self.address) // tensor.itemsize
        return torch.empty(0, dtype=tensor.dtype).set_(self._shadow, offset, tensor.size(), tensor.stride())


class HostMemory:
    """Knows what host memory is page-locked, and what copies are queued for it.

    Args:
        report: called with each violation, as (what would happen, remedy).
        lock: held while its blocks change; threads of a model share them.
    """

    def __init__(self, report: Callable[[str, str], None], lock: AbstractContextManager[Any]) -> None:
        self._report = report
        self._lock = lock
        self._blocks: list[_HostBlock] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Page-lock the memory of a tensor, for as long as any tensor uses it, and return the tensor."""
        if tensor.numel():
            self._block_of(tensor).is_pinned = True
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor lies in page-locked memory."""
        address = tensor.data_ptr()
        return any(block.is_pinned and block.holds(address) for block in self._blocks)

    @property
    def pinned_bytes(self) -> int:
        """Bytes that are page-locked."""
        return sum(block.num_bytes for block in self._blocks if block.is_pinned and not block.is_freed())

    def reader(self, source: torch.Tensor, take: Callable[[torch.Tensor], Any]) -> HostCopy:
        """Return a copy that reads a tensor.

        Args:
            source: the tensor.
            take: called with it when the copy is carried out.
        """
        with plain_torch():
            view = source.detach()
            return HostCopy(self._block_of(view), view, take, _SOURCE_CHANGED, self._report, is_write=False)

    def writer(self, target: torch.Tensor, value: torch.Tensor) -> HostCopy:
        """Return a copy that writes a tensor.

        Args:
            target: the tensor.
            value: what is written when the copy is carried out.
        """
        with plain_torch():
            view = target.detach()
            fill = functools.partial(_fill, value)
            return HostCopy(self._block_of(view), view, fill, _TARGET_CHANGED, self._report, is_write=True)

    def _block_of(self, tensor: torch.Tensor) -> _HostBlock:
        address = tensor.data_ptr()
        with self._lock:
            for block in self._blocks:
                if block.holds(address):
                    return block
            block = _HostBlock(tensor.untyped_storage(), is_pinned=False)
            self._blocks = [*(one for one in self._blocks if not one.is_freed()), block]
            return block


def _fill(value: torch.Tensor, target: torch.Tensor) -> None:
    target.copy_(value)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of the elements as integers, which compare bit by bit: a NaN equals itself."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(_AS_BITS[tensor.itemsize])
