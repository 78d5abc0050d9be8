"""A lost device: clients are told at once, nothing is asked of it any more, and one reload is asked for."""

import asyncio
import time

import pytest
import torch
from simulated_kit import Doubler, assert_answers, entries, make_config, serve, tensor


class Finalized(Doubler):
    """Works on the device in every hook that a lost one could still reach."""

    def load(self):
        self.num_forwards = 0

    def forward(self, X):
        self.num_forwards += 1
        return 2 * X


def lose_device_in_next_batch(harness):
    """The next kernel fails, as with an assert on the device."""
    lost = torch.AcceleratorError("CUDA error: device-side assert triggered")
    harness.accelerator.fault = lambda number, name: lost if name == "aten::mul.Tensor" else None


def codes(results):
    return [one.error and one.error.code().name for one in results]


@pytest.mark.parametrize("input_device", ["cpu", "cuda:1"])
def test_execute_on_a_lost_device_is_unavailable_at_once_and_asks_it_for_nothing(input_device):
    sent = entries(1, 2, input_device=input_device)
    with serve(Finalized, takes_gpu_inputs=True) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        lose_device_in_next_batch(harness)
        assert codes(harness.infer_batch(sent)) == ["UNAVAILABLE"] * 2
        num_calls, num_forwards = harness.accelerator.num_calls, harness.instance.num_forwards
        started = time.monotonic()
        for _ in range(20):
            assert codes(harness.infer_batch(sent)) == ["UNAVAILABLE"] * 2
        assert time.monotonic() - started < 5
        assert not harness.instance.is_ready()
        assert harness.instance.num_forwards == num_forwards
        assert harness.log_text().count("device-side assert triggered") <= 2  # the message, and its traceback
    assert harness.accelerator.num_calls == num_calls
    assert harness.accelerator.violations == []


def test_execute_batches_before_the_fault_in_a_call_keep_their_answers_on_the_host():
    class Widths(Doubler):
        def forward(self, X):
            return X + X if X.shape[1] == 3 else 2 * X

    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])
    sent = entries(1, width=3) + entries(1, first=10, width=4) + entries(1, first=20, width=5)
    with serve(Widths, config=config, warmup="off") as harness:
        lose_device_in_next_batch(harness)
        results = harness.infer_batch(sent)
        assert codes(results) == [None, "UNAVAILABLE", "UNAVAILABLE"]
        assert_answers(results[:1], sent[:1])


class Attention(Doubler):
    """Asks for a launch that is too large when there is a number above 100."""

    def forward(self, X):
        if (X > 100).any():
            raise torch.AcceleratorError("CUDA error: invalid configuration argument\nCompile with ...")
        return 2 * X


def test_execute_error_of_one_launch_fails_its_request_alone_and_the_instance_goes_on():
    good, large = entries(1, 2), entries(1, first=200)
    with serve(Attention, warmup="off") as harness:
        first, failed, second = harness.infer_batch([good[0], *large, good[1]])
        assert_answers([first, second], good)
        assert codes([failed]) == ["INTERNAL"]
        assert "invalid configuration argument" in failed.error.message()
        assert harness.instance.is_ready()
        assert_answers(harness.infer_batch(good), good)
    assert harness.accelerator.violations == []


def wait_for(harness, text):
    deadline = time.monotonic() + 20
    while text not in harness.log_text():
        assert time.monotonic() < deadline, harness.log_text()
        time.sleep(0.01)


def test_execute_on_a_lost_device_asks_for_one_reload_and_the_new_process_answers():
    sent = entries(1, 2)
    with serve(Finalized, reload_on_fault="true") as harness:
        before = harness.instance
        lose_device_in_next_batch(harness)
        for _ in range(3):
            assert codes(harness.infer_batch(sent)) == ["UNAVAILABLE"] * 2
        harness.accelerator.fault = None
        wait_for(harness, "loaded anew")
        assert harness.log_text().count("asked for") == 1
        assert harness.instance is not before
        assert_answers(harness.infer_batch(sent), sent)


def test_execute_on_a_lost_device_asks_for_no_reload_unless_told():
    with serve(Finalized) as harness:
        lose_device_in_next_batch(harness)
        assert codes(harness.infer_batch(entries(1))) == ["UNAVAILABLE"]
        time.sleep(0.4)
        assert "asked for" not in harness.log_text()


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_that_loses_the_device_asks_for_one_reload_without_a_further_request(is_async):
    class Plain(Finalized):
        def stream(self, X):
            yield 2 * X

    class Async(Finalized):
        async def stream(self, X):
            await asyncio.sleep(0.01)  # `execute` has returned
            yield 2 * X

    config = make_config(model_transaction_policy={"decoupled": True})
    with serve(Async if is_async else Plain, config=config, reload_on_fault="true", warmup="off") as harness:
        lose_device_in_next_batch(harness)
        assert codes(harness.stream(entries(1)[0]["inputs"])) == ["UNAVAILABLE"]
        harness.accelerator.fault = None
        wait_for(harness, "loaded anew")
        assert harness.log_text().count("asked for") == 1
