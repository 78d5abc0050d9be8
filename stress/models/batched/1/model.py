"""Each row's key, its values doubled, and its text: an answer says which request it belongs to."""

import numpy as np
import torch

from kindaware import KindAwareModel, RequestError

POISON = 1e30
"""A value that `forward` raises for, without saying whose it is."""

TOO_MUCH = 2e30
"""A value for which there is never enough memory."""

LARGE, MOST_LARGE = 3e30, 2
"""A value that needs much memory, and how many of them fit into a batch."""

_MORE_THAN_THERE_IS_BYTES = 2**60


class TritonPythonModel(KindAwareModel):
    num_threads = 1
    pad = {"VALUES": 0}
    unpad = {"DOUBLED": "VALUES"}

    def load(self):
        """Make nothing."""

    def warmup_inputs(self, rows):
        return {
            "KEY": torch.zeros(rows, 1, dtype=torch.int64),
            "VALUES": torch.zeros(rows, 3),
            "TEXT": np.full((rows, 1), b"warm", dtype=object),
        }

    def preprocess(self, inputs):
        if (inputs["KEY"] < 0).any():
            raise RequestError("KEY is negative")
        return inputs

    def forward(self, KEY, VALUES, TEXT):
        if (VALUES == TOO_MUCH).any() or (VALUES == LARGE).sum() > MOST_LARGE:
            torch.empty(_MORE_THAN_THERE_IS_BYTES, dtype=torch.uint8)
        if (VALUES == POISON).any():
            raise ValueError("a poisoned row, see /srv/poison")
        return {"KEY": KEY, "DOUBLED": 2 * VALUES, "TEXT": TEXT}
