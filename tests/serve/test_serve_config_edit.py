"""Single values of a config.pbtxt changed, as text."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from kindaware._errors import ConfigError
from kindaware._server.config_edit import change_config

CONFIGURATIONS = sorted(Path(__file__).parents[2].glob("examples/*/models/*/config.pbtxt"))
TEXT = """\
# The model of the shop.
name: "net"
max_batch_size: 8  # as many as fit
instance_group [
  {
    kind: KIND_CPU
    count: 1 # of two cores
  },
  { kind: KIND_MODEL }
]
parameters { key: "kindaware.precision" value { string_value: "32-true" } }
parameters [ { key: 'weights' value: { string_value: "a" "b" } } ]
dynamic_batching {}
"""


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("max_batch_size", "16", "max_batch_size: 8 ", "max_batch_size: 16 "),
        ("kindaware.precision", "bf16-true", '"32-true"', '"bf16-true"'),
        ("parameters.weights", 'c"d', '"a" "b"', '"c\\"d"'),
        (
            "dynamic_batching.max_queue_delay_microseconds",
            "500",
            "dynamic_batching {}",
            "dynamic_batching { max_queue_delay_microseconds: 500 }",
        ),
        (
            "instance_group.count",
            "2",
            "    count: 1 # of two cores\n  },\n  { kind: KIND_MODEL }",
            "    count: 2 # of two cores\n  },\n  { kind: KIND_MODEL count: 2 }",
        ),
        (
            "instance_group.name",
            '"a"',
            "# of two cores\n  },\n  { kind: KIND_MODEL }",
            '# of two cores\n    name: "a"\n  },\n  { kind: KIND_MODEL name: "a" }',
        ),
    ],
)
def test_change_config_changes_one_place_and_keeps_the_rest(key, value, before, after):
    changed = change_config(TEXT, {key: value})

    assert changed == TEXT.replace(before, after)
    text_format.Parse(changed, ModelConfig())


def test_change_config_adds_what_is_missing_at_the_end():
    settings = {
        "kindaware.num_threads": "2",
        "optimization.priority": "PRIORITY_MAX",
        "version_policy.all": "{}",
    }

    assert change_config('name: "net" # no line end', settings) == (
        'name: "net" # no line end\n'
        'parameters { key: "kindaware.num_threads" value { string_value: "2" } }\n'
        "optimization { priority: PRIORITY_MAX }\n"
        "version_policy { all: {} }\n"
    )


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("", "No Field", "kindaware.NAME, parameters.NAME, or a field"),
        ("dynamic_batching {}", "dynamic_batching", "a field with one value, got a message"),
        ("name: 'a'", "name.first", "got name, which has no fields"),
        ("name: 'a'\ninput [ {", "max_batch_size", "got 'its end' in line 2"),
        ("name: }", "max_batch_size", "got '}' in line 1"),
        ("name: 'a'\n}", "max_batch_size", "got '}' in line 2"),
    ],
)
def test_change_config_refuses_what_it_can_not_change(text, key, found):
    with pytest.raises(ConfigError, match=found):
        change_config(text, {key: "1"})


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda one: one.parent.name)
def test_change_config_of_the_examples_is_what_protobuf_reads(path):
    before = text_format.Parse(path.read_text(), ModelConfig())

    changed = change_config(path.read_text(), {"instance_group.count": "3", "kindaware.num_threads": "2"})

    after = text_format.Parse(changed, ModelConfig())
    assert [group.count for group in after.instance_group] == [3]
    assert after.parameters["kindaware.num_threads"].string_value == "2"
    after.instance_group[0].count = before.instance_group[0].count
    del after.parameters["kindaware.num_threads"]
    assert after == before
