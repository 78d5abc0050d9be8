"""What a device can do for a batch, behind one protocol: the CPU, where nothing is queued, and CUDA.

Each method is one primitive: what waits for what is decided by the callers.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from kindaware._errors import leaves_of, linked_errors, text_of
from kindaware._placement.placement import Placement

_NO_SCOPE = contextlib.nullcontext()


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

    def forbid_waits(self) -> contextlib.AbstractContextManager[None]:
        """Make operations raise, inside, that would have the host wait for the device."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` queues on the stream instead of doing it; the result queues it again.

        It reads and writes the memory that `work` did, on the stream that is current then. What it wrote may
        be lost with the replay of any other capture. After an error it was as if nothing had been recorded.
        """

    def is_fault(self, error: BaseException) -> bool:
        """Whether the error leaves the device unusable for this process. Sync: may wait for the device."""


class CpuRuntime:
    """The CPU: every operation is done when its call returns. Never touches CUDA."""

    device = torch.device("cpu")
    is_host = True

    def activate(self) -> None:
        """There is no current device to set."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """There is no stream to enter."""
        return _NO_SCOPE

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

    def forbid_waits(self) -> contextlib.AbstractContextManager[None]:
        """There is nothing to wait for."""
        return contextlib.nullcontext()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Give the work itself: nothing is ever queued."""
        return work

    def is_fault(self, error: BaseException) -> bool:
        """Tell that no error of a host operation leaves the CPU unusable."""
        return False


class CudaRuntime:
    """One GPU, with one non-default stream for everything that an instance does.

    Args:
        device: the GPU, with its ordinal.
        others: the GPUs that the model uses beside it.
    """

    is_host = False

    def __init__(self, device: torch.device, others: Sequence[torch.device] = ()) -> None:
        self.device = device
        self._devices = (device, *others)
        self._is_lost = False
        self._stream: torch.cuda.Stream | None = None
        self._event: torch.cuda.Event | None = None
        self._first_graph: torch.cuda.CUDAGraph | None = None
        self._lost_graphs: list[torch.cuda.CUDAGraph] = []

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

    @contextlib.contextmanager
    def forbid_waits(self) -> Iterator[None]:
        """Have torch raise where an operation of its own would wait: `item`, `nonzero`, `cpu`."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode")  # that it may miss some
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture a CUDA graph on the instance's stream. Sync: the whole device, before.

        All graphs share the memory of the first, which is right as long as one's outputs are read before
        another is replayed. Only calls of this thread can spoil a capture. A graph whose capture was spoilt
        is kept, empty: torch's allocator goes on asking it whose memory is whose.
        Source: torch, CUDAGraph.cpp, create_allocate_filter; "CUDA semantics", Graph memory management.
        """
        graph = torch.cuda.CUDAGraph()
        pool = None if self._first_graph is None else self._first_graph.pool()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            graph.reset()
            self._lost_graphs.append(graph)
            raise
        self._first_graph = self._first_graph or graph
        return graph.replay

    def is_fault(self, error: BaseException) -> bool:
        """Ask the GPUs whether an error of CUDA has left them unusable; once one has, it stays so.

        A sticky error is raised again by each later call. One of a launch, such as "invalid configuration
        argument", is told once, and the GPU goes on. Nothing is asked after other errors, nor when memory ran
        out or a capture of a graph refused something.
        Source: CUDA Runtime API, "Enumerator for error types" and cudaDeviceSynchronize; "Error Handling".

        Sync:
            Host with the devices, after an error of CUDA that was not the end.
        """
        # A hook may have wrapped it in an error of its own.
        if not any(_is_cuda_error(one) for one in linked_errors(error)):
            return False
        self._is_lost = self._is_lost or not self._do_work()
        return self._is_lost

    def _do_work(self) -> bool:
        try:
            for device in self._devices:
                torch.cuda.synchronize(device)
        except RuntimeError:
            return False
        return True


_OUT_OF_MEMORY = re.compile(
    r"CUDA error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|DefaultCPUAllocator: (can't|not enough)"
)
"""What CUDA, cuBLAS, cuDNN and torch's allocator on the CPU say, each in words of its own.

Source: torch, `c10/core/impl/alloc_cpu.cpp`.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a smaller batch may go where this one did not; also for what a group of errors holds."""
    return any(_is_out_of_memory(one) for one in leaves_of(error))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(text_of(error)))


def _is_cuda_error(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    said = re.search(r"CUDA error: (.*)", text_of(error))
    if said is None:
        return isinstance(error, getattr(torch, "AcceleratorError", ()))
    return not re.match(r"out of memory|.*captur", said.group(1))


def open_runtime(placement: Placement) -> Runtime:
    """Make the runtime of an instance; it does nothing on the device before `activate`."""
    return CudaRuntime(placement.device, placement.devices[1:]) if placement.uses_cuda else CpuRuntime()


def count_devices(kind: str) -> int:
    """Count the GPUs that torch sees; 0 without asking for an instance of KIND_CPU.

    Counting goes through NVML where it can and creates no CUDA context.
    """
    return 0 if kind == "CPU" else torch.cuda.device_count()
