"""How many of oneDNN's primitives a process on the CPU keeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from core_kit import Doubler, start, tensor

from kindaware._placement.primitive_cache import CAPACITY
from kindaware.testing.accelerator import SimulatedAccelerator

ANY_SIZE = {"input": [tensor("X", [3, -1, -1])], "output": [tensor("Y", [3, -1, -1])]}

TWICE = """
import sys
import torch
from core_kit import start, tensor
from kindaware import KindAwareModel

class Model(KindAwareModel):
    warmup = "off"

    def load(self):
        self.net = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, X):
        return self.net(X)

declared = {"input": [tensor("X", [3, -1, -1])], "output": [tensor("Y", [3, -1, -1])]}
model = start(Model, parameters={"kindaware.primitive_cache": sys.argv[1]}, **declared)
with torch.inference_mode():
    for size in 2 * [*range(96, 116)]:  # smaller ones are not for oneDNN
        model.net(torch.ones(1, 3, size, size))
"""


class Noting(Doubler):
    """Notes the capacity that holds for `load`."""

    warmup = "off"

    def load(self):
        self.capacity = os.environ.get(CAPACITY)


@pytest.mark.parametrize(
    ("setting", "changes", "capacity"),
    [
        ("auto", {}, None),
        ("auto", ANY_SIZE, "128"),
        ("7", {}, "7"),
        ("7", ANY_SIZE, "7"),
        ("7", {"kind": "MODEL"}, "7"),
    ],
)
def test_capacity_is_set_before_load(monkeypatch, setting, changes, capacity):
    monkeypatch.delenv(CAPACITY)
    parameters = {"kindaware.primitive_cache": setting, "kindaware.model_devices": "cpu"}
    assert start(Noting, parameters=parameters, **changes).capacity == capacity


def test_capacity_is_left_alone_where_forwards_run_on_a_gpu(monkeypatch):
    monkeypatch.delenv(CAPACITY)
    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        model = start(Noting, kind="GPU", parameters={"kindaware.primitive_cache": "7"})
    assert model.capacity is None


def test_capacity_of_the_operator_stays(monkeypatch):
    monkeypatch.setenv(CAPACITY, "3")
    assert start(Noting, parameters={"kindaware.primitive_cache": "7"}).capacity == "3"


@pytest.mark.parametrize(("setting", "is_kept"), [("4", False), ("1024", True)])
def test_capacity_takes_effect(setting, is_kept):
    environment = {"ONEDNN_VERBOSE": "2", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", TWICE, setting]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    made = [line for line in done.stdout.splitlines() if "create:" in line and "convolution" in line]
    assert len(made) >= 20
    assert any("cache_hit" in line for line in made) == is_kept
