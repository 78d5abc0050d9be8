"""A real tritonserver that serves a model on a GPU."""

import json
import urllib.request

import pytest

from kindaware.testing import TritonServer

pytestmark = [pytest.mark.gpu, pytest.mark.server]

MODEL = """
import torch
from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [4])]
    outputs = [TensorSpec("Y", "FP32", [4])]
    max_batch_size = 8

    def load(self):
        self.weight = torch.full((4,), 2.0).to(self.device)

    def forward(self, X):
        assert X.is_cuda
        return X * self.weight
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = tmp_path_factory.mktemp("models") / "double"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(MODEL)
    (model / "config.pbtxt").write_text(
        'backend: "python"\ninstance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]\n'
    )
    with TritonServer(model.parent) as running:
        yield running


def ask(server, rows):
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(rows), 4], "data": rows}
    url = f"http://{server.http_url}/v2/models/double/infer"
    with urllib.request.urlopen(url, json.dumps({"inputs": [tensor]}).encode(), timeout=60) as response:
        return json.load(response)["outputs"][0]["data"]


def test_server_answers_from_the_gpu_of_the_instance_group(server):
    assert [(one.kind, one.device) for one in server.instances()] == [("GPU", "cuda:0")]
    for number in range(100):
        assert ask(server, [[number, 1.0, 2.0, 3.0]]) == [2.0 * number, 2.0, 4.0, 6.0]
