"""Several context managers as one: all are left, in reverse order, whatever the others do."""

import contextlib

import pytest
import torch

from kindaware._device.device import Device
from kindaware._device.nested import Nested


class Noted:
    def __init__(self, log, name, fails_at=""):
        self.log, self.name, self.fails_at = log, name, fails_at

    def __enter__(self):
        if self.fails_at == "enter":
            raise OSError(self.name)
        self.log.append(f"+{self.name}")

    def __exit__(self, kind, error, trace):
        self.log.append(f"-{self.name} {kind and kind.__name__}")
        if self.fails_at == "exit":
            raise OSError(self.name)


def nested(log, *fails_at):
    names = zip("abc", (*fails_at, "", "", ""), strict=False)
    return Nested(*[lambda name=name, at=at: Noted(log, name, at) for name, at in names])


def test_nested_enters_in_order_and_leaves_in_reverse():
    log = []
    with nested(log):
        log.append("in")
    assert log == ["+a", "+b", "+c", "in", "-c None", "-b None", "-a None"]


def test_nested_tells_each_of_the_error_and_passes_it_on():
    log = []
    with pytest.raises(ValueError, match="bad"), nested(log):
        raise ValueError("bad")
    assert log[3:] == ["-c ValueError", "-b ValueError", "-a ValueError"]


def test_nested_leaves_those_that_were_entered_if_the_next_can_not_be():
    log = []
    with pytest.raises(OSError, match="c"), nested(log, "", "", "enter"):
        log.append("in")
    assert log == ["+a", "+b", "-b None", "-a None"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_nested_leaves_all_if_one_fails_on_the_way(place):
    log, fails_at = [], ["", "", ""]
    fails_at[place] = "exit"
    with pytest.raises(OSError, match="abc"[place]), nested(log, *fails_at):
        pass
    assert log[3:] == ["-c None", "-b None", "-a None"]


class Stage:
    """Runtime and staging of a device, of which one step may fail."""

    def __init__(self, fails_at):
        self.log, self.fails_at = [], fails_at

    def scope(self):
        return Noted(self.log, "scope")

    def is_fault(self, error):
        return False

    def _step(self, name):
        self.log.append(name)
        if name == self.fails_at:
            raise OSError(name)

    def begin_forward(self):
        self._step("begin")

    def settle(self):
        self._step("settle")


@pytest.mark.parametrize("fails_at", ["begin", "settle", None])
def test_batch_of_a_device_is_settled_and_its_scope_is_left_whatever_fails(fails_at):
    stage = Stage(fails_at)
    with contextlib.suppress(OSError), Device(stage, stage, None).batch():
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert stage.log == ["+scope", "begin", "settle", "-scope None"]
