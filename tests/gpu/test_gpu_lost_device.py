"""A kernel that fails an assertion takes the device from its process; so each of these has one of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_kit import CUDA

PROGRAM = Path(__file__).with_name("lost_device.py")


@pytest.fixture(scope="module", params=[CUDA, "simulated"])
def ended(request):
    """The program, after its end."""
    command = [sys.executable, "-W", "error::ResourceWarning", str(PROGRAM), request.param]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    return done


@pytest.fixture
def seen(ended):
    return json.loads(ended.stdout.splitlines()[-1])


def test_lost_device_is_unavailable_for_every_request_of_the_batch(seen):
    assert seen["good"] == ["", ""]
    assert seen["lost"] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert "expected a working device, got cuda:0 after" in seen["text"]
    assert "device-side assert" in seen["text"]


def test_lost_device_is_unavailable_at_once_from_then_on(seen):
    assert seen["later"] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert seen["later_forwards"] == 0
    assert seen["later_seconds"] < 0.5


def test_lost_device_makes_the_instance_not_ready(seen):
    assert (seen["ready_before"], seen["ready_after"]) == (True, False)


def test_lost_device_process_ends_by_itself(ended, seen):
    assert ended.returncode == 0, ended.stderr
    assert "unloaded" in seen["log"]
    assert "Traceback" not in ended.stderr, ended.stderr
