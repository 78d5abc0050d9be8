"""`kindaware new` in this process, in an empty directory."""

import json

import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Runs the command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["new", *map(str, args)])


@pytest.fixture
def made(new):
    """Runs the command, which must succeed, and gives what it says to machines."""

    def run(*args):
        done = new(*args, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return run
