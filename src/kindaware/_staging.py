"""From host to device and back for one batch, through reused pinned buffers.

The rule: a buffer that a queued copy reads or writes is not touched on the host before the wait. Input
buffers are free again after the batch's one wait; output buffers belong to the answers until the next call
of `execute`, because Triton copies answers only after `execute` has returned.
Source: python_backend `pb_stub.cc`, Stub::ProcessRequests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kindaware._batch import gather
from kindaware._runtime import Runtime


class Staging(Protocol):
    """Moves one batch's tensors to the device and its outputs back."""

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the call before are no longer needed."""

    def begin_forward(self) -> None:
        """Start one forward of the call."""

    def put(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Join the rows of one input, [b, ...] each, into [B, ...] on the device. Inside the scope."""

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring contiguous outputs to host memory, valid until `begin_call`. Sync: host with stream."""

    def settle(self) -> None:
        """Wait for whatever is still queued, also after an error. Sync: host with stream, if anything is."""


class HostStaging:
    """Staging for the CPU: inputs are joined, outputs are handed on as they are.

    A forward may return memory that it writes again in its next call. Answers are read after `execute` has
    returned, so before a second forward of the same call the outputs of the first are copied.
    """

    def __init__(self) -> None:
        self._exposed: list[dict[str, torch.Tensor]] = []

    def begin_call(self) -> None:
        """Forget the outputs of the call before."""
        self._exposed.clear()

    def begin_forward(self) -> None:
        """Copy outputs that the coming forward could overwrite."""
        for outputs in self._exposed:
            for name, tensor in outputs.items():
                outputs[name] = tensor.clone()
        self._exposed.clear()

    def put(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Join the rows; a single request's tensor is not copied."""
        return gather(tensors)

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keep the outputs where they are."""
        kept = dict(outputs)
        self._exposed.append(kept)
        return kept

    def settle(self) -> None:
        """Nothing is ever queued."""


@dataclass(slots=True)
class StagingStatistics:
    """What a `PinnedStaging` has done since it was made.

    Attributes:
        bytes_in: bytes copied to the device.
        bytes_out: bytes copied to the host.
        pinned_bytes: page-locked bytes that it holds.
        num_unpinned: copies that went through pageable memory because the limit was reached.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    pinned_bytes: int = 0
    num_unpinned: int = 0


class PinnedStaging:
    """Staging for a GPU: one queued copy per tensor, one wait per batch.

    Args:
        runtime: the device.
        limit_bytes: how much pinned memory it may hold; beyond it, copies go through pageable memory.
    """

    def __init__(self, runtime: Runtime, limit_bytes: int) -> None:
        self._runtime = runtime
        self._limit_bytes = limit_bytes
        self._free: list[torch.Tensor] = []
        self._with_batch: list[torch.Tensor] = []
        self._with_call: list[torch.Tensor] = []
        self._is_pending = False
        self.statistics = StagingStatistics()

    def begin_call(self) -> None:
        """Take back the output buffers of the call before."""
        self._free += self._with_call
        self._with_call.clear()

    def begin_forward(self) -> None:
        """Nothing to protect: outputs already lie in buffers of their own."""

    def put(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Copy each request's rows into a pinned buffer and queue one copy of it to the device."""
        first = tensors[0]
        if first.device.type != "cpu":
            return gather([tensor.to(self._runtime.device) for tensor in tensors])
        shape = first.shape if len(tensors) == 1 else (sum(len(one) for one in tensors), *first.shape[1:])
        pinned = self._borrow(shape, first.dtype, self._with_batch)
        if len(tensors) == 1:
            pinned.copy_(first)
        else:
            torch.cat(list(tensors), out=pinned)
        target = torch.empty(shape, dtype=first.dtype, device=self._runtime.device)
        self._is_pending = True
        self._runtime.copy(target, pinned)
        self.statistics.bytes_in += target.nbytes
        return target

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Queue one copy per output into pinned memory and wait once for all of them."""
        fetched = {}
        for name, output in outputs.items():
            # A copy from another GPU would be queued on a stream of that GPU, which `wait` doesn't know.
            tensor = output if output.device.type == "cpu" else output.to(self._runtime.device)
            pinned = self._borrow(tensor.shape, tensor.dtype, self._with_call)
            self._is_pending = True
            self._runtime.copy(pinned, tensor)
            self.statistics.bytes_out += tensor.nbytes
            fetched[name] = pinned
        self.settle()
        return fetched

    def settle(self) -> None:
        """Wait if a copy may still be under way, then take the input buffers back."""
        if self._is_pending:
            self._runtime.wait()
            self._is_pending = False
        self._free += self._with_batch
        self._with_batch.clear()

    def _borrow(self, shape: Sequence[int], dtype: torch.dtype, owner: list[torch.Tensor]) -> torch.Tensor:
        """Find the smallest free buffer that holds the tensor, or make one; pageable beyond the limit."""
        num_bytes = math.prod(shape) * dtype.itemsize
        fitting = [buffer for buffer in self._free if len(buffer) >= num_bytes]
        if fitting:
            buffer = min(fitting, key=len)
            self._free = [free for free in self._free if free is not buffer]
        else:
            made = self._allocate(num_bytes)
            if made is None:
                self.statistics.num_unpinned += 1
                return torch.empty(tuple(shape), dtype=dtype)
            buffer = made
        owner.append(buffer)
        return buffer[:num_bytes].view(dtype).view(tuple(shape))

    def _allocate(self, num_bytes: int) -> torch.Tensor | None:
        """Make a buffer, dropping free ones to stay within the limit; None where it can't."""
        size = max(4096, 1 << max(num_bytes - 1, 0).bit_length())
        while self._free and self.statistics.pinned_bytes + size > self._limit_bytes:
            self.statistics.pinned_bytes -= len(self._free.pop())
        if self.statistics.pinned_bytes + size > self._limit_bytes:
            return None
        self.statistics.pinned_bytes += size
        return self._runtime.new_pinned(size)


def open_staging(runtime: Runtime, limit_bytes: int) -> Staging:
    """Make the staging that fits the runtime."""
    return HostStaging() if runtime.is_host else PinnedStaging(runtime, limit_bytes)
