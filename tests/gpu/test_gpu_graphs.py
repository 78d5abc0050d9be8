"""CUDA graphs answer as the eager model does, for every batch size and in any order; also those of a step."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from gpu_kit import config_of, cpu_answers, delay, largest_difference

from kindaware import Done, KindAwareModel, Next, TensorSpec, graphed
from kindaware.states import SlotCache

SIZES = (1, 4, 8, 16)
LARGEST = 20  # above the largest graph


class Graphed(KindAwareModel):
    """Two layers, with some idling before each, and two outputs."""

    inputs = [TensorSpec("X", "FP32", [24]), TensorSpec("K", "INT64", [2])]
    outputs = [TensorSpec("Y", "FP32", [8]), TensorSpec("SUM", "INT64", [1])]

    def load(self):
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(24, 64), torch.nn.Linear(64, 8)
        self.num_calls = 0

    def forward(self, X, K):
        self.num_calls += 1
        delay(X)
        hidden = self.first(X).relu()
        delay(X)
        return {"Y": self.second(hidden), "SUM": K.sum(dim=1, keepdim=True)}


class Refusing(Graphed):
    """Refuses a batch in which a sum is below 0, without saying which row's."""

    def postprocess(self, outputs):
        if outputs["SUM"].min() < 0:
            raise ValueError("sum below 0")
        return outputs


def open_graphed(gpu, model=Graphed, **settings):
    """A harness with a graph per size."""
    settings = {"cuda_graphs": ",".join(map(str, SIZES)), **settings}
    parameters = {f"kindaware.{name}": value for name, value in settings.items()}
    return gpu.harness(model, config=config_of(LARGEST), parameters=parameters, raise_errors=False)


def new_batch(random, num_rows):
    """Requests with so many rows in all."""
    batch = []
    while num_rows:
        rows = int(random.integers(1, num_rows + 1))
        x = random.standard_normal((rows, 24)).astype(np.float32)
        batch.append({"X": x, "K": random.integers(0, 2**40, (rows, 2))})
        num_rows -= rows
    return batch


def assert_answers(results, references, tolerance):
    for result, reference in zip(results, references, strict=True):
        assert result.error is None, result.error.message()
        assert largest_difference(result.outputs["Y"], reference["Y"]) < tolerance
        np.testing.assert_array_equal(result.outputs["SUM"], reference["SUM"])


def test_graphs_answer_as_eager_for_every_batch_size(gpu):
    random = np.random.default_rng(0)
    batches = [new_batch(random, rows) for rows in range(1, LARGEST + 1)]
    with gpu.harness(Graphed, config=config_of(LARGEST)) as eager:
        references = [[one.outputs for one in eager.infer_batch(batch)] for batch in batches]
    with open_graphed(gpu) as model:
        for batch, reference in zip(batches, references, strict=True):
            before = model.instance.num_calls
            assert_answers(model.infer_batch(batch), reference, 1e-5)
            num_rows = sum(len(one["X"]) for one in batch)
            assert model.instance.num_calls - before == (1 if num_rows > max(SIZES) else 0)


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_graphs_in_any_order_give_no_row_of_another_batch(gpu, output_device):
    random = np.random.default_rng(1)
    sizes = random.integers(1, LARGEST + 1, gpu.count(1000, 10))
    batches = [new_batch(random, int(rows)) for rows in sizes]
    references = cpu_answers(Graphed, batches)
    with open_graphed(gpu, output_device=output_device) as model:
        for batch, reference in zip(batches, references, strict=True):
            assert_answers(model.infer_batch(batch), reference, 1e-4)


def test_graphs_of_halves_of_a_call_do_not_overwrite_each_other(gpu):
    """A row that `postprocess` refuses splits the batch: halves of two rows each replay the same graph."""
    random = np.random.default_rng(2)
    batches = [[new_batch(random, 1)[0] for _ in range(4)] for _ in range(gpu.count(200, 4))]
    references = cpu_answers(Graphed, batches)
    for batch in batches:
        batch[-1]["K"][:] = -1
    with open_graphed(gpu, output_device="instance", model=Refusing) as model:
        for batch, reference in zip(batches, references, strict=True):
            *answered, refused = model.infer_batch(batch)
            assert refused.error is not None
            assert_answers(answered, reference[:-1], 1e-4)


