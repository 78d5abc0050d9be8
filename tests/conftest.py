"""What all tests share: which of them need the real server, and what happens where there is none."""

import importlib.util
import os

import pytest

REQUIRE_SERVER = "KINDAWARE_REQUIRE_SERVER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests on the real server where it isn't installed, unless the environment forbids that."""
    if importlib.util.find_spec("pytriton") is not None or os.environ.get(REQUIRE_SERVER) == "1":
        return
    reason = "no tritonserver: pip install 'kindaware[server]', on Python 3.10 to 3.12 for its numpy 1.26"
    for item in items:
        if item.get_closest_marker("server"):
            item.add_marker(pytest.mark.skip(reason=reason))
