"""CUDA's sanitizer, torch's own, watches every stream while the other tests run: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_kit import NUM_BATCHES

HERE = Path(__file__).parent
WATCHED = ("test_gpu_answers.py", "test_gpu_devices.py", "test_gpu_memory.py")

RACE = """
import torch
x = torch.ones(1 << 20, device="cuda")
side = torch.cuda.Stream()
with torch.cuda.stream(side):
    x.mul_(2)
"""


def watched(*command):
    """Run Python under the sanitizer, which ends an operation with an exception when it finds a race."""
    environment = {**os.environ, "TORCH_CUDA_SANITIZER": "1", NUM_BATCHES: "150"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.gpu
def test_sanitizer_finds_the_race_of_a_wrong_program():
    done = watched("-c", RACE)
    assert done.returncode != 0
    assert "possible data race" in done.stderr


@pytest.mark.gpu
def test_sanitizer_finds_nothing_in_the_other_tests(pytestconfig):
    settings = ["-c", str(pytestconfig.inipath), "--rootdir", str(pytestconfig.rootpath)]
    tests = [str(HERE / name) for name in WATCHED]
    done = watched("-m", "pytest", "-x", "-q", "-m", "gpu", "-p", "no:cacheprovider", *settings, *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "possible data race" not in done.stdout + done.stderr
    assert " passed" in done.stdout
