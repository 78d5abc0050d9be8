"""GPUs in host memory: CUDA's rules of order, without a GPU."""

from __future__ import annotations

from kindaware.testing.accelerator.machine.machine import SimulatedAccelerator
from kindaware.testing.accelerator.machine.schedules import Drawn, Latest, Schedule, Seeded
from kindaware.testing.accelerator.machine.timeline import Stream
from kindaware.testing.accelerator.tensors import bindings as _bindings  # noqa: F401  # installs them

__all__ = ["Drawn", "Latest", "Schedule", "Seeded", "SimulatedAccelerator", "Stream"]
