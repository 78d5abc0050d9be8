"""One call of `execute`: what is counted, asked for and answered, whatever happens on the way."""

import sys

import numpy as np
import pb_fakes
import pytest
from core_kit import Doubler, start
from pb_fakes import InferenceRequest, Tensor


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
