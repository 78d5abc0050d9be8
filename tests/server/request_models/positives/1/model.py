"""Outputs of another size for each request."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        kept = [row[row > 0] for row in X]
        words = [[f"{value:.0f}" for value in row.tolist()] for row in kept]
        return {"KEPT": kept, "WORDS": words, "BATCH": torch.full((len(X), 1), len(X))}
