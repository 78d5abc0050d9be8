"""Measurements while no other process measures or needs the cores."""

import os
import socket
import subprocess
import sys
import time

import pytest

from kindaware._tuning import quiet as quiet_module
from kindaware._tuning.core_usage import CoreUsage
from kindaware._tuning.quiet import OthersMeasureError, measure_in_quiet
from kindaware._tuning.turn import turn

HOLDER = """
import sys, time
from kindaware._tuning.turn import turn
with turn(sys.argv[1], 10.0) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def name(request):
    """A name of a turn that no other process has."""
    return f"test {os.getpid()} {request.node.name}"


def test_turn_is_anothers_until_it_ends_even_where_it_is_killed(name):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, name], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        with turn(name, 0.05) as is_ours:
            assert not is_ours
        other.kill()
        with turn(name, 10.0) as is_ours:
            assert is_ours
    finally:
        other.kill()
        other.communicate()


def test_turn_waits_for_the_other(name):
    with turn(name, 0.0) as first, turn(name, 0.0) as second:
        assert (first, second) == (True, False)
    with turn(name, 0.0) as again, turn(f"{name} other", 0.0) as other:
        assert again
        assert other


@pytest.fixture
def cores(monkeypatch, tmp_path):
    """The use of cores 1 and 3, by ticks of each in /proc/stat, seconds of this process, and the moment."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})
    path = tmp_path / "stat"

    def usage(*ticks, own, at):
        lines = [f"cpu{core} {' '.join(map(str, line))}" for core, line in enumerate(ticks)]
        path.write_text("\n".join(["cpu 9 9 9 9 9 9 9 9 9 9", *lines, "intr 1 2", ""]))
        monkeypatch.setattr(time, "process_time", lambda: own)
        monkeypatch.setattr(time, "monotonic", lambda: at)
        return CoreUsage.now(path)

    return usage


IDLE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_free_cores_are_those_that_neither_others_nor_the_hypervisor_use(cores):
    before = cores(IDLE, IDLE, IDLE, IDLE, own=7.0, at=100.0)
    hertz = os.sysconf("SC_CLK_TCK")
    # Of 10 s: core 0 isn't ours. Core 1: 2 s user, 1 s system, 1 s stolen. Core 3: 3 s user; 4 s are our own.
    first = (2 * hertz, 0, hertz, 5 * hertz, hertz, 0, 0, hertz, 2 * hertz, 0)
    second = (3 * hertz, 0, 0, 7 * hertz, 0, 0, 0, 0, 0, 0)
    after = cores((10 * hertz, *IDLE[1:]), first, IDLE, second, own=11.0, at=110.0)
    assert after.free_since(before) == pytest.approx(2 - 0.3)


def test_free_cores_are_never_more_than_there_are(cores):
    before = cores(IDLE, IDLE, IDLE, IDLE, own=0.0, at=0.0)
    assert cores(IDLE, IDLE, IDLE, IDLE, own=0.5, at=1.0).free_since(before) == 2.0


def test_free_cores_without_proc_are_all(tmp_path):
    before = CoreUsage.now(tmp_path / "none")
    time.sleep(0.01)
    assert CoreUsage.now(tmp_path / "none").free_since(before) == len(os.sched_getaffinity(0))


@pytest.fixture
def free(monkeypatch, name):
    """Number of cores free in each interval from now on; then two. Returns what was asked."""

    def say(*numbers):
        left = list(numbers)

        class Usage:
            @classmethod
            def now(cls):
                return cls()

            def free_since(self, before):
                return left.pop(0) if left else 2.0

        monkeypatch.setattr(quiet_module, "CoreUsage", Usage)
        monkeypatch.setattr(quiet_module, "_WINDOW_SECONDS", 0.001)
        monkeypatch.setattr(quiet_module, "turn", lambda _, patience: turn(name, patience))
        return left

    return say


def test_measure_in_quiet_waits_until_the_cores_are_free(free):
    left, done = free(0.5, 1.7, 1.75), []
    assert measure_in_quiet(lambda _: done.append(len(left)) or "it", 2) == ("it", 2)
    assert done == [0]


def test_measure_in_quiet_measures_again_what_another_process_has_disturbed(free):
    free(2.0, 1.0, 2.0, 2.0)
    numbers = iter([1, 2])
    assert measure_in_quiet(lambda _: next(numbers), 2) == (2, 2)


@pytest.mark.parametrize(("left", "num_cores", "cores"), [(0.0, 2, 1), (1.7, 2, 1), (5.9, 8, 5)])
def test_measure_in_quiet_on_busy_cores_measures_what_others_leave(free, left, num_cores, cores):
    free(*[left] * 999)
    assert measure_in_quiet(lambda given: f"of {given}", num_cores, patience=0.05) == (f"of {cores}", cores)


def test_measure_in_quiet_where_others_measure_says_so(free, name):
    free()
    with turn(name, 0.0), pytest.raises(OthersMeasureError, match=r"^other instances measured for 0\.05 s$"):
        measure_in_quiet(lambda _: pytest.fail("measured"), 2, patience=0.05)


def test_turn_leaves_no_socket_open(name, monkeypatch):
    opened = []
    original = socket.socket.__init__

    def init(self, *args, **named):
        original(self, *args, **named)
        opened.append(self)

    monkeypatch.setattr(socket.socket, "__init__", init)
    with turn(name, 0.0):
        pass
    assert [one.fileno() for one in opened] == [-1]
