"""What `instance_args` takes, and what it makes of a kind that the configuration doesn't have."""

import json
import re
from pathlib import Path

import pytest

from kindaware import ConfigError, InstanceArgs
from kindaware.testing.arguments import ModelArguments, instance_args

CONFIGS = Path(__file__).parent / "configs"
GPUS = 'name: "m" instance_group [ { kind: KIND_GPU gpus: [ 0, 1 ] } ]'


def config_of(args):
    return json.loads(args["model_config"])


def test_instance_args_without_a_config_are_seven_strings():
    args = instance_args()
    assert args["model_name"] == "model"
    assert args["model_instance_name"] == "model_0"
    assert args["model_repository"] == "/models/model"
    assert len(args) == 7
    assert InstanceArgs.from_dict(args).kind == "CPU"


def test_instance_args_of_a_directory_take_its_name_and_place(tmp_path):
    (tmp_path / "net").mkdir()
    args = instance_args(config=tmp_path / "net")
    assert args["model_name"] == "net"
    assert args["model_repository"] == str(tmp_path / "net")


def test_instance_args_of_a_file_take_its_directorys_name_and_place(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.pbtxt").write_text("max_batch_size: 4")
    args = instance_args(config=str(tmp_path / "net" / "config.pbtxt"))
    assert args["model_repository"] == str(tmp_path / "net")
    assert config_of(args)["name"] == "net"
    assert config_of(args)["max_batch_size"] == 4


@pytest.mark.parametrize(
    "config",
    [
        "max_batch_size: 4",
        "# nothing else\nmax_batch_size: 4\n",
        '{"max_batch_size": 4}',
        {"max_batch_size": 4},
    ],
)
def test_instance_args_of_text_or_a_dict_parse_it(config):
    assert config_of(instance_args(config=config))["max_batch_size"] == 4


def test_instance_args_of_a_dict_wrap_plain_parameters():
    args = instance_args(config={"parameters": {"a": "1", "b": {"string_value": "2"}}})
    assert config_of(args)["parameters"] == {"a": {"string_value": "1"}, "b": {"string_value": "2"}}


def test_instance_args_parameters_win_over_the_configurations():
    args = instance_args(config={"parameters": {"a": "1"}}, parameters={"a": "2", "c": "3"})
    assert config_of(args)["parameters"] == {"a": {"string_value": "2"}, "c": {"string_value": "3"}}


def test_instance_args_kind_gpu_for_an_omitted_group_makes_a_gpu_instance():
    args = instance_args("GPU", 1)
    assert (args["model_instance_kind"], args["model_instance_device_id"]) == ("GPU", "1")
    group = config_of(args)["instance_group"][0]
    assert (group["kind"], group["gpus"]) == ("KIND_GPU", [0, 1])


def test_instance_args_kind_cpu_overrules_a_gpu_group():
    args = instance_args("CPU", config=GPUS)
    assert (args["model_instance_kind"], args["model_instance_device_id"]) == ("CPU", "0")
    group = config_of(args)["instance_group"][0]
    assert (group["kind"], group["gpus"]) == ("KIND_CPU", [])


def test_instance_args_kind_model_has_device_zero():
    args = instance_args("MODEL", 3, GPUS)
    assert (args["model_instance_kind"], args["model_instance_device_id"]) == ("MODEL", "0")


def test_instance_args_of_one_group_pretend_the_gpus_that_the_others_take():
    args = instance_args("CPU", config="instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU gpus: 3 } ]")
    assert config_of(args)["instance_group"][1]["gpus"] == [3]


def test_instance_args_kind_none_takes_the_groups_kind():
    assert instance_args(None, 1, GPUS, num_gpus=2)["model_instance_kind"] == "GPU"


def test_instance_args_kind_none_on_a_host_without_gpus_raises_the_servers_refusal():
    with pytest.raises(ConfigError, match="group m_0 of model m specifies invalid or unsupported gpu id 0"):
        instance_args(None, config=GPUS, num_gpus=0)


def test_instance_args_kind_none_pretends_the_gpus_that_the_groups_take():
    args = instance_args(None, config="instance_group [ { kind: KIND_GPU gpus: [ 0, 1 ] } ]")
    assert (args["model_instance_kind"], args["model_instance_device_id"]) == ("GPU", "0")
    assert config_of(args)["instance_group"][0]["gpus"] == [0, 1]


@pytest.mark.parametrize("kind", ["GPU", None])
def test_instance_args_kind_gpu_on_a_host_without_gpus_raises_the_servers_refusal(kind):
    config = "instance_group [ { kind: KIND_GPU } ]" if kind is None else None
    with pytest.raises(ConfigError, match="has kind KIND_GPU but no GPUs are available"):
        instance_args(kind, config=config, num_gpus=0)


def test_place_with_another_kind_says_what_was_overruled():
    arguments = ModelArguments(GPUS, num_gpus=2)
    assert arguments.place("GPU", 1).note == ""
    assert arguments.place("CPU").note == "instance_group 0 of model 'm' has KIND_GPU, started as CPU"


def test_instance_args_names_follow_group_and_index():
    config = 'name: "m" instance_group [ { }, { name: "g" count: 3 } ]'
    assert instance_args(config=config)["model_instance_name"] == "m_0_0"
    assert instance_args(config=config, group_index=1, instance_index=2)["model_instance_name"] == "g_2"
    assert instance_args(config=config, instance_name="other")["model_instance_name"] == "other"


def test_instance_args_do_not_change_the_dict_they_get():
    config = {"parameters": {"a": "1"}, "instance_group": [{"kind": "KIND_CPU"}]}
    before = json.dumps(config)
    instance_args("GPU", config=config, parameters={"b": "2"})
    assert json.dumps(config) == before


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            "max_batch_size: 4\ninput { nam: 1 }\n",
            r"^config line 2, column 9: .*'input \{ nam: 1 \}'.*no field",
        ),
        ("max_batch_size: x\n", r"^config line 1, column 17: "),
        ("max_batch_size: 1\nmax_batch_size: 2\n", r"^config line 2, column 17: .*should not have multiple"),
        ('name: "a\n', r"^config line 1, column 7: "),
        ('{"max_batch_size": }', r"^config line 1, column 20: expected JSON"),
        ({"max_batch": 4}, r"^config: .*max_batch"),
        ({"max_batch_size": "four"}, r"^config: .*max_batch_size"),
        ({"input": 5}, r"^config: "),
        (17, r"^config: expected a path, a dict, or the text"),
        ("/no/such/config.pbtxt", r"^/no/such/config.pbtxt: .*no such file"),
        ('backend: "onnxruntime"', r"backend 'onnxruntime' is not 'python'"),
    ],
)
def test_instance_args_of_a_broken_config_say_where(config, text):
    with pytest.raises(ConfigError, match=text):
        instance_args(config=config)


def test_instance_args_of_a_broken_file_name_file_line_and_column(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text("\n\n  input [ {\n")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))} line \d+, column \d+: "):
        instance_args(config=path)


def test_instance_args_of_a_file_that_is_no_text_name_it(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        instance_args(config=path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kind": "KIND_GPU"}, "kind: expected 'CPU', 'GPU' or 'MODEL'"),
        ({"kind": "GPU", "device_id": -1}, "device_id: expected 0 or more"),
        ({"group_index": 1}, "group_index of model 'model': expected one of its 1 instance groups"),
        ({"instance_index": -1}, "instance_index: expected 0 or more"),
    ],
)
def test_instance_args_of_an_impossible_instance_raise(arguments, text):
    with pytest.raises(ConfigError, match=text):
        instance_args(**arguments)


def test_complete_after_auto_complete_fills_in_the_defaults():
    arguments = ModelArguments("max_batch_size: 0")
    config = arguments.config
    config["max_batch_size"] = 8
    config["dynamic_batching"] = {}
    config["input"] = [{"name": "X", "data_type": "TYPE_FP32", "dims": [4]}]
    arguments.complete(config)
    assert arguments.config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert arguments.config["input"][0]["format"] == "FORMAT_NONE"
