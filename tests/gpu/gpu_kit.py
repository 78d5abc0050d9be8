"""What the tests on a GPU share: the device, real or simulated, and a kernel that takes its time."""

import os
import time

import numpy as np
import pytest
import torch

from kindaware.testing import ModelHarness

NUM_BATCHES = "KINDAWARE_GPU_BATCHES"
"""Environment variable: the most batches that a test sends, for a slow tool such as CUDA's sanitizer."""

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
"""A real device, as a parameter of a test or fixture."""


class Gpu:
    """A device, real or simulated.

    On a simulated one fewer batches are sent: it computes on the host.
    """

    def __init__(self, *, is_simulated):
        self.is_simulated = is_simulated

    def harness(self, model, *, accelerator="simulated", **options):
        """Make a harness of a class whose instance is of KIND_GPU, unless the options say another kind."""
        options = {"kind": "GPU", "config": config_of(), "num_gpus": 1, **options}
        return ModelHarness(model, accelerator=accelerator if self.is_simulated else None, **options)

    def count(self, on_cuda, simulated):
        """Say how many batches a test sends."""
        return simulated if self.is_simulated else min(on_cuda, int(os.environ.get(NUM_BATCHES, on_cuda)))


def config_of(max_batch_size=64, **fields):
    """A configuration without tensors: the classes declare theirs. Parameters are given as text."""
    return {"name": "model", "backend": "python", "max_batch_size": max_batch_size, **fields}


ON_THE_DEVICE = {"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}
"""Parameters of a model that takes its inputs where they are."""


def delay(tensor, microseconds=100):
    """Keep the tensor's device busy, so that what does not wait for it comes too early.

    Work on a simulated device is done when it is waited for and no sooner, so there is nothing to do there.
    """
    if tensor.is_cuda and type(tensor) is torch.Tensor:
        torch.cuda._sleep(microseconds * 2000)  # in cycles, of about 2 GHz


def cpu_answers(model, batches):
    """What the same class answers on the CPU in full precision: by batch, the outputs of each request."""
    with ModelHarness(model, kind="CPU", config=config_of()) as reference:
        return [[result.outputs for result in reference.infer_batch(batch)] for batch in batches]


def largest_difference(answer, reference):
    """The largest difference of two arrays, as a part of the reference's largest element."""
    return float(np.abs(answer - reference).max() / np.abs(reference).max())


class Stopwatch:
    """Measures the seconds that a block takes."""

    def __enter__(self):
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._started
