"""Declarations brought into a config.pbtxt, with what the operator has written around them."""

import pytest

from kindaware import TensorSpec
from kindaware._authoring.config_merge import merge_config
from kindaware._authoring.config_writer import write_config
from kindaware.testing.arguments import ModelArguments

X = {"name": "X", "data_type": "TYPE_FP32", "dims": [4]}
Y = {"name": "Y", "data_type": "TYPE_FP32", "dims": [2]}
DECLARED = {"input": [X], "output": [Y], "max_batch_size": 8, "dynamic_batching": {}}

WRITTEN = """\
# The team's model.
name: "m"
backend: "python"
max_batch_size: 4  # what fits
input [
  {
    name: "X"  # the picture
    data_type: TYPE_FP64
    format: FORMAT_NONE
    dims: [ 3 ]
  }
]
output [ { name: "Y" data_type: TYPE_FP32 dims: 1 dims: 2 } ]
# Two, since one waits.
instance_group [ { kind: KIND_CPU count: 2 } ]
"""


def test_merge_declared_tensors_are_corrected_and_all_else_stays():
    assert merge_config(WRITTEN, DECLARED) == WRITTEN.replace("FP64", "FP32").replace(
        "dims: [ 3 ]", "dims: [ 4 ]"
    ).replace("dims: 1 dims: 2", "dims: [ 2 ]")


def test_merge_what_agrees_stays_to_the_letter():
    written = write_config(
        name="m",
        max_batch_size=8,
        inputs=[TensorSpec("X", "FP32", [4])],
        outputs=[TensorSpec("Y", "FP32", [2])],
    )
    assert merge_config(written, DECLARED) == written


def test_merge_empty_text_gets_everything():
    assert merge_config("", DECLARED) == (
        "max_batch_size: 8\n"
        'input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
        'output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] } ]\n'
        "dynamic_batching { }\n"
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [(0, 8), (4, 4), (8, 8), (16, 8)],
)
def test_merge_smaller_batch_of_the_operator_stands(written, expected):
    merged = merge_config(f'name: "m" max_batch_size: {written}', {"max_batch_size": 8})
    assert ModelArguments(merged).config["max_batch_size"] == expected


@pytest.mark.parametrize(
    "written",
    [
        'input [ { name: "A" data_type: TYPE_FP32 dims: [ 1 ] } ]',
        'input { name: "A" data_type: TYPE_FP32 dims: [ 1 ] }',
        'input <\n name: "A"\n data_type: TYPE_FP32\n dims: [ 1 ]\n>',
        'input [\n  {\n    name: "A"\n    data_type: TYPE_FP32\n    dims: [ 1 ]\n  }\n]\n',
        'input: [ { name: "A", data_type: TYPE_FP32; dims: 1 } ] # none more',
    ],
)
def test_merge_missing_input_joins_those_there_in_every_notation(written):
    merged = merge_config(written, {"input": [X], "dynamic_batching": {}})
    config = ModelArguments(merged).config
    assert [one["name"] for one in config["input"]] == ["A", "X"]
    assert "dynamic_batching" not in config


def test_merge_optional_is_added_inside_of_the_tensor():
    merged = merge_config(WRITTEN, {"input": [{**X, "optional": True}]})
    assert "    dims: [ 4 ]\n    optional: true\n  }" in merged


def test_merge_policy_of_the_operator_stands():
    written = "model_transaction_policy { decoupled: false }\n"
    declared = {"model_transaction_policy": {"decoupled": True}}
    assert merge_config(written, declared) == written
    assert ModelArguments(merge_config("", declared)).config["model_transaction_policy"]["decoupled"]


def test_merge_sequence_batching_stays_alone():
    written = "sequence_batching { }\n"
    assert merge_config(written, {"dynamic_batching": {}}) == written


def test_merge_field_behind_a_comment_is_not_commented_out():
    merged = merge_config('name: "m" # no line follows', {"max_batch_size": 8})
    assert ModelArguments(merged).config["max_batch_size"] == 8
