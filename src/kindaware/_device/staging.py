"""Copies of a batch from host to device and back, through reused pinned buffers.

Invariant: the host does not touch a buffer that a queued copy reads or writes before the wait. Input buffers
are free again after the batch's single wait; output buffers belong to the responses until the next call of
`execute`, because Triton copies responses only after `execute` has returned. A call that overlaps with the
next keeps all its buffers until it has been answered; see `Flight`.
Source: python_backend `pb_stub.cc`, Stub::ProcessRequests.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from kindaware._config.settings import Settings
from kindaware._device.runtime import Runtime
from kindaware._tensors.rows import concat, concat_into, pieces

Outputs = dict[str, Any]
"""A batch's outputs by name: a tensor each, or a list of one per request."""

Note = Callable[[float], None]
"""Takes the time at which a batch's outputs were there, in seconds of `time.perf_counter`."""

PIECE_BYTES = 2 * 2**20
"""Inputs larger than this are copied in pieces of about this size, so that the device copies one piece while
the host fills the next. Smaller pieces cost more in calls than they save. On a GPU: not measured."""


@dataclass(slots=True)
class StagingStatistics:
    """Counters of a staging since its creation; all 0 on the CPU, where nothing is copied to a device.

    Attributes:
        bytes_in: bytes copied to the device.
        bytes_out: bytes copied to the host.
        pinned_bytes: bytes of page-locked memory that it holds now.
        num_unpinned: copies that went through pageable memory because the limit was reached.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    pinned_bytes: int = 0
    num_unpinned: int = 0


class Staging(Protocol):
    """Copies one batch's inputs to the device and its outputs back.

    Attributes:
        statistics: counters since its creation.
    """

    statistics: StagingStatistics

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the previous call are no longer needed."""

    def begin_forward(self) -> None:
        """Start one forward of the call. Called inside the runtime's scope."""

    def expect(self, values: Iterable[object]) -> None:
        """Have the next `begin_forward` wait if any of these is a tensor on the host; see `land`."""

    def land(self, values: Iterable[object]) -> None:
        """Wait if any of what a hook has made is a tensor on the host: its copy may still be in flight.

        A copy to the host with `non_blocking` is only queued, and whoever reads it before the wait reads
        what was in that memory before.

        Sync:
            Host with stream, if there is such a tensor.
        """

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Concatenate the rows of one input, [b, ...] each, into [B, ...] on the device.

        Called inside the runtime's scope.

        Args:
            tensors: at least one; all on the host, or all on a device. On a device they may be memory that
                Triton reclaims when `execute` returns.
            target: contiguous memory on the device to write to; None for memory that the staging chooses.
        """

    def fetch(self, outputs: Mapping[str, Any]) -> Outputs:
        """Copy contiguous outputs to where the responses need them; valid until `begin_call`.

        Args:
            outputs: by name a tensor, or a list of one per request.

        Sync:
            Host with stream: when this returns, the outputs are computed.
        """

    def settle(self) -> None:
        """Wait for whatever is queued, after an error too. Sync: host with stream, if anything is queued."""

    def then(self, note: Note) -> None:
        """Tell when the outputs of the last `fetch` were there: now, or later if it hasn't waited."""


class _Exposed:
    """Outputs of the current call that still lie in the memory that `forward` returned.

    A forward may return memory that it overwrites in its next call, and a CUDA graph always does. Responses
    are read after `execute` has returned, so the outputs of one forward are copied before a second forward of
    the same call.
    """

    def __init__(self) -> None:
        self._batches: list[Outputs] = []

    def add(self, outputs: Outputs) -> Outputs:
        """Remember a batch's outputs, and return the mapping, in which `protect` will replace them."""
        self._batches.append(outputs)
        return outputs

    def clear(self) -> None:
        """Forget the outputs of all batches."""
        self._batches.clear()

    def protect(self) -> None:
        """Copy, on the current stream, whatever the next forward could overwrite."""
        for outputs in self._batches:
            for name, value in outputs.items():
                # BYTES arrays were copied when they were checked.
                outputs[name] = _each(
                    value, lambda one: one.clone() if isinstance(one, torch.Tensor) else one
                )
        self._batches.clear()


