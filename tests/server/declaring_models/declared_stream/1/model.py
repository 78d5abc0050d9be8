"""Says all that the server must know in the class; there is no config.pbtxt."""

from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = (TensorSpec("N", "INT32", [1]),)
    outputs = (TensorSpec("I", "INT32", [1]),)

    def load(self):
        pass

    def stream(self, N):
        for _ in range(int(N[0])):
            yield N
