"""The file in which an instance tells since when its hooks run."""

import os
import signal
import subprocess
import sys
import time

import pytest

from kindaware._errors import ConfigError
from kindaware._execute.beat import BEATS, Beat, open_beat, read_beat

OWN = os.getpid()


def test_beat_is_the_time_at_which_the_work_began_and_0_while_there_is_none(tmp_path):
    beat = Beat(tmp_path, OWN)
    assert read_beat(tmp_path, OWN) == 0.0
    before = time.monotonic()
    with beat:
        assert before <= read_beat(tmp_path, OWN) <= time.monotonic()
    assert read_beat(tmp_path, OWN) == 0.0


def test_beat_begins_anew_with_each_part_of_the_work(tmp_path):
    beat = Beat(tmp_path, OWN)
    with beat:
        outer = read_beat(tmp_path, OWN)
        with beat:
            inner = read_beat(tmp_path, OWN)
        after = read_beat(tmp_path, OWN)
    assert 0 < outer < inner < after
    assert read_beat(tmp_path, OWN) == 0.0


def test_beat_around_a_call_that_raises_ends(tmp_path):
    def work(value):
        assert read_beat(tmp_path, OWN)
        return 1 / value

    watched = Beat(tmp_path, OWN).around(work)
    assert watched(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        watched(0)
    assert read_beat(tmp_path, OWN) == 0.0


def test_read_beat_of_a_process_without_one_is_none(tmp_path):
    assert read_beat(tmp_path, OWN) is None
    (tmp_path / str(OWN)).write_text("short")
    assert read_beat(tmp_path, OWN) is None


def test_read_beat_of_an_earlier_process_with_the_same_id_is_none(tmp_path):
    with Beat(tmp_path, OWN):
        (tmp_path / "1").write_bytes((tmp_path / str(OWN)).read_bytes())
        assert read_beat(tmp_path, OWN)
        assert read_beat(tmp_path, 1) is None


def test_open_beat_in_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=f"{BEATS}: expected a folder that the model's process may write to"
    ):
        open_beat({BEATS: str(tmp_path / "none")})


def test_open_beat_writes_only_where_somebody_watches(tmp_path, monkeypatch):
    monkeypatch.setattr("faulthandler.register", lambda *_, **__: None)
    assert open_beat({}) is None
    assert open_beat({BEATS: ""}) is None
    assert open_beat({BEATS: str(tmp_path)}) is not None
    assert read_beat(tmp_path, OWN) == 0.0


def test_signal_has_the_process_print_its_stacks(tmp_path):
    code = (
        "import os, sys, time\nfrom kindaware._execute.beat import open_beat\n"
        "open_beat(os.environ)\ndef stuck():\n  print('up', flush=True)\n  time.sleep(60)\nstuck()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, BEATS: str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGUSR2)
    line = ""
    while "in stuck" not in line:
        line = process.stderr.readline()
        assert line
    process.kill()
    process.communicate()
