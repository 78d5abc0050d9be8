"""What a device can do for a batch, behind one protocol: the CPU, where nothing is queued, and CUDA.

Each method is one primitive: what waits for what is decided by the callers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Protocol

import torch

from kindaware._placement import Placement


class Runtime(Protocol):
    """Streams, copies and pinned memory of one device.

    Attributes:
        device: where `forward` runs.
        is_host: True when tensors of the device are host memory, so that nothing needs to be copied.
    """

    device: torch.device
    is_host: bool

    def activate(self) -> None:
        """Make the device the current one of this thread, before `load()` runs."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the device and its stream current for what happens inside."""

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate page-locked host memory, uint8 [num_bytes]."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue a copy on the stream; neither side may be touched on the host before `wait`."""

    def wait(self) -> None:
        """Block until everything queued on the stream so far is done. Sync: host with stream."""

    def synchronize(self, device: torch.device) -> None:
        """Block until the device has nothing left to do, on any stream. Sync: host with device."""

    def release_memory(self) -> None:
        """Hand device memory back that is cached and not in use."""

    def is_fault(self, error: BaseException) -> bool:
        """Whether the error leaves the device unusable for this process."""


class CpuRuntime:
    """The CPU: every operation is done when its call returns. Never touches CUDA."""

    device = torch.device("cpu")
    is_host = True

    def activate(self) -> None:
        """There is no current device to set."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """There is no stream to enter."""
        return contextlib.nullcontext()

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate ordinary memory, uint8 [num_bytes]: nothing is copied to a device from it."""
        return torch.empty(num_bytes, dtype=torch.uint8)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy at once."""
        target.copy_(source)

    def wait(self) -> None:
        """There is nothing to wait for."""

    def synchronize(self, device: torch.device) -> None:
        """There is nothing to wait for."""

    def release_memory(self) -> None:
        """There is no cache of device memory."""

    def is_fault(self, error: BaseException) -> bool:
        """Tell that no error of a host operation leaves the CPU unusable."""
        return False


class CudaRuntime:
    """One GPU, with one non-default stream for everything that an instance does.

    Args:
        device: the GPU, with its ordinal.
    """

    is_host = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        self._event: torch.cuda.Event | None = None

    def activate(self) -> None:
        """Make the GPU the current device and create the stream. Initialises CUDA."""
        torch.cuda.set_device(self.device)
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch has no types here
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the same

    @property
    def stream(self) -> torch.cuda.Stream:
        """The instance's stream; there after `activate`."""
        if self._stream is None:
            raise RuntimeError("CudaRuntime: expected activate() before its first use, got none; call it")
        return self._stream

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Make the device and the stream current for this thread."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            yield

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate page-locked host memory, uint8 [num_bytes]. Sync: the whole device, as CUDA does."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue the copy on the current stream, without waiting where the host side is pinned."""
        target.copy_(source, non_blocking=True)

    def wait(self) -> None:
        """Record an event on the stream and wait for it, without the GIL. Sync: host with stream."""
        assert self._event is not None  # made together with the stream
        self._event.record(self.stream)
        self._event.synchronize()

    def synchronize(self, device: torch.device) -> None:
        """Wait for all streams of a GPU. Sync: host with device."""
        torch.cuda.synchronize(device)

    def release_memory(self) -> None:
        """Empty torch's cache. Sync: the whole device, as CUDA does to free memory."""
        torch.cuda.empty_cache()

    def is_fault(self, error: BaseException) -> bool:
        """Whether CUDA itself failed: its errors are sticky, but for the few that say so.

        Running out of memory is none, nor is what a capture of a graph refuses, nor a status that cuBLAS and
        its like report in these words.
        Source: CUDA Runtime API, "Enumerator for error types" (cudaErrorMemoryAllocation,
        cudaErrorStreamCapture...).
        """
        if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
            return False
        said = re.search(r"CUDA error: (.*)", str(error))
        if said is None:
            return isinstance(error, getattr(torch, "AcceleratorError", ()))
        return not re.match(r"out of memory|CU\w+_STATUS|.*captur", said.group(1))


def open_runtime(placement: Placement) -> Runtime:
    """Make the runtime of an instance; it does nothing on the device before `activate`."""
    return CudaRuntime(placement.device) if placement.uses_cuda else CpuRuntime()


def count_devices(kind: str) -> int:
    """Count the GPUs that torch sees; 0 without asking for an instance of KIND_CPU.

    Counting goes through NVML where it can and creates no CUDA context.
    """
    return 0 if kind == "CPU" else torch.cuda.device_count()
