import time

from kindaware import KindAwareModel

FACTOR = 2  # a rollout makes it 3


class TritonPythonModel(KindAwareModel):
    def load(self):
        pass

    def forward(self, X):
        time.sleep(0.05)  # stands for a computation
        return FACTOR * X
