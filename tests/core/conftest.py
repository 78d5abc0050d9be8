"""Args dicts as Triton makes them; everything global that the core changes is put back."""

import sys

import pytest
import torch
from core_kit import make_args
from host_kit import PB_UTILS, RecordingHost


@pytest.fixture
def args():
    """A factory of Triton's dict of seven strings."""
    return make_args


@pytest.fixture
def host():
    """The stub process of an instance; the core does not see its module."""
    return RecordingHost()


@pytest.fixture
def pb_utils(host, monkeypatch):
    """The module of `host`, where the core finds it."""
    monkeypatch.setitem(sys.modules, PB_UTILS, host.pb_utils)
    return host.pb_utils


@pytest.fixture(autouse=True)
def _restored_globals(monkeypatch):
    """Undo what `initialize` does to the process, and hide the variables that it reads."""
    for name in ("OMP_NUM_THREADS", "KINDAWARE_CPU_SHARE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # or a test would decide for those after it
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
