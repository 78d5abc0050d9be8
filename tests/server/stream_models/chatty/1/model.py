"""Items of 4 MiB, up to 64 MiB a stream."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    max_stream_bytes = 64 * 2**20

    def load(self):
        return None

    def stream(self, N):
        for number in range(int(N[0, 0])):
            yield torch.full((1, 2**20), float(number))
