"""What a real server handed to the instances of the models that configs/ describes."""

import json
import shutil
from dataclasses import dataclass

import pytest
from arguments_kit import CONFIGS, REFUSED, write_repository

from kindaware.testing import TritonServer


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
