"""Memory of a forward in a real stub: kept for the next one, unless the setting says otherwise."""

import numpy as np
import pytest
from complete_models import serve_complete

pytestmark = pytest.mark.server

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
CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "FAULTS" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
PAGES = 2**25 * 4 / 4096


def test_forward_gets_the_pages_of_the_one_before_unless_keep_memory_is_off(connect, tmp_path, monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    for name, setting in {"kept": "auto", "given_back": "off"}.items():
        version = tmp_path / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(SOURCE)
        parameter = f'key: "kindaware.keep_memory" value {{ string_value: "{setting}" }}'
        (tmp_path / name / "config.pbtxt").write_text(f"{CONFIG}parameters {{ {parameter} }}\n")

    with serve_complete(tmp_path) as server:
        client = connect(server)
        last = {
            name: [client.infer(name, X=np.ones((1, 1), np.float32))["FAULTS"].item() for _ in range(20)][-5:]
            for name in ("kept", "given_back")
        }

    assert max(last["kept"]) < 0.01 * PAGES
    assert min(last["given_back"]) > 0.9 * PAGES
