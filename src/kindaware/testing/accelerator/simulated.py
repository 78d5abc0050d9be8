"""`SimulatedAccelerator`: the machine in the place of torch's CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.tensors.bindings import bind_methods
from kindaware.testing.accelerator.torch_cuda.modes import entered
from kindaware.testing.accelerator.torch_cuda.patches import patched_torch


class SimulatedAccelerator(Machine):
    """GPUs that lie in host memory, for tests of what an instance of KIND_GPU does.

    Work is queued on streams, and carried out when the host waits for it: a result that is read too early is
    NaN (-1 in integers), page-locked memory that is written too early is sent wrong, as the worst case on a
    real device. Work on the same memory that nothing puts in order is reported as a race, whether or not it
    went wrong. It says nothing about speed, nor about CUDA's own kernels.

    Args:
        num_devices: how many there are; unless said, as many as the harness needs.
        memory_bytes: of each device; host memory is taken as it is used.
        schedule: how far the devices run ahead of what the host waits for; unless said, not at all.
        fault: is asked at each call with its number and name, and returns an exception to raise there, or
            None.

    Attributes:
        num_calls: calls so far: operations but for views, copies, allocations, and functions of `torch.cuda`.
        violations: what was against CUDA's rules, as (what would happen, remedy).
        sync_debug_mode: 2 while operations that wait for a device raise.
        devices: the GPUs; `devices[n].memory` has `allocated_bytes`, `peak_bytes`, `limit_bytes` and
            `num_allocations`.
    """

    def __repr__(self) -> str:
        return f"<SimulatedAccelerator: {len(self.devices)} devices, {self.num_pending} queued>"

    @contextmanager
    def installed(self, listener: Callable[[str, str], Any]) -> Iterator[None]:
        """Let `torch.cuda` of this Python process be this accelerator.

        Args:
            listener: takes each violation, as (what would happen, remedy).

        Raises:
            RuntimeError: there is one already.
        """
        bind_methods()
        with self.activated(listener), patched_torch(self):
            yield

    @contextmanager
    def entered(self, process: object = None) -> Iterator[None]:
        """Let this thread's torch use the devices, as a process that has streams of its own."""
        with entered(self, process):
            yield
