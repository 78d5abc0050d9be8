"""config.pbtxt as the writer writes it, read back by protobuf as the server would."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindaware import TensorSpec
from kindaware._authoring.config_writer import WIDTH, write_config, write_fields
from kindaware.testing.arguments import ModelArguments
from kindaware.testing.arguments._protobuf import parse_text
from searches import examples

X, Y = TensorSpec("X", "FP32", [4]), TensorSpec("Y", "FP32", [-1, 4])


def read(text):
    return ModelArguments(text).config


def test_write_config_one_input_and_output_reads_like_one_written_by_hand():
    written = write_config(
        name="doubler",
        max_batch_size=8,
        inputs=[X],
        outputs=[Y],
        instance_groups=[{"kind": "KIND_CPU", "count": 2}],
        parameters={"kindaware.precision": "bf16-true"},
    )
    assert (
        written
        == """\
name: "doubler"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { }
parameters { key: "kindaware.precision" value { string_value: "bf16-true" } }
"""
    )


def test_write_config_several_inputs_have_a_line_each():
    written = write_config(inputs=[X, TensorSpec("MASK", "BOOL", [1], optional=True)])
    assert written.splitlines()[2:] == [
        "input [",
        '  { name: "X" data_type: TYPE_FP32 dims: [ 4 ] },',
        '  { name: "MASK" data_type: TYPE_BOOL dims: [ 1 ] optional: true }',
        "]",
    ]


def test_write_config_long_message_has_a_field_per_line():
    name = "N" * WIDTH
    written = write_config(inputs=[TensorSpec(name, "FP32", [4])])
    assert written.splitlines()[2:] == [
        "input [",
        "  {",
        f'    name: "{name}"',
        "    data_type: TYPE_FP32",
        "    dims: [ 4 ]",
        "  }",
        "]",
    ]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"max_batch_size": 8}, True),
        ({"max_batch_size": 1}, False),
        ({"max_batch_size": 8, "decoupled": True}, False),
        ({"max_batch_size": 8, "sequence_batching": {}}, False),
        ({"max_batch_size": 8, "dynamic_batching": False}, False),
        ({"max_batch_size": 1, "dynamic_batching": True}, True),
        ({"max_batch_size": 8, "dynamic_batching": {"max_queue_delay_microseconds": 9}}, True),
        ({"max_batch_size": 8, "dynamic_batching": {}}, True),
    ],
)
def test_write_config_batches_dynamically_as_auto_complete_would(declared, expected):
    assert ("dynamic_batching" in read(write_config(**declared))) == expected


def test_write_config_decoupled_model_has_the_policy():
    assert read(write_config(decoupled=True))["model_transaction_policy"] == {"decoupled": True}


def test_write_config_without_a_name_leaves_it_to_the_directory():
    assert "name" not in write_config()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT)
@settings(max_examples=examples(200), deadline=None)
def test_write_config_any_text_is_read_back_as_it_was(text):
    written = write_config(name="m", parameters={"note": text})
    assert parse_text(written, "test").parameters["note"].string_value == text


def test_write_fields_of_every_form_are_read_back():
    config = {
        "dynamic_batching": {"priority_queue_policy": {"1": {"timeout_action": "DELAY"}}},
        "model_repository_agents": {"agents": [{"name": "checksum", "parameters": {"MD5": "0f"}}]},
        "metric_tags": {"team": "vision"},
        "model_warmup": [
            {
                "name": "zeros",
                "batch_size": 1,
                "inputs": {"X": {"data_type": "TYPE_FP32", "dims": [4], "zero_data": True}},
            }
        ],
        "version_policy": {"specific": {"versions": [1, 3]}},
    }
    found = read(write_fields(config))
    assert found["dynamic_batching"]["priority_queue_policy"]["1"]["timeout_action"] == "DELAY"
    assert found["model_repository_agents"]["agents"][0]["parameters"] == {"MD5": "0f"}
    assert found["metric_tags"] == {"team": "vision"}
    assert found["model_warmup"][0]["inputs"]["X"]["dims"] == [4]
    assert found["version_policy"] == {"specific": {"versions": [1, 3]}}


def test_write_fields_of_sequence_batching_are_read_back():
    start = {"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0.5, 1]}
    batching = {
        "oldest": {"max_candidate_sequences": 4, "preferred_batch_size": [2, 4]},
        "control_input": [{"name": "START", "control": [start]}],
    }
    found = read(write_fields({"sequence_batching": batching}))["sequence_batching"]
    assert found["oldest"]["preferred_batch_size"] == [2, 4]
    assert found["control_input"][0]["control"][0]["fp32_false_true"] == [0.5, 1]
