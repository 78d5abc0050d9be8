"""The stage that runs `preprocess`: how the hook is called, and what is waited for when it raises."""

import pytest
import torch
from core_kit import Faulty, Releasing, make_device, make_plan, make_spec

from kindaware import TensorSpec
from kindaware._batch.preprocess import Preprocessor
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext, current_context
from kindaware._errors import OutputError

ONES = Request("r", {"X": torch.ones(1, 2)}, 1)
OPTIONAL = [TensorSpec("X", "FP32", [2]), TensorSpec("Z", "FP32", [2], optional=True)]


def preprocess(hook, *, request=ONES, forward=lambda X: X, runtime=None, inputs=None):
    """Run a hook on one request."""
    plan = make_plan(forward, spec=make_spec(inputs=inputs), preprocess=hook)
    return Preprocessor(plan, make_device(runtime)).run(request)


def test_hook_may_change_its_mapping_without_changing_the_request():
    def hook(inputs):
        inputs["X"] = inputs["X"] + 1
        return inputs

    assert preprocess(hook).inputs["X"].tolist() == [[2, 2]]
    assert ONES.inputs["X"].tolist() == [[1, 1]]


def test_hook_runs_with_gradients_disabled():
    seen = []
    preprocess(lambda inputs: seen.append(torch.is_grad_enabled()) or inputs)
    assert seen == [False]


def test_calls_that_a_hook_makes_are_of_its_request():
    seen = []
    request = Request(RequestContext("r1"), ONES.inputs, 1)
    preprocess(lambda inputs: seen.append(current_context().request_id) or inputs, request=request)
    assert (seen, current_context().request_id) == (["r1"], "")


def test_forward_behind_a_decorator_that_takes_anything_may_lack_an_optional_input():
    def forward(*args, **inputs):
        raise NotImplementedError

    made = preprocess(lambda inputs: inputs, forward=forward, inputs=OPTIONAL)
    assert list(made.inputs) == ["X"]


@pytest.mark.parametrize(
    ("made", "got"),
    [(None, "NoneType"), ([ONES.inputs["X"]], "list"), ({}, "{}"), ({"X": None}, "{'X': []}")],
)
def test_hook_that_returns_no_tensors_by_name_is_told_what_to_return(made, got):
    with pytest.raises(OutputError) as caught:
        preprocess(lambda inputs: made)
    assert str(caught.value).startswith(
        f"model 'm' preprocess: expected a mapping of ['X'] to tensors with 1 rows, got {got}; return one"
    )


class Device(Faulty, Releasing):
    """A device that notes waits, and that some errors leave unusable."""


@pytest.mark.parametrize(
    ("error", "log"),
    [(ValueError("odd"), ["wait"]), (SystemExit(1), ["wait"]), (RuntimeError("CUDA error"), [])],
    ids=["error", "exit", "fault"],
)
def test_what_a_hook_that_raises_has_queued_is_waited_for_on_a_device_that_works(error, log):
    def hook(inputs):
        raise error

    runtime = Device()
    with pytest.raises(type(error)):
        preprocess(hook, runtime=runtime)
    assert runtime.log == log
