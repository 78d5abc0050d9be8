"""Threads of OpenMP that sleep while they wait."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from core_kit import Doubler, start

from kindaware import _openmp

PAUSES = """
import os, sys, time
import torch
from kindaware._openmp import stop_spinning

torch.set_num_threads(2)
if sys.argv[1] == "stop":
    assert stop_spinning(2, {}) is None
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
    environment = {name: value for name, value in os.environ.items() if name not in _openmp._VARIABLES}
    command = [sys.executable, "-c", PAUSES, how]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="threads of one core never spin")
def test_stop_spinning_leaves_the_cores_to_others_between_operations():
    assert min(seconds("stop") for _ in range(2)) < 0.5 * min(seconds("leave") for _ in range(2))


def test_stop_spinning_makes_one_thread_more_than_there_are_cores_once_per_process(teams):
    num_procs = len(os.sched_getaffinity(0))
    assert _openmp.stop_spinning(2, {}) is None
    assert _openmp.stop_spinning(2, {"OMP_WAIT_POLICY": ""}) is None
    assert teams == [max(2, num_procs)]


@pytest.mark.parametrize(
    ("num_threads", "environment"),
    [(1, {}), (2, {"OMP_WAIT_POLICY": "ACTIVE"}), (2, {"GOMP_SPINCOUNT": "100"})],
)
def test_stop_spinning_of_one_thread_or_where_the_environment_decides_does_nothing(
    teams, num_threads, environment
):
    assert _openmp.stop_spinning(num_threads, environment) is None
    assert teams == []


def test_stop_spinning_that_takes_too_many_threads_says_so(teams, monkeypatch):
    monkeypatch.setattr(_openmp, "MAX_SLEEPERS", 1)
    why = _openmp.stop_spinning(2, {})
    assert (
        why == f"it takes {len(os.sched_getaffinity(0))} more threads to prevent that, and at most 1 are made"
    )
    assert teams == []


def test_stop_spinning_without_gnu_openmp_says_so(teams, monkeypatch):
    monkeypatch.setattr(_openmp, "loaded_libraries", list)
    assert _openmp.stop_spinning(2, {}) == "torch has not loaded GNU OpenMP"


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


def test_initialize_with_threads_that_spin_says_so_in_its_line(monkeypatch, caplog):
    monkeypatch.setattr(_openmp, "loaded_libraries", list)
    caplog.set_level("INFO")
    threads = torch.get_num_threads()
    try:
        start(type("Two", (Doubler,), {"num_threads": 2}))
    finally:
        torch.set_num_threads(threads)
    spins = (
        "that spin while they wait: torch has not loaded GNU OpenMP; OMP_WAIT_POLICY=PASSIVE would end that"
    )
    assert f"threads 2 (setting num_threads) {spins}" in caplog.text


def test_initialize_keeps_its_team_on_a_thread_that_does_not_hold_up_the_end():
    threads = torch.get_num_threads()
    try:
        start(type("Two", (Doubler,), {"num_threads": 2}))
    finally:
        torch.set_num_threads(threads)
    keepers = [one for one in threading.enumerate() if one.name == "kindaware-openmp"]
    assert [one.daemon for one in keepers] == [True]
