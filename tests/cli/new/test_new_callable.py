"""`kindaware new --from PACKAGE.MODULE:CALLABLE`: what is inferred, what is written, and what is refused."""

import itertools
import re
import sys

import numpy as np
import pytest
import torch

from kindaware.cli._reporting import FAILED, WRONG_COMMAND_LINE
from kindaware.testing import ModelHarness

NETS = """
import collections
import warnings

import torch
from torch import nn


class Mlp(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 1))

    def forward(self, features):
        return self.layers(features)[:, 0]


def make_mlp():
    return Mlp(16)


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4 * 26 * 26, 10)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


class AnySize(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embedding(input_ids)
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        return {"hidden": hidden, "nothing": None, "pooled": hidden.mean(dim=1)}


Pair = collections.namedtuple("Pair", ["left", "nothing", "right"])


class Two(nn.Module):
    def forward(self, a, b):
        return Pair(a * 2, None, a + b)


class Tuple(nn.Module):
    def forward(self, a, b):
        return a * 2, None, a + b


class Needs(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 2)

    def forward(self, x):
        return self.layer(x)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 2)

    def forward(self, x):
        return self.layer(x)[0]


class Broken(nn.Module):
    def __init__(self):
        raise RuntimeError("no luck")


def distance(left, right):
    return (left - right).norm(dim=1)


def warns():
    warnings.warn("about nothing")
    return Mlp()


def number():
    return 3


SIZE = 4
"""
numbers = itertools.count()


@pytest.fixture
def nets(tmp_path):
    """Name of a module in the working directory, new for each test: Python keeps what it has imported."""
    name = f"nets_{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(NETS)
    yield name
    sys.modules.pop(name, None)


def tensors(config):
    return re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \]', config)


@pytest.mark.parametrize(
    ("call", "examples", "inputs", "outputs"),
    [
        ("Mlp", [], [("features", "FP32", "4")], [("OUTPUT", "FP32", "1")]),
        ("make_mlp", [], [("features", "FP32", "4")], [("OUTPUT", "FP32", "1")]),
        ("Needs(width=5)", [], [("INPUT", "FP32", "5")], [("OUTPUT", "FP32", "2")]),
        ("Digits", [], [("INPUT", "FP32", "1, 28, 28")], [("OUTPUT", "FP32", "10")]),
        ("AnySize", [], [("INPUT", "FP32", "3, -1, -1")], [("OUTPUT", "FP32", "2, -1, -1")]),
        ("AnySize", ["3x32x48"], [("INPUT", "FP32", "3, 32, 48")], [("OUTPUT", "FP32", "2, 32, 48")]),
        ("AnySize", ["1x3x32x48"], [("INPUT", "FP32", "3, 32, 48")], [("OUTPUT", "FP32", "2, 32, 48")]),
        (
            "Tagger",
            [],
            [("input_ids", "INT64", "-1")],
            [("hidden", "FP32", "-1, 8"), ("pooled", "FP32", "8")],
        ),
        (
            "Tagger",
            ["input_ids=int64:16", "attention_mask=INT64:16"],
            [("input_ids", "INT64", "-1"), ("attention_mask", "INT64", "-1")],
            [("hidden", "FP32", "-1, 8"), ("pooled", "FP32", "8")],
        ),
        (
            "Two",
            ["a=3", "b=3"],
            [("a", "FP32", "3"), ("b", "FP32", "3")],
            [("left", "FP32", "3"), ("right", "FP32", "3")],
        ),
        (
            "Tuple",
            ["3", "3"],
            [("a", "FP32", "3"), ("b", "FP32", "3")],
            [("OUTPUT0", "FP32", "3"), ("OUTPUT2", "FP32", "3")],
        ),
        (
            "distance",
            ["left=8", "right=8"],
            [("left", "FP32", "8"), ("right", "FP32", "8")],
            [("OUTPUT", "FP32", "1")],
        ),
    ],
)
def test_tensors_are_inferred_and_the_model_answers_like_the_callable(
    call, examples, inputs, outputs, nets, made, tmp_path
):
    options = [word for example in examples for word in ("--example", example)]
    made("net", "--from", f"{nets}:{call}", *options)
    assert tensors((tmp_path / "net" / "config.pbtxt").read_text()) == [*inputs, *outputs]
    torch.manual_seed(1)
    given = {
        name: torch.rand(2, *(5 if size == "-1" else int(size) for size in dims.split(", ")))
        if dtype == "FP32"
        else torch.randint(0, 2, (2, 5))
        for name, dtype, dims in inputs
    }
    with ModelHarness(tmp_path / "net") as model:
        answer = model.infer(given).outputs
        callee = model.instance.model if call != "distance" else vars(sys.modules[nets])["distance"]
        with torch.no_grad():
            expected = callee(*given.values())
    if isinstance(expected, torch.Tensor):
        expected = {"OUTPUT": expected}
    elif call == "Tuple":
        expected = {"OUTPUT0": expected[0], "OUTPUT2": expected[2]}
    elif call == "Two":
        expected = expected._asdict()
    for name, _, _ in outputs:
        wanted = expected[name].numpy().reshape(answer[name].shape)
        np.testing.assert_allclose(answer[name], wanted, rtol=1e-5, atol=1e-6)


def test_file_outside_of_any_package_is_copied_beside_the_model(nets, made, tmp_path):
    found = made("net", "--from", f"{nets}:Mlp")
    assert f"1/{nets}.py" in found["files"]["net"]
    assert (tmp_path / "net" / "1" / f"{nets}.py").read_text() == NETS


