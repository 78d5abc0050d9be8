"""A fault at each call of the device from `load` through the warm-up and the first batch."""

import gc

import pytest
import torch
from simulated_kit import Doubler, assert_answers, assert_clean, entries, serve
from test_faults_at_every_call import INJECTED, Faults, is_allocation, is_of_library, of_a_launch
from torch import nn

from kindaware.testing import ModelLoadError, SimulatedAccelerator


class Loaded(Doubler):
    """Has weights, and makes something on the device itself."""

    def load(self):
        self.net = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.net.weight)
        self.factor = torch.full((4,), 2.0, device=self.device)

    def forward(self, X):
        return self.net(X) * self.factor


SERVED = {
    "plain": {},
    "graphs": {"cuda_graphs": "3"},
    "outputs stay": {"output_device": "instance"},
}
ERRORS = {
    "RuntimeError": (lambda text: RuntimeError(text.removeprefix("CUDA error: ")), is_of_library),
    "OutOfMemoryError": (
        lambda text: torch.OutOfMemoryError(text.removeprefix("CUDA error: ")),
        is_allocation,
    ),
    "of a launch": (of_a_launch, is_of_library),
    "sticky": (torch.AcceleratorError, is_of_library),
}


def assert_refused_or_right(results, sent, error):
    """What fails, fails by the fault that was injected: all of it after a sticky one, else one request."""
    failed = [one.error for one in results if one.error is not None]
    assert all(f"{INJECTED} " in one.message() for one in failed)
    assert len(failed) in ((0, len(sent)) if error == "sticky" else (0, 1))
    codes = {one.code().name for one in failed}
    assert codes <= ({"UNAVAILABLE"} if error == "sticky" else {"INTERNAL", "INVALID_ARG"})
    right = [(one, entry) for one, entry in zip(results, sent, strict=True) if one.error is None]
    assert_answers([one for one, _ in right], [entry for _, entry in right])


def serve_once(faults, settings, error, sent):
    """Load, warm up, and answer two batches, the second without faults.

    Gives what refused the load, and the device's memory that is in use at the end; None where that was lost.
    """
    accelerator = SimulatedAccelerator(num_devices=2, fault=faults)
    try:
        with serve(Loaded, accelerator=accelerator, **settings) as harness:
            assert_refused_or_right(harness.infer_batch(sent), sent, error)
            accelerator.fault = None
            later = harness.infer_batch(sent)
            if error == "sticky" and faults.struck:
                assert {one.error.code().name for one in later} == {"UNAVAILABLE"}
                assert not harness.instance.is_ready()
                return "", None
            assert_answers(later, sent)
            assert_clean(harness)
            del later
            gc.collect()  # of requests and their answers
            return "", accelerator.devices[1].memory.allocated_bytes
    except ModelLoadError as refused:
        return str(refused), None
    finally:
        assert accelerator.violations == []


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_initialize_and_first_batch_fault_at_any_call_refuses_or_answers(settings, error):
    sent = entries(1, 2)
    counted = Faults(*ERRORS[error])
    refusal, used = serve_once(counted, settings, error, sent)
    assert refusal == ""
    refusals = []
    for at in range(1, len(counted.names) + 1):
        faults = Faults(*ERRORS[error])
        faults.arm(at)
        refusal, used_after = serve_once(faults, settings, error, sent)
        assert faults.struck is not None
        assert used_after is None or used_after <= used, (at, counted.names[at - 1])
        refusals.append(refusal)
    assert any(refusals)
    assert not all(refusals)
    assert all(f"{INJECTED} " in one for one in refusals if one)
