"""Modules that torch.export made: served as they are, moved with everything that their graph names."""

import pytest
import torch
from core_kit import pipeline_of, start
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._batch.request import Request
from kindaware.testing.accelerator import SimulatedAccelerator

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, while it exports


class Net(nn.Module):
    """Has what a graph may name: weights, a buffer, a constant, a device, a dtype."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout()
        self.constant = torch.ones(4)
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=False)

    def forward(self, x):
        x = self.dropout(self.linear(x)) * self.scale + self.constant + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return (x.to(torch.float64) + torch.arange(4, device=x.device)).to(torch.float32)


def export(net):
    """The program of a module for batches of any size."""
    shapes = {"x": {0: torch.export.Dim("rows", max=64)}}
    return torch.export.export(net, (torch.ones(2, 4),), dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def saved(net, tmp_path_factory):
    """The file of an exported program."""
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    torch.export.save(export(net), path)
    return path


class Returned(KindAwareModel):
    """Returns the module from `load`."""

    def load(self):
        return self.make()

    def forward(self, X):
        return self.model(X)


class Kept(KindAwareModel):
    """Keeps the module in a list on self."""

    def load(self):
        self.nets = [self.make()]

    def forward(self, X):
        return self.nets[0](X)


class Inside(Returned):
    """Returns it inside of another module."""

    def load(self):
        return nn.Sequential(self.make(), nn.Dropout())


PLACES = {"CPU": {}, "MODEL": {"parameters": {"kindaware.model_devices": "cpu"}}}


def answer(model, rows):
    [outcome] = pipeline_of(model).run([Request("r", {"X": rows}, len(rows))])
    return outcome["Y"]


@pytest.mark.parametrize("model_class", [Returned, Kept, Inside])
@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("is_saved", [True, False])
def test_load_serves_a_program(net, saved, model_class, kind, is_saved):
    make = (lambda _: torch.export.load(saved).module()) if is_saved else (lambda _: export(net).module())
    model = start(type("Model", (model_class,), {"make": make}), kind=kind, **PLACES[kind])
    rows = torch.randn(3, 4)
    torch.testing.assert_close(answer(model, rows), net(rows).detach())


@pytest.mark.parametrize("model_class", [Returned, Kept, Inside])
@pytest.mark.parametrize("is_saved", [True, False])
def test_load_moves_a_program_with_its_constants_and_devices(net, saved, model_class, is_saved):
    program = torch.export.load(saved) if is_saved else export(net)
    rows = torch.randn(3, 4)
    simulated = SimulatedAccelerator(2)
    with simulated.installed(lambda *_: None), simulated.entered():
        model = start(
            type("Model", (model_class,), {"make": lambda _: program.module()}), kind="GPU", device_id=1
        )
        outcome = answer(model, rows)
    assert simulated.violations == []
    torch.testing.assert_close(outcome, net(rows).detach())


def test_load_program_exported_in_training_mode_is_refused():
    model_class = type("Model", (Returned,), {"make": lambda _: export(Net().train()).module()})
    with pytest.raises(ConfigError) as caught:
        start(model_class)
    assert str(caught.value) == (
        "module 'model', made by torch.export: expected a program in eval mode, which is fixed when it is "
        "exported, got aten.dropout.default in training mode; call eval() on the module before "
        "torch.export.export"
    )


def test_load_program_is_not_converted(net):
    model_class = type("Model", (Inside,), {"make": lambda _: export(net).module()})
    with pytest.raises(ConfigError, match=r"'model', made by torch.export: expected precision 32-true or a"):
        start(model_class, parameters={"kindaware.precision": "bf16-true"})


@pytest.mark.parametrize(
    "parameters", [{"kindaware.precision": "bf16-mixed"}, {"kindaware.memory_format": "channels_last"}]
)
def test_load_program_takes_the_other_settings(net, parameters):
    model_class = type("Model", (Returned,), {"make": lambda _: export(net).module()})
    rows = torch.randn(3, 4)
    outcome = answer(start(model_class, parameters=parameters), rows)
    torch.testing.assert_close(outcome, net(rows).detach(), atol=0.1, rtol=0.1)
