"""The network as a `KindAwareModel`."""

from networks import NETWORKS

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """All that a user writes."""

    def load(self):
        """Make the network."""
        return NETWORKS[self.parameters["network"]].build()

    def forward(self, X):
        """Answer one batch."""
        return self.model(X)
