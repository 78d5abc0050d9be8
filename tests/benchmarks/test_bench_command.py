"""The command: what is kept of a run in which something fails."""

import json

import pytest
from benchmarks.parts.serving import going_on
from benchmarks.parts.stages import read_counts
from benchmarks.servers import start as servers
from benchmarks.servers.repository import Served

from benchmarks import __main__ as command
from benchmarks import results
from kindaware.testing import ServerError

IMPORTS = {"seconds": {}, "ratios": {}, "rounds": {}}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with parts that are functions; gives its status and the file."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "_server_version", lambda say: "2.51.0")
    monkeypatch.setattr(command, "report", lambda found: [])

    def run(arguments, **parts):
        monkeypatch.setattr(command, "_measure", lambda part, args, effort, say, keep: parts[part](keep))
        try:
            status = command.main([*arguments, "--name", "run"])
        except BaseException as error:
            status = error
        path = tmp_path / "run.json"
        return status, json.loads(path.read_text()) if path.exists() else None

    return run


def fails(keep):
    raise RuntimeError("no memory in /a/folder/file.py")


def test_part_that_fails_is_named_and_the_others_go_on(run, capsys):
    status, kept = run(["memory", "imports"], memory=fails, imports=lambda keep: IMPORTS)

    assert status == 1
    assert kept["parts"] == {"imports": IMPORTS}
    assert kept["run"]["failed"] == {"memory": "RuntimeError: no memory in file.py"}
    assert "FAILED: memory: RuntimeError: no memory in file.py" in capsys.readouterr().out


def test_run_that_is_interrupted_has_kept_what_there_was(run):
    def interrupted(keep):
        keep(IMPORTS)
        raise KeyboardInterrupt

    status, kept = run(["imports"], imports=interrupted)

    assert isinstance(status, KeyboardInterrupt)
    assert kept["parts"] == {"imports": IMPORTS}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [([], command.DEFAULT_PARTS), (["all"], (*command.DEFAULT_PARTS, *command.FURTHER_PARTS))],
    ids=["none", "all"],
)
def test_parts_are_those_of_the_default_or_all(run, given, wanted):
    status, kept = run(given, **{part: lambda keep: {} for part in wanted})

    assert status == 0
    assert tuple(kept["parts"]) == wanted


def test_going_on_tells_what_was_not_measured(capsys):
    missing = []
    with going_on("mlp", missing, print):
        raise ValueError("broken /a/folder/pipe.py")

    assert missing == ["mlp: ValueError: broken pipe.py"]
    assert "NOT MEASURED: mlp" in capsys.readouterr().out


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
    monkeypatch.setattr(servers, "TritonServer", Server)
    with servers.triton([Served("floor", "mlp")], said.append) as server:
        assert server.is_running

    assert not server.is_running
    assert said == [
        "RETRY: the server did not start, trying once more (tritonserver: got its end with status -6)"
    ]


def test_server_that_does_not_start_twice_is_an_error(monkeypatch):
    monkeypatch.setattr(servers, "TritonServer", Server)
    monkeypatch.setattr(Server, "num_failures", 2)
    with pytest.raises(ServerError, match="status -6"), servers.triton([Served("floor", "mlp")], print):
        pass


def test_counts_are_those_of_the_model_by_stage():
    text = (
        "# TYPE kindaware_requests_total counter\n"
        'kindaware_requests_total{device="cpu",model="mlp"} 32\n'
        'kindaware_requests_total{device="cpu",model="other"} 5\n'
        'kindaware_stage_seconds_total{model="mlp",stage="gather"} 0.25\n'
        'nv_inference_count{model="mlp"} 3\n'
    )

    assert read_counts(text, "mlp") == {
        "kindaware_requests_total": 32,
        "kindaware_stage_seconds_total:gather": 0.25,
    }
