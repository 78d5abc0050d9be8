"""Modules that `load` has placed itself: left where they are, and checked against the instance's devices."""

from types import SimpleNamespace

import pytest
import torch
from core_kit import start
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware.testing.accelerator import SimulatedAccelerator

ALL = {"kindaware.model_devices": "all"}


class Quantised(nn.Linear):
    """Refuses to be moved, as modules of bitsandbytes do."""

    def to(self, *_, **__):
        raise ValueError("`.to` is not supported for `4-bit` modules")


def dispatched(devices, device_map):
    """Two layers, as accelerate leaves them."""
    net = nn.Sequential(*(nn.Linear(4, 4, device=device) for device in devices))
    net.hf_device_map = device_map
    net.to = None  # would raise if called
    return net


def offloaded(execution_device):
    """A layer without data, which a hook brings to a device for each call."""
    net = nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, device="meta"))
    for layer in net:
        layer._hf_hook = SimpleNamespace(execution_device=execution_device)
    return net


@pytest.fixture
def serve():
    """Starts a model whose `load` makes a module on one of two simulated GPUs, unless said."""
    simulated = SimulatedAccelerator(2)

    def serve(make, *, is_inside=False, **options):
        class Model(KindAwareModel):
            def load(self):
                module = make(self)
                return nn.Sequential(module) if is_inside else module

            def forward(self, X):
                return X

        return start(Model, **{"kind": "GPU", "device_id": 1, **options}).model

    with simulated.installed(lambda *_: None), simulated.entered():
        yield serve


@pytest.mark.parametrize("is_inside", [False, True])
def test_module_with_a_device_map_is_not_moved(serve, is_inside):
    def make(self):
        return dispatched(["cuda:0", "cuda:1"], {"0": 0, "1": 1})

    module = serve(make, kind="MODEL", parameters=ALL, is_inside=is_inside)
    assert [one.device.index for one in module.parameters()] == [0, 0, 1, 1]
    assert not any(one.training for one in module.modules())


@pytest.mark.parametrize("is_inside", [False, True])
@pytest.mark.parametrize("devices", [["cuda:0", "cuda:1"], ["cpu", "cuda:1"]])
def test_module_with_a_device_map_elsewhere_is_refused(serve, is_inside, devices):
    path = "0.0.weight" if is_inside else "0.weight"
    with pytest.raises(ConfigError) as caught:
        serve(lambda self: dispatched(devices, {"0": 0, "1": 1}), is_inside=is_inside)
    assert str(caught.value) == (
        f"module 'model' tensor {path!r}: expected a device of the instance, cuda:1, after load() has placed "
        f"it, got {devices[0]}; place it on self.device or self.devices, or change instance_group"
    )


def test_module_that_refuses_to_be_moved_is_fine_where_it_is(serve):
    assert serve(lambda self: Quantised(4, 4, device=self.device)).weight.device.index == 1


def test_module_that_refuses_to_be_moved_is_refused_elsewhere(serve):
    with pytest.raises(ConfigError) as caught:
        serve(lambda self: Quantised(4, 4))
    assert str(caught.value) == (
        "module 'model': expected one that can be moved to cuda:1, got ValueError: `.to` is not supported "
        "for `4-bit` modules; make it on self.device in load(), or set move_modules to False if load() has "
        "placed it"
    )


def test_module_without_data_is_refused_with_the_first_tensor_and_the_setting(serve):
    def load(self):
        net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
        net[1].load_state_dict({"weight": torch.zeros(4, 4)}, strict=False, assign=True)
        return net

    with pytest.raises(ConfigError) as caught:
        serve(load, kind="CPU")
    assert str(caught.value) == (
        "module 'model' tensor '1.bias': expected data after load(), got none: still on the device 'meta'; "
        "load it from the checkpoint, make the network without torch.device('meta'), or set move_modules to "
        "False if load() has offloaded it"
    )


def test_module_without_any_data_is_refused_with_the_number_of_tensors(serve):
    with pytest.raises(ConfigError, match=r"tensor 'weight' and 1 more: expected data after load\(\)"):
        serve(lambda self: nn.Linear(4, 4, device="meta"), kind="CPU")


@pytest.mark.parametrize("device", [1, "cuda:1", "cuda", torch.device("cuda", 1)])
def test_offloaded_module_is_served_where_its_hooks_run_it(serve, device):
    module = serve(lambda self: offloaded(device), parameters={"kindaware.move_modules": "false"})
    assert module[0].weight.device.type == "meta"


@pytest.mark.parametrize(("kind", "device"), [("GPU", 0), ("GPU", "cpu"), ("CPU", 0), ("CPU", "cuda")])
def test_offloaded_module_that_runs_elsewhere_is_refused(serve, kind, device):
    with pytest.raises(ConfigError, match=r"module 'model' part '0': expected a device of the instance, c"):
        serve(lambda self: offloaded(device), kind=kind, parameters={"kindaware.move_modules": "false"})


def test_move_modules_false_checks_what_load_has_placed(serve):
    def load(device):
        return serve(
            lambda self: nn.Linear(4, 4, device=device), parameters={"kindaware.move_modules": "false"}
        )

    assert load("cuda:1").weight.device.index == 1
    for device in ("cpu", "cuda:0", "meta"):
        with pytest.raises(ConfigError, match=f"module 'model' tensor 'weight': .* got {device}; place it"):
            load(device)
