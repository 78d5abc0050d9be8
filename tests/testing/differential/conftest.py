"""One server and one harness with the same models, for all tests of this folder."""

import shutil
from pathlib import Path

import pytest
from behaviours_warmup import CONTENT, FILE
from differential_kit import HarnessSide, RealSide
from differential_models import (
    BATCHES,
    CALLED,
    CALLEE,
    ITERATIVE,
    PYTHON,
    RUNNER,
    SEQUENCES,
    SHAPES,
    STREAMS,
    STRICT,
    source_of,
    write,
)
from generated_model import GENERATED, GENERATED_CONFIG, GENERATED_ROWS_CONFIG
from table import BEHAVIOURS, FAILURES, LOADING

from kindaware.testing import ModelHarness, TritonServer


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("differential")
    dispatching = {"runner": RUNNER, "batches": BATCHES, "streams": STREAMS, "iterative": ITERATIVE}
    for name, config in {**dispatching, "sequences": SEQUENCES}.items():
        chosen = {key: one for key, one in BEHAVIOURS.items() if one.model == name and one.body}
        write(folder, name, source_of(chosen), config)
    write(folder, "strict", SHAPES, PYTHON + STRICT)
    write(folder, "rows", SHAPES, PYTHON + STRICT + "max_batch_size: 4")
    write(folder, "callee", CALLED, CALLEE)
    write(folder, "generated", GENERATED, GENERATED_CONFIG)
    write(folder, "generated_rows", GENERATED, GENERATED_ROWS_CONFIG)
    for name, (source, config) in {**LOADING, **FAILURES}.items():
        write(folder, name, source, config)
        if "model_warmup" in config:
            (folder / name / "warmup").mkdir()
            (folder / name / "warmup" / FILE).write_bytes(CONTENT)
    shutil.copytree(Path(__file__).with_name("plain_models"), folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def loaded(repository):
    """The names of the models that both sides have; the first is the one that a harness is made of."""
    return [
        "runner",
        *(one.name for one in sorted(repository.iterdir()) if one.name not in ("runner", *FAILURES)),
    ]


@pytest.fixture(scope="session")
def server(repository, loaded):
    # A response without its FINAL, as one behaviour has it, now and then makes the server wait at its end.
    with TritonServer(repository, models=loaded, args=["--exit-timeout-secs=8"]) as running:
        yield running


@pytest.fixture(scope="session")
def real(server):
    side = RealSide(server.grpc_url)
    yield side
    side.close()


@pytest.fixture(scope="module")  # not open while other folders look at what a harness leaves behind
def harness(repository, loaded):
    others = [repository / name for name in loaded[1:]]
    with ModelHarness(repository / loaded[0], models=others, raise_errors=False) as running:
        yield running


@pytest.fixture(scope="module")
def ours(harness):
    return HarnessSide(harness)
