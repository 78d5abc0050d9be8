"""A repository of small models, and `kindaware profile` in this process."""

import json
import textwrap

import pytest
from profile_kit import CONFIG, NET

from kindaware.cli import main


@pytest.fixture
def write_model(tmp_path):
    """Writes a model and returns its directory."""

    def write(source=NET, config=CONFIG, name="net"):
        version = tmp_path / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(textwrap.dedent(source))
        (version.parent / "config.pbtxt").write_text(config)
        return version.parent

    return write


@pytest.fixture
def profile(tmp_path, capfd):
    """Runs the command; gives its status, what it printed, and the trace's events if there is a trace."""

    def run(model, *options):
        trace = tmp_path / "trace.json"
        with pytest.raises(SystemExit) as end:
            main(["profile", str(model), "--output", str(trace), "--batches", "4", *map(str, options)])
        out, err = capfd.readouterr()
        events = json.loads(trace.read_text())["traceEvents"] if trace.exists() else []
        return end.value.code or 0, out, err, [event for event in events if event.get("ph") == "X"]

    return run


@pytest.fixture
def read_table():
    """Gives the table of stages: ms of all calls by stage."""

    def read(text):
        rows = [line.rsplit(maxsplit=4) for line in text.split("\n\n")[1].splitlines()[1:]]
        return {row[0].strip(): float(row[1]) for row in rows}

    return read
