"""`kindaware deploy ray`: the file that it writes, and what it refuses to deploy."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from kindaware.cli._app import app

TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


def deploy(*args):
    done = CliRunner().invoke(app, ["deploy", "ray", *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def write_model(tmp_path):
    """Writes a model into tmp_path / "models" with a configuration, and returns the repository."""

    def write(config="", name="net", code="# no torch\n"):
        version = tmp_path / "models" / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(code)
        (version.parent / "config.pbtxt").write_text(f'backend: "python"\n{TENSORS}{config}')
        return tmp_path / "models"

    return write


def written(folder):
    config = yaml.safe_load((folder / "serve.yaml").read_text())
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    return config, application, deployment


def test_file_has_the_repository_the_replicas_and_what_each_gets(write_model, tmp_path):
    repository = write_model()
    done = deploy(repository, "-o", tmp_path / "out", "--replicas", 3, "--cpus", 2, "--drain-seconds", 60)
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path / 'out' / 'serve.yaml'}: net" in done.stdout
    config, application, deployment = written(tmp_path / "out")
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8000}
    assert application["args"]["repository"] == [str(repository)]
    assert (deployment["name"], deployment["num_replicas"]) == ("TritonReplica", 3)
    assert deployment["ray_actor_options"] == {"num_cpus": 2.0, "num_gpus": 0.0}
    assert deployment["graceful_shutdown_timeout_s"] > 60


def test_max_replicas_scales_by_what_waits(write_model, tmp_path):
    deploy(write_model(), "-o", tmp_path, "--force", "--max-replicas", 4, "--target-pending", 2)
    _, _, deployment = written(tmp_path)
    scale = deployment["autoscaling_config"]
    assert "num_replicas" not in deployment
    assert (scale["min_replicas"], scale["max_replicas"]) == (1, 4)
    assert scale["policy"] == {
        "policy_function": "kindaware.ray:PendingRequests",
        "policy_kwargs": {"target_pending": 2.0},
    }


def test_digest_changes_with_a_file_and_not_with_a_cache_or_the_place(write_model, tmp_path):
    def digest():
        done = deploy(repository, "-o", tmp_path / "out", "--force", "--json")
        return json.loads(done.stdout)["digest"]

    repository = write_model()
    first = digest()
    (repository / "net" / "1" / "__pycache__").mkdir()
    (repository / "net" / "1" / "__pycache__" / "model.pyc").write_text("x")
    repository = repository.rename(tmp_path / "elsewhere")
    assert digest() == first
    (repository / "net" / "1" / "weights").write_text("1")
    second = digest()
    (repository / "net" / "1" / "weights").rename(repository / "net" / "1" / "weight")
    third = digest()
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("config", "options", "gpus"),
    [
        ("", [], 0),
        ("instance_group [ { kind: KIND_CPU } ]", [], 0),
        ("instance_group [ { kind: KIND_GPU } ]", [], 1),
        ("instance_group [ { kind: KIND_GPU } ]", ["--kind", "CPU"], 0),
        ("instance_group [ { kind: KIND_GPU gpus: [ 1 ] } ]", ["--gpus", 2], 2),
        ("instance_group [ { kind: KIND_GPU } ]", ["--gpus", 0.5], 0.5),
    ],
)
def test_replicas_have_the_gpus_that_the_models_need(write_model, tmp_path, config, options, gpus):
    done = deploy(write_model(config), "-o", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert written(tmp_path / "out")[2]["ray_actor_options"]["num_gpus"] == gpus


@pytest.mark.parametrize(
    ("config", "options", "text"),
    [
        (
            "instance_group [ { kind: KIND_GPU } ]",
            ["--gpus", 0],
            "model 'net': expected replicas with a GPU, for its KIND_GPU, got gpus 0; ",
        ),
        (
            "instance_group [ { kind: KIND_GPU gpus: [ 0, 2 ] } ]",
            ["--gpus", 2],
            "model 'net' gpus [2]: expected ids among the 2 GPUs of a replica, counted from 0, got 2; ",
        ),
        (
            "sequence_batching { }",
            ["--replicas", 2],
            "model 'net' with sequence_batching: expected one replica, since Ray sends each request to any "
            "of them, got 2; ",
        ),
        (
            "sequence_batching { }",
            ["--max-replicas", 3],
            "model 'net' with sequence_batching: expected one replica, ",
        ),
    ],
)
def test_model_that_replicas_would_serve_wrongly_is_refused(write_model, tmp_path, config, options, text):
    done = deploy(write_model(config), "-o", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "config", ["sequence_batching { }", "sequence_batching { iterative_sequence: true }"]
)
def test_sequences_that_stay_at_one_server_are_served(write_model, tmp_path, config):
    replicas = 2 if "iterative" in config else 1
    done = deploy(write_model(config), "-o", tmp_path / "out", "--replicas", replicas)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "options",
    [
        ["--replicas", 0],
        ["--max-replicas", 2, "--replicas", 3],
        ["--target-pending", 0],
        ["--cpus", -1],
        ["--gpus", 1.5],
        ["--gpus", -1],
        ["--drain-seconds", -1],
        ["--set", "net.max_batch_size=x"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_number_out_of_range_is_a_wrong_command_line(write_model, tmp_path, options):
    done = deploy(write_model(), "-o", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"kindaware deploy ray: {options[0]}")
    assert not (tmp_path / "out").exists()


def test_file_that_is_there_stays_without_force(write_model, tmp_path):
    repository, out = write_model(), tmp_path / "out"
    assert deploy(repository, "-o", out).exit_code == 0
    before = (out / "serve.yaml").read_text()
    done = deploy(repository, "-o", out, "--replicas", 2)
    assert (done.exit_code, (out / "serve.yaml").read_text()) == (1, before)
    assert "expected a directory that isn't there yet, got one with files in it" in done.stderr
    (out / "notes").touch()
    assert deploy(repository, "-o", out, "--replicas", 2, "--force").exit_code == 0
    assert written(out)[2]["num_replicas"] == 2
    assert (out / "notes").exists()


def test_serve_takes_the_file(write_model, tmp_path):
    schema = pytest.importorskip("ray.serve.schema", reason="no Ray: pip install 'kindaware[ray]'")
    deploy(write_model(), "-o", tmp_path / "out", "--max-replicas", 4)
    config = schema.ServeDeploySchema.model_validate(written(tmp_path / "out")[0])
    (deployment,) = config.applications[0].deployments
    assert deployment.autoscaling_config["max_replicas"] == 4


def test_group_without_a_command_shows_its_commands():
    done = CliRunner().invoke(app, ["deploy"])
    assert "Write a Serve config for a Ray cluster." in done.output
