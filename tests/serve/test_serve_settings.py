"""`--set`: settings of one run, in copies of the configurations."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from kindaware._server.config_changes import ConfigChanges, parse_own_settings, parse_settings
from kindaware._server.failure import ServerError
from kindaware._server.repository_links import RepositoryLinks

TEXT = """
max_batch_size: 8  # rows
instance_group [ { kind: KIND_GPU count: 1 }, { kind: KIND_CPU } ]
dynamic_batching { }
parameters { key: "kindaware.precision" value { string_value: "32-true" } }
"""


def parse(text):
    return text_format.Parse(text, ModelConfig())


@pytest.mark.parametrize("text", [TEXT, "", 'backend: "python"'])
def test_fields_and_parameters_are_what_the_protobuf_parser_reads(text):
    settings = {
        "max_batch_size": "4",
        "instance_group.count": "3",
        "dynamic_batching.max_queue_delay_microseconds": "100",
        "kindaware.precision": "bf16-true",
        "parameters.words": 'a "b" \\ c',
    }

    found = parse(ConfigChanges(settings={"m": settings}).apply("m", text))

    assert found.max_batch_size == 4
    assert [group.count for group in found.instance_group] == ([3, 3] if text == TEXT else [3])
    assert found.dynamic_batching.max_queue_delay_microseconds == 100
    values = {key: value.string_value for key, value in found.parameters.items()}
    assert values == {"kindaware.precision": "bf16-true", "words": 'a "b" \\ c'}


def test_a_setting_leaves_the_rest_as_it_is():
    text = ConfigChanges(settings={"m": {"max_batch_size": "16"}}).apply("m", TEXT)

    assert text == TEXT.replace("max_batch_size: 8", "max_batch_size: 16")


def test_other_models_keep_their_text():
    changes = ConfigChanges(settings={"m": {"max_batch_size": "4"}})

    assert changes.apply("other", TEXT) == TEXT
    assert not changes.concern(["other"])
    assert changes.concern(["other", "m"])


def test_kind_cpu_and_settings_hold_together():
    changes = ConfigChanges(on_cpu=True, settings={"m": {"instance_group.count": "2"}})

    groups = parse(changes.apply("m", "")).instance_group

    assert [(group.count, group.kind) for group in groups] == [
        (2, ModelConfig().instance_group.add(kind=2).kind)
    ]


def test_longest_name_of_a_model_counts():
    options = ["a.b.max_batch_size=2", "a.max_batch_size=3", "a.b.kindaware.pad=X=0"]

    assert parse_settings(options, ["a", "a.b"]) == {
        "a.b": {"max_batch_size": "2", "kindaware.pad": "X=0"},
        "a": {"max_batch_size": "3"},
    }


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("iri.max_batch_size=2", "expected a model, one of iris, net, got 'iri'; did you mean iris?"),
        ("iris.kindaware.precison=x", "got 'kindaware.precison'; did you mean kindaware.precision?"),
        ("iris.precision=x", "got 'precision'; did you mean kindaware.precision?"),
        ("iris.max_batch=2", "got 'max_batch'; did you mean max_batch_size?"),
        ("iris.max_batch_size=-1", "expected a whole number, got '-1'"),
        ("iris.instance_group.kind=CPU", "expected a value like KIND_(CPU|GPU|MODEL|AUTO), got 'CPU'"),
        (
            "iris.max_batch_size",
            "expected KEY=VALUE, got no =; write it like iris.kindaware.precision=bf16-true",
        ),
        ("iris.parameters.=x", "expected a setting"),
    ],
)
def test_wrong_setting_is_refused_with_the_nearest(option, text):
    with pytest.raises(ServerError) as caught:
        parse_settings([option], ["iris", "net"])

    assert str(caught.value).startswith(f"--set {option}: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("key", ["kindaware.precision", "parameters.weights", "max_batch_size"])
def test_setting_without_the_only_models_name_is_told_with_it(key):
    with pytest.raises(ServerError) as caught:
        parse_settings([f"{key}=1"], ["iris"])

    assert str(caught.value) == (
        f"--set {key}=1: expected MODEL.KEY=VALUE, got no model; write it like --set iris.{key}=1"
    )


def test_own_settings_do_without_a_models_name():
    assert parse_own_settings(["max_batch_size=2"]) == {"max_batch_size": "2"}


def test_links_have_changed_copies_of_the_models_concerned_alone(tmp_path, write_model):
    for name in ("a", "b"):
        write_model(tmp_path / "models", name)
    before = (tmp_path / "models/a/config.pbtxt").read_text()
    changes = ConfigChanges(settings={"a": {"instance_group.count": "3"}})

    (path,) = RepositoryLinks([str(tmp_path / "models")], tmp_path, changes).paths

    assert "count: 3" in Path(path, "a/config.pbtxt").read_text()
    assert Path(path, "a/1").samefile(tmp_path / "models/a/1")
    assert Path(path, "b").is_symlink()
    assert (tmp_path / "models/a/config.pbtxt").read_text() == before


def test_links_of_a_model_by_itself_are_a_repository_of_it(tmp_path, write_model):
    model = write_model(tmp_path, "copy", config='name: "echo"\n')

    (path,) = RepositoryLinks([str(model)], tmp_path, ConfigChanges()).paths

    assert [entry.name for entry in Path(path).iterdir()] == ["echo"]
    assert Path(path, "echo").samefile(model)


def test_renew_follows_what_the_user_has_changed(tmp_path, write_model):
    model = write_model(tmp_path / "models", "a")
    links = RepositoryLinks([str(tmp_path / "models")], tmp_path, ConfigChanges(on_cpu=True))
    copy = Path(links.paths[0], "a/config.pbtxt")
    (model / "config.pbtxt").write_text("max_batch_size: 3\n")
    (model / "labels.txt").touch()
    assert "max_batch_size: 3" not in copy.read_text()

    links.renew("a")
    assert "max_batch_size: 3" in copy.read_text()
    assert (copy.parent / "labels.txt").exists()

    write_model(tmp_path / "models", "b")
    links.renew("b")
    assert Path(links.paths[0], "b/config.pbtxt").exists()

    (tmp_path / "models/b").rename(tmp_path / "away")
    links.renew("b")
    assert not Path(links.paths[0], "b").exists()
    assert (tmp_path / "away/1/model.py").exists()
