"""Threads of OpenMP that sleep while they wait."""

import os
import subprocess
import sys

import pytest
import torch
from core_kit import Doubler, start

from kindaware import ConfigError
from kindaware._placement import openmp as _openmp

PAUSES = """
import os, sys, time
import torch
from kindaware._placement.openmp import stop_spinning

torch.set_num_threads(2)
if sys.argv[1] == "stop":
    stop_spinning(2, {})
ones = torch.ones(200_000)
ones.add_(1)
started = time.process_time()
for _ in range(60):
    ones.add_(1)
    time.sleep(0.005)
print(time.process_time() - started)
"""


@pytest.fixture
def teams(monkeypatch):
    """The sizes of the teams that are asked for, which aren't made."""
    made = []
    monkeypatch.setattr(_openmp, "_started", set())
    monkeypatch.setattr(_openmp, "_start_team", lambda library, num_threads: made.append(num_threads))
    return made


def seconds(how):
    decided = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in decided}
    command = [sys.executable, "-c", PAUSES, how]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


@pytest.mark.alone
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="threads of one core never spin")
def test_stop_spinning_leaves_the_cores_to_others_between_operations():
    assert any(seconds("stop") < 0.5 * seconds("leave") for _ in range(2))


def test_stop_spinning_makes_one_thread_more_than_there_are_cores_once_per_process(teams):
    num_procs = len(os.sched_getaffinity(0))
    _openmp.stop_spinning(2, {})
    _openmp.stop_spinning(2, {"OMP_WAIT_POLICY": ""})
    # Other packages that a test before this one has imported bring a library of their own.
    assert teams == [max(2, num_procs)] * len(_openmp.loaded_libraries())


@pytest.mark.parametrize(("num_threads", "environment"), [(1, {}), (2, {"OMP_WAIT_POLICY": "passive"})])
def test_stop_spinning_of_one_thread_or_where_none_spins_does_nothing(teams, num_threads, environment):
    _openmp.stop_spinning(num_threads, environment)
    assert teams == []


def refusal(environment=None):
    with pytest.raises(ConfigError) as caught:
        _openmp.stop_spinning(2, environment or {})
    text = str(caught.value)
    assert text.startswith(
        "setting 'wait_policy': expected threads of GNU OpenMP that can be made to sleep, got "
    )
    assert text.endswith("; start the server with OMP_WAIT_POLICY=PASSIVE in its environment instead")
    return text


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "100")])
def test_stop_spinning_where_the_environment_has_decided_is_refused(teams, name, value):
    assert f"got {name}={value} in the environment, which torch has read" in refusal({name: value})
    assert teams == []


def test_stop_spinning_that_takes_too_many_threads_is_refused(teams, monkeypatch):
    monkeypatch.setattr(_openmp, "MAX_SLEEPERS", 1)
    num_procs = len(os.sched_getaffinity(0))
    assert f"got a process that needs {num_procs} more threads, of 1 allowed" in refusal()
    assert teams == []


def test_stop_spinning_without_gnu_openmp_is_refused(teams, monkeypatch):
    monkeypatch.setattr(_openmp, "loaded_libraries", list)
    assert "got a torch with another OpenMP than GNU's" in refusal()


def test_loaded_libraries_are_those_that_the_process_has_mapped(tmp_path):
    assert len(_openmp.loaded_libraries()) >= 1
    maps = tmp_path / "maps"
    maps.write_text(
        "7f-80 r-xp 0 fe:01 1 /a folder/libgomp-1.so.1\n"
        "80-81 r--p 0 fe:01 1 /a folder/libgomp-1.so.1\n"
        "81-82 r--p 0 fe:01 1 /libgomp/libother.so\n"
        "82-83 rw-p 0 00:00 0\n"
    )
    assert _openmp.loaded_libraries(maps) == ["/a folder/libgomp-1.so.1"]
    assert _openmp.loaded_libraries(tmp_path / "none") == []


@pytest.mark.parametrize(("wait_policy", "num_teams"), [("default", 0), ("passive", 1)])
def test_initialize_stops_spinning_where_the_setting_says_so(teams, wait_policy, num_teams):
    threads = torch.get_num_threads()
    try:
        start(type("Two", (Doubler,), {"num_threads": 2, "wait_policy": wait_policy}))
    finally:
        torch.set_num_threads(threads)
    assert len(teams) == num_teams * len(_openmp.loaded_libraries())


def test_start_team_keeps_it_on_a_thread_that_does_not_hold_up_the_end():
    script = """
import threading
from kindaware._placement.openmp import stop_spinning
import torch
stop_spinning(2, {})
print([(one.name, one.daemon) for one in threading.enumerate() if one is not threading.main_thread()])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[('kindaware-openmp', True)]"
