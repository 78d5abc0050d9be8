"""Answers in every precision and memory format are those of the CPU, within the tolerance of the dtype."""

import numpy as np
import pytest
import torch
from gpu_kit import config_of, cpu_answers, delay, largest_difference

from kindaware import KindAwareModel, TensorSpec

TOLERANCE = {"32": 2e-3, "bf16": 3e-2, "16": 5e-3}
"""Of the largest element. Convolutions in FP32 run in TF32 unless torch is told not to."""
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Convolutional(KindAwareModel):
    """Convolutions, a batch norm and a linear layer."""

    inputs = [TensorSpec("X", "FP32", [3, 16, 16])]
    outputs = [TensorSpec("Y", "FP32", [10])]

    def load(self):
        torch.manual_seed(0)
        self.dtypes, self.are_channels_last = set(), set()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.rest = torch.nn.Sequential(
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 16, 3, stride=2),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * 7 * 7, 10),
        )

    def forward(self, X):
        delay(X)
        self.are_channels_last.add(not X.is_contiguous())
        hidden = self.first(X)
        self.dtypes.add(hidden.dtype)
        return self.rest(hidden)


def pictures(num_requests, seed):
    random = np.random.default_rng(seed)
    return [{"X": random.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(num_requests)]


def assert_within_tolerance(gpu, precision, **settings):
    """Compare batches of several sizes with the CPU's answers."""
    batches = [pictures(size, seed=size) for size in (1, 2, 5, 16)]
    references = cpu_answers(Convolutional, batches)
    settings = {"precision": precision, **settings}
    parameters = {f"kindaware.{name}": value for name, value in settings.items()}
    with gpu.harness(Convolutional, config=config_of(16), parameters=parameters) as model:
        for batch, reference in zip(batches, references, strict=True):
            for result, expected in zip(model.infer_batch(batch), reference, strict=True):
                assert result.outputs["Y"].dtype == np.float32
                difference = largest_difference(result.outputs["Y"], expected["Y"])
                assert difference < TOLERANCE[precision.split("-")[0]]
        assert model.instance.are_channels_last == {settings.get("memory_format") == "channels_last"}
        assert model.instance.dtypes == {DTYPES[precision.split("-")[0]]}


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed", "16-true", "16-mixed"])
def test_precision_answers_are_within_its_tolerance_of_the_cpu(gpu, precision, memory_format):
    assert_within_tolerance(gpu, precision, memory_format=memory_format)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_compiled_answers_are_within_tolerance_of_the_cpu(cuda, precision):
    assert_within_tolerance(cuda, precision, compile="default")
