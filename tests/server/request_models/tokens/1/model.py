"""Text that preprocess tokenises, padded."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    pad = {"ids": 0}

    def load(self):
        return None

    def preprocess(self, inputs):
        return {"ids": [torch.tensor([*text], dtype=torch.int64) for text in inputs["TEXT"][:, 0]]}

    def forward(self, ids, lengths):
        size = torch.tensor([ids.shape]).expand(len(ids), 2)
        return ids.sum(dim=1, keepdim=True), torch.cat([size, lengths.unsqueeze(1)], dim=1)
