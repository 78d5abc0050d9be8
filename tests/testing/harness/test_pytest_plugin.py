"""The opt-in plugin, in a pytest of its own."""

import os
import subprocess
import sys

import pytest
from harness_kit import ECHO, write_model

CONFTEST = 'pytest_plugins = ["kindaware.testing.pytest_plugin"]\n'

TESTS = """
import sys
import pytest

def test_harness(model_harness):
    model = model_harness("models/echo")
    assert model.infer(X=[1.0]).outputs["Y"].tolist() == [1.0]
    assert "triton_python_backend_utils" in sys.modules

def test_harness_is_gone():
    assert "triton_python_backend_utils" not in sys.modules

def test_args(instance_args):
    assert instance_args("GPU", 1)["model_instance_device_id"] == "1"

@pytest.mark.gpu
def test_one_device():
    pass

@pytest.mark.gpu(num_devices=2)
def test_two_devices():
    pass
"""


@pytest.fixture
def project(tmp_path):
    write_model(tmp_path / "models", "echo", ECHO)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def run(project, tests, **environment):
    (project / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--strict-markers", "-p", "no:cacheprovider"]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(
        command, cwd=project, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_fixtures_and_marker_work_in_a_project_that_asks_for_them(project):
    text = run(project, TESTS)
    for name in ("test_harness", "test_harness_is_gone", "test_args"):
        assert f"PASSED test_it.py::{name}" in text
    assert "needs 1 CUDA device, found 0" in text
    assert "needs 2 CUDA devices, found 0" in text
    assert "3 passed, 2 skipped" in text


def test_require_cuda_turns_a_skip_into_a_failure(project):
    text = run(project, TESTS, KINDAWARE_REQUIRE_CUDA="1")
    assert "needs 1 CUDA device, found 0, and KINDAWARE_REQUIRE_CUDA=1 forbids to skip" in text
    assert "skipped" not in text


def test_an_unseen_violation_fails_the_test(project):
    tests = """
def test_it(model_harness):
    model = model_harness("models/echo")
    request = model.pb_utils.InferenceRequest(inputs=[], requested_output_names=[], model_name="m")
    try:
        request.is_cancelled()
    except Exception:
        pass
"""
    text = run(project, tests)
    assert "ERROR test_it.py::test_it" in text
    assert "TritonContractError" in text


@pytest.mark.server
def test_the_server_fixture_starts_a_server(project):
    tests = """
def test_it(triton_server):
    assert triton_server("models").model_state("echo") == "READY"
"""
    assert "1 passed" in run(project, tests)


def test_nothing_is_registered_for_those_who_do_not_ask(project):
    (project / "conftest.py").write_text("")
    text = run(project, "def test_it(model_harness):\n    pass\n")
    assert "fixture 'model_harness' not found" in text
