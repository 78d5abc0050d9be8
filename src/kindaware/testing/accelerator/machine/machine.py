"""The simulated GPUs, what is queued on them, and CUDA's rules for who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from kindaware.testing.accelerator.machine.device import Device
from kindaware.testing.accelerator.machine.errors import OUTSIDE, SECOND, cuda_error, is_sticky, not_on_host
from kindaware.testing.accelerator.machine.graphs import Graph, Prepare
from kindaware.testing.accelerator.machine.host_memory import HostMemory
from kindaware.testing.accelerator.machine.memory import DeviceMemory
from kindaware.testing.accelerator.machine.processes import Current, Process, Users
from kindaware.testing.accelerator.machine.races import RaceCheck, Span
from kindaware.testing.accelerator.machine.schedules import Latest, Schedule
from kindaware.testing.accelerator.machine.streams import Point, Stream
from kindaware.testing.accelerator.machine.timeline import Timeline

_SYNC_ERROR = 2
"""What torch calls "error" in `set_sync_debug_mode`."""

Fault = Callable[[int, str], BaseException | None]

Cost = Callable[[str, int], float]


class Machine:
    """What simulated tensors and `torch.cuda` are built on: `SimulatedAccelerator` without its patches.

    Arguments and public attributes are described there.

    Attributes:
        timeline: runs what is queued.
        host: host memory that copies are queued for.
    """

    _active: ClassVar[Machine | None] = None

    def __init__(
        self,
        num_devices: int | None = None,
        *,
        memory_bytes: int = 16 << 30,
        schedule: Schedule | None = None,
        fault: Fault | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.num_calls = 0
        self.sync_debug_mode = 0
        self.violations: list[tuple[str, str]] = []
        self.fault = fault
        self.cost = cost
        self.timeline = Timeline(schedule or Latest(), self._fail)
        self.host = HostMemory(self.report, self.timeline.lock)
        self.devices: list[Device] = []
        self.memory_bytes = memory_bytes
        self.num_devices = num_devices
        self._races = RaceCheck(self.timeline, self.report)
        self._users = Users(self.timeline, {})
        self._listener: Callable[[str, str], Any] | None = None
        self.require_devices(num_devices or 0)

    @staticmethod
    def active() -> Machine:
        """Return the machine that stands for torch's CUDA now.

        Raises:
            RuntimeError: there is none.
        """
        if Machine._active is None:
            raise RuntimeError(OUTSIDE)
        return Machine._active

    def require_devices(self, count: int) -> None:
        """Add devices up to a count, unless their number was given."""
        for ordinal in range(len(self.devices), count if self.num_devices is None else self.num_devices):
            memory = DeviceMemory(ordinal, self.memory_bytes, self.timeline)
            self.devices.append(Device(ordinal, memory))

    @contextmanager
    def activated(self, listener: Callable[[str, str], Any]) -> Iterator[None]:
        """Be the machine of this Python process.

        Args:
            listener: called with each violation, as (what would happen, remedy).

        Raises:
            RuntimeError: another machine is active.
        """
        if Machine._active is not None:
            raise RuntimeError(SECOND)
        self._listener = listener
        Machine._active = self
        try:
            yield
        finally:
            Machine._active = None
            self._listener = None

    @contextmanager
    def of_process(self, process: object) -> Iterator[None]:
        """Run what is inside on behalf of a process with streams of its own."""
        with self._users.acting(process):
            yield

    @contextmanager
    def of_server(self) -> Iterator[None]:
        """Run what is inside on behalf of the server, in its own process.

        It does not count as calls of the model, and a device that the model has lost still works.
        """
        with self._users.acting(self._users.owner, is_server=True):
            yield

    @property
    def process(self) -> Any:
        """What was passed to `of_process` in this thread; None outside of it."""
        return self._users.owner

    @property
    def current(self) -> Current:
        """What is current for this thread, in the process whose code it runs."""
        return self._users.current

    def ordinal_of(self, device: Any) -> int:
        """Return the number of a device, given in any form that torch takes; None is the current one.

        Raises:
            torch.AcceleratorError: there is no such device.
            ValueError: the device is not a CUDA device.
        """
        if isinstance(device, int):
            ordinal = device
        else:
            named = torch.device(device) if isinstance(device, str) else device
            if isinstance(named, torch.device) and named.type != "cuda":
                raise ValueError(f"Expected a cuda device, but got: {named}")
            # `index` of a torch.device, `idx` of what stands for torch.cuda.device.
            index = getattr(named, "index", getattr(named, "idx", None))
            ordinal = self.current.ordinal if index is None else index
        if not 0 <= ordinal < len(self.devices):
            raise cuda_error("invalid device ordinal", f"cuda:{ordinal} of {len(self.devices)} devices")
        return ordinal

    def current_stream(self, ordinal: int) -> Stream:
        """Return the current stream of a device."""
        return self.current.stream(ordinal)

    def call(self, name: str, ordinal: int | None = None) -> None:
        """Count a call, and raise the error that its device was lost to, or the one that `fault` returns.

        Args:
            name: what is called.
            ordinal: of the device; by default, the current one.

        Raises:
            RuntimeError: the machine is not active: its harness has ended.
        """
        if Machine._active is not self:
            raise RuntimeError(OUTSIDE)
        with self.timeline.lock:
            self.timeline.advance()
            if self._users.is_server:
                return
            self.num_calls += 1
            number = self.num_calls
        self.raise_error(ordinal)
        error = self.fault(number, name) if self.fault is not None else None
        if error is not None:
            if is_sticky(error):
                lost = cuda_error(str(error).removeprefix("CUDA error: "))
                self._lose(self.current.ordinal if ordinal is None else ordinal, lost, self.current.process)
            raise error

    def raise_error(self, ordinal: int | None = None) -> None:
        """Raise the error that a device was lost to; by default, the current device.

        Raises:
            torch.AcceleratorError: the device was lost.
        """
        device = self.devices[self.current.ordinal if ordinal is None else ordinal] if self.devices else None
        error = None if device is None else device.error_of(self.current.process)
        if error is not None:
            raise type(error)(*error.args)  # a new one each time, so that tracebacks do not pile up

    def lose(self, ordinal: int, error: str = "CUDA error: device-side assert triggered") -> None:
        """Make a device fail for good: all that uses it raises `torch.AcceleratorError` from now on."""
        self._lose(ordinal, cuda_error(error.removeprefix("CUDA error: ")), None)

    def _lose(self, ordinal: int, error: Exception, process: Process | None) -> None:
        """Make a device fail for one process, as an error of its own kernels does, or for all under None."""
        self.devices[ordinal].lose(error, process)
        streams = self.timeline.streams if process is None else process.streams(ordinal)
        self.timeline.drop(one for one in streams if one.ordinal == ordinal)

    def _fail(self, stream: Stream, name: str, error: Exception) -> None:
        """Lose a device to what a kernel raised."""
        lost = cuda_error("device-side assert triggered", f"{name} raised {error!r}")
        if "not implemented for" in str(error):  # a gap of the simulation, not an error of the model
            lost = not_on_host(name, error)
        self._lose(stream.ordinal, lost, self._users.find_process(stream))

    def report(self, outcome: str, remedy: str) -> None:
        """Record a violation of CUDA's rules."""
        self.violations.append((outcome, remedy))
        if self._listener is not None:
            self._listener(outcome, remedy)

    def submit(
        self,
        ordinal: int,
        name: str,
        run: Callable[[], Any] | None,
        reads: Sequence[Span],
        writes: Sequence[Span],
        *,
        prepare: Prepare | None = None,
    ) -> None:
        """Queue work on a device's current stream; while the stream captures, only record it.

        Args:
            ordinal: of the device.
            name: what the work is, for errors.
            run: does the work; None if there is nothing to do.
            reads: the memory that it reads.
            writes: the memory that it writes.
            prepare: called each time that the work is queued; returns what does it, in place of `run`.
        """
        stream = self.current_stream(ordinal)
        capture = self.devices[ordinal].captures.get(stream)
        if capture is not None:
            capture.graph.add(name, run, reads, writes, prepare)
            return
        with self.timeline.lock:
            self._races.before(stream, name, reads, writes)
            work = run if prepare is None else prepare()
            ticket = self.timeline.submit(stream, name, work, self._seconds(name, reads, writes))
            self._races.after(stream, ticket, reads, writes)

    def _seconds(self, name: str, reads: Sequence[Span], writes: Sequence[Span]) -> float:
        """Return how long a piece of work takes."""
        if self.cost is None:
            return 0.0
        return self.cost(name, sum(span.stop - span.start for span in (*reads, *writes)))

    def replay(self, graph: Graph) -> None:
        """Queue the work of a graph on the current stream of its device."""
        for node in graph.nodes:
            name = f"graph: {node.name}"
            self.submit(graph.ordinal, name, node.run, node.reads, node.writes, prepare=node.prepare)

    def order(self, ordinal: int, *, after: int) -> None:
        """Make a device's current stream wait for another device's."""
        point = self.timeline.record(self.current_stream(after))
        self.timeline.wait_for(self.current_stream(ordinal), point)

    def refuse_capture(self, ordinal: int, what: str) -> None:
        """Refuse what must not happen while a stream of a device captures, and lose the capture.

        Raises:
            torch.AcceleratorError: a stream of the device captures.
        """
        for capture in self.devices[ordinal].captures.values():
            raise capture.lose("operation not permitted when stream is capturing", what)

    def finish(self, point: Point) -> None:
        """Wait for a place in a stream.

        Raises:
            torch.AcceleratorError: the device was lost to the work that had to be done.
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
        """Wait for all streams of a device that belong to the current process."""
        for stream in self.current.process.streams(ordinal):
            self.finish(self.timeline.record(stream))

    @property
    def num_pending(self) -> int:
        """Pieces of work that are queued and not done."""
        return sum(len(stream.pending) for stream in self.timeline.streams)
