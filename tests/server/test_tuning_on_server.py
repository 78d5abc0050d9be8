"""What an instance measures while it loads on a real server, and that its answers stay right."""

import re

import numpy as np
import pytest
from complete_models import serve_complete

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

SOURCE = """
import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return torch.nn.Linear(4, 4)

    {is_async}def forward(self, X):
        return {{
            "Y": 2 * X,
            "THREADS": torch.full((len(X), 1), torch.get_num_threads()),
        }}
"""
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 16
input [ {{ name: "X" data_type: TYPE_FP32 dims: [ 4 ] }} ]
output [
  {{ name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }},
  {{ name: "THREADS" data_type: TYPE_INT64 dims: [ 1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with two models alike but for an asynchronous forward."""
    folder = tmp_path_factory.mktemp("measured")
    for name, is_async in (("plain", ""), ("awaiting", "async ")):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(CONFIG.format(name=name))
        (folder / name / "1" / "model.py").write_text(SOURCE.format(is_async=is_async))
    with serve_complete(folder) as running:
        yield running


@pytest.mark.parametrize("model", ["plain", "awaiting"])
def test_threads_of_forward_are_those_that_the_log_says_were_measured(server: TritonServer, connect, model):
    [found] = [one for one in server.instances() if one.name.startswith(model)]
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer = connect(server).infer(model, X=x)
    assert answer["Y"].tolist() == (2 * x).tolist()
    assert answer["THREADS"].ravel().tolist() == [found.threads] * 3
    assert re.match(r"(measured( with \d+ free)?, of )?\d+ cores? / 1 CPU instance", found.threads_reason)
    if found.threads_reason.startswith("measured"):
        text = rf"threads {found.threads} of \d+: batches of 1 and 8 with 1: [\d.e+-]+ and [\d.e+-]+ ms, "
        assert re.search(text, server.log_text())
