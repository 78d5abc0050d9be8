"""A network whose weights are shared, read by each instance, or not there."""

import torch
from networks import NETWORKS
from torch import nn

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """Loads the checkpoint that the parameter `path` names, as `way` says."""

    def load(self):
        """Return the network."""
        way, path = self.parameters["way"], self.parameters["path"]
        if way == "none":
            return nn.Identity()
        if way == "share":
            return self.load_weights(NETWORKS["wide"].make, path)
        network = NETWORKS["wide"].make()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network

    def forward(self, X):
        """Answer one batch."""
        return self.model(X).float()
