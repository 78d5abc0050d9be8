"""Refuses every request."""

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        raise RequestError("nothing of that kind", code="UNSUPPORTED")
