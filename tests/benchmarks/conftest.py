"""The benchmarks lie beside the tests, in no package that is installed."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # before the tests are collected, which import them


@pytest.fixture(scope="session")
def root():
    """The folder of the checkout."""
    return ROOT
