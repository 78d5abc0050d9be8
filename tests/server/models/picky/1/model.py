"""Takes rows of 8 numbers, although config.pbtxt says -1, and no number above 1000."""

import torch

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    def load(self):
        self.scale = torch.arange(8.0).to(self.device)

    def preprocess(self, inputs):
        if inputs["INPUT"].shape[1] > 100:
            raise RequestError("INPUT: expected at most 100 columns; send fewer")
        return inputs

    def forward(self, INPUT):
        if INPUT.max() > 1000:
            raise ValueError("a number is above 1000")
        return INPUT * self.scale

    def warmup_inputs(self, rows):
        return {"INPUT": torch.zeros(rows, 8)}
