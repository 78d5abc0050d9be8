"""What `Health` makes of an error of a hook, and what is left of a batch that ends with one."""

import logging

import pytest
import torch
from recording_runtime import RecordingRuntime

from kindaware import RequestError
from kindaware._config.settings import Settings
from kindaware._device.device import Device
from kindaware._errors import ProcessExitError, UnreadableError


class WaitingRuntime(RecordingRuntime):
    """Notes waits for the host's memory, in which a queued copy then arrives."""

    def __init__(self):
        super().__init__()
        self.arriving = []

    def is_fault(self, error):
        return False

    def wait_for_host_memory(self):
        self.log.append("wait_for_host_memory")
        for target, source in self.arriving:
            target.copy_(source)


@pytest.fixture
def runtime():
    return WaitingRuntime()


@pytest.fixture
def device(runtime):
    return Device.open(runtime, Settings(), "m", logging.getLogger("kindaware.tests"))


def test_caught_mask_is_read_after_the_copy_that_fills_it(device, runtime):
    mask = torch.zeros(3, dtype=torch.bool)
    error = RequestError("bad", rows=mask)
    runtime.arriving = [(mask, torch.tensor([False, True, False]))]

    assert device.health.caught(error) is error
    assert error.rows == (1,)
    assert runtime.count("wait_for_host_memory") == 1


@pytest.mark.parametrize("rows", [None, [0], (1, 2)])
def test_caught_rows_that_no_copy_fills_cost_no_wait(device, runtime, rows):
    device.health.caught(RequestError("bad", rows=rows))
    assert runtime.count("wait_for_host_memory") == 0


class Faceless(Exception):  # noqa: N818
    @property
    def __class__(self):
        raise SystemExit


def test_caught_error_that_cannot_be_looked_at_is_replaced_before_anybody_does(device):
    assert isinstance(device.health.caught(Faceless()), UnreadableError)


def test_caught_end_of_the_process_is_an_error_that_keeps_where_it_came_from(device):
    try:
        raise SystemExit(3)
    except SystemExit as raised:
        ended = raised
    caught = device.health.caught(ended)
    assert isinstance(caught, ProcessExitError)
    assert caught.__cause__ is ended
    assert caught.__traceback__ is ended.__traceback__ is not None


def test_batch_whose_last_wait_fails_leaves_gradients_as_they_were(device, monkeypatch):
    def fail():
        raise RuntimeError("lost")

    monkeypatch.setattr(device.staging, "settle", fail)
    with torch.enable_grad():
        with pytest.raises(RuntimeError, match="lost"), device.batch():
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()


def test_expect_takes_outputs_that_are_lists_of_tensors_and_empty_ones(device, runtime):
    device.staging.expect([[], (), ["text"], "text", None])
    device.staging.begin_forward()
    assert runtime.count("wait_for_host_memory") == 0
    device.staging.expect([[torch.zeros(1)]])
    device.staging.begin_forward()
    assert runtime.count("wait_for_host_memory") == 1
