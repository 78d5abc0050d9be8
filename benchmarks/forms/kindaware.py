"""The network as a `KindAwareModel`."""

from networks import NETWORKS

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """All that a user writes, and one switch for the table of settings."""

    def load(self):
        """Make the network; `freezing` bakes its weights into what `torch.compile` makes."""
        if self.parameters.get("freezing") == "true":
            import torch._inductor.config

            torch._inductor.config.freezing = True
        return NETWORKS[self.parameters["network"]].build()

    def forward(self, X):
        """Answer one batch."""
        return self.model(X)
