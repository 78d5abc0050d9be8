from torch import nn

from kindaware import KindAwareModel


def make_network():
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))


class TritonPythonModel(KindAwareModel):
    def load(self):
        return self.load_weights(make_network, "weights.safetensors")

    def forward(self, FEATURES):
        return self.model(FEATURES)
