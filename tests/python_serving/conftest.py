"""A model directory as `serve` writes it, loaded without a server."""

import sys

import pytest

from kindaware import Servable
from kindaware._serving.repository import read_plan
from kindaware.testing import ModelHarness


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a model and returns its harness."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(model, example=None, name="m", raise_errors=True, **options):
        read_plan(name, Servable(model, example, **options)).write(tmp_path)
        return ModelHarness(tmp_path / name, raise_errors=raise_errors)

    return write
