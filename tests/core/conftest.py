"""Args dicts as Triton makes them; everything global that the core changes is put back."""

import logging

import pytest
import torch
from core_kit import make_args


@pytest.fixture
def args():
    """A factory of Triton's dict of seven strings."""
    return make_args


@pytest.fixture(autouse=True)
def _restored_globals(monkeypatch):
    """Undo what `initialize` does to the process, and hide the variables that it reads."""
    for name in ("OMP_NUM_THREADS", "KINDAWARE_CPU_SHARE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # or a test would decide for those after it
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.startswith("kindaware.") and isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
