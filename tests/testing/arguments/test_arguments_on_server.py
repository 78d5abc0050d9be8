"""`instance_args` gives, string for string, what a real server hands to `initialize`."""

import json

import pytest
from arguments_kit import CONFIGS, REFUSED

from kindaware import ConfigError
from kindaware.testing.arguments import instance_args

pytestmark = pytest.mark.server

NAMES = sorted(path.stem for path in CONFIGS.glob("*.pbtxt"))
SEVEN = [
    "model_config",
    "model_instance_kind",
    "model_instance_name",
    "model_instance_device_id",
    "model_repository",
    "model_version",
    "model_name",
]


@pytest.mark.parametrize("name", NAMES)
def test_instance_args_of_a_loaded_model_equal_the_servers(recorded, name):
    assert recorded.args[name]
    for theirs in recorded.args[name]:
        ours = instance_args(
            None,
            config=theirs["model_repository"],
            version=theirs["model_version"],
            group_index=find_group(theirs),
            instance_index=int(theirs["model_instance_name"].rpartition("_")[2]),
        )
        assert parsed(ours) == parsed(theirs)
        assert sorted(ours) == sorted(SEVEN)
        assert all(type(value) is str for value in ours.values())
        assert key_order(ours) == key_order(theirs)


def test_instance_args_of_several_groups_cover_all_instances(recorded):
    names = sorted(args["model_instance_name"] for args in recorded.args["groups"])
    assert names == ["fast_0", "fast_1", "groups_0_0", "groups_2_0"]


def test_instance_args_of_a_dict_equal_those_of_the_file(recorded):
    theirs = recorded.args["tensors"][0]
    config = json.loads(theirs["model_config"])
    ours = instance_args(None, config=config, repository=theirs["model_repository"], num_gpus=0)
    assert parsed(ours)["model_config"] == config


@pytest.mark.parametrize("name", sorted(path.stem for path in REFUSED.glob("*.pbtxt")))
def test_instance_args_of_a_refused_model_raise_with_the_servers_words(recorded, name):
    assert not recorded.args[name]
    with pytest.raises(ConfigError) as caught:
        instance_args(None, config=REFUSED / f"{name}.pbtxt", name=name, num_gpus=0)
    words = str(caught.value).split("the server's refusal: ")[1].removesuffix("; correct the configuration")
    assert words.removesuffix("; correct instance_group") in recorded.log


def parsed(args):
    return {**args, "model_config": json.loads(args["model_config"])}


def key_order(args):
    """The order of keys, but for maps, whose order is the server's hash order."""

    def walk(value, name=""):
        if isinstance(value, dict):
            is_map = name in {"parameters", "inputs", "input", "priority_queue_policy", "metric_tags"}
            keys = sorted(value) if is_map else list(value)
            return [(key, walk(value[key], key)) for key in keys]
        return [walk(one, name) for one in value] if isinstance(value, list) else None

    return walk(json.loads(args["model_config"]))


def find_group(args):
    groups = json.loads(args["model_config"])["instance_group"]
    group = args["model_instance_name"].rpartition("_")[0]
    return [one["name"] for one in groups].index(group)
