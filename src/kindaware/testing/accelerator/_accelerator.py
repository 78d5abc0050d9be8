"""`SimulatedAccelerator`: GPUs in host memory, with CUDA's rules for who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from kindaware.testing.accelerator._memory import Allocation, Block, DeviceMemory, PinnedMemory, RaceCheck
from kindaware.testing.accelerator._timeline import Latest, Point, Schedule, Stream, Timeline

if TYPE_CHECKING:
    from kindaware.testing.accelerator._graphs import Capture
    from kindaware.testing.accelerator._tensor import SimulatedTensor

_SYNC_ERROR = 2
"""What torch calls "error" in `set_sync_debug_mode`."""

Fault = Callable[[int, str], BaseException | None]


@dataclass
class Device:
    """One simulated GPU.

    Attributes:
        ordinal: its number.
        memory: its allocator.
        default_stream: handle 0.
        error: what it was lost by; None while it works.
        captures: what is being captured, by stream.
    """

    ordinal: int
    memory: DeviceMemory
    default_stream: Stream
    error: str | None = None
    captures: dict[Stream, Capture] = field(default_factory=dict)


@dataclass
class _Current:
    """What is current in one thread of one process."""

    ordinal: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)


class SimulatedAccelerator:
    """GPUs that lie in host memory, for tests of what an instance of KIND_GPU does.

    Work is queued on streams, and carried out when the host waits for it: a result that is read too early is
    NaN (-1 in integers), page-locked memory that is written too early is sent wrong, as the worst case on a
    real device. Work on the same memory that nothing puts in order is reported as a race, whether or not it
    went wrong. It says nothing about speed, nor about CUDA's own kernels.

    Args:
        num_devices: how many there are; unless said, as many as the harness needs.
        memory_bytes: of each device; host memory is taken as it is used.
        schedule: how far the devices run ahead of what the host waits for; unless said, not at all.
        fault: is asked at each call with its number and name, and gives an exception to raise there, or None.

    Attributes:
        num_calls: calls so far: operations, copies, and functions of `torch.cuda`.
        violations: what was against CUDA's rules, as (what would happen, remedy).
        timeline: the streams.
        pinned: the page-locked memory.
        devices: the GPUs.
        sync_debug_mode: 2 while operations that wait for the device raise.
    """

    _active: ClassVar[SimulatedAccelerator | None] = None

    def __init__(
        self,
        num_devices: int | None = None,
        *,
        memory_bytes: int = 16 << 30,
        schedule: Schedule | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.num_calls = 0
        self.sync_debug_mode = 0
        self.violations: list[tuple[str, str]] = []
        self.fault = fault
        self.timeline = Timeline(schedule or Latest(), self._lose)
        self.pinned = PinnedMemory()
        self.devices: list[Device] = []
        self.memory_bytes = memory_bytes
        self.num_devices = num_devices
        self._races = RaceCheck(self.timeline, self.report)
        self._local = threading.local()
        self._listener: Callable[[str, str], Any] | None = None
        for ordinal in range(num_devices or 0):
            self._add_device(ordinal)

    def __repr__(self) -> str:
        return f"<SimulatedAccelerator: {len(self.devices)} devices, {self.num_pending} queued>"

    @staticmethod
    def active() -> SimulatedAccelerator:
        """Give the one that stands for torch's CUDA now."""
        if SimulatedAccelerator._active is None:
            raise RuntimeError(
                "simulated accelerator: expected to be used inside its harness, got a use outside; move the "
                "use into the with block"
            )
        return SimulatedAccelerator._active

    def require_devices(self, count: int) -> None:
        """Make devices, unless their number was said."""
        for ordinal in range(len(self.devices), count if self.num_devices is None else 0):
            self._add_device(ordinal)

    def _add_device(self, ordinal: int) -> None:
        memory = DeviceMemory(ordinal, self.memory_bytes, self.timeline)
        self.devices.append(Device(ordinal, memory, self.timeline.open_stream(ordinal, is_default=True)))

    @contextmanager
    def installed(self, listener: Callable[[str, str], Any]) -> Iterator[None]:
        """Let `torch.cuda` of this process be this accelerator.

        Args:
            listener: takes each violation, as (what would happen, remedy).
        """
        from kindaware.testing.accelerator._patches import patched_torch

        if SimulatedAccelerator._active is not None:
            raise RuntimeError(
                "simulated accelerator: expected to be the only one, got a second; close the harness before"
            )
        self._listener = listener
        SimulatedAccelerator._active = self
        try:
            with patched_torch(self):
                yield
        finally:
            SimulatedAccelerator._active = None
            self._listener = None

    @contextmanager
    def entered(self, process: object = None) -> Iterator[None]:
        """Let this thread's torch use the devices, as a process with current devices of its own."""
        from kindaware.testing.accelerator._functions import CudaFunctions, CudaOperations

        before = self.process, getattr(self._local, "depth", 0)
        self._local.process, self._local.depth = process, before[1] + 1
        try:
            with ExitStack() as stack:
                if not before[1]:
                    stack.enter_context(CudaFunctions(self))
                    stack.enter_context(CudaOperations())  # type: ignore[no-untyped-call]  # torch's base has no types
                yield
        finally:
            self._local.process, self._local.depth = before

    @contextmanager
    def of_server(self) -> Iterator[None]:
        """Do, inside, what the server does in its own process.

        It is no call of the model's, and a device that the model has lost still works.
        """
        before = self._is_server
        self._local.is_server = True
        try:
            yield
        finally:
            self._local.is_server = before

    @property
    def _is_server(self) -> bool:
        return bool(getattr(self._local, "is_server", False))

    @property
    def process(self) -> Any:
        """Whose code runs in this thread; None outside of all."""
        return getattr(self._local, "process", None)

    @property
    def current(self) -> _Current:
        """What is current for the thread and the process."""
        known: dict[int, _Current] = self._local.__dict__.setdefault("known", {})
        return known.setdefault(id(self.process), _Current())

    def ordinal_of(self, device: Any) -> int:
        """Find the number of a device, as torch takes them: None is the current one."""
        if isinstance(device, int):
            ordinal = device
        else:
            named = torch.device(device) if isinstance(device, str) else device
            index = getattr(named, "index", getattr(named, "idx", None))
            ordinal = self.current.ordinal if index is None else index
        if not 0 <= ordinal < len(self.devices):
            raise torch.AcceleratorError(
                "CUDA error: invalid device ordinal\n"
                f"(simulated: cuda:{ordinal} of {len(self.devices)} devices)"
            )
        return ordinal

    def current_stream(self, ordinal: int) -> Stream:
        """Give the stream on which work for a device is queued now."""
        return self.current.streams.get(ordinal, self.devices[ordinal].default_stream)

    def call(self, name: str, ordinal: int | None = None) -> None:
        """Count one call; raise what was asked for, or what the device was lost by."""
        self.timeline.advance()
        if self._is_server:
            return
        self.num_calls += 1
        self.raise_error(ordinal)
        error = self.fault(self.num_calls, name) if self.fault is not None else None
        if error is not None:
            if isinstance(error, torch.AcceleratorError):
                self.lose(self.current.ordinal if ordinal is None else ordinal, str(error))
            raise error

    def raise_error(self, ordinal: int | None = None) -> None:
        """Raise what a device was lost by.

        Raises:
            torch.AcceleratorError: it was.
        """
        device = self.devices[self.current.ordinal if ordinal is None else ordinal] if self.devices else None
        if device is not None and device.error is not None and not self._is_server:
            raise torch.AcceleratorError(device.error)

    def lose(self, ordinal: int, error: str = "CUDA error: device-side assert triggered") -> None:
        """Let a device fail for good: everything that uses it raises `torch.AcceleratorError` from now on."""
        device = self.devices[ordinal]
        device.error = device.error or error
        device.captures.clear()
        self.timeline.drop(one for one in self.timeline.streams if one.ordinal == ordinal)

    def _lose(self, stream: Stream, name: str, error: Exception) -> None:
        self.lose(
            stream.ordinal,
            f"CUDA error: device-side assert triggered\n(simulated: {name} raised {error!r})",
        )

    def report(self, outcome: str, remedy: str) -> None:
        """Note what was against CUDA's rules."""
        self.violations.append((outcome, remedy))
        if self._listener is not None:
            self._listener(outcome, remedy)

    def allocate(self, ordinal: int, num_bytes: int) -> Allocation:
        """Take memory on a device's current stream; reused memory is poisoned where the stream gets there.

        Raises:
            torch.OutOfMemoryError: there is too little.
        """
        self.call("allocate", ordinal)
        stream = self.current_stream(ordinal)
        device = self.devices[ordinal]
        capture = device.captures.get(stream)
        return device.memory.allocate(num_bytes, stream if capture is None else capture.graph)

    def empty_like(self, like: torch.Tensor, ordinal: int) -> SimulatedTensor:
        """Make a tensor of the shape, strides and dtype of another; its elements are poison."""
        from kindaware.testing.accelerator._operations import elements_of
        from kindaware.testing.accelerator._tensor import SimulatedTensor

        span = 1 + sum((size - 1) * step for size, step in zip(like.size(), like.stride(), strict=True))
        allocation = self.allocate(ordinal, span * like.itemsize if like.numel() else 0)
        return SimulatedTensor.wrap(self, elements_of(allocation.block, like), allocation)

    def submit(
        self,
        ordinal: int,
        name: str,
        run: Callable[[], Any] | None,
        reads: list[Block],
        writes: list[Block],
        stream: Stream | None = None,
    ) -> None:
        """Queue work on a device's current stream, or on the one given; while it captures, only note it."""
        stream = self.current_stream(ordinal) if stream is None else stream
        capture = self.devices[ordinal].captures.get(stream)
        if capture is not None:
            capture.graph.add(name, run, reads, writes)
            return
        self._races.before(stream, name, reads, writes)
        ticket = self.timeline.submit(stream, name, run)
        self._races.after(stream, ticket, reads, writes)

    def order(self, ordinal: int, *, after: int) -> None:
        """Let a device's current stream wait for another device's."""
        point = self.timeline.record(self.current_stream(after))
        self.timeline.wait_for(self.current_stream(ordinal), point)

    def refuse_capture(self, ordinal: int, what: str) -> None:
        """Refuse what must not happen while a stream captures; the capture is lost.

        Raises:
            torch.AcceleratorError: a stream of the device captures.
        """
        for capture in self.devices[ordinal].captures.values():
            capture.is_lost = True
            raise torch.AcceleratorError(
                f"CUDA error: operation not permitted when stream is capturing\n(simulated: {what})"
            )

    def finish(self, point: Point) -> None:
        """Wait for a place in a stream.

        Raises:
            torch.AcceleratorError: the device was lost by what had to be done.
        """
        self.refuse_capture(point.stream.ordinal, "waiting for the device")
        self.timeline.finish(point)
        self.raise_error(point.stream.ordinal)

    def synchronize_stream(self, ordinal: int) -> None:
        """Wait for a device's current stream, as an operation of torch does.

        Raises:
            RuntimeError: `torch.cuda.set_sync_debug_mode` forbids it.
        """
        if self.sync_debug_mode == _SYNC_ERROR:
            raise RuntimeError("called a synchronizing CUDA operation")
        self.finish(self.timeline.record(self.current_stream(ordinal)))

    def synchronize(self, ordinal: int) -> None:
        """Wait for all streams of a device."""
        for stream in [one for one in self.timeline.streams if one.ordinal == ordinal]:
            self.finish(self.timeline.record(stream))

    @property
    def num_pending(self) -> int:
        """Pieces of work that are queued and not done."""
        return sum(len(stream.pending) for stream in self.timeline.streams)

    def export(self, tensor: SimulatedTensor, handle: int | None) -> Any:
        """Give a DLPack capsule of a tensor; a stream named by its handle waits for the current one."""
        from kindaware.testing.accelerator._exchange import export

        return export(self, tensor, handle)

    def stream_of_handle(self, handle: int, ordinal: int) -> Stream:
        """Find a stream by what `cuda_stream` gives; 0 and DLPack's 1 are the default one."""
        if handle in (0, 1):
            return self.devices[ordinal].default_stream
        return next(stream for stream in self.timeline.streams if stream.handle == handle)
