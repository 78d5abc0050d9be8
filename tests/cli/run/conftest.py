"""Models of a few lines, and the command in this process."""

import textwrap

import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app

TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
CONFIG = 'backend: "python"\nmax_batch_size: 8\ninstance_group [ { kind: KIND_CPU } ]\n'
DOUBLES = """
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        print("the model's own words")

    def forward(self, X):
        if (X < 0).any():
            raise ValueError("negative")
        return X * 2
"""


@pytest.fixture
def write_model(tmp_path):
    """Writes a model's directory."""

    def write(source=DOUBLES, config=CONFIG + TENSORS, name="m"):
        folder = tmp_path / name
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.py").write_text(textwrap.dedent(source).lstrip())
        if config is not None:
            (folder / "config.pbtxt").write_text(config)
        return folder

    return write


@pytest.fixture
def run():
    """Runs `kindaware run`."""
    return lambda *args: CliRunner().invoke(app, ["run", *map(str, args)])
