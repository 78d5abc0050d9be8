"""Rows on a simulated GPU, on a host without one: what it does takes as long as the configuration says."""

import contextlib
import os

# For the thread that answers, too: it does what the simulated GPU has to do.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from kindaware import KindAwareModel
from kindaware.testing import SimulatedAccelerator

COPIES = ("copy to the device", "copy to the host")
FORWARD = "aten::mul.Tensor"
seconds_of = {}


def cost(name, num_bytes):
    """Return how long the device works; a copy reads what it writes."""
    if name in COPIES:
        return seconds_of["byte"] * num_bytes / 2
    return seconds_of["forward"] + seconds_of["row"] * seconds_of["rows"] if name == FORWARD else 0.0


def refuse(outcome, remedy):
    """Fail where a real GPU would compute something else."""
    raise AssertionError(f"on a GPU this would {outcome}; {remedy}")


# For as long as the process lives: it is the only one that the GPU belongs to.
forever = contextlib.ExitStack()
accelerator = SimulatedAccelerator(1, cost=cost)
forever.enter_context(accelerator.installed(refuse))
forever.enter_context(accelerator.entered())


class TritonPythonModel(KindAwareModel):
    """Doubles the first numbers of each row."""

    model_devices = "cuda:0"

    def load(self):
        """Read how long things take."""
        seconds_of.update({name: float(self.parameters[name]) for name in ("byte", "forward", "row")})
        self.width = int(self.parameters["width"])

    def forward(self, X: torch.Tensor):
        """Take as long as so many rows do."""
        seconds_of["rows"] = len(X)
        return X[:, : self.width] * 2
