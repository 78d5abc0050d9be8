"""An instance on its device, before any model is loaded: threads, spinning, and what the log says of it."""

import pytest
import torch
from core_kit import make_args

from kindaware import DevicePlacement
from kindaware._config.settings import PLACEMENT_SETTINGS
from kindaware._device import placed_instance
from kindaware._device.placed_instance import PlacedInstance
from kindaware._device.runtime import CpuRuntime
from kindaware._placement.placement import Placement


class Noting(CpuRuntime):
    """Notes that it was made current."""

    is_active = False

    def activate(self):
        self.is_active = True


@pytest.fixture
def stopped(monkeypatch):
    """The numbers of threads whose spinning was stopped; the device is one that notes its activation."""
    numbers = []
    monkeypatch.setattr(placed_instance, "open_runtime", lambda placement: Noting())
    monkeypatch.setattr(placed_instance, "stop_spinning", lambda number, environment: numbers.append(number))
    return numbers


def place(kind="CPU", **parameters):
    args = make_args(kind=kind, parameters={f"kindaware.{name}": one for name, one in parameters.items()})
    return PlacedInstance(DevicePlacement, args, PLACEMENT_SETTINGS)


def test_instance_has_as_many_threads_as_its_setting_says(stopped):
    place(num_threads="3")
    assert torch.get_num_threads() == 3


def test_instance_makes_its_device_current(stopped):
    assert place().runtime.is_active


def test_idle_threads_are_stopped_from_spinning_only_where_the_setting_says_so(stopped):
    place(num_threads="2")
    assert stopped == []
    place(num_threads="2", wait_policy="passive")
    assert stopped == [2]


def test_description_on_the_cpu_has_no_reason(stopped):
    assert place(num_threads="2").describe_placement() == (
        "kind CPU, device cpu, threads 2 (setting num_threads)"
    )


def test_description_off_a_gpu_says_why(stopped):
    assert place("MODEL", num_threads="2", model_devices="cpu").describe_placement() == (
        "kind MODEL, device cpu, model_devices=cpu, threads 2 (setting num_threads)"
    )


def test_description_on_a_gpu_names_its_stream(stopped):
    placed = place(num_threads="2")
    placed.placement = Placement("GPU", (torch.device("cuda", 1),), moves_modules=True, reason="")
    assert "device cuda:1, own stream, threads 2" in placed.describe_placement()
