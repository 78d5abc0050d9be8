"""Says how many rows came together."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        return torch.full_like(X, len(X))
