"""Where the examples lie, how their clients are run, and a cat."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kindaware.testing import instance_args

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def import_file(path, name):
    """Import a file that is on no path; what it imports itself must be."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _examples_importable():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def examples():
    return EXAMPLES


@pytest.fixture(scope="session")
def resnet50():
    """The `Example` that ResNet50's client passes on."""
    return import_file(EXAMPLES / "resnet50" / "client.py", "resnet50_client").EXAMPLE


@pytest.fixture(scope="session")
def efficientnet():
    path = EXAMPLES / "efficientnet_lite0" / "client.py"
    return import_file(path, "efficientnet_lite0_client").EXAMPLE


@pytest.fixture(scope="session")
def load_model():
    """The example's own model class, initialized from an args dict alone, as in a user's unit test."""

    def load(name, **parameters):
        folder = EXAMPLES / name / "models" / name
        config = {
            "max_batch_size": 128,
            "input": [{"name": "INPUT", "data_type": "TYPE_FP32", "dims": [3, 224, 224]}],
            "output": [{"name": "OUTPUT", "data_type": "TYPE_FP32", "dims": [1000]}],
        }
        model = import_file(folder / "1" / "model.py", f"{name}_model").TritonPythonModel()
        model.initialize(instance_args(config=config, repository=folder, parameters=parameters))
        return model

    return load


@pytest.fixture(scope="session")
def cat():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="session")
def cat_file(cat, tmp_path_factory):
    path = tmp_path_factory.mktemp("cat") / "chelsea.png"
    cat.save(path)
    return path


@pytest.fixture
def closed_port():
    """A port that nobody listens on; bound, so that nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(params=["resnet50", "efficientnet_lite0"])
def run_client(request, tmp_path):
    """Run a client as a user does, in an empty folder."""
    return client_runner(request.param, tmp_path)


@pytest.fixture
def run_resnet50_client(tmp_path):
    return client_runner("resnet50", tmp_path)


def client_runner(name, folder):
    def run(*args, warnings="error"):
        command = [sys.executable, "-W", warnings, str(EXAMPLES / name / "client.py"), *map(str, args)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    return run
