"""A model whose device fails is loaded anew, as on a server with explicit model control."""

import time

import numpy as np
import pytest

from kindaware import KindAwareModel
from kindaware.testing import InferenceError, ModelHarness

CONFIG = """
name: "brittle"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
GOOD, BAD = np.array([[1.0]], np.float32), np.array([[-1.0]], np.float32)


class Brittle(KindAwareModel):
    """Takes one error for a fault of its device."""

    reload_on_fault = True

    def load(self):
        self._kindaware_instance.runtime.is_fault = lambda error: "CUDA error" in str(error)

    def forward(self, X):
        if (X < 0).any():
            raise RuntimeError("CUDA error: device-side assert triggered")
        return 2 * X


def wait_for(harness, text, times=1):
    deadline = time.monotonic() + 20
    while harness.log_text().count(text) < times:
        assert time.monotonic() < deadline, harness.log_text()
        time.sleep(0.01)


def break_down(harness):
    """Make the device fail; what a client gets then, at once and until the model is loaded anew."""
    for x in (BAD, GOOD):
        with pytest.raises(InferenceError, match="expected a working device, got cpu after") as raised:
            harness.infer(X=x)
        assert raised.value.code == "UNAVAILABLE"


def test_fault_with_reload_on_fault_is_served_again_by_a_new_instance():
    with ModelHarness(Brittle, config=CONFIG) as harness:
        assert harness.infer(X=GOOD).outputs["Y"].tolist() == [[2.0]]
        before = harness.instance
        break_down(harness)
        assert not before.is_ready()
        wait_for(harness, "loaded anew")
        assert harness.instance is not before
        assert harness.instance.is_ready()
        assert harness.infer(X=GOOD).outputs["Y"].tolist() == [[2.0]]


def test_fault_again_and_again_is_not_followed_by_a_fourth_reload():
    with ModelHarness(Brittle, config=CONFIG) as harness:
        for number in (1, 2, 3):
            break_down(harness)
            wait_for(harness, "loaded anew", times=number)
            assert f"reload {number} of at most 3 asked for" in harness.log_text()
        before = harness.instance
        break_down(harness)
        wait_for(harness, "expected at most 3 reloads")
        assert harness.instance is before


def test_fault_without_reload_on_fault_stays():
    with ModelHarness(Brittle, config=CONFIG, parameters={"kindaware.reload_on_fault": "false"}) as harness:
        before = harness.instance
        break_down(harness)
        time.sleep(0.5)
        break_down(harness)
        assert harness.instance is before
