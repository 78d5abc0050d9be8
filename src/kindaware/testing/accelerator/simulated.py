"""`SimulatedAccelerator`: the simulated machine in place of torch's CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.streams import Busy
from kindaware.testing.accelerator.tensors.bindings import bind_methods
from kindaware.testing.accelerator.torch_cuda.modes import entered
from kindaware.testing.accelerator.torch_cuda.patches import patched_torch


class SimulatedAccelerator(Machine):
    """GPUs simulated in host memory, for tests of what an instance of KIND_GPU does.

    Work is queued on streams and carried out when the host waits for it. As in the worst case on a real
    device, a result that is read too early is NaN (-1 in integers), and page-locked memory that is written
    too early is sent with the wrong contents. Work on the same memory that nothing puts in order is reported
    as a race, whether or not it went wrong. Speed, unless `cost` says otherwise, and CUDA's own kernels are
    not simulated.

    Args:
        num_devices: number of GPUs; by default, as many as the harness needs.
        memory_bytes: memory of each GPU; host memory is only taken as it is used.
        schedule: how far the devices run ahead of what the host waits for; by default, not at all.
        fault: called with the number and the name of each call; returns an exception to raise there, or None.
        cost: called with the name of each piece of work and the bytes that it reads and writes; returns the
            seconds that it takes a stream. Streams work beside each other, and whoever waits for one sleeps
            until it would be done. By default, work takes no time.

    Attributes:
        num_calls: calls so far: operations other than views, copies, allocations, functions of `torch.cuda`.
        violations: violations of CUDA's rules, as (what would happen, remedy).
        sync_debug_mode: 2 while operations that wait for a device raise.
        history: with `cost`, when streams were busy: `stream`, `name`, `start` and `end`, in seconds of
            `time.perf_counter`.
        devices: the GPUs; `devices[n].memory` has `allocated_bytes`, `peak_bytes`, `limit_bytes` and
            `num_allocations`.
    """

    def __repr__(self) -> str:
        return f"<SimulatedAccelerator: {len(self.devices)} devices, {self.num_pending} queued>"

    @property
    def history(self) -> Sequence[Busy]:
        """When streams were busy, in the order in which the work was queued."""
        return self.timeline.history

    @contextmanager
    def installed(self, listener: Callable[[str, str], Any]) -> Iterator[None]:
        """Put this accelerator in place of `torch.cuda`, for the whole Python process.

        Args:
            listener: called with each violation, as (what would happen, remedy).

        Raises:
            RuntimeError: another accelerator is installed.
        """
        bind_methods()
        with self.activated(listener), patched_torch(self):
            yield

    @contextmanager
    def entered(self, process: object = None) -> Iterator[None]:
        """Let torch use the devices in this thread, on behalf of a process with streams of its own."""
        with entered(self, process):
            yield
