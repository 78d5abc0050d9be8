"""What `kindaware new` makes, on one real server: scaffolds, ports, and a callable."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app
from kindaware.client import ModelClient
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
OLD = Path(__file__).parent / "old_models"
NETS = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)
"""
MODELS = {
    "text": ["--task", "text"],
    "stream": ["--task", "stream"],
    "generate": ["--task", "generate"],
    "sequence": ["--task", "sequence"],
    "pipeline": ["--task", "pipeline"],  # with pipeline_scores, which is the scaffold of --task tensor
    "ported": ["--from", OLD / "scores"],
    "repeat": ["--from", OLD / "repeat"],
    "net": ["--from", "nets_on_server.py:Net"],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server, and the directory of its repository, whose models have what pytest leaves in them too."""
    directory = tmp_path_factory.mktemp("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        (directory / "nets_on_server.py").write_text(NETS)
        for name, options in MODELS.items():
            done = CliRunner().invoke(app, ["new", f"models/{name}", *map(str, options)])
            assert done.exit_code == 0, done.stderr
    for name in MODELS:
        (directory / "models" / name / "__pycache__").mkdir()
    with TritonServer(directory / "models", args=["--disable-auto-complete-config"]) as server:
        yield server, directory


@pytest.mark.parametrize("name", [*MODELS, "pipeline_scores"])
def test_model_is_ready(name, served):
    server, _ = served
    assert server.model_state(name) == "READY"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("text", "negative"),
        ("stream", "ONCE UPON A TIME"),
        ("generate", "ONCE UPON A TIME"),
        ("sequence", "[3. 3. 3. 3.]"),
        ("pipeline", "three"),
        ("ported", "SCORES"),
        ("repeat", "'OUT': array([8], dtype=int32)"),
        ("net", "OUTPUT (2,)"),
    ],
)
def test_client_gets_its_answer(name, line, served):
    server, directory = served
    command = [sys.executable, directory / "models" / name / "client.py", server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def test_port_refuses_what_the_original_refused(served):
    server, _ = served
    with ModelClient(server.grpc_url, "ported") as model, pytest.raises(Exception, match="no numbers"):
        model.infer(FEATURES=np.full(4, np.nan, np.float32))
