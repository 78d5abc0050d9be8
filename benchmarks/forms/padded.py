"""A network for texts of any length, as a `KindAwareModel`."""

from typing import ClassVar

from networks import NETWORKS

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """What is padded counts for nothing."""

    pad: ClassVar = {"X": 0}

    def load(self):
        """Make the network."""
        return NETWORKS[self.parameters["network"]].build()

    def forward(self, X, lengths):
        """Answer one batch."""
        return self.model(X, lengths)
