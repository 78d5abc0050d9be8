"""The command: what is kept of a run in which something fails."""

import argparse
import json

import pytest
from benchmarks.parts.stages import TIMED_STAGES, read_counts
from benchmarks.report import tables
from benchmarks.run import Run, UnavailableError
from benchmarks.servers import triton
from benchmarks.servers.repository import Served

from benchmarks import __main__ as command
from benchmarks import results
from kindaware.testing import ServerError

IMPORTS = {"seconds": {}, "ratios": {}, "rounds": {}}


@pytest.fixture
def main(tmp_path, monkeypatch):
    """Runs the command with parts that are functions; returns its status and the file."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "_server_version", lambda run: "2.51.0")
    monkeypatch.setattr(tables, "render", lambda parts, bars: [])

    def main(arguments, **parts):
        monkeypatch.setattr(command, "PARTS", parts)
        try:
            status = command.main([*arguments, "--name", "run"])
        except BaseException as error:
            status = error
        path = tmp_path / "run.json"
        return status, json.loads(path.read_text()) if path.exists() else None

    return main


def fails(run):
    raise RuntimeError("no memory in /a/folder/file.py")


def test_part_that_fails_is_named_and_the_others_go_on(main, capsys):
    status, kept = main(["memory", "imports"], memory=fails, imports=lambda run: IMPORTS)

    assert status == 1
    assert kept["parts"] == {"imports": IMPORTS}
    assert kept["run"]["failed"] == {"memory": "RuntimeError: no memory in file.py"}
    assert kept["run"]["versions"]["tritonserver"] == "2.51.0"
    assert "FAILED: memory: RuntimeError: no memory in file.py" in capsys.readouterr().out


def test_run_that_is_interrupted_has_kept_what_there_was(main):
    def interrupted(run):
        run.keep(IMPORTS)
        raise KeyboardInterrupt

    status, kept = main(["imports"], imports=interrupted)

    assert isinstance(status, KeyboardInterrupt)
    assert kept["parts"] == {"imports": IMPORTS}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [([], command.DEFAULT_PARTS), (["all"], tuple(command.PARTS)), (["memory"], ("memory",))],
    ids=["none", "all", "one"],
)
def test_parts_are_those_of_the_default_or_all(main, given, wanted):
    status, kept = main(given, **{part: lambda run: {} for part in command.PARTS})

    assert status == 0
    assert tuple(kept["parts"]) == wanted


def test_part_that_is_not_known_is_refused_with_those_that_are(main, capsys):
    status, _ = main(["memery"], memory=fails)

    assert status.code == 2
    assert "expected some of memory, all, page, got 'memery'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "rounds", "seconds"), [([], 11, 3.0), (["--quick"], 2, 1.0), (["--rounds=5"], 5, 3.0)]
)
def test_run_has_the_effort_of_the_command_line(given, rounds, seconds):
    run = Run(command._parse(given), {})

    assert (run.rounds(11, 2), run.seconds(3.0)) == (rounds, seconds)


@pytest.mark.parametrize(
    ("error", "missing"),
    [(ValueError, "mlp: ValueError: broken pipe.py"), (UnavailableError, "mlp: broken pipe.py")],
)
def test_going_on_tells_what_was_not_measured(error, missing, capsys):
    run = Run(argparse.Namespace(name=None), {})
    with run.going_on("mlp"):
        raise error("broken /a/folder/pipe.py")

    assert run.missing == [missing]
    assert "NOT MEASURED: mlp" in capsys.readouterr().out


def test_scenarios_are_added_until_there_is_no_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    run = Run(argparse.Namespace(name="run"), {}, minutes=1)
    found = {"scenarios": [], "not_measured": run.missing}
    run.add(found, "first", lambda: {"ratios": {}})
    monkeypatch.setattr(run, "_started", run._started - 61)
    run.add(found, "second", lambda: {"ratios": {}})

    kept = {
        "scenarios": [{"name": "first", "ratios": {}}],
        "not_measured": ["second: there was no time left"],
    }
    assert list(json.loads((tmp_path / "run.json").read_text())["parts"].values()) == [kept]


def test_going_on_ends_when_an_answer_is_wrong():
    run = Run(argparse.Namespace(name=None), {})
    with pytest.raises(AssertionError), run.going_on("mlp"):
        raise AssertionError


class Server:
    """Fails to start as often as it was told."""

    num_failures = 1
    is_running = False

    def __init__(self, *args, **kwargs):
        self.left = self.num_failures

    def start(self):
        self.left -= 1
        if self.left >= 0:
            raise ServerError("tritonserver: got its end with status -6\nlock_exception")
        self.is_running = True

    def stop(self):
        self.is_running = False


def test_server_that_does_not_start_is_started_once_more_and_that_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(triton, "TritonServer", Server)
    with triton.tritonserver([Served("floor", "mlp")], said.append) as server:
        assert server.is_running

    assert not server.is_running
    assert said == [
        "RETRY: the server did not start, trying once more (tritonserver: got its end with status -6)"
    ]


def test_server_that_does_not_start_twice_is_an_error(monkeypatch):
    monkeypatch.setattr(triton, "TritonServer", Server)
    monkeypatch.setattr(Server, "num_failures", 2)
    with pytest.raises(ServerError, match="status -6"), triton.tritonserver([Served("floor", "mlp")], print):
        pass


def test_counts_are_those_of_the_model_by_stage():
    text = (
        "# TYPE kindaware_requests_total counter\n"
        'kindaware_requests_total{device="cpu",model="mlp"} 32\n'
        'kindaware_requests_total{device="cpu",model="other"} 5\n'
        f'kindaware_stage_seconds_total{{model="mlp",stage="{TIMED_STAGES[0]}"}} 0.25\n'
        'nv_inference_count{model="mlp"} 3\n'
    )

    assert read_counts(text, "mlp") == {
        "kindaware_requests_total": 32,
        f"kindaware_stage_seconds_total:{TIMED_STAGES[0]}": 0.25,
    }
