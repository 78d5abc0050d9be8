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
from typing import Any, Protocol

import torch

from kindaware._device.runtime import Runtime
from kindaware._tensors.rows import concat, concat_into, pieces

PIECE_BYTES = 2 * 2**20
"""Inputs above this size go to the device in pieces of about this size, so that the device copies one while
the host fills the next. A smaller piece costs more in calls than it saves. On a GPU: not measured."""


@dataclass(slots=True)
class StagingStatistics:
    """What a staging has done since it was made; all 0 on the CPU, where nothing is copied to a device.

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


class Staging(Protocol):
    """Moves one batch's tensors to the device and its outputs back.

    Attributes:
        statistics: what it has done.
    """

    statistics: StagingStatistics

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the call before are no longer needed."""

    def begin_forward(self) -> None:
        """Start one forward of the call. Inside the scope."""

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Join the rows of one input, [b, ...] each, into [B, ...] on the device. Inside the scope.

        Args:
            tensors: at least one; on the host, or all on a device. On a device they may be memory that
                Triton takes back when `execute` returns.
            target: contiguous memory on the device that takes them; None for memory of the staging's choice.
        """

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring contiguous outputs to where the answers need them, valid until `begin_call`.

        Sync:
            Host with stream: when this returns, the outputs are computed.
        """

    def settle(self) -> None:
        """Wait for whatever is still queued, also after an error. Sync: host with stream, if anything is."""


class _Exposed:
    """Outputs of a call that lie where forward put them.

    A forward may return memory that it writes again in its next call, and a CUDA graph always does. Answers
    are read after `execute` has returned, so before a second forward of the same call the outputs of the
    first are copied.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Any]] = []

    def add(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Remember a batch's outputs; give the mapping in which copies will take their place."""
        self._batches.append(outputs)
        return outputs

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()

    def protect(self) -> None:
        """Copy what the coming forward could overwrite, on the current stream."""
        for outputs in self._batches:
            for name, value in outputs.items():
                if isinstance(value, torch.Tensor):  # arrays of BYTES are the answers' own
                    outputs[name] = value.clone()
        self._batches.clear()


class HostStaging:
    """Staging for the CPU: inputs are joined, outputs are handed on as they are."""

    def __init__(self) -> None:
        self.statistics = StagingStatistics()
        self._exposed = _Exposed()

    def begin_call(self) -> None:
        """Forget the outputs of the call before."""
        self._exposed.clear()

    def begin_forward(self) -> None:
        """Copy outputs that the coming forward could overwrite."""
        self._exposed.protect()

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Join the rows; a single request's tensor is not copied, unless a target is given."""
        joined = concat(tensors)
        return joined if target is None else target.copy_(joined)

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keep the outputs where they are."""
        return self._exposed.add(dict(outputs))

    def settle(self) -> None:
        """Nothing is ever queued."""


class PinnedStaging:
    """Staging for a GPU: inputs in queued copies, one queued copy per output, one wait per batch.

    Inputs come to lie in fresh memory of torch's allocator. That is cheap, since the allocator keeps what was
    freed on the stream for what comes next on it; and a forward may keep, return or overwrite its inputs,
    which it could not if the next batch were written to the same place. CUDA graphs need a fixed place, so
    they pass it as the target.

    Args:
        runtime: the device.
        limit_bytes: how much pinned memory it may hold; beyond it, copies go through pageable memory.
        keeps_outputs: leave outputs on the device, for consumers there.
    """

    def __init__(self, runtime: Runtime, limit_bytes: int, *, keeps_outputs: bool = False) -> None:
        self._runtime = runtime
        self._limit_bytes = limit_bytes
        self._keeps_outputs = keeps_outputs
        self._exposed = _Exposed()
        self._borrowed: set[int] = set()
        self._free: list[torch.Tensor] = []
        self._with_batch: list[torch.Tensor] = []
        self._with_call: list[torch.Tensor] = []
        self._is_pending = False
        self.statistics = StagingStatistics()

    def begin_call(self) -> None:
        """Take back the output buffers of the call before, unless its last wait failed."""
        self._exposed.clear()
        if not self._is_pending:
            self._free += self._with_call
            self._with_call.clear()

    def begin_forward(self) -> None:
        """Copy outputs on the device that the coming forward could overwrite; on the host, none can be."""
        self._is_pending = True  # of this copy, or of what a hook does with inputs in Triton's memory
        self._exposed.protect()

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Copy the rows into a pinned buffer, piece by piece, and queue a copy to the device for each.

        The host's copy uses torch's threads: two of them copied 8 to 77 MiB, from memory that was in no
        cache, 1.04 to 1.7 times as fast as one (medians, two shared cores; a pool of threads that copy with
        numpy: 0.72 to 1.25 times).

        Tensors that are on a device are joined there, on the current stream. A single one is handed on
        without a copy.
        """
        first = tensors[0]
        # From here on the device may be at work on memory that is not its own: the buffer, or Triton's.
        self._is_pending = True
        if first.device.type != "cpu":
            joined = concat([tensor.to(self._runtime.device) for tensor in tensors])
            if len(tensors) == 1:
                self._borrowed.add(_start_of(joined))
            return joined if target is None else target.copy_(joined)
        shape = first.shape if len(tensors) == 1 else (sum(len(one) for one in tensors), *first.shape[1:])
        pinned = self._borrow(shape, first.dtype, self._with_batch)
        if target is None:
            target = torch.empty(shape, dtype=first.dtype, device=self._runtime.device)
        for piece, (host, device) in pieces(tensors, (pinned, target), PIECE_BYTES):
            concat_into(piece, host)
            self._runtime.copy(device, host)
        self.statistics.bytes_in += target.nbytes
        return target

    def fetch(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Queue one copy per output into pinned memory and wait once for all of them.

        Outputs that are to stay on the device are waited for all the same, since inputs may be of Triton's
        memory. One that is an input of Triton's, or a part of it, is copied: the answer is read when that
        memory may have a new owner.
        """
        # What lies on another GPU would be read on a stream of that GPU, which `wait` doesn't know.
        near = {
            name: output if output.device.type == "cpu" else output.to(self._runtime.device)
            for name, output in outputs.items()
        }
        self._is_pending = True
        fetched = self._exposed.add(self._owned(near)) if self._keeps_outputs else self._copied(near)
        self.settle()
        return fetched

    def _owned(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: output.clone() if _start_of(output) in self._borrowed else output
            for name, output in outputs.items()
        }

    def _copied(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        copied = {}
        for name, output in outputs.items():
            copied[name] = self._borrow(output.shape, output.dtype, self._with_call)
            self._runtime.copy(copied[name], output)
            self.statistics.bytes_out += output.nbytes
        return copied

    def settle(self) -> None:
        """Wait if a copy may still be under way, then take the input buffers back."""
        if self._is_pending:
            self._runtime.wait()
            self._is_pending = False
        self._free += self._with_batch
        self._with_batch.clear()
        self._borrowed.clear()

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
        buffer = self._runtime.new_pinned(size)
        self.statistics.pinned_bytes += size
        return buffer


def _start_of(tensor: torch.Tensor) -> int:
    """Where the memory begins that a tensor and its views share."""
    return tensor.untyped_storage().data_ptr()


def open_staging(runtime: Runtime, limit_bytes: int, *, keeps_outputs: bool = False) -> Staging:
    """Make the staging that fits the runtime."""
    if runtime.is_host:
        return HostStaging()
    return PinnedStaging(runtime, limit_bytes, keeps_outputs=keeps_outputs)
