"""`from_example`: what one call shows about a class."""

import numpy as np
import pytest
import torch
from torch import nn

from kindaware import ConfigError, KindAwareModel, Next


class Scores(KindAwareModel):
    def load(self):
        return nn.Linear(4, 3)

    def forward(self, X):
        return {"SCORES": self.model(X)}


def fresh(base=Scores, **attributes):
    """Return a class of its own, since from_example sets attributes."""
    return type("Fresh", (base,), attributes)


def test_from_example_declares_and_prints_what_it_found(capsys):
    model = fresh()
    threads = torch.get_num_threads()
    assert model.from_example(X=np.zeros((1, 4), np.float32)) is model
    assert repr(model.inputs) == "[TensorSpec('X', 'FP32', [4])]"
    assert repr(model.outputs) == "[TensorSpec('SCORES', 'FP32', [3])]"
    assert model.max_batch_size == 32
    assert "class Fresh: found by running the example" in capsys.readouterr().err
    assert torch.get_num_threads() == threads
    assert not Scores.inputs


def test_from_example_keeps_a_declared_batch_size_and_may_be_called_again():
    model = fresh(max_batch_size=4)
    for _ in range(2):
        assert model.from_example(X=torch.zeros(8, 4)).max_batch_size == 4


def test_from_example_of_a_model_that_does_not_batch():
    def forward(self, X):
        return X.sum(0, keepdim=True)

    model = fresh(forward=forward, max_batch_size=4).from_example(X=torch.zeros(2, 4))
    assert model.max_batch_size == 0
    assert model.inputs[0].shape == (2, 4)


def test_from_example_passes_text_as_bytes():
    def forward(self, TEXT):
        return [[one.decode().upper() for one in row] for row in TEXT]

    model = fresh(forward=forward).from_example(TEXT=["a", "b"])
    assert repr([*model.inputs, *model.outputs]) == (
        "[TensorSpec('TEXT', 'BYTES', [1]), TensorSpec('OUTPUT', 'BYTES', [1])]"
    )


def test_from_example_runs_preprocess_and_stream():
    def preprocess(self, inputs):
        return {"x": inputs["RAW"].float()}

    def stream(self, x):
        yield x

    model = fresh(preprocess=preprocess, stream=stream).from_example(RAW=np.zeros((1, 4), np.uint8))
    assert model.inputs[0].dtype.triton == "UINT8"
    assert model.outputs[0].dtype.triton == "FP32"


def test_from_example_runs_begin_and_step_until_the_first_item():
    class Steps(KindAwareModel):
        def load(self):
            return None

        def begin(self, X):
            return (X, 0)

        def step(self, states):
            return [Next((x, n + 1), (x > 0) if n == 2 else None) for x, n in states]

    model = Steps.from_example(X=np.zeros((1, 4), np.float32))
    assert repr([*model.inputs, *model.outputs]) == (
        "[TensorSpec('X', 'FP32', [4]), TensorSpec('OUTPUT', 'BOOL', [4])]"
    )


def test_from_example_unloads_and_raises_what_load_raises():
    unloaded = []
    fresh(unload=lambda self: unloaded.append(True)).from_example(X=torch.zeros(1, 4))
    assert unloaded == [True]

    def load(self):
        raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        fresh(load=load).from_example(X=torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("attributes", "example", "text"),
    [
        ({}, {}, r"expected a value for each input, by name, got none; write from_example\(X=array\)"),
        ({}, {"X": torch.zeros(1, 5)}, "expected a run without an error, got RuntimeError: mat1 and mat2"),
        (
            {"forward": lambda self, X: X[:, 0]},
            {"X": torch.zeros(2, 4)},
            r"output 'OUTPUT': expected a size .*, got \[B\]; return it with .unsqueeze\(1\)",
        ),
        (
            {"forward": lambda self, X: X[:, None]},
            {"X": torch.zeros(2)},
            r"input 'X': expected a size .*, got \[B\]; pass \[\[1.0\], \[2.0\]\]",
        ),
        (
            {"postprocess": lambda self, outputs: outputs},
            {"X": torch.zeros(1, 4)},
            "got one with postprocess; declare inputs and outputs in the class",
        ),
        (
            {"forward": lambda self, X, requests: X},
            {"X": torch.zeros(1, 4)},
            "expected a class whose forward depends on its inputs alone, got one with requests",
        ),
    ],
)
def test_from_example_refuses(attributes, example, text):
    with pytest.raises(ConfigError, match=text):
        fresh(**attributes).from_example(**example)