def test_file_named_model_keeps_out_of_the_way_of_model_py(made, tmp_path):
    (tmp_path / "model.py").write_text(NETS)
    made("net", "--from", "model.py:Mlp")
    assert (tmp_path / "net" / "1" / "network.py").read_text() == NETS
    assert "from network import Mlp" in (tmp_path / "net" / "1" / "model.py").read_text()
    with ModelHarness(tmp_path / "net") as model:
        assert model.infer(features=[[1.0] * 4]).outputs["OUTPUT"].shape == (1, 1)
    sys.modules.pop("model", None)


def test_weights_are_a_question_until_a_file_has_them(nets, made, tmp_path):
    found = made("net", "--from", f"{nets}:Mlp")
    [question] = found["questions"]
    place, number = question.split(":")[:2]
    assert "WEIGHTS" in (tmp_path / "net" / place).read_text().splitlines()[int(number) - 1]
    with ModelHarness(tmp_path / "net") as model:
        assert "the weights are random numbers" in model.log_text()
        weights = model.instance.model.state_dict()
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    torch.save(zeros, tmp_path / "net" / "1" / "weights.pt")
    with ModelHarness(tmp_path / "net") as model:
        assert model.infer(features=[[1.0] * 4]).outputs["OUTPUT"].tolist() == [[0.0]]
        assert "random" not in model.log_text()


def test_warnings_of_the_module_are_not_the_commands(nets, new):
    done = new("net", "--from", f"{nets}:warns")
    assert (done.exit_code, done.stderr) == (0, "")


def test_module_without_weights_asks_for_none(nets, made):
    assert made("net", "--from", f"{nets}:Two", "--example", "3", "--example", "3")["questions"] == []


def test_torchvision_says_size_labels_and_scale_without_a_download(made, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    found = made("net", "--from", "torchvision.models:squeezenet1_1")
    config = (tmp_path / "net" / "config.pbtxt").read_text()
    assert tensors(config) == [("INPUT", "FP32", "3, 224, 224"), ("OUTPUT", "FP32", "1000")]
    assert 'label_filename: "labels.txt"' in config
    assert len((tmp_path / "net" / "labels.txt").read_text().splitlines()) == 1000
    code = (tmp_path / "net" / "1" / "model.py").read_text()
    assert "squeezenet1_1(weights=None)" in code
    assert "torch.tensor([0.485, 0.456, 0.406])" in code
    assert any("SqueezeNet1_1_Weights.IMAGENET1K_V1" in line for line in found["findings"])


def test_segmentation_takes_pictures_of_any_size(made, tmp_path):
    made("net", "--from", "torchvision.models.segmentation:lraspp_mobilenet_v3_large")
    assert tensors((tmp_path / "net" / "config.pbtxt").read_text()) == [
        ("INPUT", "FP32", "3, -1, -1"),
        ("out", "FP32", "21, -1, -1"),
    ]


def test_weights_in_the_call_are_no_question(made, tmp_path, monkeypatch):
    from torchvision import models

    # Stands for the download.
    monkeypatch.setattr(
        models.SqueezeNet1_1_Weights,
        "get_state_dict",
        lambda *args, **options: models.squeezenet1_1().state_dict(),
    )
    found = made("net", "--from", 'torchvision.models:squeezenet1_1(weights="DEFAULT")')
    assert found["questions"] == []
    assert 'squeezenet1_1(weights="DEFAULT")' in (tmp_path / "net" / "1" / "model.py").read_text()


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("Needs", [], "give its arguments, as --from 'NETS:Needs(width=...)'"),
        ("Two", [], "give each, as in --example a=3x224x224 --example b=3x224x224"),
        ("Lstm", [], "expected a first layer that tells the shape of x, got none that does"),
        ("Broken", [], "got RuntimeError: no luck; correct it, or its arguments"),
        ("number", [], "got int from number(); name another callable"),
        ("Mpl", [], "got no Mpl; choose one of Mlp"),
        ("SIZE", [], "got int SIZE; choose one of "),
        ("Mlp(", [], "expected a name behind the colon"),
        ("Mlp(SIZE)", [], "expected a name behind the colon"),
        ("Mlp", ["5"], "mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_callable_that_can_not_be_served_is_one_line_and_no_directory(
    call, options, message, nets, new, tmp_path
):
    words = [word for option in options for word in ("--example", option)]
    done = new("net", "--from", f"{nets}:{call}", *words)
    assert done.exit_code == FAILED
    [line] = done.stderr.splitlines()
    assert message.replace("NETS", nets) in line
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (["a:b:c"], "expected [NAME=][TYPE:]SHAPE"),
        (["float33:4"], "expected a TYPE such as float32"),
        (["4", "4"], "expected one for each of ['features']"),
    ],
)
def test_example_that_is_none_is_a_wrong_command_line(examples, message, nets, new, tmp_path):
    words = [word for example in examples for word in ("--example", example)]
    done = new("net", "--from", f"{nets}:Mlp", *words)
    assert done.exit_code == WRONG_COMMAND_LINE
    [line] = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere_at_all:Net", "No module named 'nowhere_at_all'; install its package"),
        ("nowhere.py:Net", "expected a file, got no nowhere.py"),
        ("torchvision", "expected PACKAGE.MODULE:CALLABLE"),
        ("torchvision.models:resnet81", "choose one of resnet18"),
        ("torchvision.models.detection:ssd300_vgg16", "takes something else"),
        ("package.nets:Mlp", "install it first, with pip install -e ."),
    ],
)
def test_source_that_can_not_be_served_is_one_line(source, message, new, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "nets.py").write_text(NETS)
    done = new("net", "--from", source)
    assert done.exit_code == FAILED
    [line] = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "net").exists()
    for name in [one for one in sys.modules if one.partition(".")[0] == "package"]:
        del sys.modules[name]
