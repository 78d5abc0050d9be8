"""A function in a process of its own, whatever it does there."""

import os
import sys
import time
from pathlib import Path

import pytest

from kindaware.cli._child import run_apart


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a function's body, which is given as text, in a new process."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(body, seconds=60.0, **arguments):
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "called_apart.py").write_text(f"def function(**given):\n{lines}")
        return run_apart("called_apart:function", arguments, seconds=seconds)

    return run


def test_result_and_output_are_kept_apart(call):
    ended = call("print('{}')\nimport sys\nprint('no', file=sys.stderr)\nreturn {'sum': given['a'] + 1}", a=1)
    assert (ended.result, ended.code, ended.is_late) == ({"sum": 2}, 0, False)
    assert ended.output == "{}\n"


def test_of_a_lot_of_output_the_end_is_kept(call):
    ended = call("for number in range(100000): print(number)\nreturn {}")
    assert ended.result == {}
    assert ended.output.endswith("99999\n")
    assert len(ended.output) <= 2**16


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os; os._exit(4)", "ended with exit code 4"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("raise ValueError", "ended with exit code 1"),
    ],
)
def test_end_without_a_result_is_told(call, body, end):
    ended = call(body)
    assert (ended.result, ended.end) == (None, end)


def test_what_is_late_is_ended_with_its_children_and_says_where_it_was(call, tmp_path):
    mark = tmp_path / "pid"
    body = (
        "import subprocess\n"
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    ended = call(body, seconds=10.0)
    assert (ended.result, ended.is_late) == (None, True)
    assert ("called_apart.py", 5, "function") in [(os.path.basename(f), n, w) for f, n, w in ended.stack]
    time.sleep(0.2)
    status = Path("/proc", mark.read_text(), "status")
    assert not status.exists() or "Z (zombie)" in status.read_text()


def test_threads_that_are_left_do_not_hold_it_back(call):
    ended = call(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn {}"
    )
    assert ended.result == {}


def test_files_of_the_working_directory_hide_no_module(call, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "torch.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(other)
    assert call("import torch\nreturn {}").result == {}
