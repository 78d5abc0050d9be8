"""Gives every tensor back; without a batch dimension, of any size."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, **inputs):
        return {name.replace("IN_", "OUT_"): tensor for name, tensor in inputs.items()}
