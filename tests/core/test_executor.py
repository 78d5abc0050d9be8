"""One call of `execute`: what is counted, asked for and answered, whatever happens on the way."""

from types import SimpleNamespace

import numpy as np
import pytest
from core_kit import Doubler, make_pipeline, make_plan, make_request, start
from host_kit import failure_of, outputs_of

from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._device.runtime import CpuRuntime
from kindaware._execute.executor import Executor


@pytest.fixture
def request_of(host, pb_utils):
    """Makes a request whose row holds one value, which is its id."""
    return lambda value: host.request(str(value), X=np.full((1, 4), value, np.float32))


def test_execute_after_a_fault_counts_each_request_and_names_the_fault(request_of):
    model = start(Doubler)
    instance = model._kindaware_instance
    instance._device.health.fault = "RuntimeError: CUDA error"
    responses = model.execute([request_of(1), request_of(2)])
    assert [failure_of(one)[0] for one in responses] == ["UNAVAILABLE"] * 2
    assert "got cpu after RuntimeError: CUDA error; " in failure_of(responses[0])[1]
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
        self.requests = self.responses = self

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
    """An executor of a model with a preprocess, which keeps it off the fast path."""
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
def test_execute_error_outside_of_the_hooks_fails_the_call_and_is_logged(where, caplog):
    class Asked(Request):
        def request_id(self):
            return self.id

    requests = [Asked(name, make_request(name, 1).inputs, 1) for name in "12"]
    executor = open_executor(Adapter(where, ValueError("of the library")))
    assert executor.execute(requests) == ["INTERNAL"] * 2
    assert "failed 2 request(s), ids ['1', '2']" in caplog.text
    assert "ValueError: of the library" in caplog.text
    assert executor._counters.errors == {"INTERNAL": 2}
    assert executor.execute([make_request("a", 1)]) == [2]


def test_execute_counts_what_reading_and_responding_take_and_not_the_forward_in_them(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("kindaware._batch.counters.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(Adapter):
        def _call(self, name):
            now[0] += {"read": 1.0, "respond": 2.0}[name]

    def forward(X):
        now[0] += 4.0
        return X

    executor = open_executor(Slow(), forward)
    assert executor.execute([make_request("a", 1)]) == [1]
    seconds = executor._counters.seconds
    assert (seconds["read"], seconds["forward"], seconds["respond"]) == (1.0, 4.0, 2.0)


def test_stages_of_a_plain_model_are_those_of_the_pipeline_and_of_the_fast_path(pb_utils):
    instance = start(Doubler)._kindaware_instance
    # Without their functions for the requests, which are made anew each time.
    fast = [(one.name, one.owner, one.method) for one in instance._executor.fast_path.stages()]
    stages = [(one.name, one.owner, one.method) for one in instance.stages()]
    assert stages[-len(fast) :] == fast
    instance._executor.fast_path = None
    without = [(one.name, one.owner, one.method) for one in instance.stages()]
    assert without == stages[: -len(fast)] != []


@pytest.mark.parametrize(("cancellation", "asks"), [("on", True), ("off", False), ("auto", False)])
def test_execute_asks_which_requests_were_cancelled_as_the_setting_says(cancellation, asks):
    adapter = Adapter()
    assert open_executor(adapter, cancellation=cancellation).execute([make_request("a", 1)]) == [2]
    assert adapter.asked == [asks]


def test_execute_what_the_fast_path_has_raised_is_not_run_again_for_the_whole_batch(request_of):
    batches = []

    class Failing(Doubler):
        def forward(self, X):
            batches.append(len(X))
            if (X == 2).any():
                raise ValueError("bad row")
            return X

    model = start(Failing)
    batches.clear()
    responses = model.execute([request_of(1), request_of(2)])
    assert [failure_of(one) is None for one in responses] == [True, False]
    assert sorted(batches) == [1, 1, 2]
    assert outputs_of(responses[0])[0].tolist() == [[1, 1, 1, 1]]
