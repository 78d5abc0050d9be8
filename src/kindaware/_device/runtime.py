"""The device primitives behind one protocol: the CPU, where nothing is ever queued, and CUDA.

Each method is one primitive; the order of copies and waits is decided by the callers.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from kindaware._device.nested import Nested
from kindaware._errors import RequestError, text_of
from kindaware._placement.placement import Placement
from kindaware._tracebacks import linked_errors

_NO_SCOPE = contextlib.nullcontext()


class SideStream(Protocol):
    """A stream of the device beside the instance's own, for copies that run while that one computes."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the device and this stream current inside the context."""

    def follow(self) -> None:
        """Have what is queued on it from now on wait for what is on the instance's stream now."""

    def lead(self) -> None:
        """Have what is queued on the instance's stream from now on wait for what is on this one now."""

    def lend(self, tensor: torch.Tensor) -> None:
        """Keep a tensor's memory, when it is freed, until the instance's stream has used it."""

    def mark(self) -> Callable[[], None]:
        """Return what blocks until all that is queued on it now is done. Any thread may call that."""


class Runtime(Protocol):
    """Streams, copies and pinned memory of one device.

    Attributes:
        device: the device on which `forward` runs.
        is_host: whether the device's tensors lie in host memory, so that nothing needs to be copied.
    """

    device: torch.device
    is_host: bool

    def activate(self) -> None:
        """Make the device current for this thread; called once, before `load` runs."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the device and the instance's stream current inside the context."""

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate page-locked host memory, uint8 [num_bytes]."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue a copy on the current stream; the host must not touch either side before `wait`."""

    def wait(self) -> None:
        """Block until everything queued on the instance's stream is done. Sync: host with stream."""

    def wait_for_host_memory(self) -> None:
        """Block until what a hook has queued is done that writes host memory, on any device of the instance.

        Sync:
            Host with stream, and with the instance's other devices.
        """

    def open_side_stream(self) -> SideStream:
        """Create a stream beside the instance's own."""

    def synchronize(self, device: torch.device) -> None:
        """Block until all streams of a device are idle. Sync: host with device."""

    def release_memory(self) -> None:
        """Return cached device memory that is not in use to the driver."""

    def forbid_waits(self) -> contextlib.AbstractContextManager[None]:
        """Make operations raise, inside the context, that would block the host on the device."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture what `work` queues on the stream instead of running it; the returned function queues it.

        The replay reads and writes the same memory as `work`, on the stream that is current then. Its outputs
        may be overwritten by the replay of any other capture. After an error nothing has been captured.
        """

    def is_fault(self, error: BaseException) -> bool:
        """Whether the error leaves the device unusable for this process. Sync: may wait for the device."""


