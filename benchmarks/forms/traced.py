"""The network as a `KindAwareModel` that makes spans."""

from forms import kindaware


class TritonPythonModel(kindaware.TritonPythonModel):
    """The same, with spans."""

    tracing = True
