"""A model of one layer, and its configuration."""

CONFIG = """
backend: "python"
max_batch_size: 64
input [ { name: "X", data_type: TYPE_FP32, dims: [ 8 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

NET = """
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return torch.nn.Linear(8, 4)

    def forward(self, X):
        return self.model(X)
"""