class HostStaging:
    """Staging for the CPU: inputs are concatenated, outputs are passed on without a copy."""

    def __init__(self) -> None:
        self.statistics = StagingStatistics()
        self._exposed = _Exposed()

    def begin_call(self) -> None:
        """Forget the outputs of the previous call."""
        self._exposed.clear()

    def begin_forward(self) -> None:
        """Copy outputs that the next forward could overwrite."""
        self._exposed.protect()

    def expect(self, values: Iterable[object]) -> None:
        """Do nothing: nothing is ever queued."""

    def land(self, values: Iterable[object]) -> None:
        """Do nothing: nothing is ever queued."""

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Concatenate the rows; a single request's tensor is copied only into a target."""
        joined = concat(tensors)
        # A target is the memory that a captured graph reads.
        return joined if target is None else target.copy_(joined)

    def fetch(self, outputs: Mapping[str, Any]) -> Outputs:
        """Return the outputs without copying them."""
        return self._exposed.add(dict(outputs))

    def settle(self) -> None:
        """Do nothing: nothing is ever queued."""

    def then(self, note: Note) -> None:
        """Tell the time: the outputs are there."""
        note(time.perf_counter())


class PinnedStaging:
    """Staging for a GPU: queued copies of inputs and outputs, and one wait per batch.

    Inputs are copied to fresh memory from torch's allocator. That is cheap, since the allocator reuses memory
    that was freed on the same stream; and a forward may keep, return or overwrite its inputs, which it could
    not if the next batch were written to the same memory. CUDA graphs need fixed addresses, so they pass
    their inputs as targets.

    Args:
        runtime: the runtime of the device.
        limit_bytes: maximum pinned memory to hold, in bytes; beyond it, copies go through pageable memory.
        keeps_outputs: whether outputs stay on the device, for consumers there.
    """

    def __init__(self, runtime: Runtime, limit_bytes: int, *, keeps_outputs: bool = False) -> None:
        self._runtime = runtime
        self._limit_bytes = limit_bytes
        self._keeps_outputs = keeps_outputs
        self._exposed = _Exposed()
        # Ranges of addresses that belong to Triton, which it reclaims when `execute` returns.
        self._borrowed: list[range] = []
        # Each pinned buffer is in exactly one of these three lists.
        self._free: list[torch.Tensor] = []
        self._with_batch: list[torch.Tensor] = []
        self._with_call: list[torch.Tensor] = []
        self._is_pending = False
        self._must_land = False
        self.statistics = StagingStatistics()

    def begin_call(self) -> None:
        """Reclaim the output buffers of the previous call, unless its last wait failed."""
        self._exposed.clear()
        if not self._is_pending:
            self._free += self._with_call
            self._with_call.clear()

    def begin_forward(self) -> None:
        """Copy outputs on the device that the next forward could overwrite; those on the host are safe."""
        # Before anything is queued: these copies, or what a hook does with inputs in Triton's memory.
        self._is_pending = True
        if self._must_land:
            self._runtime.wait_for_host_memory()
            self._must_land = False
        self._exposed.protect()

    def expect(self, values: Iterable[object]) -> None:
        """Note that copies to the host may be in flight; one wait per call covers all of its requests."""
        self._must_land = self._must_land or any(map(_is_on_host, values))

    def land(self, values: Iterable[object]) -> None:
        """Wait for copies to the host that a hook has queued, on any of the instance's devices."""
        if any(map(_is_on_host, values)):
            self._runtime.wait_for_host_memory()

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Copy the rows into a pinned buffer, piece by piece, and queue a copy to the device for each piece.

        The copy on the host uses torch's threads: with uncached memory, two threads copied 8 to 77 MiB 1.04
        to 1.7 times as fast as one (medians, two shared cores; a pool of threads that copy with numpy: 0.72
        to 1.25 times).

        Tensors on a device are concatenated there, on the current stream. A single one is passed on without a
        copy.

        Sync:
            None: copies are queued on the current stream.
        """
        first = tensors[0]
        # From here on the device may be using memory that others reuse: the pinned buffer, or Triton's.
        self._is_pending = True
        if first.device.type != "cpu":
            joined = concat([tensor.to(self._runtime.device) for tensor in tensors])
            # Not copied, so this is still Triton's memory, and so is any view of it that forward returns.
            if len(tensors) == 1:
                self._borrowed.append(_addresses_of(joined))
            return joined if target is None else target.copy_(joined)
        shape = first.shape if len(tensors) == 1 else (sum(len(one) for one in tensors), *first.shape[1:])
        pinned = self._borrow(shape, first.dtype, self._with_batch)
        if target is None:
            target = torch.empty(shape, dtype=first.dtype, device=self._runtime.device)
        # The device copies one piece while the host fills the next, so the two overlap.
        for piece, (host, device) in pieces(tensors, (pinned, target), PIECE_BYTES):
            concat_into(piece, host)
            self._runtime.copy(device, host)
        self.statistics.bytes_in += target.nbytes
        return target

    def fetch(self, outputs: Mapping[str, Any]) -> Outputs:
        """Queue one copy per output into pinned memory, and wait once for all of them.

        Outputs that stay on the device are waited for as well, since inputs may lie in Triton's memory. An
        output that is such an input, or a view of one, is copied: when the response is read, that memory may
        belong to somebody else.

        Sync:
            Host with stream.
        """
        # An output on another GPU would be read on a stream of that GPU, which `wait` doesn't cover.
        near = {name: _each(output, self._near) for name, output in outputs.items()}
        self._is_pending = True
        if self._keeps_outputs:
            fetched = self._exposed.add({name: _each(one, self._owned) for name, one in near.items()})
        else:
            fetched = {name: _each(one, self._copied) for name, one in near.items()}
        self.settle()
        return fetched

    def _near(self, output: torch.Tensor) -> torch.Tensor:
        return output if output.device.type == "cpu" else output.to(self._runtime.device)

    def _owned(self, output: torch.Tensor) -> torch.Tensor:
        # By address: a slice that came back through DLPack has a storage of its own, inside of Triton's.
        address = output.data_ptr()
        return output.clone() if any(address in one for one in self._borrowed) else output

    def _copied(self, output: torch.Tensor) -> torch.Tensor:
        copied = self._borrow(output.shape, output.dtype, self._with_call)
        self._runtime.copy(copied, output)
        self.statistics.bytes_out += output.nbytes
        return copied

    def settle(self) -> None:
        """Wait if a copy may still be in flight, then reclaim the input buffers."""
        # If the wait raises, nothing is reclaimed: the device may still use the buffers.
        if self._is_pending:
            self._runtime.wait()
            self._is_pending = False
        self._free += self._with_batch
        self._with_batch.clear()
        self._borrowed.clear()

    def then(self, note: Note) -> None:
        """Tell the time: `fetch` has waited for the outputs."""
        note(time.perf_counter())

    def _borrow(self, shape: Sequence[int], dtype: torch.dtype, owner: list[torch.Tensor]) -> torch.Tensor:
        """Return the smallest free buffer that fits, as a tensor, or a new one; pageable beyond the limit.

        Args:
            shape: shape of the tensor.
            dtype: dtype of the tensor.
            owner: the list that the buffer is in until it is free again.
        """
        num_bytes = math.prod(shape) * dtype.itemsize
        fitting = [buffer for buffer in self._free if len(buffer) >= num_bytes]
        if fitting:
            buffer = min(fitting, key=len)
            # By identity: `remove` would compare the contents of tensors.
            self._free = [free for free in self._free if free is not buffer]
        else:
            allocated = self._allocate(num_bytes)
            if allocated is None:
                self.statistics.num_unpinned += 1
                return torch.empty(tuple(shape), dtype=dtype)
            buffer = allocated
        owner.append(buffer)
        return buffer[:num_bytes].view(dtype).view(tuple(shape))

    def _allocate(self, num_bytes: int) -> torch.Tensor | None:
        """Allocate a buffer, dropping free ones to stay within the limit; None if that isn't enough."""
        # Powers of two, so that batches of different sizes reuse the same buffers.
        size = max(4096, 1 << max(num_bytes - 1, 0).bit_length())
        # Any free buffer is too small for this tensor, or it would have been taken. What is dropped here goes
        # to torch's allocator, which keeps it page-locked for the next buffer of that size: returning it to
        # the driver would wait for the whole device. So the limit is on what the staging holds; what torch
        # keeps beside it is at most that much per power of two.
        while self._free and self.statistics.pinned_bytes + size > self._limit_bytes:
            self.statistics.pinned_bytes -= len(self._free.pop())
        if self.statistics.pinned_bytes + size > self._limit_bytes:
            return None
        buffer = self._runtime.new_pinned(size)
        self.statistics.pinned_bytes += size
        return buffer


