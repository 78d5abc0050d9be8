"""One call of `execute`: what is counted, asked for and answered, whatever happens on the way."""

import sys
import time

import numpy as np
import pb_fakes
import pytest
import torch
from core_kit import Doubler, make_pipeline, make_plan, make_request, start
from pb_fakes import InferenceRequest, Tensor

from kindaware._batch.results import Failure
from kindaware._device.runtime import CpuRuntime
from kindaware._execute.executor import Executor


@pytest.fixture
def pb_utils(monkeypatch):
    """The module, as in a stub that has finished its imports."""
    module = pb_fakes.make_module()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    return module


def request(value):
    return InferenceRequest([Tensor("X", np.full((1, 4), value, np.float32))], str(value))


def test_execute_after_a_fault_counts_each_request_and_names_the_fault(pb_utils):
    model = start(Doubler)
    instance = model._kindaware_instance
    instance._device.health.fault = "RuntimeError: CUDA error"
    responses = model.execute([request(1), request(2)])
    assert [one.error.code.name for one in responses] == ["UNAVAILABLE"] * 2
    assert "got cpu after RuntimeError: CUDA error; " in responses[0].error.text
    assert instance._counters.errors == {"UNAVAILABLE": 2}


class Faulty(CpuRuntime):
    """A device that some errors leave unusable."""

    def is_fault(self, error):
        return "CUDA error" in str(error)


class Adapter:
    """Reads what it is given, and shows what is to be answered; raises where it is told to."""

    def __init__(self, raises_in="", error=None):
        self.raises_in, self.error = raises_in, error
        self.asked = []

    def _call(self, name):
        if name == self.raises_in:
            self.raises_in = ""
            raise self.error

    def read(self, requests, *, asks_for_cancelled):
        self.asked.append(asks_for_cancelled)
        self._call("read")
        return requests

    def respond(self, requests, results):
        self._call("respond")
        return [one.code if isinstance(one, Failure) else float(one["Y"][0, 0]) for one in results]


def open_executor(adapter, forward=lambda X: 2 * X, **options):
    """An executor of a model with a preprocess, which goes the long way."""
    options.setdefault("preprocess", lambda inputs: inputs)
    plan = make_plan(forward, **options)
    return Executor(plan, adapter, make_pipeline(forward, runtime=Faulty(), **options), None)


@pytest.mark.parametrize("where", ["read", "respond"])
def test_execute_device_that_fails_outside_of_the_hooks_makes_all_unavailable(where):
    executor = open_executor(Adapter(where, RuntimeError("CUDA error")))
    requests = [make_request("a", 1), make_request("b", 2)]
    assert executor.execute(requests) == ["UNAVAILABLE"] * 2
    assert executor._health.fault == "RuntimeError: CUDA error"
    assert executor._counters.errors == {"UNAVAILABLE": 2}


@pytest.mark.parametrize("where", ["read", "respond"])
def test_execute_error_that_is_no_fault_of_the_device_is_raised(where):
    executor = open_executor(Adapter(where, ValueError("of the library")))
    with pytest.raises(ValueError, match="of the library"):
        executor.execute([make_request("a", 1)])
    assert executor.execute([make_request("a", 1)]) == [2]


def test_execute_counts_what_reading_and_responding_take_and_not_the_forward_in_them():
    def forward(X):
        time.sleep(0.2)
        return X

    executor = open_executor(Adapter(), forward)
    assert executor.execute([make_request("a", 1)]) == [1]
    seconds = executor._counters.seconds
    assert 0 < seconds["read"] < 0.2 <= seconds["forward"]
    assert 0 < seconds["respond"] < 0.2


@pytest.mark.parametrize(("cancellation", "asks"), [("on", True), ("off", False), ("auto", False)])
def test_execute_asks_which_requests_were_cancelled_as_the_setting_says(cancellation, asks):
    adapter = Adapter()
    assert open_executor(adapter, cancellation=cancellation).execute([make_request("a", 1)]) == [2]
    assert adapter.asked == [asks]


def test_execute_what_the_short_way_has_raised_is_not_run_again_for_the_whole_batch(pb_utils):
    batches = []

    class Failing(Doubler):
        def forward(self, X):
            batches.append(len(X))
            if (X == 2).any():
                raise ValueError("bad row")
            return X

    model = start(Failing)
    batches.clear()
    responses = model.execute([request(1), request(2)])
    assert [one.error is None for one in responses] == [True, False]
    assert sorted(batches) == [1, 1, 2]
    assert torch.equal(torch.from_numpy(responses[0].output_tensors[0].as_numpy()), torch.ones(1, 4))
