"""The directory that `kindaware new` makes: all of it or nothing, and never in the place of another."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from kindaware._authoring import scaffold
from kindaware._authoring.tasks import TASKS, name_test
from kindaware.cli._app import app
from kindaware.cli._reporting import FAILED, INTERRUPTED, WRONG_COMMAND_LINE
from kindaware.cli.new._command import TaskName

FILES = {"1/model.py", "README.md", "client.py", "config.pbtxt"}


def test_task_option_has_every_task():
    assert [one.value for one in TaskName] == list(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_task_has_its_files_and_says_what_to_type_next(task, new, tmp_path):
    done = new("net", "--task", task)
    assert done.exit_code == 0
    names = {
        str(path.relative_to(tmp_path / "net")) for path in (tmp_path / "net").rglob("*") if path.is_file()
    }
    assert names == {*FILES, "test_net.py"}
    readme = (tmp_path / "net" / "README.md").read_text()
    for command in done.stdout.partition("next:\n")[2].strip().splitlines():
        assert f"$ {command.strip()}\n" in readme
    assert 'name: "net"' in (tmp_path / "net" / "config.pbtxt").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_next_commands_are_ones_that_exist(task, made, tmp_path):
    found = made("models/net", "--task", task)
    commands = typer.main.get_command(app).commands
    for words in map(shlex.split, found["commands"]):
        if words[0] == "kindaware":
            assert words[1] in commands
        else:
            assert words[0] in ("pytest", "python")
        paths = [word for word in words[1:] if "/" in word]
        assert all((tmp_path / path).exists() for path in paths)


def test_own_tests_of_all_tasks_pass_in_one_pytest(new, tmp_path):
    for task in TASKS:
        assert new(f"models/{task}-1", "--task", task).exit_code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "models"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout


def test_check_finds_nothing_to_correct_in_any_task(new):
    for task in TASKS:
        assert new(f"models/{task}-1", "--task", task).exit_code == 0
    done = CliRunner().invoke(app, ["check", "models", "--json"])
    assert done.exit_code == 0, done.stdout
    models = json.loads(done.stdout)["models"]
    assert [one["name"] for one in models if not one["findings"]] == sorted(
        [*(f"{task}-1" for task in TASKS), "pipeline-1_scores"]
    )


def test_pipeline_comes_with_the_model_that_it_calls(made, tmp_path):
    found = made("net", "--task", "pipeline")
    assert 'SCORES = "net_scores"' in (tmp_path / "net" / "1" / "model.py").read_text()
    assert (tmp_path / "net_scores" / "1" / "model.py").is_file()
    assert "kindaware serve net net_scores" in found["commands"]


def test_directory_with_files_is_refused_in_one_line_and_stays(new, tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "weights.pt").write_text("mine")
    done = new("net")
    assert done.exit_code == FAILED
    [line] = done.stderr.splitlines()
    assert line.startswith("kindaware new: net: expected a directory that isn't there yet")
    assert os.listdir(tmp_path / "net") == ["weights.pt"]


def test_called_models_directory_is_not_overwritten_either(new, tmp_path):
    (tmp_path / "net_scores").mkdir()
    (tmp_path / "net_scores" / "mine").write_text("mine")
    assert new("net", "--task", "pipeline").exit_code == FAILED
    assert os.listdir(tmp_path) == ["net_scores"]


def test_file_in_the_way_is_refused_even_with_force(new, tmp_path):
    (tmp_path / "net").write_text("mine")
    assert "got a file; choose another name" in new("net", "--force").stderr
    assert (tmp_path / "net").read_text() == "mine"


def test_force_replaces_its_files_and_leaves_the_others(new, tmp_path):
    new("net")
    (tmp_path / "net" / "1" / "weights.pt").write_text("mine")
    (tmp_path / "net" / "1" / "model.py").write_text("old")
    assert new("net", "--force", "--task", "text").exit_code == 0
    assert (tmp_path / "net" / "1" / "weights.pt").read_text() == "mine"
    assert "TEXT" in (tmp_path / "net" / "1" / "model.py").read_text()
    assert os.listdir(tmp_path) == ["net"]


def test_empty_directory_is_filled(new, tmp_path):
    (tmp_path / "net").mkdir()
    assert new("net").exit_code == 0
    assert (tmp_path / "net" / "1" / "model.py").is_file()


@pytest.mark.parametrize(
    ("raised", "code"), [(OSError("no space left"), FAILED), (KeyboardInterrupt(), INTERRUPTED)]
)
def test_what_stops_it_leaves_nothing_behind(raised, code, new, tmp_path, monkeypatch):
    place = scaffold._place

    def place_one(ready, directory):
        if directory.name == "net_scores":
            raise raised
        place(ready, directory)

    monkeypatch.setattr(scaffold, "_place", place_one)
    done = new("models/all/net", "--task", "pipeline")
    assert done.exit_code == code
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_what_stops_it_while_it_writes_leaves_nothing_behind(new, tmp_path, monkeypatch):
    def stop(files, directory):
        directory.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(scaffold, "_write", stop)
    assert new("net").exit_code == INTERRUPTED
    assert os.listdir(tmp_path) == []


def test_place_that_can_not_be_written_is_one_line(new):
    done = new("/proc/net1/net")
    assert done.exit_code == FAILED
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["a b", "-net", "grün", "a$(b)", ".net"])
def test_name_that_a_server_can_not_take_is_refused(name, new, tmp_path):
    done = new("--", name)
    assert done.exit_code == WRONG_COMMAND_LINE
    assert "choose another name" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "text", "--from", "torch.nn:Identity"], "--task text: expected no --from beside it"),
        (["--example", "4"], "--example: expected --from PACKAGE.MODULE:CALLABLE with it"),
        (["--example", "4", "--from", "old.py"], "got --from old.py; leave one of them out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message, new, tmp_path):
    done = new("net", *options)
    assert done.exit_code == WRONG_COMMAND_LINE
    assert message in done.stderr
    assert os.listdir(tmp_path) == []


def test_current_directory_is_filled_if_it_is_empty(new, tmp_path):
    assert new(".").exit_code == 0
    assert f'name: "{tmp_path.name}"' in (tmp_path / "config.pbtxt").read_text()


def test_unknown_task_is_a_wrong_command_line(new):
    assert new("net", "--task", "nope").exit_code == WRONG_COMMAND_LINE


@pytest.mark.parametrize(("name", "file"), [("net", "test_net.py"), ("a-b.c", "test_a_b_c.py")])
def test_test_has_a_name_of_its_own_that_python_can_import(name, file):
    assert name_test(name) == file


@pytest.mark.parametrize("task", TASKS)
def test_client_without_a_server_is_one_line(task, new, tmp_path):
    new("net", "--task", task)
    command = [sys.executable, str(tmp_path / "net" / "client.py"), "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("grpc://127.0.0.1:1: expected a server that answers, got ")
    assert "Traceback" not in done.stderr