class Flight:
    """A call whose work is queued: what it holds until it has been answered, and the waits for it.

    One thread queues the call, another may wait for it and answer it.

    Attributes:
        buffers: the pinned buffers that its copies use, and its answers are read from.
        is_answered: whether its answers have been sent, so that the buffers may be used again.
    """

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []
        self.is_answered = False
        self._lock = threading.Lock()
        # Memory of the device that copies still read.
        self._held: list[object] = []
        self._marks: list[tuple[Callable[[], None], list[Note]]] = []
        self._times: list[float] = []

    def hold(self, tensors: object) -> None:
        """Keep tensors until the device has done the call's work."""
        self._held.append(tensors)

    def mark(self, wait: Callable[[], None]) -> None:
        """Add a wait: for the outputs of a batch, or for all that the call has queued."""
        self._marks.append((wait, []))

    def then(self, note: Note) -> None:
        """Have `tell` tell the time at which the last wait was over."""
        self._marks[-1][1].append(note)

    def land(self) -> None:
        """Wait for the call's work.

        Raises:
            Exception: the device has failed.

        Sync:
            Host with the device's work for this call, without the GIL.
        """
        with self._lock:
            for wait, _ in self._marks[len(self._times) :]:
                wait()
                self._times.append(time.perf_counter())
            self._held.clear()

    @property
    def is_holding(self) -> bool:
        """Whether it keeps memory of the device."""
        return bool(self._held)

    def tell(self) -> None:
        """Tell the times of batches; of those only that were waited for without an error."""
        for (_, notes), at in zip(self._marks, self._times, strict=False):
            for note in notes:
                note(at)


