"""Tools to test models with: a real tritonserver, a harness that does without one, and simulated GPUs."""

from __future__ import annotations

from kindaware._server.failure import ServerError
from kindaware._server.server import TritonServer
from kindaware.testing.accelerator import Drawn, Latest, Seeded, SimulatedAccelerator
from kindaware.testing.arguments import instance_args
from kindaware.testing.harness import HarnessError, InferenceError, ModelHarness, ModelLoadError, Result
from kindaware.testing.stand_in import TritonContractError

__all__ = [
    "Drawn",
    "HarnessError",
    "InferenceError",
    "Latest",
    "ModelHarness",
    "ModelLoadError",
    "Result",
    "Seeded",
    "ServerError",
    "SimulatedAccelerator",
    "TritonContractError",
    "TritonServer",
    "instance_args",
]
