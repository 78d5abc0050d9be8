"""The built wheel, installed outside the checkout, serves ResNet50 with nothing from the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient

import kindaware
from kindaware.testing import TritonServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/resnet50/models/resnet50"


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """An sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """A virtual environment with the wheel; torch and the server come from the running one."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "venv" / "lib" / version / "site-packages"
    (packages / "below.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages]
    run(*pip, wheel, cwd=folder)
    return folder


def test_wheel_holds_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "kindaware/py.typed" in names
    assert all(name.startswith(("kindaware/", "kindaware-")) for name in names)
    # Types for editors, and no module that could take the place of the server's.
    named = sorted(name for name in names if "python_backend_utils" in name)
    typings = "kindaware/testing/stand_in/typings"
    assert named == [f"{typings}/{half}_python_backend_utils.pyi" for half in ("c", "triton")]
    assert f"kindaware-{kindaware.__version__}-py3-none-any.whl" == wheel.name


def test_sdist_holds_what_the_tests_and_the_documentation_need(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "pyproject.toml", "docs/index.md"}
    assert wanted <= names
    assert "examples/resnet50/models/resnet50/1/model.py" in names
    assert "tests/packaging/test_distribution.py" in names
    assert not [name for name in names if name.endswith((".pth", ".pyc", ".whl"))]


@pytest.mark.server
def test_installed_wheel_serves_resnet50_from_outside_the_checkout(installed):
    python = installed / "venv/bin/python3"
    found = run(python, "-c", "import kindaware; print(kindaware.__file__)", cwd=installed).strip()
    assert Path(found).is_relative_to(installed)
    shutil.copytree(EXAMPLE, installed / "models/resnet50")
    with (installed / "models/resnet50/config.pbtxt").open("a") as config:
        config.write('\nparameters { key: "weights" value { string_value: "random" } }\n')

    args = ["--disable-auto-complete-config"]
    with TritonServer(installed / "models", python=python, args=args) as server:
        client = httpclient.InferenceServerClient(server.http_url)
        picture = httpclient.InferInput("INPUT", [1, 3, 224, 224], "FP32")
        picture.set_data_from_numpy(np.ones((1, 3, 224, 224), np.float32))
        scores = client.infer("resnet50", [picture]).as_numpy("OUTPUT")
        client.close()
        log = server.log_text()

    assert scores.shape == (1, 1000)
    assert np.ptp(scores) > 0
    assert "kindaware instance resnet50_0_0 ready: kind CPU, device cpu" in log
