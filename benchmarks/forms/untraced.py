"""The network as a `KindAwareModel` once more, to compare like with like."""

from forms import kindaware


class TritonPythonModel(kindaware.TritonPythonModel):
    """The same."""
