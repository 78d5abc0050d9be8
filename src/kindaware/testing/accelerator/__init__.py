"""GPUs in host memory: CUDA's rules of order, without a GPU."""

from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._timeline import Latest, Schedule, Stream

__all__ = ["Latest", "Schedule", "SimulatedAccelerator", "Stream"]
