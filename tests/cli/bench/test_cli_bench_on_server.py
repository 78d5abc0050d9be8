"""The command on a real server: one that runs, and one that it starts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindaware._server.failure import ServerError
from kindaware.cli._app import app
from kindaware.cli.bench._subject import Place, open_subject
from kindaware.cli.bench.tune import _session
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(one, "X").as_numpy() for one in requests]
        return [
            pb_utils.InferenceResponse(error=pb_utils.TritonError("too large"))
            if array.max() > 100
            else pb_utils.InferenceResponse([pb_utils.Tensor("Y", array * 2)])
            for array in rows
        ]
"""
CONFIG = """
name: "double"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
dynamic_batching {}
"""
STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(3):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.float32([number]))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
STREAM_CONFIG = """
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
model_transaction_policy { decoupled: true }
"""
TOKEN = "a-token-of-the-tests"
QUICK = ("--seconds", "0.3", "--warmup-seconds", "0.1")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "models"
    (folder / "double" / "1").mkdir(parents=True)
    (folder / "double" / "1" / "model.py").write_text(MODEL)
    (folder / "double" / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with TritonServer(repository) as running:
        yield running


def bench(*args):
    return CliRunner().invoke(app, ["bench", *map(str, args)])


def test_sweep_of_a_running_server_over_both_protocols(server):
    for url in (server.grpc_url, f"http://{server.http_url}"):
        done = bench(url, "-c", "1,4", "-b", "2", "--shape", "X=3", "--json", *QUICK)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["model"] == "double"
        assert [level["concurrency"] for level in found["levels"]] == [1, 4]
        for level in found["levels"]:
            assert level["errors"] == {}
            assert level["num_requests"] > 4
            assert level["rows_per_second"] == pytest.approx(2 * level["requests_per_second"])
            assert level["server"]["rows_per_batch"] >= 2
            assert 0 < level["server"]["compute_ms"] < level["latency_ms"]["p99"]


def test_requests_that_are_refused_and_models_that_there_are_not(server):
    done = bench(server.grpc_url, "-i", "X=[1000]", *QUICK)
    assert done.exit_code == 1
    assert "got errors only: INTERNAL: too large" in done.stderr
    done = bench(server.grpc_url, "--model", "nett", *QUICK)
    assert done.exit_code == 1
    assert "kindaware bench: model 'nett' of grpc://" in done.stderr
    assert "got none of that name; it has double" in done.stderr


def test_comparison_of_two_models_of_a_running_server(server):
    done = bench(server.grpc_url, "--shape", "X=3", "--compare", "double", "--rounds", "2", "--json", *QUICK)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["loads"]
    assert found["concurrency"] == 8
    assert len(found["rounds"]) == 2
    assert set(found["ratios"]) == {"requests/s", "p50", "p95"}
    assert found["ratios"]["p50"]["certain"] is False
    assert done.stderr.count("round 2 of 2: A ") == 1


@pytest.fixture(scope="module")
def guarded(repository, tmp_path_factory):
    """A server that takes no request without its token, on a model more that streams."""
    streams = tmp_path_factory.mktemp("streams")
    (streams / "count" / "1").mkdir(parents=True)
    (streams / "count" / "1" / "model.py").write_text(STREAM)
    (streams / "count" / "config.pbtxt").write_text(STREAM_CONFIG)
    with TritonServer([repository, streams], token=TOKEN) as running:
        yield running


@pytest.fixture(params=["--token", "--token-file", "KINDAWARE_TOKEN"])
def with_token(request, tmp_path, monkeypatch):
    """The words on the command line that give the token, in each of the ways."""
    if request.param == "KINDAWARE_TOKEN":
        monkeypatch.setenv("KINDAWARE_TOKEN", TOKEN)
        return ()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return (request.param, TOKEN if request.param == "--token" else tmp_path / "token")


def test_server_with_a_token_is_measured_by_who_has_it(guarded, with_token):
    double, count = ("--model", "double", "--shape", "X=3"), ("--model", "count")
    for url, model in (
        (guarded.grpc_url, double),
        (f"http://{guarded.http_url}", double),
        (guarded.grpc_url, count),
    ):
        done = bench(url, *model, "-c", "2", "--json", *QUICK, *with_token)
        assert done.exit_code == 0, done.output
        (level,) = json.loads(done.stdout)["levels"]
        assert level["errors"] == {}
        assert level["num_requests"] > 2
    words = ["infer", "double", "--url", guarded.grpc_url, "--input", "X=[[1]]", *map(str, with_token)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def test_comparison_and_plan_of_a_server_with_a_token_need_it(guarded):
    double = (guarded.grpc_url, "--model", "double", "--shape", "X=3")
    done = bench(*double, "--compare", "double", "--rounds", "1", *QUICK, "--token", TOKEN)
    assert done.exit_code == 0, done.output
    words = ["size", *double, "--rate", "5", "--p99-ms", "900", "--seconds", "0.1"]
    assert CliRunner().invoke(app, [*words, "--token", TOKEN]).exit_code == 0
    for done in (bench(*double, *QUICK), CliRunner().invoke(app, words)):
        assert done.exit_code == 1
        assert "This protocol is restricted" in done.stderr


@pytest.fixture
def tune_on(server, repository, monkeypatch):
    """Run `--tune` with the server that runs in place of one for each trial; return what each was to have."""
    asked = []

    @contextlib.contextmanager
    def opened(place, *, settings, **options):
        asked.append(dict(settings))
        if settings.get("max_batch_size") == "9":
            raise ServerError("too much", models={"double": "no room\nat all"})
        with open_subject(Place(server.grpc_url, None, "double")) as subject:
            yield subject

    monkeypatch.setattr(_session, "open_subject", opened)
    monkeypatch.setattr(_session, "_NUM_ROUNDS", 6)

    def run(*args):
        return bench(repository / "double", "--shape", "X=3", "--tune", *QUICK, *args), asked

    return run


def test_tune_tries_settings_against_fp32_and_compares_the_best_in_the_end(tune_on, repository):
    before = (repository / "double" / "config.pbtxt").read_text()
    done, asked = tune_on(
        "--try", "instance_group.count=1|2", "--try", "max_batch_size=9", "--set", "parameters.a=1", "--json"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["trials"][0]["settings"] == {}
    assert found["trials"][0]["accuracy"] == {"error": 0.0, "agreement": 1.0}
    assert {"instance_group.count": "2"} in [one["settings"] for one in found["trials"]]
    refused = next(one for one in found["trials"] if one["settings"].get("max_batch_size") == "9")
    assert refused["problem"] == "no room"
    assert asked[0] == {"parameters.a": "1", "kindaware.precision": "32-true", "kindaware.compile": "off"}
    assert asked[1] == {"parameters.a": "1"}
    assert (repository / "double" / "config.pbtxt").read_text() == before
    if found["best"]:
        assert set(found["ratios"]) == {"requests/s", "p50", "p95"}
        assert len(asked) == 1 + len(found["trials"]) + 2


def test_tune_without_time_measures_the_model_as_it_is(tune_on):
    done, asked = tune_on("--budget-seconds", "1")
    assert len(asked) == 2
    assert "no time to try anything" in done.stdout


def test_ctrl_c_prints_what_there_is_and_leaves_nothing(repository, tmp_path):
    command = [sys.executable, "-m", "kindaware.cli", "bench", str(repository / "double")]
    process = subprocess.Popen(
        [
            *command,
            "--shape",
            "X=3",
            "-c",
            "1,2",
            "--seconds",
            "2",
            "--warmup-seconds",
            "0.5",
            "--set",
            "max_batch_size=4",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with process:
        for line in process.stderr:
            if line.startswith("1 request in flight"):
                break
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        table, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["1", "2"]
    assert "interrupted: the last row is of the time until then" in table
    assert said.splitlines() == ["kindaware bench: interrupted"]
    assert list(Path(tmp_path).glob("kindaware-*")) == []
