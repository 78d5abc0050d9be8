"""What the class declares, written into Triton's ModelConfig."""

import json

import pytest
from core_kit import Doubler, start, tensor

from kindaware import ConfigError, TensorSpec
from kindaware.testing.stand_in import Host, new_module


class Declared(Doubler):
    """A model directory without a config.pbtxt is enough for it."""

    inputs = (TensorSpec("X", "FP32", [3, -1]), TensorSpec("MASK", "BOOL", [1], optional=True))
    outputs = (TensorSpec("Y", "FP32", [3, -1]),)
    max_batch_size = 16


def complete(model_class=Declared, **config):
    """Complete a configuration; what the server fills in where nothing is said stands already."""
    written = json.dumps({"name": "m", "max_batch_size": 0, "input": [], "output": [], **config})
    given = new_module(Host()).ModelConfig(written)
    assert model_class.auto_complete_config(given) is given
    return given.as_dict()


def test_auto_complete_writes_everything_into_an_empty_configuration():
    assert complete() == {
        "name": "m",
        "max_batch_size": 16,
        "input": [
            {"name": "X", "data_type": "TYPE_FP32", "dims": [3, -1]},
            {"name": "MASK", "data_type": "TYPE_BOOL", "dims": [1], "optional": True},
        ],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [3, -1]}],
        "dynamic_batching": {},
    }


def test_auto_complete_class_that_declares_nothing_changes_nothing():
    assert complete(Doubler) == {"name": "m", "max_batch_size": 0, "input": [], "output": []}


WRITTEN = {
    "input": [tensor("X", [3, -1], optional=False), tensor("MASK", [1], "TYPE_BOOL", optional=True)],
    "output": [tensor("Y", [3, -1])],
}


def test_auto_complete_same_tensors_in_the_configuration_merge():
    config = complete(**WRITTEN)
    assert [entry["name"] for entry in config["input"]] == ["X", "MASK"]
    assert config["input"][0]["format"] == "FORMAT_NONE"
    assert "dynamic_batching" not in config


@pytest.mark.parametrize(("written", "expected"), [(0, 16), (4, 4), (16, 16)])
def test_auto_complete_operators_smaller_batch_stays(written, expected):
    assert complete(max_batch_size=written)["max_batch_size"] == expected


def test_auto_complete_larger_batch_than_the_model_takes_is_refused_by_triton():
    with pytest.raises(
        ConfigError,
        match=r"agree with config.pbtxt, got .* max_batch_size 32, .* max_batch_size 16",
    ):
        complete(max_batch_size=32)


@pytest.mark.parametrize("config", [{}, {"input": [], "output": []}], ids=["tensors", "no tensors"])
def test_initialize_larger_batch_than_the_class_declares_is_refused_without_auto_complete_too(config):
    class Small(Doubler):
        max_batch_size = 4

    with pytest.raises(
        ConfigError,
        match="max_batch_size: expected at most 4, which the class declares, got 8 in the configuration",
    ):
        start(Small, **config)
    assert start(Small, max_batch_size=3).spec.max_batch_size == 3


@pytest.mark.parametrize("wrong", ["4", 4.0, -1, None])
def test_initialize_class_whose_batch_is_no_number_is_refused(wrong):
    model_class = type("Wrong", (Doubler,), {"max_batch_size": wrong})
    with pytest.raises(
        ConfigError, match="class attribute max_batch_size: expected a whole number, 0 or more"
    ):
        start(model_class)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (
            tensor("X", [3, -1], "TYPE_FP64"),
            "expects datatype TYPE_FP64 for input 'X', model provides TYPE_FP32",
        ),
        (tensor("X", [4]), r"expects dims \[3, -1\] but the model configuration specifies dims \[4\]"),
    ],
)
def test_auto_complete_contradiction_is_refused_by_triton(written, text):
    with pytest.raises(ConfigError, match=text):
        complete(input=[written])


def test_auto_complete_single_rows_are_not_batched_dynamically():
    model_class = type("Single", (Declared,), {"max_batch_size": 1})
    assert "dynamic_batching" not in complete(model_class)


def test_auto_complete_sequence_batching_is_left_alone():
    assert "dynamic_batching" not in complete(sequence_batching={})


def test_auto_complete_twice_changes_nothing_more():
    once = complete()
    assert complete(**{**once, "input": list(once["input"])}) == once
