"""Inputs that lie in GPU memory of Triton's, which has a new owner as soon as `execute` has returned."""

import numpy as np
import pytest
import torch
from simulated_kit import ON_GPU, Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

from kindaware import RequestError


def serve_gpu_inputs(model, **options):
    return serve(model, takes_gpu_inputs=True, **options)


@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
@pytest.mark.parametrize("input_device", ["cuda:0", ON_GPU])
def test_execute_inputs_on_a_gpu_are_answered(rows, input_device):
    sent = entries(*rows, input_device=input_device)
    with serve_gpu_inputs(Doubler) as harness:
        for _ in range(3):
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


class Sideways(Doubler):
    """Answers from the host's memory, and has the GPU read an input for something else."""

    def forward(self, X):
        self.seen = X + 1
        return torch.zeros(X.shape)


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_has_waited_for_all_that_reads_inputs_of_triton_when_it_returns(output_device):
    sent = entries(3, input_device=ON_GPU)
    with serve_gpu_inputs(Sideways, output_device=output_device) as harness:
        assert_answers(harness.infer_batch(sent), sent, factor=0)
        assert harness.accelerator.num_pending == 0
        np.testing.assert_array_equal(harness.instance.seen.cpu(), sent[0]["inputs"]["X"] + 1)


class Refusing(Doubler):
    """Raises in one of its hooks, after it has queued work on the inputs."""

    where = ""

    def work(self, name, tensor):
        tensor.mul_(2)
        if name == self.where:
            raise RequestError("refused")

    def preprocess(self, inputs):
        self.work("preprocess", inputs["X"])
        return {} if self.where == "preprocess returns nothing" else inputs

    def collate(self, name, tensors):
        self.work("collate", tensors[0])
        return torch.cat(tensors)

    def forward(self, X):
        self.work("forward", X)
        return X

    def postprocess(self, outputs):
        self.work("postprocess", outputs["Y"])
        return outputs


@pytest.mark.parametrize(
    "where", ["preprocess", "preprocess returns nothing", "collate", "forward", "postprocess"]
)
@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
def test_execute_hook_that_raises_has_been_waited_for_when_it_returns(where, rows):
    sent = entries(*rows, input_device=ON_GPU)
    with serve_gpu_inputs(Refusing, isolate_errors="false", warmup="off") as harness:
        Refusing.where = where
        assert all(result.error for result in harness.infer_batch(sent))
        assert_clean(harness)
        Refusing.where = ""
        assert not any(result.error for result in harness.infer_batch(sent))
        assert_clean(harness)


class Echo(Doubler):
    def forward(self, X):
        return X


class View(Doubler):
    def forward(self, X):
        return X.view(-1)[: X.numel()].view(X.shape)


class SecondHalf(Doubler):
    """The second half of the rows, for a model without a batch dimension."""

    def forward(self, X):
        return torch.from_dlpack(torch.utils.dlpack.to_dlpack(X[2:]))


class SameRows(Doubler):
    """What each request gets is what it sent; a batch of one is not copied on the way."""

    def forward(self, X):
        return X.t().t()


@pytest.fixture
def _answers_come_late(monkeypatch):
    """Answers are read when Triton has taken the inputs' memory back: the worst that its sources allow."""
    from kindaware.testing.harness.process import execute as _execute
    from kindaware.testing.stand_in import release_inputs

    send = _execute.send_returned

    def send_late(request, response):
        release_inputs(request)
        send(request, response)

    monkeypatch.setattr(_execute, "send_returned", send_late)


@pytest.mark.usefixtures("_answers_come_late")
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("model", [Echo, View, SameRows])
@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
def test_execute_output_that_is_an_input_of_triton_keeps_its_values(model, rows, output_device):
    sent = entries(*rows, input_device=ON_GPU)
    with serve_gpu_inputs(model, output_device=output_device) as harness:
        assert_answers(harness.infer_batch(sent), sent, factor=1)
        assert_clean(harness)


@pytest.mark.usefixtures("_answers_come_late")
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_slice_of_an_input_that_came_back_through_dlpack_keeps_its_values(output_device):
    values = np.arange(1, 5, dtype=np.float32)
    config = make_config(max_batch_size=0, output=[tensor("Y", [2])])
    with serve_gpu_inputs(SecondHalf, config=config, output_device=output_device) as harness:
        [result] = harness.infer_batch([{"inputs": {"X": values}, "input_device": ON_GPU}])
        assert result.error is None
        np.testing.assert_array_equal(result.outputs["Y"], values[2:])
        assert_clean(harness)


class OnlyFour(Doubler):
    """Takes rows of four numbers."""

    def forward(self, X):
        if X.shape[1] != 4:
            raise ValueError(f"{X.sum()} in rows of another size")
        return 2 * X


def test_execute_shape_of_inputs_on_the_gpu_is_tried_with_zeros_in_order():
    sent = entries(2, input_device=ON_GPU) + entries(1, 2, first=10, width=3, input_device=ON_GPU)
    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])
    with serve_gpu_inputs(OnlyFour, config=config, warmup="off") as harness:
        for _ in range(2):
            good, *refused = harness.infer_batch(sent)
            assert_answers([good], sent[:1])
            for result in refused:
                assert result.error.code().name == "INVALID_ARG"
            assert_clean(harness)
