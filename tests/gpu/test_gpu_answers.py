"""Each client gets the answer to its own request, however late the device is."""

import itertools

import numpy as np
import pytest
import torch
from gpu_kit import ON_THE_DEVICE, config_of, delay

from kindaware import KindAwareModel, RequestError, TensorSpec

WIDTHS = (1, 5, 300, 40_000)  # with the last one, a batch of four rows is more than one piece of the staging
SHARES = (0.4, 0.3, 0.2, 0.1)
REFUSED = 0.03  # the share of requests that `preprocess` refuses


class Late(KindAwareModel):
    """Answers twice the row plus the number of the request, after some idling before and in between."""

    inputs = [TensorSpec("X", "FP32", [-1]), TensorSpec("NUMBER", "INT64", [1])]
    outputs = [TensorSpec("Y", "FP32", [-1]), TensorSpec("ANSWERED", "INT64", [1])]
    warmup = "off"

    def load(self):
        self.scale = torch.nn.Module()
        self.scale.factor = torch.nn.Parameter(torch.tensor([2.0]))

    def preprocess(self, inputs):
        if inputs["NUMBER"][0, 0] < 0:
            raise RequestError("number below 0")
        return inputs

    def forward(self, X, NUMBER):
        delay(X)
        scaled = X * self.scale.factor
        delay(X)
        return {"Y": scaled + NUMBER, "ANSWERED": NUMBER + 0}


class Requests:
    """Batches of random sizes; every request has a number of its own."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self._numbers = itertools.count(1)

    def batch(self):
        return [self._request() for _ in range(self._random.integers(1, 9))]

    def _request(self):
        rows, width = self._random.integers(1, 5), self._random.choice(WIDTHS, p=SHARES)
        number = next(self._numbers) * (-1 if self._random.random() < REFUSED else 1)
        x = self._random.integers(-1000, 1000, (rows, width)).astype(np.float32)
        return {"X": x, "NUMBER": np.full((rows, 1), number)}


def assert_own_answers(requests, results):
    """Compare with the formula, exactly: all values are whole and below 2 ** 24."""
    for request, result in zip(requests, results, strict=True):
        number = request["NUMBER"]
        if number[0, 0] < 0:
            assert result.error is not None
            assert "number below 0" in result.error.message()
            continue
        assert result.error is None, result.error.message()
        np.testing.assert_array_equal(result.outputs["ANSWERED"], number)
        np.testing.assert_array_equal(result.outputs["Y"], request["X"] * 2 + number)


def on_device(request, ordinal=0):
    return {"inputs": request, "input_device": f"cuda:{ordinal}"}


@pytest.mark.parametrize("seed", range(4))
def test_answers_of_random_batches_belong_to_their_requests(gpu, seed):
    with gpu.harness(Late, raise_errors=False) as model:
        requests = Requests(seed)
        for _ in range(gpu.count(2500, 6)):
            batch = requests.batch()
            assert_own_answers(batch, model.infer_batch(batch))


@pytest.mark.parametrize("limit", [0, 100_000])
def test_answers_beyond_the_pinned_limit_belong_to_their_requests(gpu, limit):
    with gpu.harness(
        Late, raise_errors=False, parameters={"kindaware.pinned_limit_bytes": str(limit)}
    ) as model:
        requests = Requests(limit)
        for _ in range(gpu.count(500, 6)):
            batch = requests.batch()
            assert_own_answers(batch, model.infer_batch(batch))
        statistics = model.instance._kindaware_instance._device.staging.statistics
        assert statistics.pinned_bytes <= limit
        assert statistics.num_unpinned > 0


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_answers_of_inputs_on_the_device_belong_to_their_requests(gpu, output_device):
    """Inputs by DLPack, alone and mixed with others; the memory of an input is overwritten after its call."""
    parameters = {**ON_THE_DEVICE, "kindaware.output_device": output_device}
    with gpu.harness(Late, raise_errors=False, parameters=parameters) as model:
        requests, choice = Requests(7), np.random.default_rng(7)
        for _ in range(gpu.count(1000, 6)):
            batch = requests.batch()
            sent = [on_device(one) if choice.random() < 0.7 else one for one in batch]
            assert_own_answers(batch, model.infer_batch(sent))


class Handed(KindAwareModel):
    """Gives its input back: whole, as a part, and as a view of other strides."""

    inputs = [TensorSpec("X", "FP32", [6])]
    outputs = [
        TensorSpec("WHOLE", "FP32", [6]),
        TensorSpec("PART", "FP32", [2]),
        TensorSpec("TURNED", "FP32", [6]),
    ]

    def load(self):
        self.seen = []

    def forward(self, X):
        self.seen.append(X.device)
        delay(X)
        return {"WHOLE": X, "PART": X[:, 2:4], "TURNED": X.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6)}


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("num_requests", [1, 3])
def test_answers_that_are_inputs_on_the_device_are_those_of_their_requests(gpu, output_device, num_requests):
    parameters = {**ON_THE_DEVICE, "kindaware.output_device": output_device}
    with gpu.harness(Handed, parameters=parameters, config=config_of(8)) as model:
        for round_ in range(gpu.count(200, 3)):
            batch = [np.random.rand(2, 6).astype(np.float32) + round_ for _ in range(num_requests)]
            results = model.infer_batch([on_device({"X": x}) for x in batch])
            for x, result in zip(batch, results, strict=True):
                np.testing.assert_array_equal(result.outputs["WHOLE"], x)
                np.testing.assert_array_equal(result.outputs["PART"], x[:, 2:4])
                turned = x.reshape(-1, 2, 3).transpose(0, 2, 1).reshape(-1, 6)
                np.testing.assert_array_equal(result.outputs["TURNED"], turned)
        assert set(model.instance.seen) == {torch.device("cuda", 0)}
