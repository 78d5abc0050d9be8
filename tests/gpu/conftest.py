"""Tests of the GPU path, each on torch's CUDA and, where the property can be simulated, on a simulated GPU.

Those on CUDA have the marker `gpu`: without a device they are skipped, or fail with KINDAWARE_REQUIRE_CUDA=1.
"""

import pytest
from gpu_kit import CUDA, Gpu

from kindaware.testing.pytest_plugin import pytest_configure, pytest_runtest_setup

__all__ = ["pytest_configure", "pytest_runtest_setup"]  # the marker, without asking for it in all tests


@pytest.fixture(params=[CUDA, "simulated"])
def gpu(request):
    """The device on which the test runs."""
    return Gpu(is_simulated=request.param == "simulated")


@pytest.fixture(params=[CUDA])
def cuda(request):
    """A real device, for what can't be simulated."""
    return Gpu(is_simulated=False)
