"""Repositories that a server gets changed: every instance on the CPU, and without what tools have left."""

import os
from pathlib import Path

import pytest

from kindaware._server.config_changes import ConfigChanges
from kindaware._server.config_text import ConfigText
from kindaware._server.repository_links import RepositoryLinks, describe_moves


def link(repositories, directory, **changes):
    return RepositoryLinks(repositories, directory, ConfigChanges(**changes)).paths


def plain(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("instance_group [ { kind: KIND_GPU } ]", "instance_group [ { kind: KIND_CPU } ]"),
        ("instance_group { kind: KIND_MODEL count: 2 }", "instance_group { kind: KIND_CPU count: 2 }"),
        ("instance_group: [{kind:KIND_GPU,gpus:[0,1],count:2}]", "instance_group: [{kind:KIND_CPU,count:2}]"),
        ("instance_group { gpus: 0 gpus: 1 kind: 1 }", "instance_group { kind: KIND_CPU }"),
        ("instance_group [ { count: 2 } ]", "instance_group [ { kind: KIND_CPU count: 2 } ]"),
        ("instance_group [ { gpus: [ 0 ] } ]", "instance_group [ { kind: KIND_CPU } ]"),
        (
            "instance_group [ { kind: KIND_CPU }, { kind: KIND_AUTO gpus # all\n : [ 0 ]; } ]",
            "instance_group [ { kind: KIND_CPU }, { kind: KIND_CPU } ]",
        ),
        (
            "instance_group { kind: KIND_GPU secondary_devices [ { kind: KIND_NVDLA device_id: 0 } ] }",
            "instance_group { kind: KIND_CPU secondary_devices [ { kind: KIND_NVDLA device_id: 0 } ] }",
        ),
        (
            'name: "KIND_GPU" # instance_group { kind: KIND_GPU }\ninstance_group < kind: KIND_GPU >',
            'name: "KIND_GPU" # instance_group { kind: KIND_GPU } instance_group < kind: KIND_CPU >',
        ),
        (
            "sequence_batching { control_input { control { kind: CONTROL_SEQUENCE_START } } }",
            "sequence_batching { control_input { control { kind: CONTROL_SEQUENCE_START } } } "
            "instance_group [ { kind: KIND_CPU } ]",
        ),
        ("ensemble_scheduling { step [ ] }", "ensemble_scheduling { step [ ] }"),
        ("input [", "input [ instance_group [ { kind: KIND_CPU } ]"),
    ],
)
def test_on_cpu_changes_the_groups_and_nothing_else(text, expected):
    assert plain(ConfigText(text).on_cpu()) == expected


def test_on_cpu_is_what_the_protobuf_parser_reads(tmp_path):
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    text = """
    name: "net" backend: 'python'
    input { name: "X \\" {" data_type: TYPE_FP32 dims: [ 3 ] }
    instance_group [ { name: "a" kind: KIND_GPU gpus: [ 0, 1 ] count: 2 }, { gpus: 1 } ]
    parameters { key: "kind" value: { string_value: "KIND_GPU" } }
    """

    before, after = (text_format.Parse(one, ModelConfig()) for one in (text, ConfigText(text).on_cpu()))

    assert [group.kind for group in after.instance_group] == [
        ModelConfig().instance_group.add(kind=2).kind
    ] * 2
    assert [list(group.gpus) for group in after.instance_group] == [[], []]
    for config in (before, after):
        for group in config.instance_group:
            group.ClearField("kind")
            group.ClearField("gpus")
    assert before == after


def test_value_takes_fields_of_the_configuration_itself():
    config = ConfigText("""# backend: "no"\n input { backend: "no" } backend : 'python' name: "x" """)

    assert config.value("backend") == "python"
    assert config.value("platform") is None


def list_tree(directory):
    return sorted(
        os.path.join(folder, name).removeprefix(f"{directory}/")
        for folder, _, names in os.walk(directory, followlinks=True)
        for name in names
    )


@pytest.fixture
def repository(tmp_path, write_model):
    """A model on a GPU with a further file, one on the CPU, one without a configuration, a shared file."""
    gpu = 'backend: "python"\ninstance_group { kind: KIND_GPU }\n'
    write_model(tmp_path / "models", "big", config=gpu)
    (tmp_path / "models/big/labels.txt").write_text("cat")
    write_model(tmp_path / "models", "small")
    write_model(tmp_path / "models", "bare", config=None)
    (tmp_path / "models/shared.txt").write_text("shared")
    return tmp_path / "models"


def test_link_repositories_on_cpu_copies_configurations_and_links_the_rest(repository, tmp_path):
    before = {name: (repository / name).read_text() for name in list_tree(repository)}

    (linked,) = link([str(repository)], tmp_path, on_cpu=True)

    assert Path(linked, "big/config.pbtxt").read_text() == before["big/config.pbtxt"].replace("GPU", "CPU")
    assert plain(Path(linked, "bare/config.pbtxt").read_text()) == (
        'backend: "python" instance_group [ { kind: KIND_CPU } ]'
    )
    assert list_tree(linked) == sorted([*before, "bare/config.pbtxt"])
    assert Path(linked, "big/1/model.py").samefile(repository / "big/1/model.py")
    assert {name: (repository / name).read_text() for name in list_tree(repository)} == before


def test_describe_moves_names_models_and_what_they_ask_for(repository):
    assert describe_moves([str(repository), "s3://elsewhere"]).endswith(": big (KIND_GPU)")


def test_link_repositories_leaves_out_what_tools_have_left(repository, tmp_path):
    for name in (".ipynb_checkpoints", "__pycache__"):
        (repository / name).mkdir()
        (repository / name / "file").touch()
    write_named = repository / ".hidden"
    (write_named / "1").mkdir(parents=True)

    (linked,) = link([str(repository)], tmp_path)

    assert sorted(os.listdir(linked)) == [".hidden", "bare", "big", "shared.txt", "small"]


def test_link_repositories_without_a_need_are_not_linked(repository, tmp_path):
    assert link([str(repository)], tmp_path) == [str(repository)]
    assert link(["s3://b/m"], tmp_path, on_cpu=True) == ["s3://b/m"]