class OverlappingStaging(PinnedStaging):
    """Staging for a GPU whose calls overlap: between `begin_flight` and `end_flight` it doesn't wait.

    Inputs are copied in on a stream of their own, so that this runs while the instance's stream computes the
    call before, into memory that torch keeps from others until both streams are done with it. Outputs are
    copied out on a third stream. As the next forward may overwrite what this one returned, they are first
    copied on the device, which takes a small part of the time of a copy to the host. On a GPU: not measured.

    What goes straight to the memory that a CUDA graph reads is copied on the instance's stream, behind the
    replay before it. Outside of a flight, as in the warm-up, it is a `PinnedStaging`.
    """

    def __init__(self, runtime: Runtime, limit_bytes: int, *, keeps_outputs: bool = False) -> None:
        super().__init__(runtime, limit_bytes, keeps_outputs=keeps_outputs)
        self._copies_in = runtime.open_side_stream()
        self._copies_out = runtime.open_side_stream()
        self._flight: Flight | None = None
        self._flights: list[Flight] = []
        self._others_hold = False

    def begin_flight(self) -> None:
        """Start a call that overlaps with those before it; reclaim the buffers of those that are answered.

        One that an error has left without its `end_flight` is forgotten; its buffers go with this one.
        """
        self._flight = Flight()
        for flight in [one for one in self._flights if one.is_answered]:
            self._flights.remove(flight)
            self._free += flight.buffers
        # Another thread may let go of it at any moment, after this call has found no room.
        self._others_hold = any(flight.is_holding for flight in self._flights)

    def end_flight(self) -> Flight:
        """Return the call, whose work is queued; `land` waits for it."""
        flight = self._flight
        assert flight is not None
        # All that reads or writes a buffer, also what a batch has queued that raised then.
        self._copies_in.lead()
        self._copies_out.follow()
        flight.mark(self._copies_out.mark())
        flight.buffers += [*self._with_batch, *self._with_call]
        self._with_batch.clear()
        self._with_call.clear()
        self._borrowed.clear()
        self._is_pending = False
        self._flight = None
        self._flights.append(flight)
        return flight

    def make_room(self) -> bool:
        """Wait until the calls before, and the batches of this one, hold no memory of the device.

        Returns:
            Whether they did.

        Sync:
            Host with the device's work for all of them.
        """
        assert self._flight is not None
        held = self._others_hold or self._flight.is_holding
        for flight in [*self._flights, self._flight]:
            flight.land()
        self._others_hold = False
        return held

    def begin_call(self) -> None:
        """Reclaim the output buffers of the previous call; one that overlaps has buffers of its own."""
        if self._flight is None:
            super().begin_call()

    def put(self, tensors: Sequence[torch.Tensor], target: torch.Tensor | None = None) -> torch.Tensor:
        """Copy the rows in beside the instance's stream, which waits on the device; see `PinnedStaging.put`.

        Sync:
            None.
        """
        if self._flight is None or target is not None or tensors[0].device.type != "cpu":
            return super().put(tensors, target)
        with self._copies_in.scope():
            placed = super().put(tensors)
        self._copies_in.lead()
        self._copies_in.lend(placed)
        return placed

    def fetch(self, outputs: Mapping[str, Any]) -> Outputs:
        """Queue one copy per output, beside the instance's stream; see `PinnedStaging.fetch`.

        Returns:
            The outputs, which are there when the flight has landed.

        Sync:
            None.
        """
        flight = self._flight
        if flight is None:
            return super().fetch(outputs)
        near = {name: _each(output, self._near) for name, output in outputs.items()}
        kept = {name: _each(one, self._apart) for name, one in near.items()}
        self._copies_out.follow()
        if self._keeps_outputs:
            fetched = kept
        else:
            with self._copies_out.scope():
                fetched = {name: _each(one, self._copied) for name, one in kept.items()}
            flight.hold(kept)
        flight.mark(self._copies_out.mark())
        return fetched

    def _apart(self, output: torch.Tensor) -> torch.Tensor:
        """Return an output in memory that no forward overwrites; one on the host is copied by `_copied`."""
        is_copied = output.device.type == "cpu" and not self._keeps_outputs
        return output if is_copied else output.clone()

    def settle(self) -> None:
        """Do nothing in a flight, which keeps the buffers; else wait, as `PinnedStaging.settle` does."""
        if self._flight is None:
            super().settle()

    def then(self, note: Note) -> None:
        """Tell the time when the flight is told of it."""
        if self._flight is None:
            super().then(note)
        else:
            self._flight.then(note)


def _each(output: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to an output, or to each of the values per request of which it consists."""
    return [function(one) for one in output] if isinstance(output, list) else function(output)


def _is_on_host(value: object) -> bool:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
        return any(map(_is_on_host, value))
    return isinstance(value, torch.Tensor) and value.device.type == "cpu"


def _addresses_of(tensor: torch.Tensor) -> range:
    """Return the addresses of the storage that a tensor and its views share."""
    storage = tensor.untyped_storage()
    return range(storage.data_ptr(), storage.data_ptr() + storage.nbytes())


def open_staging(runtime: Runtime, settings: Settings) -> Staging:
    """Return the staging for a runtime; settings such as `pinned_limit_bytes` decide how it works."""
    if runtime.is_host:
        return HostStaging()
    kind = OverlappingStaging if settings.overlap_calls else PinnedStaging
    return kind(runtime, settings.pinned_limit_bytes, keeps_outputs=settings.keeps_outputs)
