"""What a real server handed to the instances of the models that configs/ describes."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kindaware.testing import TritonServer

CONFIGS = Path(__file__).parent / "configs"
REFUSED = Path(__file__).parent / "refused"

RECORDER = """
import json, os, pathlib

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        name = "args-" + args["model_version"] + "-" + args["model_instance_name"]
        pathlib.Path(args["model_repository"], name + ".json").write_text(json.dumps(args))

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""


def write_repository(folder, configs):
    """Write one model per configuration; those about versions have three."""
    for name, text in configs.items():
        for version in "123" if name.endswith("versions") else "1":
            place = folder / name / version
            place.mkdir(parents=True)
            (place / "model.py").write_text(RECORDER)
        (folder / name / "config.pbtxt").write_text(text)


@dataclass(frozen=True)
class Recorded:
    """What a server made of the models of configs/ and refused/."""

    args: dict[str, list[dict[str, str]]]
    log: str


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """The args dicts of all instances, by model, and what the server logged of those it refused."""
    repository = tmp_path_factory.mktemp("arguments")
    write_repository(repository, {path.stem: path.read_text() for path in CONFIGS.glob("*.pbtxt")})
    write_repository(repository, {path.stem: path.read_text() for path in REFUSED.glob("*.pbtxt")})
    with TritonServer(repository, exit_on_error=False) as server:
        log = server.log_text()
    args = {
        path.name: [json.loads(file.read_text()) for file in sorted(path.glob("args-*.json"))]
        for path in repository.iterdir()
    }
    yield Recorded(args, log)
    shutil.rmtree(repository)
