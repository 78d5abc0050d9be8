"""`load_weights` for a GPU: tensors on the instance's device, converted there, and no copy in the cache."""

import pytest
import torch
from simulated_kit import ON_GPU, Doubler, assert_answers, assert_clean, entries, serve
from torch import nn

from kindaware.testing.accelerator import SimulatedAccelerator


def make_network():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    return network


def halved(path):
    """Write weights that halve and double in turn; tied, so that the network computes Y = X / 4."""
    torch.save({f"{index}.weight": torch.eye(4) / 2 for index in range(2)}, path)
    return path


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_load_weights_puts_tensors_on_the_gpu(tmp_path, precision, monkeypatch):
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path / "cache"))
    path = halved(tmp_path / "weights.pt")

    class Net(Doubler):
        def load(self):
            network = self.load_weights(make_network, path)
            self.devices_then = {str(one.device) for one in network.parameters()}
            return network

        def forward(self, X):
            return self.model(X).float()

    with serve(Net, precision=precision) as model:
        owner = model.instance
        assert owner.devices_then == {ON_GPU}
        assert owner.model[1].weight is owner.model[0].weight
        assert owner.model[0].weight.dtype == (torch.float32 if precision == "32-true" else torch.bfloat16)
        sent = entries(2, 3)
        assert_answers(model.infer_batch(sent), sent, factor=0.25)
        assert_clean(model)
    assert not (tmp_path / "cache").exists()


def test_load_weights_allocates_memory_for_each_tensor_once(tmp_path):
    path = halved(tmp_path / "weights.pt")
    accelerator = SimulatedAccelerator(num_devices=2)
    memory = accelerator.devices[1].memory

    class Net(Doubler):
        def load(self):
            network = self.load_weights(make_network, path)
            self.bytes_then = (memory.peak_bytes, memory.allocated_bytes)
            return network

    with serve(Net, accelerator=accelerator) as model:
        peak, allocated = model.instance.bytes_then
    assert peak == allocated > 0


@pytest.mark.parametrize(
    "options", [{"move_modules": "false"}, {"kind": "MODEL", "device_id": 0, "model_devices": "all"}]
)
def test_load_weights_leaves_tensors_of_modules_that_load_places_on_the_host(tmp_path, options):
    path = halved(tmp_path / "weights.pt")

    class Net(Doubler):
        def load(self):
            network = self.load_weights(make_network, path)
            self.devices_then = {str(one.device) for one in network.parameters()}
            return network.to(self.device)

        def forward(self, X):
            return self.model(X.to(self.device))

    with serve(Net, **options) as model:
        assert model.instance.devices_then == {"cpu"}
        sent = entries(2, 3)
        assert_answers(model.infer_batch(sent), sent, factor=0.25)
