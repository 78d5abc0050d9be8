"""Doubles on a simulated GPU, on a host without one; says whether the GPU was at work when it began."""

import contextlib
import time

import torch

from kindaware import KindAwareModel, RequestError
from kindaware.testing import SimulatedAccelerator

seconds = {"aten::mul.Tensor": 0.02}


def refuse(outcome, remedy):
    """Fail where a real GPU would compute something else."""
    raise AssertionError(f"on a GPU this would {outcome}; {remedy}")


# For as long as the process lives: it is the only one that the GPU belongs to.
forever = contextlib.ExitStack()
gpus = SimulatedAccelerator(1, cost=lambda name, num_bytes: seconds.get(name, 0.0))
forever.enter_context(gpus.installed(refuse))
forever.enter_context(gpus.entered())


class TritonPythonModel(KindAwareModel):
    model_devices = "cuda:0"
    overlap_calls = True
    warmup = "off"

    def load(self):
        return None

    def preprocess(self, inputs):
        if inputs["X"][0, 0] < 0:
            raise RequestError("X: expected no negative number; send others")
        return inputs

    def forward(self, X, requests):
        ids = [one.id for one in requests]
        is_busy = bool(gpus.history) and gpus.history[-1].end > time.perf_counter()
        self.logger.info("forward of %s", ids)
        if "bad" in ids:
            raise ValueError("the bad one")
        seconds["aten::mul.Tensor"] = 1.0 if "slow" in ids else 0.02
        # An output on the host would have the library wait for the device.
        return {"Y": 2 * X, "IS_BUSY": torch.full((len(X), 1), is_busy, device=self.device)}

    def unload(self):
        self.logger.info("unloads")