class CpuRuntime:
    """The CPU: every operation is complete when its call returns. Never initialises CUDA."""

    device = torch.device("cpu")
    is_host = True

    def activate(self) -> None:
        """Do nothing: the CPU is always current."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Return an empty context: the CPU has no streams."""
        return _NO_SCOPE

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate ordinary memory, uint8 [num_bytes]: nothing is ever copied from it to a device."""
        return torch.empty(num_bytes, dtype=torch.uint8)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy at once."""
        target.copy_(source)

    def wait(self) -> None:
        """There is nothing to wait for."""

    def wait_for_host_memory(self) -> None:
        """There is nothing to wait for."""

    def open_side_stream(self) -> SideStream:
        """Raise: nothing is ever queued, so there is no stream to be beside."""
        raise RuntimeError("CpuRuntime: expected no copies beside the CPU's work, got a stream; use none")

    def synchronize(self, device: torch.device) -> None:
        """There is nothing to wait for."""

    def release_memory(self) -> None:
        """There is no cache of device memory."""

    def forbid_waits(self) -> contextlib.AbstractContextManager[None]:
        """There is nothing to wait for."""
        return contextlib.nullcontext()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return `work` itself, since nothing is ever queued."""
        return work

    def is_fault(self, error: BaseException) -> bool:
        """Return False: no error of a host operation leaves the CPU unusable."""
        return False


class CudaSideStream:
    """A stream beside an instance's own, on the same GPU.

    Args:
        main: the instance's stream.
    """

    def __init__(self, main: torch.cuda.Stream) -> None:
        self._main = main
        self._stream = torch.cuda.Stream(main.device)  # type: ignore[no-untyped-call]  # torch has no types here

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the device and this stream current for this thread."""
        return Nested(lambda: torch.cuda.device(self._main.device), lambda: torch.cuda.stream(self._stream))

    def follow(self) -> None:
        """Wait on the device for the instance's stream."""
        self._stream.wait_stream(self._main)

    def lead(self) -> None:
        """Have the instance's stream wait on the device for this one."""
        self._main.wait_stream(self._stream)

    def lend(self, tensor: torch.Tensor) -> None:
        """Tell torch's allocator that the instance's stream uses a tensor of this one."""
        tensor.record_stream(self._main)

    def mark(self) -> Callable[[], None]:
        """Record an event, and return what waits for it without the GIL. Sync of that: host with stream."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the same
        event.record(self._stream)
        return event.synchronize


class CudaRuntime:
    """One GPU, with a non-default stream for everything that an instance does, copies beside it excepted.

    Args:
        device: the GPU, with its index.
        others: further GPUs that the model uses.
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
        # Not `blocking=True`, which sleeps until an interrupt, on the way of every batch. So an instance
        # that waits holds a core. On a GPU: not measured.
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the same

    @property
    def stream(self) -> torch.cuda.Stream:
        """The instance's stream; available after `activate`."""
        if self._stream is None:
            raise RuntimeError("CudaRuntime: expected activate() before its first use, got none; call it")
        return self._stream

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the device and the stream current for this thread."""
        return Nested(lambda: torch.cuda.device(self.device), lambda: torch.cuda.stream(self.stream))

    def new_pinned(self, num_bytes: int) -> torch.Tensor:
        """Allocate page-locked host memory, uint8 [num_bytes]. Sync: the whole device, implicitly in CUDA."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue the copy on the current stream; blocks only if the host side is not pinned."""
        target.copy_(source, non_blocking=True)

    def wait(self) -> None:
        """Record an event on the stream and wait for it, without the GIL. Sync: host with stream."""
        # `activate` creates it together with the stream.
        assert self._event is not None
        self._event.record(self.stream)
        self._event.synchronize()

    def wait_for_host_memory(self) -> None:
        """Wait for the stream, and for all streams of the other GPUs. Sync: host with stream and those."""
        self.wait()
        # What the model computes there is queued on streams of those GPUs, not on the instance's.
        for device in self._devices[1:]:
            torch.cuda.synchronize(device)

    def open_side_stream(self) -> CudaSideStream:
        """Create a stream beside the instance's own."""
        return CudaSideStream(self.stream)

    def synchronize(self, device: torch.device) -> None:
        """Block until all streams of a GPU are idle. Sync: host with device."""
        torch.cuda.synchronize(device)

    def release_memory(self) -> None:
        """Empty torch's cache. Sync: the whole device, since CUDA synchronises to free memory."""
        torch.cuda.empty_cache()

    @contextlib.contextmanager
    def forbid_waits(self) -> Iterator[None]:
        """Make torch raise if an operation would block, such as `item`, `nonzero` and `cpu`."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            # torch warns that the mode is a beta feature and may miss some operations.
            warnings.filterwarnings("ignore", message="Synchronization debug mode")
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture a CUDA graph on the instance's stream. Sync: the whole device, before the capture.

        All graphs share the memory pool of the first, which is safe as long as the outputs of one are read
        before another is replayed. Only calls of this thread can invalidate a capture. A graph whose capture
        failed is kept, empty, since torch's allocator keeps asking it which memory belongs to its pool.
        Source: torch, CUDAGraph.cpp, create_allocate_filter; "CUDA semantics", Graph memory management.
        """
        graph = torch.cuda.CUDAGraph()
        # The first graph makes the pool that the others share.
        pool = None if self._first_graph is None else self._first_graph.pool()
        # thread_local: with torch's default, some calls of CUDA on any other thread invalidate the capture.
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
        """Whether an error of CUDA has left the GPUs unusable; True ever after, once one has.

        A sticky error is returned again by every later call. A launch error, such as "invalid configuration
        argument", is returned once, and the GPU keeps working. So after an error of CUDA the devices are
        synchronised to tell the two apart; not after other errors, nor after running out of memory or a
        failed graph capture.
        Source: CUDA Runtime API, "Enumerator for error types" and cudaDeviceSynchronize; "Error Handling".

        Sync:
            Host with all devices, after an error of CUDA while they still work.
        """
        # A hook may have wrapped it in an error of its own.
        if not any(_is_cuda_error(one) for one in linked_errors(error)):
            return False
        self._is_lost = self._is_lost or not self._do_work()
        return self._is_lost

    def _do_work(self) -> bool:
        """Whether all devices can still be synchronised."""
        try:
            for device in self._devices:
                torch.cuda.synchronize(device)
        except RuntimeError:
            return False
        return True


_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP) error: out of memory|(CUDA|HIP) out of memory\. Tried to allocate"
    r"|(CU|HIP|ROC)BLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|MIOPEN_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: (can't|not enough)"
)
"""What CUDA, cuBLAS, cuDNN, their counterparts on AMD and torch's allocators say, each in words of its own.

TorchScript raises what an operation of its raised as a plain RuntimeError with the same text.
Source: torch, `c10/core/impl/alloc_cpu.cpp`, `c10/cuda/CUDACachingAllocator.cpp`.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a smaller batch may go where this one did not.

    Also for what a group of errors holds, and for what an error was raised from or while handling; but a
    refusal says itself what it is about.
    """
    if issubclass(type(error), RequestError):
        return False
    return any(_is_out_of_memory(one) for one in linked_errors(error))


def _is_out_of_memory(error: BaseException) -> bool:
    # Not isinstance, which asks an error for its class, and an error of the user's may raise then.
    if issubclass(type(error), (torch.OutOfMemoryError, MemoryError)):
        return True
    return issubclass(type(error), RuntimeError) and bool(_OUT_OF_MEMORY.search(text_of(error)))


def _is_cuda_error(error: BaseException) -> bool:
    kind = type(error)  # as above
    if issubclass(kind, torch.OutOfMemoryError) or not issubclass(kind, RuntimeError):
        return False
    said = re.search(r"CUDA error: (.*)", text_of(error))
    if said is None:
        return issubclass(kind, getattr(torch, "AcceleratorError", ()))
    return not re.match(r"out of memory|.*captur", said.group(1))


def open_runtime(placement: Placement) -> Runtime:
    """Return the runtime for a placement; it does nothing on the device before `activate`."""
    return CudaRuntime(placement.device, placement.devices[1:]) if placement.uses_cuda else CpuRuntime()


def count_devices(kind: str) -> int:
    """Return the number of GPUs that torch sees; always 0 for an instance of KIND_CPU.

    torch counts through NVML if possible, which creates no CUDA context.
    """
    # Not even counted for KIND_CPU: its processes must not touch CUDA.
    return 0 if kind == "CPU" else torch.cuda.device_count()
