"""Text in upper case, its lengths times an optional factor, and text made of numbers."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, TEXT, SCALE=None):
        lengths = torch.tensor([[float(len(text)) for text in row] for row in TEXT]).reshape(TEXT.shape)
        for place, text in enumerate(TEXT.ravel()):
            TEXT.ravel()[place] = text.upper()
        return {
            "LOUD": TEXT,
            "NAMES": [[f"né {int(one)}"] for one in lengths.sum(dim=1)],
            "LENGTHS": lengths if SCALE is None else lengths * SCALE,
            "ROWS": torch.full((len(TEXT), 1), len(TEXT)),
        }