def test_graphs_in_bf16_are_within_its_tolerance_of_the_cpu(gpu):
    random = np.random.default_rng(3)
    batches = [new_batch(random, rows) for rows in (1, 3, 8, 16)]
    references = cpu_answers(Graphed, batches)
    with open_graphed(gpu, precision="bf16-true") as model:
        for batch, reference in zip(batches, references, strict=True):
            assert_answers(model.infer_batch(batch), reference, 0.03)


class Text(NamedTuple):
    slot: int
    length: int
    token: torch.Tensor
    left: int


class Decoder(KindAwareModel):
    """Writes COUNT numbers, each from all before it in its slot; some idling before it reads them."""

    inputs = [TensorSpec("SEED", "FP32", [1]), TensorSpec("COUNT", "INT64", [1])]
    outputs = [TensorSpec("Y", "FP32", [1])]
    max_streams = 24

    def load(self):
        torch.manual_seed(0)
        self.cache = SlotCache(self.settings.max_streams, seen=(64, 16))
        self.first, self.last = torch.nn.Linear(1, 16), torch.nn.Linear(16, 1)
        self.num_calls = 0

    def warmup_inputs(self, rows):
        return {"SEED": torch.ones(rows, 1), "COUNT": torch.full((rows, 1), 9)}

    @graphed
    def decode(self, tokens, slots, lengths):
        self.num_calls += 1
        seen = self.cache.seen
        delay(tokens)
        seen[slots, lengths] = self.first(tokens).to(seen.dtype)
        known = torch.arange(64, device=tokens.device) <= lengths[:, None]
        delay(tokens)
        mean = (seen[slots] * known[..., None]).sum(dim=1) / (lengths[:, None] + 1)
        return self.last(mean.to(self.last.weight.dtype)).tanh()

    def begin(self, SEED, COUNT):
        return Text(self.cache.take(), 0, SEED[0], int(COUNT))

    def step(self, texts):
        places = torch.tensor([(one.slot, one.length) for one in texts], device=self.device)
        tokens = self.decode(torch.stack([one.token for one in texts]), places[:, 0], places[:, 1])
        return [
            Next(Text(one.slot, one.length + 1, token, one.left - 1), token.float().view(1, 1))
            if one.left
            else Done()
            for one, token in zip(texts, tokens, strict=True)
        ]

    def end(self, text):
        self.cache.release(text.slot)


def numbers_of(model, requests):
    streams = model.stream_batch(requests)
    return [np.array([item.outputs["Y"].item() for item in stream]) for stream in streams]


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-4), ("bf16-true", 0.05)])
def test_graphs_of_a_step_write_what_each_stream_writes_alone(gpu, precision, tolerance):
    random = np.random.default_rng(4)
    requests = [
        {"SEED": random.standard_normal((1, 1)).astype(np.float32), "COUNT": [[int(count)]]}
        for count in random.integers(1, 60, gpu.count(LARGEST * 5, LARGEST + 4))
    ]
    with gpu.harness(Decoder, kind="CPU") as reference:
        alone = [numbers_of(reference, [one])[0] for one in requests]
    settings = {"kindaware.cuda_graphs": "1,4,8,16", "kindaware.precision": precision}
    with gpu.harness(Decoder, parameters=settings) as model:
        assert "CUDA graphs for rows of a step 1, 4, 8, 16" in model.log_text()
        before = model.instance.num_calls
        for found, expected in zip(numbers_of(model, requests), alone, strict=True):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < tolerance
        assert model.instance.num_calls > before  # of more rows than the largest graph has
        assert len(numbers_of(model, requests[:1])[0]) == len(alone[0])
        before = model.instance.num_calls
        numbers_of(model, requests[:3])
        assert model.instance.num_calls == before
