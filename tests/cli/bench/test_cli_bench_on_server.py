"""The command on a real server: one that runs, and one that it starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app
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


def test_ctrl_c_prints_what_there_is_and_leaves_nothing(repository, tmp_path):
    command = [sys.executable, "-m", "kindaware.cli", "bench", str(repository / "double")]
    process = subprocess.Popen(
        [*command, "--shape", "X=3", "-c", "1,2", "--seconds", "1", "--set", "max_batch_size=4"],
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
