"""Memory of a forward on the CPU that is kept for the next one."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from core_kit import Doubler, start

from kindaware import ConfigError
from kindaware._placement import malloc
from kindaware._placement.malloc import HUGE_PAGES, plan_malloc
from kindaware.testing.accelerator import SimulatedAccelerator

ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

FAULTS = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
import torch
from kindaware._placement.malloc import plan_malloc

malloc = plan_malloc(sys.argv[1], os.environ)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def forward():
    return torch.ones(2**24).add_(1)

def first_and_later():
    before = faults()
    forward()
    first = faults() - before
    for _ in range(10):  # small blocks settle between the large ones
        forward()
    before = faults()
    for _ in range(10):
        forward()
    return first, (faults() - before) / 10

if "arena" in sys.argv:
    malloc.share_arena()
malloc.keep()
with ThreadPoolExecutor(1) as thread:
    print(*(thread.submit(first_and_later).result() if "thread" in sys.argv else first_and_later()))
"""
PAGES = 2**24 * 4 / 4096


def count_faults(setting, *where, **environment):
    """New pages of the first forward, and of each later one, in a process of its own."""
    command = [sys.executable, "-c", FAULTS, setting, *where]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return [float(one) for one in done.stdout.split()]


@pytest.fixture
def told(monkeypatch):
    """What malloc is told, which it is not."""
    calls = []

    def mallopt(parameter, value):
        calls.append((parameter, value))
        return 1

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(malloc, "ctypes", SimpleNamespace(CDLL=lambda name: library))
    return calls


NEVER_GIVEN_BACK = [(-4, 0), (-1, -1)]


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_keep_memory_has_a_forward_use_the_pages_of_the_one_before(setting):
    first, later = count_faults(setting, THP_MEM_ALLOC_ENABLE="0")
    assert first > 0.9 * PAGES
    assert later < 0.01 * PAGES


def test_keep_memory_on_another_thread_needs_the_arena_of_the_main_thread():
    _, later = count_faults("auto", "thread", THP_MEM_ALLOC_ENABLE="0")
    assert later > 0.9 * PAGES
    _, later = count_faults("auto", "thread", "arena", THP_MEM_ALLOC_ENABLE="0")
    assert later < 0.01 * PAGES


@pytest.mark.parametrize(
    ("setting", "environment", "calls"),
    [
        ("auto", {}, [(-8, 1)]),
        ("off", {}, []),
        ("auto", {"MALLOC_ARENA_MAX": "2"}, []),
        ("on", {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, []),
        ("auto", {"MALLOC_MMAP_MAX_": "1"}, []),
    ],
)
def test_share_arena_leaves_what_the_operator_has_set(told, setting, environment, calls):
    plan_malloc(setting, environment).share_arena()
    assert told == calls


def test_instance_shares_the_arena_before_its_asynchronous_hooks_have_a_thread(told):
    class Awaiting(Doubler):
        async def load(self):
            told.append("load")

    start(Awaiting)
    assert told == [(-8, 1), "load", *NEVER_GIVEN_BACK]
    told.clear()
    start(Doubler)
    assert told == NEVER_GIVEN_BACK


def test_keep_memory_off_leaves_it_to_glibc():
    _, later = count_faults("off")
    assert later > 0.9 * PAGES


@pytest.mark.skipif(
    not ALLOWED.exists() or "[never]" in ALLOWED.read_text(), reason="the kernel has no huge pages"
)
def test_keep_memory_has_torch_ask_for_huge_pages():
    assert count_faults("auto")[0] < 0.1 * PAGES


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_MMAP_MAX_": "1"},
        {"MALLOC_MMAP_THRESHOLD_": "65536"},
        {"MALLOC_TRIM_THRESHOLD_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=7"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=7"},
    ],
)
def test_keep_memory_where_the_operator_has_tuned_malloc_is_done_only_when_asked_for(told, environment):
    before = dict(environment)
    plan_malloc("auto", environment).keep()
    assert (told, environment) == ([], before)
    plan_malloc("on", environment).keep()
    assert told == NEVER_GIVEN_BACK


@pytest.mark.parametrize(
    "tuned", [{}, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}]
)
def test_keep_memory_is_done_beside_other_tuning(told, tuned):
    plan_malloc("auto", tuned).keep()
    assert told == NEVER_GIVEN_BACK
    assert tuned["THP_MEM_ALLOC_ENABLE"] == "1"


def test_keep_memory_leaves_a_choice_about_huge_pages_alone(told):
    environment = {"THP_MEM_ALLOC_ENABLE": "0"}
    plan_malloc("auto", environment).keep()
    assert environment == {"THP_MEM_ALLOC_ENABLE": "0"}


def test_keep_memory_without_the_malloc_of_glibc_is_refused_only_when_asked_for(monkeypatch):
    monkeypatch.setattr(malloc, "ctypes", SimpleNamespace(CDLL=lambda name: object()))
    environment = {}
    plan_malloc("auto", environment).keep()
    assert environment == {}
    with pytest.raises(ConfigError) as caught:
        plan_malloc("on", environment)
    assert str(caught.value) == (
        "setting 'keep_memory': expected a process with glibc's malloc, got a C library whose malloc can't "
        "be told; set keep_memory to auto, and preload an allocator that keeps memory"
    )


class Loads(Doubler):
    """Notes what was decided before `load`."""

    def load(self):
        self.huge_pages = os.environ.get(HUGE_PAGES)
        self.calls.append("load")


@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [
        ({}, True),
        ({"kind": "MODEL", "parameters": {"kindaware.model_devices": "cpu"}}, True),
        ({"parameters": {"kindaware.keep_memory": "off"}}, False),
    ],
)
def test_initialize_keeps_what_is_freed_after_load(told, monkeypatch, changes, is_kept):
    monkeypatch.delenv(HUGE_PAGES)
    model = start(type("Noting", (Loads,), {"calls": told}), **changes)
    assert model.huge_pages == ("1" if is_kept else None)
    assert told == ["load", *(NEVER_GIVEN_BACK if is_kept else [])]


def test_initialize_of_a_gpu_instance_leaves_malloc_alone(told, monkeypatch):
    monkeypatch.delenv(HUGE_PAGES)
    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        model = start(type("Noting", (Loads,), {"calls": told, "keep_memory": "on"}), kind="GPU")
    assert (model.huge_pages, told) == (None, ["load"])
