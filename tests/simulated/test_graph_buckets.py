"""CUDA graphs by batch size: what they answer equals eager, padded or not; the rest runs eagerly."""

import warnings

import numpy as np
import pytest
import torch
from simulated_kit import ON_GPU, Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor
from torch import nn

from kindaware.testing import ModelLoadError
from kindaware.testing.accelerator import SimulatedAccelerator

TWO = make_config(
    max_batch_size=12,
    input=[tensor("X"), tensor("Z", [3], "TYPE_INT32")],
    output=[tensor("Y", [2]), tensor("W", [3], "TYPE_INT32")],
)


class Net(Doubler):
    """A layer whose answer depends on its row alone, and an output that is an input."""

    def load(self):
        torch.manual_seed(7)
        self.runs = 0
        return nn.Linear(4, 2)

    def forward(self, X, Z):
        self.runs += 1
        return self.model(X), Z


def batch(rows, input_device="cpu"):
    """Requests of two inputs, uneven; no two rows alike."""
    numbers, sent = iter(range(1, 100)), []
    for count in rows:
        first = [next(numbers) for _ in range(count)]
        column = np.array(first)[:, None]
        inputs = {"X": np.float32(column * [1, 0.5, 0.25, 2]), "Z": np.int32(column * [1, 10, 100])}
        sent.append({"inputs": inputs, "input_device": input_device})
    return sent


def parts(rows):
    """So many rows, in one request and in several."""
    return [[rows], [1] * rows, [rows // 2, rows - rows // 2]] if rows > 1 else [[1]]


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("input_device", ["cpu", ON_GPU])
def test_execute_every_size_around_the_buckets_equals_eager(input_device, output_device):
    graphed = serve(Net, config=TWO, takes_gpu_inputs=True, cuda_graphs="2,5,8", output_device=output_device)
    with graphed as harness:
        answers, names = {}, []
        for rows in range(1, 13):
            for place, counts in enumerate(parts(rows)):
                harness.instance.runs = 0
                harness.accelerator.fault = lambda number, name: names.append(name)
                names.clear()
                sent = batch(counts, input_device)
                answers[rows, place] = harness.infer_batch(sent)
                assert_clean(harness)
                assert ("replay a graph" in names) == (rows <= 8)
                assert harness.instance.runs == (rows > 8)
    with serve(Net, config=TWO) as harness:
        for (rows, place), results in answers.items():
            expected = harness.infer_batch(batch(parts(rows)[place]))
            for one, other in zip(results, expected, strict=True):
                np.testing.assert_array_equal(one.outputs["W"], other.outputs["W"])
                np.testing.assert_allclose(one.outputs["Y"], other.outputs["Y"], rtol=1e-6)


class Any(Doubler):
    def warmup_inputs(self, rows):
        return {"X": torch.zeros(rows, 4)}


def test_execute_other_shapes_than_the_recorded_run_eagerly():
    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])
    sent = entries(2, width=3) + entries(2, first=10) + entries(1, first=20, width=7)
    with serve(Any, config=config, cuda_graphs="4", output_device="instance") as harness:
        for _ in range(3):
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


class Reading(Doubler):
    """What no graph can record: it looks at its values."""

    def forward(self, X):
        return 2 * X if X.sum() >= 0 else X


class Pageable(Doubler):
    def forward(self, X):
        return X * torch.full((4,), 2.0).to(X.device)


@pytest.mark.parametrize("model", [Reading, Pageable])
def test_initialize_forward_that_cannot_be_recorded_runs_eagerly_and_says_why(model):
    with serve(model, cuda_graphs="2,4") as harness:
        [line] = [line for line in harness.logs if "cuda_graphs" in line.text and line.level == "WARNING"]
        assert "batch size(s) 2, 4: expected a forward that can be captured" in line.text
        for rows in (1, 2, 3, 4):
            sent = entries(rows)
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


class MemoryShort:
    """No memory for what is recorded between the first captures' begin and end."""

    def __init__(self, num_captures):
        self._num_captures = num_captures
        self._is_capturing = False

    def __call__(self, number, name):
        if name == "begin a capture":
            self._num_captures -= 1
            self._is_capturing = self._num_captures >= 0
        if not self._is_capturing or name != "allocate":
            return None
        self._is_capturing = False
        return torch.OutOfMemoryError("CUDA out of memory (injected)")


@pytest.mark.parametrize(("num_captures", "sizes"), [(1, "5"), (2, "2, 5")])
def test_initialize_without_memory_for_a_graph_runs_its_size_eagerly_and_says_why(num_captures, sizes):
    short = SimulatedAccelerator(2, fault=MemoryShort(num_captures))
    with serve(accelerator=short, cuda_graphs="2,5") as harness:
        [line] = [line for line in harness.logs if line.level == "WARNING"]
        assert f"batch size(s) {sizes}: expected a forward that can be captured" in line.text
        assert "CUDA out of memory (injected)" in line.text
        for rows in range(1, 9):
            sent = entries(rows)
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


class Summing(Doubler):
    """Weights made on the device."""

    def load(self):
        self.weight = torch.full((4,), 2.0, device=self.device)

    def forward(self, X, Z):
        return (X * self.weight)[:, :2] + 0, Z + 0


def start(harness):
    """Load the model; gives the error if there was one."""
    try:
        harness.start()
    except ModelLoadError as error:
        return error
    return None


@pytest.mark.parametrize("sticky", [False, True])
def test_initialize_error_at_any_call_is_one_of_load_or_leaves_a_right_model(sticky):
    """With graphs, since they make the most calls."""
    names = []
    probe = SimulatedAccelerator(2, fault=lambda number, name: names.append(name))
    with serve(Summing, config=TWO, accelerator=probe, cuda_graphs="2,5"):
        num_calls = len(names)
    assert names.count("begin a capture") == 2
    num_loaded = 0
    for at in range(1, num_calls + 1):
        error = (torch.AcceleratorError if sticky else RuntimeError)("CUDA error: injected")
        failing = SimulatedAccelerator(
            2, fault=lambda number, name, at=at, e=error: e if number == at else None
        )
        harness = serve(Summing, config=TWO, accelerator=failing, cuda_graphs="2,5")
        raised = start(harness)
        if raised is not None:
            assert "injected" in str(raised)
            assert not sticky or failing.num_calls <= at + 2, names[at - 1]  # the end of a capture, a wait
            continue
        assert not sticky, names[at - 1]
        num_loaded += 1
        failing.fault = None
        for counts in ([2], [1, 3], [3, 4]):
            sent = batch(counts)
            for result, entry in zip(harness.infer_batch(sent), sent, strict=True):
                np.testing.assert_array_equal(result.outputs["W"], entry["inputs"]["Z"])
                np.testing.assert_array_equal(result.outputs["Y"], 2 * entry["inputs"]["X"][:, :2])
            assert_clean(harness)
        harness.stop()
    assert (num_loaded > 0) == (not sticky)


def test_initialize_with_graphs_silences_no_warning_beyond_that():
    with serve(cuda_graphs="2,4"):
        assert not any("Synchronization debug mode" in str(message) for _, message, *_ in warnings.filters)
