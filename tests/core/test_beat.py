"""The file in which an instance tells since when its hooks run."""

import os
import signal
import subprocess
import sys
import time

import pytest
from stream_kit import CONFIG, Model, open_harness

from kindaware import Done
from kindaware._errors import ConfigError
from kindaware._execute.beat import BEATS, Beat, open_beat, read_beat


def test_beat_is_the_time_at_which_the_work_began_and_0_while_there_is_none(tmp_path):
    beat = Beat(tmp_path, os.getpid())
    assert read_beat(tmp_path, os.getpid()) == 0.0
    before = time.monotonic()
    with beat:
        assert before <= read_beat(tmp_path, os.getpid()) <= time.monotonic()
    assert read_beat(tmp_path, os.getpid()) == 0.0


def test_beat_begins_anew_with_each_part_of_the_work(tmp_path):
    beat = Beat(tmp_path, os.getpid())
    with beat:
        outer = read_beat(tmp_path, os.getpid())
        with beat:
            inner = read_beat(tmp_path, os.getpid())
        after = read_beat(tmp_path, os.getpid())
    assert 0 < outer < inner < after
    assert read_beat(tmp_path, os.getpid()) == 0.0


def test_beat_around_a_call_that_raises_ends(tmp_path):
    def work(value):
        assert read_beat(tmp_path, os.getpid())
        return 1 / value

    watched = Beat(tmp_path, os.getpid()).around(work)
    assert watched(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        watched(0)
    assert read_beat(tmp_path, os.getpid()) == 0.0


def test_read_beat_of_a_process_without_one_is_none(tmp_path):
    assert read_beat(tmp_path, os.getpid()) is None
    (tmp_path / str(os.getpid())).write_text("short")
    assert read_beat(tmp_path, os.getpid()) is None


def test_read_beat_of_an_earlier_process_with_the_same_id_is_none(tmp_path):
    with Beat(tmp_path, os.getpid()):
        (tmp_path / "1").write_bytes((tmp_path / str(os.getpid())).read_bytes())
        assert read_beat(tmp_path, os.getpid())
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
    assert read_beat(tmp_path, os.getpid()) == 0.0


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


class Watched(Model):
    """Notes the beat in a hook."""

    def load(self):
        self.beats = []

    def note(self, value):
        self.beats.append(self.read())
        return value


class Forward(Watched):
    def forward(self, N):
        return self.note(N)


class Stream(Watched):
    def stream(self, N):
        yield self.note(N)


class Step(Watched):
    def begin(self, N):
        return N

    def step(self, states):
        return self.note([Done(state) for state in states])


BATCHED = {key: value for key, value in CONFIG.items() if key != "model_transaction_policy"}


@pytest.mark.parametrize("is_stub", [True, False])
@pytest.mark.parametrize("model_class", [Forward, Stream, Step])
def test_hooks_of_an_instance_on_a_server_that_is_watched_beat(model_class, is_stub, tmp_path, monkeypatch):
    monkeypatch.setenv(BEATS, str(tmp_path))
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: is_stub)
    monkeypatch.setattr(model_class, "read", lambda self: read_beat(tmp_path, os.getpid()), raising=False)
    started = time.monotonic()
    with open_harness(model_class, config=BATCHED if model_class is Forward else CONFIG) as model:
        results = [model.infer(N=[[7]])] if model_class is Forward else list(model.stream(N=[[7]]))
        beats = model.instance.beats
    assert [one.error for one in results] == [None]
    assert [beat is not None and beat >= started for beat in beats] == [is_stub]
    assert read_beat(tmp_path, os.getpid()) == (0.0 if is_stub else None)
