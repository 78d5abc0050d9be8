"""Fixtures and a marker for pytest, on request: `pytest_plugins = ["kindaware.testing.pytest_plugin"]`.

Fixtures:
    model_harness: starts a `ModelHarness` with the arguments it is called with, and ends it after the test.
    triton_server: starts a `TritonServer` likewise.
    instance_args: the function of the same name.

Marker:
    gpu: the test needs a CUDA device, or several: `@pytest.mark.gpu(num_devices=2)`. Without them it is
        skipped; with the environment variable KINDAWARE_REQUIRE_CUDA=1 it fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kindaware._server.server import TritonServer
from kindaware.testing import arguments
from kindaware.testing.harness import ModelHarness

REQUIRE_CUDA = "KINDAWARE_REQUIRE_CUDA"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"gpu(num_devices=1): needs CUDA devices; skipped without them, or failed with {REQUIRE_CUDA}=1",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail tests whose devices aren't there; torch is asked only if there is such a test."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    wanted = _count_wanted(*marker.args, **marker.kwargs)
    found = _count_devices()
    if found >= wanted:
        return
    reason = f"needs {wanted} CUDA device{'s' if wanted > 1 else ''}, found {found}"
    if os.environ.get(REQUIRE_CUDA) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_CUDA}=1 forbids to skip", pytrace=False)
    pytest.skip(reason)


def _count_wanted(num_devices: int = 1) -> int:
    return num_devices


def _count_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@pytest.fixture
def model_harness() -> Iterator[Callable[..., ModelHarness]]:
    """Start harnesses that end with the test; a TritonContractError that nobody saw fails it."""
    with ExitStack() as stack:

        def start(model: Any, **options: Any) -> ModelHarness:
            return stack.enter_context(ModelHarness(model, **options))

        yield start


@pytest.fixture
def triton_server() -> Iterator[Callable[..., TritonServer]]:
    """Start real servers that end with the test."""
    with ExitStack() as stack:

        def start(repository: Any, **options: Any) -> TritonServer:
            return stack.enter_context(TritonServer(repository, **options))

        yield start


@pytest.fixture
def instance_args() -> Callable[..., dict[str, str]]:
    """Return `kindaware.testing.instance_args`."""
    return arguments.instance_args
