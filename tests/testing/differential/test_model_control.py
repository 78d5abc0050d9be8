"""Models that load one another: the same steps on a real server and in a harness."""

import json
import os
import py_compile
import time
from pathlib import Path

import numpy as np
import pytest
from differential_kit import HarnessSide, RealSide, ask, decode
from differential_models import HEAD, PYTHON, write

from kindaware.testing import ModelHarness, TritonServer

pytestmark = pytest.mark.server

TEXT = """
input { name: "X" data_type: TYPE_STRING dims: -1 }
output { name: "TEXT" data_type: TYPE_STRING dims: -1 }
"""
LOADER = """
class TritonPythonModel:
    def initialize(self, args):
        self.first = tries('is_model_ready("beside")\\nload_model("beside")\\nis_model_ready("beside", "1")')

    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        tried = attempt(lambda: eval(get(request)[0], vars(pb_utils)))
        response = new([pb_utils.Tensor("X", get(request))], model="beside").exec()
        if response.has_error():
            found = [response.error().message(), "no instance"]
        else:
            found = [json.loads(line) for line in response.output_tensors()[0].as_numpy()]
        return report(self.first, tried, pb_utils.is_model_ready("beside"), found)
"""
BESIDE = """
import uuid


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.found = ["FILE", parameters.get("word", {}).get("string_value"), uuid.uuid4().hex]

    def execute(self, requests):
        return [report(*self.found) for _ in requests]
"""


def load(*args):
    return f"load_model{('beside', *args)!r}"


def configured(word):
    tensor = {"data_type": "TYPE_STRING", "dims": [-1]}
    config = {
        "backend": "python",
        "input": [{"name": "X", **tensor}],
        "output": [{"name": "TEXT", **tensor}],
        "instance_group": [{"kind": "KIND_CPU"}],
        "parameters": {"word": {"string_value": word}},
    }
    return json.dumps(config)


def file(name):
    return {"file:1/model.py": (HEAD + BESIDE.replace("FILE", name)).encode()}


STEPS = {
    "at first": "get_model_dir() and None",
    "loaded again": load(),
    "with a configuration": load(configured("a")),
    "with the same configuration": load(configured("a")),
    "without it": load(),
    "after a change": load(),
    "with files": load(configured("b"), file("FIRST")),
    "with other files": load(configured("b"), file("SECOND")),
    "without files": load(),
    "unloaded": "unload_model('beside')",
    "once more": load(),
}
STARTED_ANEW = [
    *("at first", "with a configuration", "after a change"),
    *("with files", "without files", "unloaded", "once more"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    write(folder, "loader", LOADER, PYTHON + TEXT)
    write(folder, "beside", BESIDE, PYTHON + TEXT)
    write(folder, "empty", BESIDE, PYTHON + TEXT)
    py_compile.compile(folder / "beside/1/model.py")  # else the stub's bytecode counts as a change
    return folder


def run(side, folder):
    """What each step gave, and whether the model beside was another instance than before."""
    seen, before = {}, None
    for name, line in STEPS.items():
        if name == "after a change":
            later = time.time_ns() + 10**9  # files have a coarser clock than configurations
            os.utime(Path(folder, "beside/1/model.py"), ns=(later, later))
        answer = side.infer(ask("loader", {"X": np.array([line], dtype=object)}))
        assert not answer.text, answer.text
        first, tried, is_ready, [*told, instance] = map(json.loads, decode(answer.outputs[0][3]))
        seen[name] = first, tried, is_ready, told, instance != before
        before = instance
    return seen


def test_load_model_does_what_it_does_on_the_server(folder):
    with TritonServer(folder, models=["empty"]) as server:
        server.load("loader")  # as long as a server starts, it loads nothing for a model
        real = RealSide(server.grpc_url)
        theirs = run(real, folder)
        real.close()
    with ModelHarness(folder / "loader", raise_errors=False) as harness:
        own = run(HarnessSide(harness), folder)
    assert own == theirs
    assert [name for name, step in theirs.items() if step[-1]] == STARTED_ANEW
