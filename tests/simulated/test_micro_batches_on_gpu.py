"""A limit on the rows of a forward, on a GPU: slices are fetched one by one, and joined in order."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import (
    ON_GPU,
    Doubler,
    assert_answers,
    assert_clean,
    entries,
    make_config,
    serve,
    tensor,
)

from kindaware.testing.accelerator import SimulatedAccelerator
from searches import examples

CONFIG = make_config(max_batch_size=64)
LIMIT = 3


class Counting(Doubler):
    """Doubles by way of an intermediate result; notes the rows of each forward."""

    def load(self):
        self.sizes = []

    def forward(self, X):
        self.sizes.append(len(X))
        return (X + X) * 1


def serve_limited(output_device, **options):
    settings = {"max_rows_per_forward": LIMIT, "output_device": output_device, "warmup": "off"}
    return serve(Counting, **{"config": CONFIG, "takes_gpu_inputs": True, **settings, **options})


@pytest.fixture(params=["cpu", "instance"])
def kept(request):
    kept = Kept(lambda: serve_limited(request.param))
    yield kept
    kept.close()


@given(
    calls=st.lists(
        st.lists(
            st.tuples(st.integers(1, 8), st.sampled_from(["cpu", "cpu", ON_GPU])), min_size=1, max_size=3
        ),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_slices_do_not_depend_on_when_the_device_works(request, kept, calls, data):
    with kept.use() as harness, drawn(harness, request.node.name, calls, data):
        for number, call in enumerate(calls):
            sent = []
            for place, (rows, input_device) in enumerate(call):
                sent += entries(rows, first=1 + 100 * number + 10 * place, input_device=input_device)
            harness.instance.sizes.clear()
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)
            assert max(harness.instance.sizes) <= LIMIT


WIDTH = 2048
ROW_BYTES = WIDTH * 4
TENSORS = 3
"""How many tensors of a batch's size are there at once: the input, an intermediate one, the output."""


def test_execute_request_that_does_not_fit_the_device_is_answered_in_slices():
    room = SimulatedAccelerator(2, memory_bytes=LIMIT * TENSORS * ROW_BYTES)
    config = make_config(max_batch_size=64, input=[tensor("X", [WIDTH])], output=[tensor("Y", [WIDTH])])
    sent = entries(20, 1, width=WIDTH)
    with serve_limited("cpu", config=config, accelerator=room) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert harness.instance.sizes == [3] * 7
        assert harness.instance._kindaware_instance._counters.out_of_memory == 0
        assert_clean(harness)


class FaultAt:
    """Raises at one call of the device; counts them."""

    def __init__(self, at, text):
        self.at, self.text = at, text
        self.names = []

    def __call__(self, number, name):
        self.names.append(name)
        if len(self.names) != self.at:
            return None
        return torch.AcceleratorError(f"CUDA error: {self.text}{self.at}\n{name}")


def assert_own_rows_or(code, results, sent):
    for result, entry in zip(results, sent, strict=True):
        if result.error is None:
            assert_answers([result], [entry])
        else:
            assert result.error.code().name == code


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_error_at_any_call_while_slices_are_run_and_joined_is_the_requests_own(output_device):
    sent = entries(5, 2)
    with serve_limited(output_device) as harness:
        harness.infer_batch(sent)
        harness.accelerator.fault = counting = FaultAt(0, "")
        harness.infer_batch(sent)
        for at in range(1, len(counting.names) + 1):
            harness.accelerator.fault = FaultAt(at, "invalid configuration argument, ")
            results = harness.infer_batch(sent)
            assert_own_rows_or("INTERNAL", results, sent)
            assert sum(one.error is not None for one in results) <= 1
            harness.accelerator.fault = None
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_device_lost_at_any_call_leaves_own_rows_or_unavailable(output_device):
    sent = entries(2, 5)
    with serve_limited(output_device) as harness:
        harness.infer_batch(sent)
        harness.accelerator.fault = counting = FaultAt(0, "")
        harness.infer_batch(sent)
    for at in range(1, len(counting.names) + 1):
        with serve_limited(output_device) as harness:
            harness.infer_batch(sent)
            harness.accelerator.fault = FaultAt(at, "an illegal memory access, ")
            results = harness.infer_batch(sent)
            assert_own_rows_or("UNAVAILABLE", results, sent)
            assert results[1].error is not None
            assert not harness.instance.is_ready()


def test_execute_outputs_that_stay_are_joined_before_the_call_returns():
    """The wait that ends the call comes after the copies that join."""
    names = []
    with serve_limited("instance") as harness:
        sent = entries(5)
        harness.infer_batch(sent)
        harness.accelerator.fault = lambda number, name: names.append(name)
        assert_answers(harness.infer_batch(sent), sent)
    joins = [place for place, name in enumerate(names) if name.startswith("aten::cat")]
    waits = [place for place, name in enumerate(names) if name == "wait for an event"]
    assert joins
    assert waits[-1] > joins[-1]


def test_execute_outputs_that_stay_are_joined_on_the_stream_that_is_waited_for():
    gpus = SimulatedAccelerator(2, cost=lambda name, num_bytes: 1e-4)  # only work that takes time is noted
    with serve_limited("instance", accelerator=gpus) as harness:
        sent = entries(5)
        assert_answers(harness.infer_batch(sent), sent)
        streams = {
            name: {one.stream for one in harness.accelerator.history if one.name.startswith(f"aten::{name}")}
            for name in ("mul", "cat")
        }
    assert len(streams["mul"]) == 1
    assert streams["cat"] == streams["mul"]


def test_execute_auto_measures_on_the_device():
    options = {"max_rows_per_forward": "auto", "warmup": "1"}
    with serve(Counting, config=CONFIG, **options) as harness:
        assert "max_rows_per_forward" in harness.log_text()
        sent = entries(20, 1)
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


def test_execute_auto_on_a_device_with_little_memory_takes_what_fits():
    room = SimulatedAccelerator(2, memory_bytes=5 * TENSORS * ROW_BYTES)
    config = make_config(max_batch_size=64, input=[tensor("X", [WIDTH])], output=[tensor("Y", [WIDTH])])
    options = {"max_rows_per_forward": "auto", "accelerator": room, "config": config}
    with serve(Counting, **options) as harness:
        assert harness.instance.sizes.count(8) <= 1
        sent = entries(20, width=WIDTH)
        harness.instance.sizes.clear()
        assert_answers(harness.infer_batch(sent), sent)
        assert max(harness.instance.sizes) <= 4
        assert harness.instance._kindaware_instance._counters.out_of_memory == 0
