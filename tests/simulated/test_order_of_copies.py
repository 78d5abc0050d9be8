"""Pinned buffers, and outputs that a later forward overwrites: nothing is read or written before its time."""

import numpy as np
import pytest
import torch
from simulated_kit import ON_GPU, Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

from kindaware import RequestError
from kindaware._device import staging as _staging
from kindaware.testing import Latest, Seeded, SimulatedAccelerator

ANY_WIDTH = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])


@pytest.mark.parametrize("rows", [(1,), (3,), (1, 3, 2)])
def test_execute_outputs_are_read_after_the_wait(rows):
    """Before the wait they are NaN."""
    sent = entries(*rows)
    with serve() as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


@pytest.mark.parametrize("schedule", [Latest(), Seeded(2)])
def test_execute_one_large_row_goes_in_several_copies(monkeypatch, schedule):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 4096)
    copies = []

    def note(number, name):
        copies.extend([number] * (name == "copy to the device"))

    accelerator = SimulatedAccelerator(num_devices=2, schedule=schedule)
    with serve(config=ANY_WIDTH, warmup="off", accelerator=accelerator) as harness:
        accelerator.fault = note
        for first in (1, 50):
            sent = entries(1, width=4000, first=first)
            copies.clear()
            assert_answers(harness.infer_batch(sent), sent)
            assert len(copies) == 4
            assert_clean(harness)


class Raising(Doubler):
    """Raises in one of its hooks."""

    where = ""

    def stop(self, name):
        if name == self.where:
            raise RequestError("refused")

    def preprocess(self, inputs):
        self.stop("preprocess")
        return inputs

    def collate(self, name, tensors):
        self.stop("collate")
        return torch.cat(tensors)

    def forward(self, X):
        self.stop("forward")
        return 2 * X

    def postprocess(self, outputs):
        self.stop("postprocess")
        return outputs


@pytest.mark.parametrize("where", ["preprocess", "collate", "forward", "postprocess"])
def test_execute_after_a_hook_has_raised_the_next_batch_is_right(where):
    """What is queued from the first batch would be sent wrong by the second one's buffers."""
    before, after = entries(1, 3, 2), entries(2, 3, first=50)
    with serve(Raising, warmup="off", isolate_errors="false") as harness:
        for _ in range(2):
            Raising.where = where
            assert all(result.error for result in harness.infer_batch(before))
            assert_clean(harness)
            Raising.where = ""
            assert_answers(harness.infer_batch(after), after)
            assert_clean(harness)


class Reusing(Doubler):
    """Leaves its outputs in memory that its next forward writes again."""

    def load(self):
        self.memory = torch.empty(64, device=self.device)

    def forward(self, X):
        reused = self.memory[: X.numel()].view(X.shape)
        return reused.copy_(2 * X)


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("kind", ["GPU", "CPU"])
def test_execute_forwards_of_one_call_that_write_the_same_memory_keep_their_answers(kind, output_device):
    sent = entries(1, 2, width=3) + entries(2, first=20, width=4) + entries(1, first=40, width=2)
    if kind == "CPU":
        output_device = "cpu"
    with serve(Reusing, config=ANY_WIDTH, warmup="off", kind=kind, output_device=output_device) as harness:
        for _ in range(2):
            assert_answers(harness.infer_batch(sent), sent)
        assert harness.accelerator.violations == []


class Halving(Reusing):
    """Answers one row at a time."""

    def forward(self, X):
        if len(X) > 1:
            raise torch.OutOfMemoryError("full")
        return super().forward(X)


def test_execute_halves_that_write_the_same_memory_keep_their_answers():
    sent = entries(1, 1, 1, 1, 1)
    with serve(Halving, output_device="instance") as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


def test_execute_answers_that_were_forgotten_are_not_copied_again():
    """Outputs of the call before are Triton's affair: a copy of them would cost time and memory."""
    sent = entries(2)
    with serve(output_device="instance") as harness:
        accelerator = harness.accelerator
        harness.infer_batch(sent)
        before = accelerator.num_calls
        harness.infer_batch(sent)
        num_calls = accelerator.num_calls - before
        for _ in range(3):
            harness.infer_batch(sent)
        assert accelerator.num_calls - before == 4 * num_calls


def test_execute_answers_are_copied_once_and_only_where_another_forward_follows():
    sent = [entry for width in (1, 2, 3, 4) for entry in entries(1, first=10 * width, width=width)]
    names = []
    with serve(config=ANY_WIDTH, warmup="off", output_device="instance") as harness:
        harness.accelerator.fault = lambda number, name: names.append(name)
        assert_answers(harness.infer_batch(sent), sent)
    assert names.count("aten::clone") == 3


class Loading(Doubler):
    """Fills its weights on another stream than its own, and does not wait."""

    def load(self):
        stream = getattr(torch.cuda, self.parameters["stream"])()
        self.factor = torch.zeros(4, device=self.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.factor += 2

    def forward(self, X):
        return X * self.factor


@pytest.mark.parametrize("stream", ["default_stream", "Stream"])
@pytest.mark.parametrize("warmup", ["off", "1"])
def test_initialize_waits_for_what_load_has_queued_on_any_stream(stream, warmup):
    sent = entries(3)
    config = make_config(parameters={"stream": {"string_value": stream}})
    with serve(Loading, config=config, warmup=warmup) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


class OnAnother(Doubler):
    """Computes on GPU 0 what it answers from GPU 1."""

    def forward(self, X):
        return 2 * X.to("cuda:0")


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_outputs_on_another_gpu_are_brought_over(output_device):
    sent = entries(3, 1)
    with serve(OnAnother, output_device=output_device) as harness:
        for _ in range(2):
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


class Strided(Doubler):
    """Outputs with strides, expanded, negated lazily, or with a gradient."""

    def forward(self, X):
        if self.parameters["output"] == "transposed":
            return (2 * X).t().contiguous().t()
        if self.parameters["output"] == "expanded":
            return (2 * X[:, :1]).expand(-1, 4)
        if self.parameters["output"] == "every other row":
            return torch.repeat_interleave(2 * X, 2, dim=0)[::2]
        return (2 * X).requires_grad_()


@pytest.mark.parametrize("output", ["transposed", "expanded", "every other row", "gradient"])
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
def test_execute_outputs_that_are_not_contiguous_are_made_so(output, output_device, rows):
    sent = entries(*rows)
    if output == "expanded":
        for entry in sent:
            entry["inputs"]["X"] = np.repeat(entry["inputs"]["X"][:, :1], 4, axis=1)
    config = make_config(parameters={"output": {"string_value": output}})
    with serve(Strided, config=config, output_device=output_device) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


def test_execute_on_gpu_0_leaves_gpu_1_alone():
    with serve(device_id=0) as harness:
        sent = entries(3)
        assert_answers(harness.infer_batch(sent), sent)
        assert harness.accelerator.devices[1].memory.num_allocations == 0
    with serve() as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert harness.accelerator.devices[0].memory.num_allocations == 0
        assert str(harness.instance.device) == ON_GPU
