"""Who runs beside whom: a test that wants the machine alone gets it, and is not overtaken for ever."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import taking_turns
from taking_turns import take_turn

FOLDER = Path(__file__).parent
SECONDS = 30
A_WHILE = 0.2


@pytest.fixture(autouse=True)
def _own_files(tmp_path, monkeypatch):
    """The run's own are held by this test."""
    for name in ("ROOM", "DOOR"):
        (tmp_path / name).touch()
        monkeypatch.setattr(taking_turns, name, tmp_path / name)


class Taker(threading.Thread):
    """Takes a turn, and keeps it until it is told to leave."""

    def __init__(self, *, is_alone):
        super().__init__()
        self.is_alone, self.is_in, self.may_leave = is_alone, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with take_turn(is_alone=self.is_alone):
            self.is_in.set()
            self.may_leave.wait(SECONDS)

    def leave(self):
        self.may_leave.set()
        self.join()


def test_most_run_beside_each_other():
    takers = [Taker(is_alone=False) for _ in range(3)]
    assert all(one.is_in.wait(SECONDS) for one in takers)
    for one in takers:
        one.leave()


def test_one_alone_waits_for_those_inside_and_those_after_it_wait_for_its_end():
    inside = Taker(is_alone=False)
    assert inside.is_in.wait(SECONDS)
    alone = Taker(is_alone=True)
    assert not alone.is_in.wait(A_WHILE)
    later = Taker(is_alone=False)
    assert not later.is_in.wait(A_WHILE)
    inside.leave()
    assert alone.is_in.wait(SECONDS)
    assert not later.is_in.wait(A_WHILE)
    alone.leave()
    assert later.is_in.wait(SECONDS)
    later.leave()


LEAVES_A_FORK = """
import fcntl, os, pathlib, signal, sys
import taking_turns

taking_turns.ROOM, taking_turns.DOOR = map(pathlib.Path, sys.argv[1:])
with taking_turns.take_turn(is_alone=False):
    child = os.fork()
    if child == 0:
        signal.pause()
try:
    fcntl.flock(taking_turns.ROOM.open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
finally:
    os.kill(child, signal.SIGKILL)
"""


def test_a_process_that_a_test_forked_and_left_behind_is_not_waited_for():
    command = [sys.executable, "-c", LEAVES_A_FORK, str(taking_turns.ROOM), str(taking_turns.DOOR)]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=SECONDS)
