"""`kindaware run --watch`, in a process of its own."""

import os
import signal
import subprocess
import sys
import threading

import pytest


@pytest.fixture
def watch():
    """Starts the command; `lines` grows as it prints."""
    started = []

    def start(*args):
        process = subprocess.Popen(
            [sys.executable, "-m", "kindaware.cli", "run", *map(str, args), "--watch"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process, text):
    """What the command prints, up to a line with a text."""
    lines = []
    timer = threading.Timer(60, process.kill)
    timer.start()
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    timer.cancel()
    return "".join(lines)


def test_watch_runs_again_on_save_also_after_an_error_and_ends_with_ctrl_c(watch, write_model):
    folder = write_model()
    code = folder / "1" / "model.py"
    good = code.read_text()
    process = watch(folder, "-i", "[1,2,3,4]")
    assert "[2, 4, 6, 8]" in read_until(process, "  execute")

    code.write_text(good.replace("X * 2", "X * 3"))
    assert "[3, 6, 9, 12]" in read_until(process, "  execute")
    code.write_text(good.replace("X * 2", "unknown"))
    assert "NameError: name 'unknown' is not defined" in read_until(process, "kindaware run:")
    (folder / "1" / "helper.py").write_text("FACTOR = 5\n")
    read_until(process, "kindaware run:")
    code.write_text(good.replace("X * 2", "X * __import__('helper').FACTOR"))
    assert "[5, 10, 15, 20]" in read_until(process, "  execute")
    (folder / "1" / "helper.py").write_text("FACTOR = 6\n")
    assert "[6, 12, 18, 24]" in read_until(process, "  execute")

    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stdout.read()
