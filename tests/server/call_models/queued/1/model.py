"""Takes 0.3 s for a batch of one; its queue policy lets callers say how long they wait."""

import time

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    def forward(self, X):
        time.sleep(0.3)
        return X
