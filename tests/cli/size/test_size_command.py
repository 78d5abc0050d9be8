"""The command on a real server, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app

SLEEPER = """\
import time

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        time.sleep(0.004 + 0.001 * len(X))
        return X
"""

CONFIG = """\
name: "sleeper"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 2 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { }
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "models/sleeper"
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.py").write_text(SLEEPER)
    (folder / "config.pbtxt").write_text(CONFIG)
    return folder


def size(*args):
    return CliRunner().invoke(app, ["size", *map(str, args)])


@pytest.mark.server
@pytest.mark.alone
def test_plan_of_a_model_has_its_times_and_more_instances_need_fewer_replicas(model):
    args = [model, "--rate", "2000", "--p99-ms", "200", "--instances", "1,2", "--cost-per-hour", "1"]
    result = size(*args, "--seconds", "1", "--verify-seconds", "1", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    one, two = document["plans"]
    assert (one["instances"], two["instances"]) == (1, 2)
    # Of sleeps, which take what they say and more, on a busy machine.
    assert 5 <= one["batch_ms"][0] < 50
    assert 12 <= one["batch_ms"][7] < 100
    assert two["highest_rate"] > one["highest_rate"]
    assert two["replicas"] < one["replicas"]
    assert one["cost_per_million"] == pytest.approx(one["replicas"] / (2000 * 3600) * 1e6)
    assert one["measured"]["num_requests"] > 50
    assert one["measured"]["errors"] == {}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--instances", "0,1"), "--instances: expected whole numbers from 1 on, got '0,1'"),
        (("--instances", "two"), "--instances: expected whole numbers from 1 on, got 'two'"),
    ],
)
def test_wrong_instances_are_one_line(model, args, expected):
    result = size(model, "--rate", "1", "--p99-ms", "1", *args)
    assert result.exit_code == 2
    assert expected in result.output
    assert len(result.output.splitlines()) == 1


def test_instances_of_a_running_server_are_refused():
    result = size("localhost:1", "--rate", "1", "--p99-ms", "1", "--instances", "2")
    assert result.exit_code == 2
    assert "--instances: expected a server that this command starts, got one that runs" in result.output
