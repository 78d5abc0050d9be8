"""One number or text per tensor: [1] without a batch dimension, and with one and a reshape to [ ], [B]."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def preprocess(self, inputs):
        assert inputs["BF16"].dtype is torch.bfloat16
        return inputs

    def forward(self, BF16, INT64, TEXT):
        assert BF16.dtype is torch.bfloat16
        assert BF16.ndim == INT64.ndim == TEXT.ndim == 1
        return BF16 * 3, INT64 + 1, TEXT
