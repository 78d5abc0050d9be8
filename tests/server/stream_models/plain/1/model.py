"""Counters to N with a pause before each number, one request after another."""

import time

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        self.num_open = 0

    def stream(self, N, DELAY):
        self.num_open += 1
        try:
            for number in range(int(N[0, 0])):
                time.sleep(float(DELAY[0, 0]))
                assert torch.is_inference_mode_enabled()
                yield torch.full_like(N, number), torch.full_like(N, self.num_open)
        finally:
            self.num_open -= 1
