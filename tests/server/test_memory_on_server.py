"""Memory of a forward in a real stub: kept for the next one, unless the setting says otherwise."""

import statistics
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete

pytestmark = pytest.mark.server

ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

SOURCE = '''
import resource

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """Answers how many new pages its forward, of 128 MiB, has taken."""

    def load(self):
        torch.ones(2**25)

    def forward(self, X):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**25).add_(1)
        return torch.full_like(X, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
'''
PAGES = 2**25 * 4 / 4096


def test_forward_gets_the_pages_of_the_one_before_unless_keep_memory_is_off(connect, tmp_path, monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    awaiting = SOURCE.replace("def forward", "async def forward")
    for name, (source, setting) in {
        "kept": (SOURCE, "auto"),
        "given_back": (SOURCE, "off"),
        "awaiting": (awaiting, "auto"),
    }.items():
        write_model(tmp_path, name, source, setting)

    with serve_complete(tmp_path) as server:
        client = connect(server)
        last = {
            name: [client.infer(name, X=np.ones((1, 1), np.float32))["Y"].item() for _ in range(30)][-15:]
            for name in ("kept", "given_back", "awaiting")
        }

    # The median, since another allocation may lie where the block was, and then for some calls.
    assert statistics.median(last["kept"]) < 0.01 * PAGES
    assert statistics.median(last["awaiting"]) < 0.01 * PAGES
    assert min(last["given_back"]) > 0.9 * PAGES


HUGE = '''
from pathlib import Path

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """Answers how many MiB of its memory are huge pages."""

    def load(self):
        self.kept = torch.ones(2**25)

    def forward(self, X):
        lines = Path("/proc/self/smaps").read_text().splitlines()
        kib = sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))
        return torch.full_like(X, kib / 1024)
'''


@pytest.mark.skipif(
    not ALLOWED.exists() or "[madvise]" not in ALLOWED.read_text(), reason="the kernel gives none when asked"
)
def test_memory_of_an_instance_is_in_huge_pages(connect, tmp_path, monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    for name, setting in {"asked": "auto", "unasked": "off"}.items():
        write_model(tmp_path, name, HUGE, setting)

    with serve_complete(tmp_path) as server:
        client = connect(server)
        found = {
            name: client.infer(name, X=np.ones((1, 1), np.float32))["Y"].item()
            for name in ("asked", "unasked")
        }

    assert found["asked"] > 64
    assert found["unasked"] < 64


CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""


def write_model(repository, name, source, keep_memory):
    """A model on the CPU with this setting."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(source)
    parameter = f'key: "kindaware.keep_memory" value {{ string_value: "{keep_memory}" }}'
    (repository / name / "config.pbtxt").write_text(CONFIG + f"parameters {{ {parameter} }}\n")
