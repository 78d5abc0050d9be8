"""Simulated GPUs in host memory, which keep CUDA's rules of order."""

from __future__ import annotations

from kindaware.testing.accelerator.machine.schedules import Drawn, Latest, Schedule, Seeded
from kindaware.testing.accelerator.machine.streams import Stream
from kindaware.testing.accelerator.simulated import SimulatedAccelerator

__all__ = ["Drawn", "Latest", "Schedule", "Seeded", "SimulatedAccelerator", "Stream"]
