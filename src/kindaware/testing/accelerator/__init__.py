"""GPUs in host memory: CUDA's rules of order, without a GPU."""

from __future__ import annotations

from kindaware.testing.accelerator import _bindings as _bindings
from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._schedules import Drawn, Latest, Schedule, Seeded
from kindaware.testing.accelerator._timeline import Stream

__all__ = ["Drawn", "Latest", "Schedule", "Seeded", "SimulatedAccelerator", "Stream"]
