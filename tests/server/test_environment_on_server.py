"""An environment that would make the stub serve wrong data, or another module than its own, is refused."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import kindaware
from kindaware._server import interpreter as _interpreter
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "declaring_models"


@pytest.fixture
def overlay(tmp_path):
    """A virtual environment whose own packages come before those of the running one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "venv" / "lib" / version / "site-packages"
    below = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    below.append(str(Path(kindaware.__file__).parents[1]))
    (packages / "below.pth").write_text("\n".join(dict.fromkeys(below)))
    return tmp_path / "venv" / "bin" / "python3", packages


def reason_of(python):
    """Why the model `declared` doesn't load with this interpreter."""
    with TritonServer(MODELS, python=python, models=["declared"], exit_on_error=False) as server:
        return {model.name: model.reason for model in server.models()}["declared"]


def test_initialize_with_numpy_2_under_the_old_stub_is_refused(overlay, monkeypatch):
    python, packages = overlay
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    subprocess.run([*pip, "numpy>=2,<3"], check=True)
    monkeypatch.setattr(_interpreter.Interpreter, "check_for", lambda *_: None)  # it would refuse to start

    reason = reason_of(python)

    assert (
        "ConfigError: this server's Python backend and numpy: expected a tensor read through both" in reason
    )
    assert "with numpy 2." in reason
    assert "install 'numpy<2' in the environment of the stub, or use Triton 24.11 or newer" in reason


def test_initialize_with_a_module_that_shadows_the_servers_is_refused(overlay, monkeypatch):
    python, packages = overlay
    monkeypatch.setattr(_interpreter.Interpreter, "check_for", lambda *_: None)  # the same
    pytriton = Path(importlib.util.find_spec("pytriton").origin).parent
    own = next(pytriton.rglob("backends/python/triton_python_backend_utils.py"))
    shutil.copy(own, packages)  # complete, or the stub would fail before any model
    info = packages / "triton_mock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: triton-mock\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("triton_python_backend_utils\n")
    (info / "RECORD").write_text("triton_python_backend_utils.py,,\n")

    reason = reason_of(python)

    assert "module triton_python_backend_utils: expected the server's own" in reason
    assert f"got {packages}/triton_python_backend_utils.py; pip uninstall triton-mock" in reason
