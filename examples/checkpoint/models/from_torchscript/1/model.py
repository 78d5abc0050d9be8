import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return torch.jit.load(self.args.version_directory / "network.ts", map_location=self.device)

    def forward(self, FEATURES):
        return self.model(FEATURES)
