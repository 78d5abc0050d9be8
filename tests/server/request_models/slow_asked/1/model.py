"""Takes its time, and counts its forwards."""

import time

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        self.num_forwards = 0

    def forward(self, SECONDS):
        self.num_forwards += 1
        time.sleep(float(SECONDS.sum()))
        return torch.full((len(SECONDS), 1), self.num_forwards)
