"""Outputs that stay on the GPU: handed over as objects, computed, on the instance's stream."""

import pytest
import torch
from simulated_kit import Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

from kindaware.testing.harness.process import execute as _execute


class Handover:
    """Notes what every tensor is that the library hands over, and what is current then."""

    def __init__(self, harness):
        self.seen = []
        self._harness = harness
        self._take = harness.pb_utils.Tensor.from_dlpack

    def __call__(self, name, producer):
        model = self._harness.instance
        self.seen.append(
            {
                "name": name,
                "is tensor": isinstance(producer, torch.Tensor),
                "contiguous": producer.is_contiguous(),
                "device": producer.device,
                "current device": torch.cuda.current_device(),
                "own stream": torch.cuda.current_stream() == model.cuda_stream,
                "pending": self._harness.accelerator.num_pending,
                "address": producer.data_ptr(),
            }
        )
        return self._take(name, producer)


@pytest.fixture
def hand_over(monkeypatch):
    """Serve a model whose outputs stay; gives the harness and what is seen of them."""

    def watch(harness):
        handover = Handover(harness)
        monkeypatch.setattr(harness.pb_utils.Tensor, "from_dlpack", staticmethod(handover))
        return handover

    return watch


CONFIG = make_config(output=[tensor("Y"), tensor("Z")])


class Two(Doubler):
    def forward(self, X):
        return 2 * X, 3 * X


@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
def test_respond_hands_tensors_over_as_objects_on_the_instances_stream(hand_over, rows):
    sent = entries(*rows)
    with serve(Two, config=CONFIG, output_device="instance") as harness:
        handover = hand_over(harness)
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)
    assert [one["name"] for one in handover.seen] == ["Y", "Z"] * len(rows)
    for one in handover.seen:
        assert one["is tensor"]
        assert one["contiguous"]
        assert one["device"] == torch.device("cuda:1")
        assert one["current device"] == 1
        assert one["own stream"]


def test_respond_asks_the_gpu_only_for_outputs_that_were_requested(hand_over):
    with serve(Two, config=CONFIG, output_device="instance") as harness:
        handover = hand_over(harness)
        result = harness.infer(X=entries(1)[0]["inputs"]["X"], requested_outputs=["Z"])
    assert list(result.outputs) == ["Z"]
    assert [one["name"] for one in handover.seen] == ["Z"]


def test_respond_outputs_are_computed_before_they_are_handed_over(hand_over):
    """A capsule is taken without a wait, and so is the memory of one that is not CUDA's own."""
    with serve(Two, config=CONFIG, output_device="instance") as harness:
        handover = hand_over(harness)
        harness.infer_batch(entries(1, 2))
    assert handover.seen[0]["pending"] == 0


def test_execute_answers_of_one_call_stay_as_they_are_until_the_next(monkeypatch):
    """Triton reads answers when all of the call are there; each must still be what it was."""
    held, send = [], _execute.send_returned

    def send_late(request, response):
        held.append((request, response))
        if len(held) == 3:
            for one in held:
                send(*one)

    monkeypatch.setattr(_execute, "send_returned", send_late)
    sent = entries(1, 2, 2)
    with serve(output_device="instance") as harness:
        assert_answers(harness.infer_batch(sent), sent)
