"""What `batched` answers, asked by `self.call`."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    num_threads = 1
    warmup = "off"

    def load(self):
        """Make nothing."""

    def forward(self, KEY, VALUES, TEXT):
        # In parts, since `batched` takes no more rows than this model.
        return self.call("batched", KEY=KEY, VALUES=VALUES.to(torch.float32), TEXT=TEXT)
