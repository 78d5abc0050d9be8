"""The command: exit codes, text, JSON, bad input, and Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from check_kit import BY_HAND, CONFIG, write_model
from typer.testing import CliRunner

from kindaware.cli._app import app

QUIET_BATCHING = CONFIG.replace("dynamic_batching { }\n", "")


def check(*args):
    return CliRunner().invoke(app, ["check", *map(str, args)])


@pytest.mark.parametrize(
    ("config", "options", "code"),
    [
        (CONFIG, [], 0),
        (QUIET_BATCHING, [], 0),
        (QUIET_BATCHING, ["--strict"], 1),
        (QUIET_BATCHING, ["--strict", "--ignore", "KA206"], 0),
        (CONFIG.replace('"X"', '"OTHER"'), [], 1),
        (CONFIG.replace('"X"', '"OTHER"'), ["--ignore", "KA305"], 0),
    ],
)
def test_exit_code(tmp_path, config, options, code):
    assert check(write_model(tmp_path / "m", BY_HAND, config), "--no-run", *options).exit_code == code


def test_text_has_file_line_level_rule_and_remedy(tmp_path):
    folder = write_model(tmp_path / "m", BY_HAND, QUIET_BATCHING)
    lines = check(folder, "--no-run").stdout.splitlines()
    assert lines[:2] == [f"m  {folder}", "  not run: --no-run"]
    assert lines[2].startswith(f"{folder}/config.pbtxt:2: warning KA206 max_batch_size is 8")
    assert lines[3:] == ["    add dynamic_batching { }", "  1 warning"]


def test_repository_is_checked_model_by_model_and_runs_them(tmp_path):
    write_model(tmp_path / "good")
    write_model(tmp_path / "bad", "import nowhere_to_be_found\n" + BY_HAND)
    (tmp_path / ".git").mkdir()
    done = check(tmp_path, "--json", "--kind", "CPU")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["errors"], document["warnings"]) == (1, 0)
    bad, good = document["models"]
    assert [one["rule"] for one in bad["findings"]] == ["KA401"]
    assert good["instances"][0]["device"] == "cpu"
    assert good["request"]["outputs"] == {"Y": ["float32", [1, 4]]}


def test_bad_paths_are_one_line_with_what_to_pass(tmp_path):
    folder = write_model(tmp_path / "repository" / "m")
    for path, text in [
        (tmp_path / "nowhere", "got no such directory; check the path"),
        (folder / "config.pbtxt", f"got a file; pass {folder}"),
        (folder / "1", f"got a version of a model; pass {folder}"),
        (tmp_path, f"pass {tmp_path / 'repository'}"),
    ]:
        done = check(path)
        assert done.exit_code == 1
        [line] = done.stderr.splitlines()
        assert text in line


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--kind", "XPU"], "'XPU' is not one of 'CPU', 'GPU', 'MODEL'"),
        (["--ignore", "KA0"], "--ignore: expected a rule: KA101,"),
        (["--shape", "X"], "--shape X: expected an input and the sizes"),
        (["--parameter", "X"], "--parameter X: expected a name and a value"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, text):
    done = check(write_model(tmp_path / "m"), *options)
    assert done.exit_code == 2
    assert text in done.stderr


def is_running(process_id):
    """Whether a process is there, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interruption_leaves_no_process(tmp_path, number):
    mark = tmp_path / "pid"
    code = BY_HAND.replace(
        "        return [self",
        f"        import os\n        open({str(mark)!r}, 'w').write(str(os.getpid()))\n"
        "        while True: pass\n"
        "        return [self",
    )
    command = [sys.executable, "-m", "kindaware.cli", "check", str(write_model(tmp_path / "m", code))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (mark.exists() and mark.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    expected = (130, "kindaware check: interrupted\n") if number == signal.SIGINT else (-number, "")
    assert (process.returncode, errors) == expected
    deadline = time.monotonic() + 10
    while is_running(int(mark.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_missing_package_is_one_line_and_no_finding(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    done = check(write_model(tmp_path / "m"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "pip install 'tritonclient[grpc]'" in done.stderr


def test_names_no_more_than_three_repositories_in_a_directory(tmp_path):
    for number in range(5):
        folder = tmp_path / f"models{number}" / "net" / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").touch()
    done = check(tmp_path)
    assert (done.exit_code, done.stderr.count("models")) == (1, 3)
